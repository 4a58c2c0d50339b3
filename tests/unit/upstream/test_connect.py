"""A connect ends in exactly one word, connected or failed with a reason, within its time; real sockets throughout."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from mtlsproxy.reasons import Reason
from mtlsproxy.transport.wheel import TimerWheel
from mtlsproxy.upstream.connect import Connecting

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

    def connected(self, sock: socket.socket) -> None:
        self.words.append(sock)
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
    return Connecting(loop, wheel, host, port, timeout, outcome.connected, outcome.failed), outcome


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
