"""The connections of one admin site: how many there may be, and how long a client may keep one waiting.

aiohttp bounds neither, and file descriptors are the listeners' too: whoever opened connections here and said nothing
would keep clients out there. Its protocol is wrapped, not changed; by `answering` the application tells of requests.
"""

import asyncio
import logging
import resource
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

_SAID_EVERY = 60.0
"""Seconds between warnings of one site that it is full."""

_AT_LEAST = 8
"""Connections that a site takes, however few file descriptors there are."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one site allows; times are seconds, and all but `body` are kept to a quarter or to a second.

    connections: beyond them, the one that has kept us waiting longest is closed; where none does, the newcomer.
    head: from the start of a connection, or the first byte after an answer, to the end of a request's head.
    body: for what a request that changes something brings. idle: between requests; scrapes are closer together.
    unread: without the client taking any of what is ready for it. An answer that is taken, or that has nothing to say
    for now, is never cut.
    """

    connections: int = 256
    head: float = 10.0
    body: float = 10.0
    idle: float = 75.0
    unread: float = 30.0


def usual_limits() -> Limits:
    """The defaults, with fewer connections where the process may have few file descriptors: an eighth of them."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return Limits()
    return Limits(connections=max(_AT_LEAST, min(Limits().connections, descriptors // 8)))


class Connections:
    """Those of one site. key: of the setting, for the log."""

    def __init__(self, key: str, limits: Limits) -> None:
        self._key = key
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._open: dict[_Connection, None] = {}  # oldest first: clocks of loops tick in milliseconds
        self._said: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def factory(self, make: Callable[[], asyncio.Protocol]) -> Callable[[], asyncio.Protocol]:
        """For `loop.create_server`. make: for one connection, aiohttp's protocol."""
        return lambda: _Connection(self, self._limits, make)

    def close(self) -> None:
        """End the timer; the connections are the server's to end."""
        if self._timer is not None:
            self._timer.cancel()

    def admit(self, newcomer: "_Connection") -> bool:
        now = self._loop.time()
        if len(self._open) >= self._limits.connections and not self._make_room(now):
            return False
        self._open[newcomer] = None
        if self._timer is None:
            self._arm()
        return True

    def forget(self, connection: "_Connection") -> None:
        self._open.pop(connection, None)

    def _make_room(self, now: float) -> bool:
        waiting = {each: since for each in self._open if (since := each.waiting_since) is not None}
        if self._said is None or now - self._said >= _SAID_EVERY:
            self._said = now
            whose = "the one that says nothing longest" if waiting else "newcomers: every request is being answered"
            log.warning("%s: %d connections are open: closing %s", self._key, len(self._open), whose)
        if waiting:
            self._end(min(waiting, key=waiting.__getitem__))
        return bool(waiting)

    def _arm(self) -> None:
        limits = self._limits
        delay = min(1.0, min(limits.head, limits.idle, limits.unread) / 4)
        self._timer = self._loop.call_later(delay, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        for connection in [each for each in self._open if each.is_overdue(now)]:
            self._end(connection)
        self._timer = None
        if self._open:
            self._arm()

    def _end(self, connection: "_Connection") -> None:
        self.forget(connection)
        connection.transport.abort()


class _Connection(asyncio.Protocol):
    """aiohttp's protocol, watched. `_since` is when the client began to owe what it owes now: a head, or a request."""

    transport: asyncio.Transport

    def __init__(self, site: Connections, limits: Limits, make: Callable[[], asyncio.Protocol]) -> None:
        self._site = site
        self._limits = limits
        self._make = make
        self._inner: asyncio.Protocol | None = None
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        self._begun = True
        self._request: asyncio.Task[Any] | None = None
        self._unread = 0
        self._taken = self._since

    @property
    def waiting_since(self) -> float | None:
        """None while it is us who have something to do."""
        if self._request is None:
            return self._since
        return self._taken if self._unread else None

    def is_overdue(self, now: float) -> bool:
        unread = self.transport.get_write_buffer_size()
        if unread == 0 or unread < self._unread:
            self._taken = now
        self._unread = unread
        if now - self._taken >= self._limits.unread:
            return True
        return self._request is None and now - self._since >= (self._limits.head if self._begun else self._limits.idle)

    def answering(self, task: asyncio.Task[Any]) -> None:
        """A request's head is whole; `task` ends with the last byte of its answer."""
        self._request = task
        self._begun = False
        task.add_done_callback(self._answered)

    def _answered(self, task: asyncio.Task[Any]) -> None:
        if self._request is task:  # else one that was sent behind it is being answered already
            self._request = None
            self._since = self._loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by name
        if self._site.admit(self):
            self._inner = self._make()
            self._inner.connection_made(transport)
        else:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._inner is None:
            return
        if not self._begun:
            self._begun = True
            self._since = self._loop.time()
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._inner is not None else None

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._site.forget(self)
        if self._inner is not None:
            self._inner.connection_lost(exc)


def answering(transport: asyncio.Transport | None, task: asyncio.Task[Any]) -> None:
    """Tell the connection behind `transport`, None where the client has left, that `task` answers a request of it."""
    protocol = transport.get_protocol() if transport is not None else None
    if isinstance(protocol, _Connection):
        protocol.answering(task)
