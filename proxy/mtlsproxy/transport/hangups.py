"""Tells streams of resets, also of one that comes together with bytes.

libuv tells once of bytes and an error on a socket, and then stops polling it: the bytes are read, the error is never
told, and whoever waits for more waits for a timeout. So every socket is also in an epoll set of our own, for nothing
but errors and hang-ups, edge-triggered: one system call a connection, none a request.
"""

import asyncio
import select
from typing import Protocol
from weakref import WeakKeyDictionary

_AT_ONCE = 256
"""Hang-ups told in one turn of the loop; the kernel keeps the others until the next."""


class Watched(Protocol):
    def hung_up(self) -> None:
        """The connection has broken, or both directions have ended. Told once, from the loop."""


class Hangups:
    """Of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, Watched] = {}
        loop.add_reader(self._epoll.fileno(), self._on_event)

    def watch(self, fd: int, stream: Watched) -> None:
        """Until `forget`, which has to come before `fd` is closed."""
        self._watched[fd] = stream
        self._epoll.register(fd, select.EPOLLET)  # errors and hang-ups are always told (epoll_ctl(2))

    def forget(self, fd: int) -> None:
        """Closing the descriptor takes it out of the set: no system call of its own."""
        self._watched.pop(fd, None)

    def _on_event(self) -> None:
        for fd, _ in self._epoll.poll(0, _AT_ONCE):
            # What one stream does about it may end another, whose descriptor may be a newcomer's by now: that one finds
            # nothing to read, and no harm is done.
            if (stream := self._watched.get(fd)) is not None:
                stream.hung_up()


_of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, Hangups] = WeakKeyDictionary()


def hangups_of(loop: asyncio.AbstractEventLoop) -> Hangups:
    found = _of_loops.get(loop)
    if found is None:
        for ended in [known for known in _of_loops if known.is_closed()]:
            del _of_loops[ended]  # streams that it left behind know it, and would keep it
        found = _of_loops[loop] = Hangups(loop)
    return found
