"""Who says nothing to the admin is closed, in time and beyond a number; who is being answered is not."""

import asyncio
import json
import logging
import resource
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import uvloop
from tests.unit.admin.site import Site, serve

from mtlsproxy.admin.connections import Limits, usual_limits
from mtlsproxy.config.service import Admin
from mtlsproxy.runtime.reload import Outcome
from mtlsproxy.runtime.token import Token

HALF = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: "
WHOLE = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
LONG = 60.0
SHORT = 0.2
TOKEN = "correct-horse-battery-staple"
RELOAD = f"POST /api/reload HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
DENY = RELOAD.replace(b"reload", b"deny").replace(b"\r\n\r\n", b"\r\nContent-Type: application/json\r\n")


def limits(
    connections: int = 50, *, head: float = LONG, body: float = LONG, idle: float = LONG, unread: float = LONG
) -> Limits:
    return Limits(connections, head, body, idle, unread)


@asynccontextmanager
async def running(allowed: Limits) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        serving = serve(Admin.model_validate({"bind": "127.0.0.1:0"}), allowed)
        stack.push_async_callback(anext, serving, None)
        yield await anext(serving)


class Peer:
    """A client that says what a test has it say."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, said: bytes) -> bytes:
        """The body of the answer."""
        self.writer.write(said)
        head = await self.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        return await self.reader.readexactly(int(length.partition(b":")[2]))

    async def is_answered(self) -> bool:
        try:
            return await self.reader.read(1) == b"H"
        except ConnectionResetError:
            return False

    async def is_closed(self) -> bool:
        """Waits for it."""
        try:
            return await asyncio.wait_for(self.reader.read(), 20) == b""
        except ConnectionResetError:
            return True


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@asynccontextmanager
async def peers(site: Site, number: int = 1, said: bytes = b"") -> AsyncIterator[list[Peer]]:
    found: list[Peer] = []
    try:
        for _ in range(number):
            peer = Peer(*await asyncio.open_connection("127.0.0.1", site.port, limit=2**16))
            peer.writer.write(said)
            found.append(peer)
        yield found
    finally:
        for peer in found:
            peer.writer.transport.abort()
        await asyncio.sleep(0)


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[None, None, None]], None]:
    def run_it(coroutine: Coroutine[None, None, None]) -> None:
        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(coroutine)

    return run_it


@pytest.mark.parametrize("said", [b"", b"G", HALF])
async def test_a_head_that_does_not_come_is_not_awaited_for_ever(said: bytes) -> None:
    async with running(limits(head=SHORT)) as site, peers(site, 3, said) as silent:
        for peer in silent:
            assert await peer.is_closed()


async def test_a_head_that_comes_in_drops_has_no_longer_than_another() -> None:
    async with running(limits(head=SHORT)) as site, peers(site, 1, HALF) as (peer,):
        closed = asyncio.create_task(peer.is_closed())  # noqa: TID251 - awaited below
        while not closed.done():
            peer.writer.write(b"x")
            await asyncio.sleep(SHORT / 10)
        assert await closed


async def test_half_a_head_after_an_answer_is_not_awaited_either() -> None:
    async with running(limits(head=SHORT)) as site, peers(site) as (peer,):
        assert json.loads(await peer.ask(WHOLE)) == {"status": "up"}
        peer.writer.write(HALF)
        assert await peer.is_closed()


async def test_half_a_head_sent_together_with_a_request_is_not_awaited_either() -> None:
    """Only as idleness is: that a part of the next head is there is not to be seen from outside aiohttp."""
    async with running(limits(idle=SHORT)) as site, peers(site) as (peer,):
        assert await peer.ask(WHOLE + HALF)
        assert await peer.is_closed()


async def test_between_requests_a_client_may_be_idle_for_longer_than_a_head_may_take() -> None:
    async with running(limits(head=SHORT)) as site, peers(site) as (peer,):
        await peer.ask(WHOLE)
        await asyncio.sleep(SHORT * 3)
        assert json.loads(await peer.ask(WHOLE)) == {"status": "up"}


async def test_an_idle_client_is_closed_at_last() -> None:
    async with running(limits(idle=SHORT)) as site, peers(site) as (peer,):
        await peer.ask(WHOLE)
        assert await peer.is_closed()


async def test_requests_sent_at_once_are_all_answered() -> None:
    async with running(limits(head=SHORT, idle=SHORT)) as site, peers(site) as (peer,):
        peer.writer.write(WHOLE * 20)
        for _ in range(20):
            assert json.loads(await peer.ask(b"")) == {"status": "up"}


def test_a_flood_of_half_heads_neither_keeps_scrapes_out_nor_takes_file_descriptors(
    run: Callable[[Coroutine[None, None, None]], None], caplog: pytest.LogCaptureFixture
) -> None:
    async def flooded() -> None:
        async with running(limits(10)) as site:
            before = descriptors()
            async with peers(site, 100, HALF) as flood:
                for _ in range(5):
                    response, body = await site.get("/metrics")
                    assert response.status == 200
                    assert b"mtlsproxy_workers" in body
                assert descriptors() <= before + len(flood) + 10 + 1
                for peer in flood[:80]:
                    assert await peer.is_closed()
                assert not any(peer.reader.at_eof() for peer in flood[-8:])

    run(flooded())
    said = [record for record in caplog.records if record.name == "mtlsproxy.admin.connections"]
    assert [(record.levelno, record.getMessage()) for record in said] == [
        (logging.WARNING, "admin.bind: 10 connections are open: closing the one that says nothing longest")
    ]


async def test_it_is_the_one_waited_for_longest_that_makes_room() -> None:
    async with running(limits(2)) as site, peers(site) as (first,):
        await first.ask(WHOLE)
        async with peers(site) as (second,):
            await second.ask(WHOLE)
            await first.ask(WHOLE)
            async with peers(site) as (third,):
                await third.ask(WHOLE)
                assert await second.is_closed()
                assert await first.ask(WHOLE)


class Pause:
    """A reload that lasts until it is let go."""

    def __init__(self, site: Site) -> None:
        self.begun = asyncio.Event()
        self.over = asyncio.Event()
        self._outcome = site.source.control.outcome
        site.source.control.token = Token(TOKEN)
        site.source.control.reload = self._reload  # type: ignore[method-assign]

    async def _reload(self, by: str) -> Outcome:
        self.begun.set()
        await self.over.wait()
        return self._outcome


async def test_a_request_that_is_being_answered_is_never_cut(caplog: pytest.LogCaptureFixture) -> None:
    async with running(limits(1, head=SHORT, idle=SHORT, unread=SHORT)) as site, peers(site) as (patient,):
        pause = Pause(site)
        patient.writer.write(RELOAD)
        await pause.begun.wait()
        async with peers(site, 1, WHOLE) as (newcomer,):
            assert await newcomer.is_closed()
        await asyncio.sleep(SHORT * 3)
        pause.over.set()
        assert json.loads(await patient.ask(b"")) == {"generation": 7}
    assert "admin.bind: 1 connections are open: closing newcomers" in caplog.text


@asynccontextmanager
async def slow_reader(site: Site) -> AsyncIterator[socket.socket]:
    """Has asked for some 16 MiB, more than the kernel takes in."""
    site.source.refused = [{"subject": "x" * 2**24}]
    with socket.socket() as client:
        client.setblocking(False)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, ("127.0.0.1", site.port))
        await loop.sock_sendall(client, WHOLE.replace(b"healthz", b"api/rejections"))
        assert await loop.sock_recv(client, 9) == b"HTTP/1.1 "
        yield client


async def taken(client: socket.socket, slow: float = 0.0) -> int:
    """Octets until the end; slow: seconds for which little is read."""
    loop, total = asyncio.get_running_loop(), 0
    hurry = loop.time() + slow
    try:
        while total < 2**24 and (data := await asyncio.wait_for(loop.sock_recv(client, 2**17), 20)):
            total += len(data)
            await asyncio.sleep(0.05 if loop.time() < hurry else 0)
    except ConnectionResetError:
        pass
    return total


def test_an_answer_that_nobody_takes_is_given_up(run: Callable[[Coroutine[None, None, None]], None]) -> None:
    async def untaken() -> None:
        async with running(limits(unread=SHORT)) as site, slow_reader(site) as client:
            both = descriptors()
            async with asyncio.timeout(20):
                while descriptors() == both:  # noqa: ASYNC110 - nothing tells of it
                    await asyncio.sleep(SHORT / 10)
            assert await taken(client) < 2**24

    run(untaken())


async def test_an_answer_that_nobody_takes_makes_room() -> None:
    async with running(limits(1)) as site, slow_reader(site), asyncio.timeout(20):
        answered = False
        while not answered:
            async with peers(site, 1, WHOLE) as (other,):
                answered = await other.is_answered()


def test_an_answer_that_is_taken_slowly_is_sent_to_its_end(run: Callable[[Coroutine[None, None, None]], None]) -> None:
    async def slowly() -> None:
        async with running(limits(unread=1.0, idle=SHORT)) as site, slow_reader(site) as client:
            assert await taken(client, slow=1.5) >= 2**24

    run(slowly())


async def test_a_body_that_does_not_come_is_answered_with_408() -> None:
    async with running(limits(body=SHORT)) as site, peers(site) as (peer,):
        site.source.control.token = Token(TOKEN)
        peer.writer.write(DENY + b'Content-Length: 100\r\n\r\n{"issuer"')
        head = await peer.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 ")
        assert b"\r\nConnection: close" in head
        assert json.loads(await peer.reader.readuntil(b"}"))["detail"] == "the body was not there within 0.2 seconds"
        assert site.source.control.asked == []


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX Y: z\r\n\r\n",
        DENY + b"Transfer-Encoding: chunked\r\n\r\n5\r\nZZZZZZ\r\n",
        DENY.replace(b"Bearer", b"Basic") + b"Transfer-Encoding: chunked\r\n\r\n5\r\nZZZZZZ\r\n",
    ],
)
async def test_malformed_requests_cost_no_traceback(said: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with running(limits()) as site, peers(site) as (peer,):
        site.source.control.token = Token(TOKEN)
        peer.writer.write(said)
        assert (await peer.reader.read()).split()[1] in (b"400", b"401")
        assert site.source.control.asked == []
    assert not [record for record in caplog.records if record.exc_info]


async def test_what_is_our_mistake_has_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async with running(limits()) as site:
        site.source.control.token = Token(TOKEN)
        site.source.control.failure = RuntimeError("ours")
        async with peers(site, 1, RELOAD) as (peer,):
            assert (await peer.reader.readline()).startswith(b"HTTP/1.1 500 ")
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["ours"]


def test_a_process_with_few_file_descriptors_spares_fewer_of_them() -> None:
    old = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        for soft, connections in ((64, 8), (512, 64), (min(4096, old[1]), 256)):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, old[1]))
            assert usual_limits() == Limits(connections=connections)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, old)


async def test_closing_the_site_ends_those_who_say_nothing() -> None:
    async with running(limits()) as site, peers(site, 2, HALF) as silent:
        await site.server.close()
        for peer in silent:
            assert await peer.is_closed()
