"""Connects to a server: its addresses in turn, then TLS where it has it, without blocking, within one time limit."""

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from typing import Protocol

from mtlsproxy.reasons import Reason
from mtlsproxy.transport.interfaces import NullCounter, Stream
from mtlsproxy.transport.stream import SocketStream
from mtlsproxy.transport.wheel import TICK, TimerWheel
from mtlsproxy.upstream.addresses import Address, Addresses

_IN_PROGRESS = (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR)

_uncounted = NullCounter()

Connected = Callable[[Stream], None]
Failed = Callable[[Reason, str], None]


class Cancellable(Protocol):
    def cancel(self) -> None:
        """Give up without calling anybody."""


class Secure(Protocol):
    """How TLS with a server begins."""

    def start(
        self,
        loop: asyncio.AbstractEventLoop,
        wheel: TimerWheel,
        raw: SocketStream,
        connected: Connected,
        failed: Failed,
    ) -> Cancellable:
        """Shake hands over `raw`, which has no handler yet and is this one's from now on. Afterwards one of the two is
        called, from the loop and never from inside this call. The time is the caller's: it cancels."""
        ...


class Endpoint:
    """Where a server listens and how it is spoken to.

    place: in words, such as `127.0.0.1:9000`. authority: what goes into Host with `host: server`. secure: None for
    plain bytes; replaced when its certificates change.
    """

    __slots__ = ("addresses", "authority", "place", "secure")

    def __init__(self, place: str, authority: str, addresses: Addresses, secure: Secure | None = None) -> None:
        self.place = place
        self.authority = authority
        self.addresses = addresses
        self.secure = secure


class Connecting:
    """One attempt. Exactly one of `connected(stream)` and `failed(reason, detail)` is called, always from the loop."""

    __slots__ = (
        "_addresses",
        "_connected",
        "_endpoint",
        "_ends",
        "_failed",
        "_handshake",
        "_last",
        "_loop",
        "_sock",
        "_timed_out_last",
        "_timer",
        "_trying",
        "_wheel",
        "address",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        wheel: TimerWheel,
        endpoint: Endpoint,
        timeout: float,
        connected: Connected,
        failed: Failed,
    ) -> None:
        """timeout: seconds; names, all addresses and TLS together."""
        self._loop = loop
        self._wheel = wheel
        self._endpoint = endpoint
        self._connected: Connected | None = connected
        self._failed = failed
        self._sock: socket.socket | None = None
        self._handshake: Cancellable | None = None
        self._addresses: list[Address] = []
        self._trying = False
        """Whether addresses are known and the timer is about one of them."""
        self._timed_out_last = False
        self._last = ""
        self.address: Address | None = None
        """The one that is tried now; at the end, the one connected to."""
        self._ends = wheel.now + timeout
        self._timer = wheel.timer(self._on_time)
        self._timer.start(timeout)
        found = endpoint.addresses.in_turn()
        if found:
            loop.call_soon(self._try_all, found)
        else:
            endpoint.addresses.wait(self._looked_up)

    def _looked_up(self) -> None:
        if self._connected is not None:
            self._last = self._endpoint.addresses.error
            self._try_all(self._endpoint.addresses.in_turn())

    def _try_all(self, addresses: list[Address]) -> None:
        self._addresses = addresses
        self._trying = True
        self._next()

    def _next(self) -> None:
        """Try the next address. None may take more than its share of the time: one that nobody answers at must not
        keep the others from being tried."""
        while self._connected is not None:
            if not self._addresses:
                self._give_up()
                return
            left = self._ends - self._wheel.now
            self._timer.start(max(left / len(self._addresses), 0.0))
            self.address = self._addresses.pop(0)
            self._timed_out_last = False
            if self._try(self.address):
                return

    def _try(self, address: Address) -> bool:
        """False: it failed at once."""
        family, where = address
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:  # a family that the kernel lacks, or no file descriptor left
            self._last = error.strerror or str(error)
            return False
        sock.setblocking(False)
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        code = sock.connect_ex(where)
        if code == 0:
            self._stands(sock)
        elif family == socket.AF_UNIX and code == errno.EAGAIN:
            # Its backlog is full, and nothing will tell when it no longer is (connect(2)).
            self._drop_socket()
            self._addresses.append(address)
            self._loop.call_later(TICK, self._next)
        elif code in _IN_PROGRESS:
            self._loop.add_writer(sock.fileno(), self._on_writable)
        else:
            self._drop_socket()
            self._last = os.strerror(code)
            return False
        return True

    def _on_writable(self) -> None:
        sock = self._sock
        assert sock is not None
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._loop.remove_writer(sock.fileno())
        if code == 0:
            self._stands(sock)
            return
        self._drop_socket()
        self._last = os.strerror(code)
        self._next()

    def _stands(self, sock: socket.socket) -> None:
        """Bytes can pass; TLS has what is left of the time."""
        self._sock = None
        raw = SocketStream(self._loop, sock, _uncounted, _uncounted)
        secure = self._endpoint.secure
        if secure is None:
            self._finish(raw)
            return
        self._trying = False
        self._timer.start(max(self._ends - self._wheel.now, 0.0))
        self._handshake = secure.start(self._loop, self._wheel, raw, self._finish, self._fail)

    def _finish(self, stream: Stream) -> None:
        connected = self._connected
        self._handshake = None
        self._end()
        assert connected is not None
        connected(stream)

    def _give_up(self) -> None:
        """No address is left."""
        self._endpoint.addresses.doubt()
        if self._timed_out_last:
            self._fail(Reason.UPSTREAM_TIMEOUT, f"no connection to {self._endpoint.place} in time")
        else:
            last = self._last or "no address"
            self._fail(Reason.UPSTREAM_UNAVAILABLE, f"cannot connect to {self._endpoint.place}: {last}")

    def _fail(self, reason: Reason, detail: str) -> None:
        failed = self._failed
        self._handshake = None
        self._end()
        failed(reason, detail)

    def _on_time(self) -> None:
        if self._connected is None:
            return
        if self._trying:
            self._drop_socket()
            self._timed_out_last = True
            if self._wheel.now >= self._ends:
                self._addresses.clear()
            self._next()
        else:
            what = "handshake with" if self._handshake is not None else "address of"
            detail = f"no {what} {self._endpoint.place} in time"
            failed = self._failed
            self._end()
            failed(Reason.UPSTREAM_TIMEOUT, detail)

    def cancel(self) -> None:
        """Give up without calling anybody."""
        self._end()

    def _end(self) -> None:
        self._connected = None
        self._failed = _nobody  # whoever waits knows this attempt: the two would keep each other
        self._timer.close()
        self._drop_socket()
        handshake, self._handshake = self._handshake, None
        if handshake is not None:
            handshake.cancel()

    def _drop_socket(self) -> None:
        sock, self._sock = self._sock, None
        if sock is not None:
            self._loop.remove_writer(sock.fileno())
            sock.close()


def _nobody(_: Reason, __: str) -> None:
    """Whom an attempt that has ended tells."""
