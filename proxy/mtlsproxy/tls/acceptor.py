"""A listener's sockets: accepts, keeps the limits on connections and handshakes, and hands over what passed TLS."""

import asyncio
import errno
import logging
import socket
from dataclasses import dataclass
from typing import Protocol

from mtlsproxy.config.networks import origin_of, unmapped
from mtlsproxy.reasons import Reason
from mtlsproxy.tls.contexts import Contexts, ServerContext
from mtlsproxy.tls.handshake import Handshake
from mtlsproxy.tls.proxy_header import ProxyHeaderRule
from mtlsproxy.tls.slots import Slots
from mtlsproxy.tls.stream import TlsStream
from mtlsproxy.transport.interfaces import Counter
from mtlsproxy.transport.stream import UNTRUSTED_SIZE, SocketStream
from mtlsproxy.transport.wheel import TimerWheel

ACCEPT_BATCH = 64
"""Connections taken in one turn of the loop: established ones get their turn in between."""

ACCEPT_PAUSE = 0.1
"""Seconds to wait before accepting again at a limit or when the process is out of file descriptors."""

SAY_EVERY = 10.0
"""Seconds between two log lines about the same trouble."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AcceptorSettings:
    """Times in seconds; 0 connections per address means no limit. proxy_header: None where no header is expected."""

    name: str
    client_hello_timeout: float
    handshake_timeout: float
    max_connections: int
    max_connections_per_ip: int
    max_concurrent_handshakes: int
    proxy_header: ProxyHeaderRule | None = None


@dataclass(frozen=True, slots=True)
class Established:
    """A connection whose handshake has completed. presented: DER, leaf first, () without a client certificate.

    address: the client's, as a PROXY header gives it where one is expected. counted_for: see Acceptor.released.
    """

    stream: TlsStream
    address: tuple[str, int]
    counted_for: str | None
    server_name: str | None
    context: ServerContext
    presented: tuple[bytes, ...]
    version: str
    cipher: str
    resumed: bool


@dataclass(frozen=True, slots=True)
class FailedHandshake:
    """presented: DER, leaf first, as far as the client had come. version: None before one was agreed."""

    address: tuple[str, int]
    reason: Reason
    detail: str
    presented: tuple[bytes, ...]
    version: str | None
    server_name: str | None
    seconds: float | None = None
    """Since the complete ClientHello; None before it."""


class Owner(Protocol):
    """Who gets what the acceptor makes."""

    def established(self, connection: Established, seconds: float) -> None: ...

    def failed(self, failure: FailedHandshake) -> None: ...

    def close_longest_idle(self) -> bool:
        """Make room: close the connection that has been idle longest; False when none is idle."""
        ...


class Acceptor:
    """One listener. `contexts` may be replaced at any time: connections that come later use the new ones."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        wheel: TimerWheel,
        settings: AcceptorSettings,
        contexts: Contexts,
        owner: Owner,
        received: Counter,
        sent: Counter,
    ) -> None:
        self._loop = loop
        self.wheel = wheel
        self.slots = Slots(loop, settings.max_concurrent_handshakes, settings.handshake_timeout)
        self._settings = settings
        self.contexts = contexts
        self._owner = owner
        self._received = received
        self._sent = sent
        self._sockets: list[socket.socket] = []
        self.handshakes: set[Handshake] = set()
        """Under way, from accept on."""
        self._accepting = False
        self._retry: asyncio.TimerHandle | None = None
        self._per_address: dict[str, int] = {}
        self._say_again = 0.0
        self.connections = 0
        self.accepted = 0

    @property
    def settings(self) -> AcceptorSettings:
        return self._settings

    @settings.setter
    def settings(self, settings: AcceptorSettings) -> None:
        self._settings = settings
        self.slots.limit, self.slots.timeout = settings.max_concurrent_handshakes, settings.handshake_timeout

    # -- accepting -------------------------------------------------------------------------------------------------

    def listen(self, sock: socket.socket) -> None:
        """Take connections from a bound, listening, non-blocking socket."""
        self._sockets.append(sock)
        self._accepting = True
        self._loop.add_reader(sock.fileno(), self._on_acceptable, sock)

    def leave(self, sock: socket.socket) -> None:
        """Take no more connections from one of the sockets, in whose queue somebody else finds them."""
        if sock in self._sockets:
            self._sockets.remove(sock)
            self._loop.remove_reader(sock.fileno())
            sock.close()

    def close(self) -> None:
        """Stop accepting for good; connections and handshakes live on."""
        for sock in self._sockets:
            self._on_acceptable(sock)  # whom the kernel has let in already would be reset
        self._pause()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()
        for handshake in self.handshakes:
            handshake.hurry()

    def _pause(self) -> None:
        if self._accepting:
            self._accepting = False
            for sock in self._sockets:
                self._loop.remove_reader(sock.fileno())

    def _pause_for_a_moment(self) -> None:
        self._pause()
        if self._retry is None:
            self._retry = self._loop.call_later(ACCEPT_PAUSE, self._resume)

    def _resume(self) -> None:
        self._retry = None
        self._accepting = True
        for sock in self._sockets:
            self._loop.add_reader(sock.fileno(), self._on_acceptable, sock)

    def _on_acceptable(self, listening: socket.socket) -> None:
        for taken in range(ACCEPT_BATCH):
            if self.connections >= self.settings.max_connections:
                # Only now that somebody waits for sure; the place is free once the closed connection is gone.
                if not taken:
                    self._owner.close_longest_idle()
                self._pause_for_a_moment()
                return
            try:
                sock, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise
                if self.wheel.now >= self._say_again:
                    self._say_again = self.wheel.now + SAY_EVERY
                    log.error("listener %s cannot accept: %s", self.settings.name, error.strerror)
                self._pause_for_a_moment()
                return
            self._accept(sock, (unmapped(address[0]), address[1]))

    def _accept(self, sock: socket.socket, address: tuple[str, int]) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.accepted += 1
        rule = self.settings.proxy_header
        announced = rule is not None and rule.senders.covers(address[0])
        if not announced and (detail := self.count(address[0])):
            sock.close()
            self._owner.failed(FailedHandshake(address, Reason.TOO_MANY_CONNECTIONS, detail, (), None, None))
            return
        self.connections += 1
        raw = SocketStream(self._loop, sock, self._received, self._sent, UNTRUSTED_SIZE)
        if rule is not None and announced:
            # Not the load balancer's but its clients' connections are counted, once a header says whose each is.
            Handshake(self, raw, address, None, rule.parse).start()
        else:
            Handshake(self, raw, address, address[0]).start()

    # -- what handshakes and connections say -----------------------------------------------------------------------

    def count(self, address: str) -> str | None:
        """One more connection from `address`; or, uncounted, what says that it is one too many."""
        origin = origin_of(address)
        count = self._per_address.get(origin, 0)
        limit = self.settings.max_connections_per_ip
        if limit and count >= limit:
            return f"{count} connections of {origin} are open (limits.max_connections_per_ip)"
        self._per_address[origin] = count + 1
        return None

    def established(
        self, handshake: Handshake, stream: TlsStream, context: ServerContext, chain: tuple[bytes, ...], seconds: float
    ) -> None:
        tls = stream.ssl_object
        cipher = tls.cipher()
        name = handshake.hello.server_name if handshake.hello else None
        self._owner.established(
            Established(
                stream,
                handshake.address,
                handshake.counted_for,
                name,
                context,
                chain,
                tls.version() or "none",
                cipher[0] if cipher else "",
                bool(tls.session_reused),
            ),
            seconds,
        )

    def failed(
        self,
        handshake: Handshake,
        reason: Reason,
        detail: str,
        presented: tuple[bytes, ...],
        version: str | None,
        seconds: float | None,
    ) -> None:
        name = handshake.hello.server_name if handshake.hello else None
        self._owner.failed(FailedHandshake(handshake.address, reason, detail, presented, version, name, seconds))

    def released(self, address: str | None) -> None:
        """A connection that was counted for `address` is gone (None: for nobody). Called once, at connection_lost."""
        self.connections -= 1
        if address is None:
            return
        origin = origin_of(address)
        left = self._per_address.get(origin, 1) - 1
        if left > 0:
            self._per_address[origin] = left
        else:
            self._per_address.pop(origin, None)
