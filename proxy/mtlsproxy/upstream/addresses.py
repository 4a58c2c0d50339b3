"""Where a server is: its addresses, looked up off the loop and again every 30 seconds."""

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

from mtlsproxy.transport.wheel import TimerWheel

REFRESH = 30.0
"""Seconds between two look-ups of a name: getaddrinfo tells no TTL."""

DOUBT = 5.0
"""Seconds after a look-up before a failed connect makes for another: a server that has moved is found soon."""

Address = tuple[int, tuple[object, ...] | str]
"""Address family and what `socket.connect` takes: a path for AF_UNIX."""

log = logging.getLogger(__name__)


class Addresses:
    """Of one server. A name's last good answer stays while looking it up fails."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wheel: TimerWheel, host: str, port: int) -> None:
        """host: a name or an address without brackets. Nothing is looked up before it is asked for, or `start`."""
        self._loop = loop
        self._wheel = wheel
        self._host = host
        self._port = port
        self._known: list[Address] = []
        self._turn = 0
        self._asked: float = -REFRESH
        self._busy = False
        self._failing = False
        self._error = ""
        self._waiting: list[Callable[[], None]] = []
        self._changed: Callable[[frozenset[Address]], None] | None = None
        self._timer = wheel.timer(self._look_up)
        self.fixed = False
        """Whether they are known once and for all: an address, a path."""
        with contextlib.suppress(ValueError):
            family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET
            self._fix((family, (host, port)))

    @classmethod
    def of_socket(cls, loop: asyncio.AbstractEventLoop, wheel: TimerWheel, path: Path) -> "Addresses":
        """Of a unix socket."""
        found = cls(loop, wheel, "", 0)
        found._fix((socket.AF_UNIX, str(path)))
        return found

    def _fix(self, address: Address) -> None:
        self._known = [address]
        self.fixed = True

    @property
    def known(self) -> tuple[Address, ...]:
        return tuple(self._known)

    @property
    def error(self) -> str:
        """Why there is none, in words."""
        return self._error or "no address"

    def start(self, changed: Callable[[frozenset[Address]], None], last_known: tuple[Address, ...] = ()) -> None:
        """Keep them up to date from now on. changed: told all that are known, whenever one is gone. last_known: of the
        same name, from before a reload."""
        if not self.fixed:
            self._known = self._known or list(last_known)
            self._changed = changed
            self._look_up()

    def close(self) -> None:
        """Look nothing up any more, unless somebody asks."""
        self._timer.stop()
        self._changed = None

    def in_turn(self) -> list[Address]:
        """All of them, each time from another one on; [] where none is known yet (see `wait`)."""
        known = self._known
        if len(known) < 2:
            return known[:]
        self._turn = turn = (self._turn + 1) % len(known)
        return known[turn:] + known[:turn]

    def wait(self, tell: Callable[[], None]) -> None:
        """Look them up; `tell` is called when that has ended, however."""
        self._waiting.append(tell)
        self._look_up()

    def doubt(self) -> None:
        """Nobody answered at any of them: look again before the time."""
        if not self.fixed and self._wheel.now - self._asked > DOUBT:
            self._look_up()

    # -- looking up ------------------------------------------------------------------------------------------------

    def _look_up(self) -> None:
        if self._busy:
            return
        self._busy = True
        self._asked = self._wheel.now
        # A thread of its own: a resolver that hangs holds up neither other names nor the end of the process.
        threading.Thread(target=self._resolve, name=f"look up {self._host}", daemon=True).start()

    def _resolve(self) -> None:
        """In the thread."""
        found: list[Address] = []
        error = ""
        try:
            answer = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            found = list(dict.fromkeys((family, tuple(address)) for family, _, _, _, address in answer))
        except (OSError, UnicodeError) as failure:  # UnicodeError: no name at all (IDNA)
            error = failure.strerror or str(failure) if isinstance(failure, OSError) else str(failure)
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            self._loop.call_soon_threadsafe(self._resolved, found, error)

    def _resolved(self, found: list[Address], error: str) -> None:
        self._busy = False
        if self._changed is not None:
            self._timer.start(REFRESH)
        if found:
            self._take(found)
        else:
            self._fail(error or "no address")
        waiting, self._waiting = self._waiting, []
        for tell in waiting:
            tell()

    def _take(self, found: list[Address]) -> None:
        if self._failing:
            log.info("%s can be looked up again", self._host)
        self._failing = False
        self._error = ""
        before, self._known = self._known, found
        gone = set(before) - set(found)
        if gone:
            log.debug("%s has moved: %s", self._host, ", ".join(sorted({str(address[0]) for _, address in found})))
            if self._changed is not None:
                self._changed(frozenset(found))

    def _fail(self, error: str) -> None:
        self._error = error
        if not self._failing:  # once, not every 30 seconds
            stay = "; its last known addresses stay in use" if self._known else ""
            log.warning("%s cannot be looked up: %s%s", self._host, error, stay)
        self._failing = True
