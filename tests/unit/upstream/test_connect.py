"""A connect ends in exactly one word, connected or failed with a reason, within its time; real sockets throughout."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from mtlsproxy.reasons import Reason
from mtlsproxy.transport.interfaces import Stream
from mtlsproxy.transport.stream import SocketStream
from mtlsproxy.transport.wheel import TimerWheel
from mtlsproxy.upstream.addresses import Addresses
from mtlsproxy.upstream.connect import Cancellable, Connected, Connecting, Endpoint, Failed

PATIENCE = 10.0
SOON = 0.2
"""Seconds: a connect_timeout that is meant to pass."""


@pytest.fixture
async def wheel() -> AsyncIterator[TimerWheel]:
    found = TimerWheel(asyncio.get_running_loop())
    yield found
    found.close()


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.fixture
def full() -> Iterator[int]:
    """A port whose backlog is full: the kernel drops what comes."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        address = listening.getsockname()
        for _ in range(4):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(address)
        yield address[1]


class Outcome:
    """Words of one attempt, in order."""

    def __init__(self) -> None:
        self.words: list[Any] = []
        self.said = asyncio.Event()

    def connected(self, stream: Stream) -> None:
        assert isinstance(stream, SocketStream)
        self.words.append(stream._sock)
        self.said.set()

    def failed(self, reason: Reason, detail: str) -> None:
        self.words.append((reason, detail))
        self.said.set()

    async def word(self) -> Any:
        async with asyncio.timeout(PATIENCE):
            await self.said.wait()
        await asyncio.sleep(0.05)  # nothing more may follow
        (word,) = self.words
        return word


def attempt(wheel: TimerWheel, host: str, port: int, timeout: float = PATIENCE) -> tuple[Connecting, Outcome]:
    outcome = Outcome()
    loop = asyncio.get_running_loop()
    endpoint = Endpoint(f"{host}:{port}", host, Addresses(loop, wheel, host, port))
    return Connecting(loop, wheel, endpoint, timeout, outcome.connected, outcome.failed), outcome


def attempt_at(wheel: TimerWheel, path: Path, timeout: float = PATIENCE) -> tuple[Connecting, Outcome]:
    """At a unix socket."""
    outcome = Outcome()
    loop = asyncio.get_running_loop()
    endpoint = Endpoint(f"unix:{path}", "localhost", Addresses.of_socket(loop, wheel, path))
    return Connecting(loop, wheel, endpoint, timeout, outcome.connected, outcome.failed), outcome


def port_of(sock: socket.socket) -> int:
    port: int = sock.getsockname()[1]
    return port


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return port_of(sock)


