"""Connects to a server: every address of its name in turn, without blocking, within one time limit."""

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from ipaddress import ip_address

from mtlsproxy.reasons import Reason
from mtlsproxy.transport.wheel import TimerWheel

_IN_PROGRESS = (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR)

_Address = tuple[int, tuple[object, ...]]
"""Address family and what `socket.connect` takes."""


class Connecting:
    """One attempt. Exactly one of `connected(sock)` and `failed(reason, detail)` is called, always from the loop."""

    __slots__ = ("_addresses", "_connected", "_failed", "_last", "_loop", "_place", "_sock", "_timer", "_waiting")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        wheel: TimerWheel,
        host: str,
        port: int,
        timeout: float,
        connected: Callable[[socket.socket], None],
        failed: Callable[[Reason, str], None],
    ) -> None:
        """host: a name or an address without brackets. timeout: seconds, names and all addresses together."""
        self._loop = loop
        self._place = f"{host}:{port}"
        self._connected: Callable[[socket.socket], None] | None = connected
        self._failed = failed
        self._sock: socket.socket | None = None
        self._waiting = False
        self._addresses: list[_Address] = []
        self._last = "no address"
        self._timer = wheel.timer(self._timed_out)
        self._timer.start(timeout)
        try:
            family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET
        except ValueError:
            future = loop.run_in_executor(None, _resolve, host, port)
            future.add_done_callback(self._resolved)
        else:
            self._addresses = [(family, (host, port))]
            loop.call_soon(self._next)

    def _resolved(self, future: "asyncio.Future[list[_Address]]") -> None:
        error = future.exception()
        if error is not None:
            self._last = f"{error}"
        else:
            self._addresses = future.result()
        self._next()

    def _next(self) -> None:
        """Try the next address."""
        while self._connected is not None:
            if not self._addresses:
                failed = self._failed
                self._end()
                failed(Reason.UPSTREAM_UNAVAILABLE, f"cannot connect to {self._place}: {self._last}")
                return
            family, address = self._addresses.pop(0)
            try:
                sock = socket.socket(family, socket.SOCK_STREAM)
            except OSError as error:  # a family that the kernel lacks, or no file descriptor left
                self._last = error.strerror or str(error)
                continue
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            code = sock.connect_ex(address)
            if code == 0:
                self._finish(sock)
                return
            if code in _IN_PROGRESS:
                self._sock = sock
                self._waiting = True
                self._loop.add_writer(sock.fileno(), self._on_writable)
                return
            sock.close()
            self._last = os.strerror(code)

    def _on_writable(self) -> None:
        sock = self._sock
        assert sock is not None
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._forget()
        if code == 0:
            self._finish(sock)
            return
        sock.close()
        self._last = os.strerror(code)
        self._next()

    def _finish(self, sock: socket.socket) -> None:
        connected = self._connected
        self._end()
        assert connected is not None
        connected(sock)

    def _timed_out(self) -> None:
        if self._connected is None:
            return
        failed = self._failed
        self._end()
        failed(Reason.UPSTREAM_TIMEOUT, f"no connection to {self._place} in time")

    def cancel(self) -> None:
        """Give up without calling anybody."""
        self._end()

    def _end(self) -> None:
        self._connected = None
        self._failed = _nobody  # whoever waits knows this attempt: the two would keep each other
        self._timer.close()
        sock = self._sock
        if sock is not None:
            self._forget()
            sock.close()

    def _forget(self) -> None:
        if self._sock is not None:
            self._loop.remove_writer(self._sock.fileno())
            self._sock = None
            self._waiting = False


def _nobody(_: Reason, __: str) -> None:
    """Whom an attempt that has ended tells."""


def _resolve(host: str, port: int) -> list[_Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((family, tuple(address)) for family, _, _, _, address in found))
