"""A reset is told at once, also when it comes together with bytes, on every event loop."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop

from mtlsproxy.transport.interfaces import NullCounter
from mtlsproxy.transport.stream import SocketStream

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.new_event_loop,
}
LONG = 10.0


@pytest.fixture(params=LOOPS)
def runner(request: pytest.FixtureRequest) -> asyncio.Runner:
    return asyncio.Runner(loop_factory=LOOPS[request.param])


class Told:
    """A handler that writes down what it is told."""

    def __init__(self) -> None:
        self.data = b""
        self.ended = asyncio.Event()
        self.lost: asyncio.Future[OSError | None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: memoryview) -> None:
        self.data += data

    def eof_received(self) -> None:
        self.ended.set()

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...

    def connection_lost(self, error: OSError | None) -> None:
        self.lost.set_result(error)


@contextlib.asynccontextmanager
async def connected(receive_size: int = 65536) -> AsyncIterator[tuple[socket.socket, SocketStream, Told]]:
    """A peer's socket, and our stream with a handler that has been started."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()) as peer:
        sock, _ = listening.accept()
        sock.setblocking(False)
        stream = SocketStream(loop, sock, NullCounter(), NullCounter(), receive_size)
        told = Told()
        stream.start(told)
        yield peer, stream, told
        stream.abort()
        await asyncio.wait_for(told.lost, LONG)


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


@pytest.mark.parametrize("said", [b"", b"half a request"])
def test_a_reset_is_told_behind_what_came_before_it(runner: asyncio.Runner, said: bytes) -> None:
    async def scene() -> None:
        async with connected() as (peer, _, told):
            peer.sendall(said)
            reset(peer)
            assert isinstance(await asyncio.wait_for(told.lost, LONG), ConnectionResetError)
            assert told.data == said

    with runner:
        runner.run(scene())


def test_all_that_came_is_read_before_the_reset(runner: asyncio.Runner) -> None:
    """However many reads it takes."""

    async def scene() -> None:
        async with connected(receive_size=7) as (peer, _, told):
            peer.sendall(b"x" * 1000)
            reset(peer)
            assert isinstance(await asyncio.wait_for(told.lost, LONG), ConnectionResetError)
            assert told.data == b"x" * 1000

    with runner:
        runner.run(scene())


def test_while_reading_is_paused_nothing_unread_is_given_up(runner: asyncio.Runner) -> None:
    """A server may reset behind its whole answer, and a slow client still gets that."""

    async def scene() -> None:
        async with connected() as (peer, stream, told):
            stream.pause_reading()
            peer.sendall(b"the answer")
            reset(peer)
            for _ in range(5):
                await asyncio.sleep(0.01)
            assert not told.lost.done()
            stream.resume_reading()
            assert isinstance(await asyncio.wait_for(told.lost, LONG), ConnectionResetError)
            assert told.data == b"the answer"

    with runner:
        runner.run(scene())


def test_while_reading_is_paused_a_reset_with_nothing_before_it_is_told(runner: asyncio.Runner) -> None:
    async def scene() -> None:
        async with connected() as (peer, stream, told):
            stream.pause_reading()
            reset(peer)
            assert isinstance(await asyncio.wait_for(told.lost, LONG), ConnectionResetError)

    with runner:
        runner.run(scene())


def test_a_handler_that_pauses_at_the_bytes_is_told_no_more_until_it_goes_on(runner: asyncio.Runner) -> None:
    async def scene() -> None:
        async with connected(receive_size=4) as (peer, stream, told):
            take = told.data_received

            def take_one_piece(data: memoryview) -> None:
                take(data)
                stream.pause_reading()

            told.data_received = take_one_piece  # type: ignore[method-assign]
            peer.sendall(b"12345678")
            reset(peer)
            for _ in range(5):
                await asyncio.sleep(0.01)
            assert (told.data, told.lost.done()) == (b"1234", False)
            stream.resume_reading()
            for _ in range(5):
                await asyncio.sleep(0.01)
            assert told.data == b"12345678"
            stream.resume_reading()
            await asyncio.wait_for(told.lost, LONG)

    with runner:
        runner.run(scene())


def test_an_end_in_one_direction_is_no_loss(runner: asyncio.Runner) -> None:
    """Half-close: the other direction goes on."""

    async def scene() -> None:
        async with connected() as (peer, stream, told):
            peer.sendall(b"request")
            peer.shutdown(socket.SHUT_WR)
            await asyncio.wait_for(told.ended.wait(), LONG)
            stream.write(b"answer")
            assert await asyncio.get_running_loop().run_in_executor(None, peer.recv, 100) == b"answer"
            assert (told.data, told.lost.done()) == (b"request", False)

    with runner:
        runner.run(scene())


def test_descriptors_that_come_again_are_watched_again(runner: asyncio.Runner) -> None:
    """The next connection often has the number of the one before it."""

    async def scene() -> None:
        for _ in range(20):
            async with connected() as (peer, _, told):
                peer.sendall(b"x")
                reset(peer)
                assert isinstance(await asyncio.wait_for(told.lost, LONG), ConnectionResetError)

    with runner:
        runner.run(scene())
