"""Messages between supervisor and worker arrive whole, in order, and with their descriptors."""

import asyncio
import os
import socket

from hypothesis import given, settings
from hypothesis import strategies as st

from mtlsproxy.workers.channel import Channel, Message


class End:
    """One end, and what it heard."""

    def __init__(self, sock: socket.socket) -> None:
        self.heard: list[tuple[Message, list[bytes]]] = []
        self.ends = 0
        self.channel = Channel(asyncio.get_running_loop(), sock, self._hear, self._end)

    def _hear(self, message: Message, descriptors: list[int]) -> None:
        said = []
        for descriptor in descriptors:
            assert not os.get_inheritable(descriptor)
            said.append(os.pread(descriptor, 100, 0))
            os.close(descriptor)
        self.heard.append((message, said))

    def _end(self) -> None:
        self.ends += 1


def ends() -> tuple[End, End]:
    one, other = socket.socketpair()
    return End(one), End(other)


async def until(count: int, end: End) -> None:
    async with asyncio.timeout(10):
        while len(end.heard) < count:  # noqa: ASYNC110 - heard by a callback
            await asyncio.sleep(0.001)


async def ended(end: End) -> None:
    async with asyncio.timeout(10):
        while not end.ends:  # noqa: ASYNC110 - told by a callback
            await asyncio.sleep(0.001)


def file(content: bytes) -> int:
    descriptor = os.memfd_create("test")
    os.write(descriptor, content)
    return descriptor


async def test_messages_of_all_sizes_come_in_order_with_their_descriptors() -> None:
    """What the kernel does not take at once is kept: two megabytes do not fit into a socket's buffer."""
    one, other = ends()
    sent = []
    for number, size in enumerate((0, 10, 100_000, 2_000_000, 1)):
        files = [file(b"%d-%d" % (number, each)) for each in range(number)]
        one.channel.send({"number": number, "data": "a" * size}, files)
        for each in files:
            os.close(each)  # ours: the message has its own
        sent.append(({"number": number, "data": "a" * size}, [b"%d-%d" % (number, each) for each in range(number)]))
    await until(len(sent), other)
    assert other.heard == sent
    other.channel.send({"thanks": None})
    await until(1, one)
    one.channel.close()
    await ended(other)
    assert (one.ends, other.ends) == (0, 1)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.dictionaries(st.text(), st.none() | st.text() | st.lists(st.integers(0, 2**53))), max_size=8))
def test_whatever_is_said_is_heard(messages: list[Message]) -> None:
    async def talk() -> None:
        one, other = ends()
        for message in messages:
            one.channel.send(message)
        await until(len(messages), other)
        assert [message for message, _ in other.heard] == messages
        one.channel.close()
        other.channel.close()

    asyncio.run(talk())


async def test_nothing_is_said_or_heard_after_the_end() -> None:
    one, other = ends()
    other.channel.close()
    await ended(one)
    one.channel.send({"lost": True}, [1])
    assert other.heard == []