def resolves_to(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[int, tuple[Any, ...]]) -> None:
    """The machine's resolver answers with these, whatever the name."""
    found = [(family, socket.SOCK_STREAM, 6, "", address) for family, address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_an_address_or_a_name_is_connected_to(wheel: TimerWheel, server: socket.socket, host: str) -> None:
    _, outcome = attempt(wheel, host, port_of(server))
    with await outcome.word() as sock:
        assert sock.getpeername() == server.getsockname()
        assert not sock.getblocking()
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_refused_connect_says_where_and_why(wheel: TimerWheel) -> None:
    port = closed_port()
    _, outcome = attempt(wheel, "127.0.0.1", port)
    reason, detail = await outcome.word()
    assert reason is Reason.UPSTREAM_UNAVAILABLE
    assert f"127.0.0.1:{port}" in detail
    assert "refused" in detail


async def test_a_name_that_does_not_exist_is_unavailable(wheel: TimerWheel) -> None:
    _, outcome = attempt(wheel, "nowhere.invalid", 80)
    reason, detail = await outcome.word()
    assert reason is Reason.UPSTREAM_UNAVAILABLE
    assert "nowhere.invalid:80" in detail


async def test_a_connect_that_nobody_takes_times_out(wheel: TimerWheel, full: int) -> None:
    _, outcome = attempt(wheel, "127.0.0.1", full, SOON)
    reason, _ = await outcome.word()
    assert reason is Reason.UPSTREAM_TIMEOUT


async def test_the_next_address_is_tried_when_one_refuses(
    wheel: TimerWheel, server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with localhost, where ::1 comes first and nobody listens there."""
    port = port_of(server)
    resolves_to(
        monkeypatch,
        (socket.AF_INET6, ("::1", port, 0, 0)),
        (socket.AF_INET, ("127.0.0.1", closed_port())),
        (socket.AF_INET, ("127.0.0.1", port)),
    )
    _, outcome = attempt(wheel, "several.test", port)
    with await outcome.word() as sock:
        assert sock.getpeername() == server.getsockname()


async def test_an_address_family_that_the_kernel_lacks_is_passed_over(
    wheel: TimerWheel, server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As IPv6 in many containers; alone, it says so at once."""
    lacking = (socket.AF_IPX, ("::1", 80, 0, 0))
    resolves_to(monkeypatch, lacking, (socket.AF_INET, ("127.0.0.1", port_of(server))))
    _, outcome = attempt(wheel, "several.test", 80)
    with await outcome.word() as sock:
        assert sock.getpeername() == server.getsockname()
    resolves_to(monkeypatch, lacking)
    _, outcome = attempt(wheel, "several.test", 80)
    reason, detail = await outcome.word()
    assert (reason, "not supported" in detail) == (Reason.UPSTREAM_UNAVAILABLE, True)


async def test_the_last_address_says_why_when_all_refuse(wheel: TimerWheel, monkeypatch: pytest.MonkeyPatch) -> None:
    resolves_to(monkeypatch, *[(socket.AF_INET, ("127.0.0.1", closed_port())) for _ in range(3)])
    _, outcome = attempt(wheel, "several.test", 80)
    reason, detail = await outcome.word()
    assert reason is Reason.UPSTREAM_UNAVAILABLE
    assert "refused" in detail


async def test_all_addresses_share_one_time_limit(
    wheel: TimerWheel, full: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolves_to(monkeypatch, *[(socket.AF_INET, ("127.0.0.1", full))] * 2)
    _, outcome = attempt(wheel, "several.test", full, SOON)
    reason, _ = await outcome.word()
    assert reason is Reason.UPSTREAM_TIMEOUT


async def test_a_name_without_addresses_is_unavailable(wheel: TimerWheel, monkeypatch: pytest.MonkeyPatch) -> None:
    resolves_to(monkeypatch)
    _, outcome = attempt(wheel, "none.test", 80)
    reason, detail = await outcome.word()
    assert (reason, "no address" in detail) == (Reason.UPSTREAM_UNAVAILABLE, True)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_cancelled_attempt_says_nothing(wheel: TimerWheel, full: int, host: str) -> None:
    """At once, and while it connects."""
    for wait in (0.0, 0.05):
        connecting, outcome = attempt(wheel, host, full, SOON)
        await asyncio.sleep(wait)
        connecting.cancel()
        await asyncio.sleep(0.1)
        assert outcome.words == []
    await asyncio.sleep(3 * SOON)
    assert outcome.words == []


async def test_an_address_at_which_nobody_answers_leaves_time_for_the_next(
    wheel: TimerWheel, server: socket.socket, full: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first attempt begins at the second address.
    resolves_to(monkeypatch, *[(socket.AF_INET, ("127.0.0.1", port)) for port in (port_of(server), full)])
    _, outcome = attempt(wheel, "several.test", 80, 3.0)
    with await outcome.word() as sock:
        assert sock.getpeername() == server.getsockname()


async def test_each_attempt_begins_at_another_address(wheel: TimerWheel, monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        resolves_to(monkeypatch, *[(socket.AF_INET, each.getsockname()) for each in servers])
        loop = asyncio.get_running_loop()
        endpoint = Endpoint("several.test:80", "", Addresses(loop, wheel, "several.test", 80))
        reached = set()
        for _ in servers:
            outcome = Outcome()
            connecting = Connecting(loop, wheel, endpoint, PATIENCE, outcome.connected, outcome.failed)
            with await outcome.word() as sock:
                reached.add(sock.getpeername())
                assert connecting.address == (socket.AF_INET, sock.getpeername())
        assert reached == {each.getsockname() for each in servers}


async def test_a_name_that_takes_too_long_to_look_up_times_out(
    wheel: TimerWheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer.wait(PATIENCE) and [])
    _, outcome = attempt(wheel, "slow.test", 80, SOON)
    reason, detail = await outcome.word()
    answer.set()
    assert reason is Reason.UPSTREAM_TIMEOUT
    assert "no address of slow.test:80 in time" in detail


async def test_a_unix_socket_is_connected_to(wheel: TimerWheel, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "a.sock"))
        listening.listen()
        _, outcome = attempt_at(wheel, tmp_path / "a.sock")
        with await outcome.word() as sock:
            assert sock.getpeername() == str(tmp_path / "a.sock")
            assert not sock.getblocking()


async def test_a_unix_socket_that_is_not_there_or_has_no_server_is_unavailable(
    wheel: TimerWheel, tmp_path: Path
) -> None:
    dead = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(dead))
    for path, why in [(tmp_path / "missing.sock", "No such file"), (dead, "refused")]:
        _, outcome = attempt_at(wheel, path)
        reason, detail = await outcome.word()
        assert reason is Reason.UPSTREAM_UNAVAILABLE
        assert why in detail
        assert f"unix:{path}" in detail


async def test_a_unix_socket_whose_backlog_is_full_is_waited_for(wheel: TimerWheel, tmp_path: Path) -> None:
    """The kernel says EAGAIN and will not tell when there is room."""
    path = tmp_path / "full.sock"
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket(socket.AF_UNIX))
        listening.bind(str(path))
        listening.listen(0)
        filling = stack.enter_context(socket.socket(socket.AF_UNIX))
        filling.connect(str(path))
        _, outcome = attempt_at(wheel, path, SOON)
        reason, _ = await outcome.word()
        assert reason is Reason.UPSTREAM_TIMEOUT
        _, outcome = attempt_at(wheel, path)
        await asyncio.sleep(SOON)
        assert outcome.words == []
        stack.enter_context(listening.accept()[0])
        stack.enter_context(await outcome.word())


class Handshake:
    """TLS with a server, played by the test."""

    def __init__(self) -> None:
        self.raw: SocketStream
        self.connected: Connected
        self.failed: Failed
        self.begun = asyncio.Event()
        self.cancelled = False

    def start(
        self,
        loop: asyncio.AbstractEventLoop,
        wheel: TimerWheel,
        raw: SocketStream,
        connected: Connected,
        failed: Failed,
    ) -> Cancellable:
        self.raw, self.connected, self.failed = raw, connected, failed
        self.begun.set()
        return self

    def cancel(self) -> None:
        self.cancelled = True
        self.raw._sock.close()


async def secured(
    wheel: TimerWheel, server: socket.socket, seconds: float = PATIENCE
) -> tuple[Connecting, Outcome, Handshake]:
    """An attempt whose handshake is under way."""
    outcome, handshake = Outcome(), Handshake()
    loop = asyncio.get_running_loop()
    port = port_of(server)
    endpoint = Endpoint(f"127.0.0.1:{port}", "", Addresses(loop, wheel, "127.0.0.1", port), handshake)
    connecting = Connecting(loop, wheel, endpoint, seconds, outcome.connected, outcome.failed)
    async with asyncio.timeout(PATIENCE):
        await handshake.begun.wait()
    return connecting, outcome, handshake


async def test_with_tls_the_handshake_has_the_last_word(wheel: TimerWheel, server: socket.socket) -> None:
    _, outcome, handshake = await secured(wheel, server)
    assert outcome.words == []
    handshake.connected(handshake.raw)
    with await outcome.word() as sock:
        assert sock is handshake.raw._sock
    _, outcome, handshake = await secured(wheel, server)
    handshake.failed(Reason.UPSTREAM_ERROR, "not its certificate")
    assert await outcome.word() == (Reason.UPSTREAM_ERROR, "not its certificate")
    assert not handshake.cancelled
    handshake.raw._sock.close()


async def test_a_handshake_has_what_is_left_of_the_time_and_ends_with_its_attempt(
    wheel: TimerWheel, server: socket.socket
) -> None:
    _, outcome, handshake = await secured(wheel, server, SOON)
    reason, detail = await outcome.word()
    assert reason is Reason.UPSTREAM_TIMEOUT
    assert "no handshake with" in detail
    assert handshake.cancelled
    connecting, outcome, handshake = await secured(wheel, server)
    connecting.cancel()
    assert handshake.cancelled
    assert outcome.words == []
