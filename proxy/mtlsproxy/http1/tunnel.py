"""Bytes both ways between a client and an upstream that have left HTTP (RFC 9110 §7.8), under back-pressure."""

from collections.abc import Callable, Iterable
from typing import Protocol

from mtlsproxy.http1.origin import Origin
from mtlsproxy.reasons import Reason
from mtlsproxy.transport.interfaces import Stream
from mtlsproxy.transport.wheel import Timer, TimerWheel
from mtlsproxy.upstream.secure import SecureServer, SecureStream
from mtlsproxy.upstream.server import Server


class ClientStream(Stream, Protocol):
    @property
    def owed(self) -> int: ...


class Owner(Protocol):
    """Whose tunnel it is: the client's connection."""

    def tunnel_ended(self, reason: Reason | None, detail: str) -> None:
        """Both ends are being closed. reason: None unless an end was lost without having said goodbye."""
        ...

    def connection_lost(self, error: OSError | None) -> None:
        """The client's stream is gone; called after `tunnel_ended`."""
        ...


class _End:
    """Handler of one end's stream. What it hears it says at the other end, nothing is kept in between."""

    __slots__ = ("_idle", "_loss", "_lost", "_other", "_timer", "_tunnel", "carried")

    def __init__(
        self,
        loss: Reason,
        tunnel: "Tunnel",
        other: Stream,
        timer: Timer,
        idle: float,
        lost: Callable[[OSError | None], None],
    ) -> None:
        """loss: the reason when this end breaks off. lost: who else is told that its stream is gone."""
        self._loss = loss
        self._tunnel: Tunnel | None = tunnel
        self._other = other
        self._timer = timer
        self._idle = idle
        self._lost: Callable[[OSError | None], None] | None = lost
        self.carried = 0

    def data_received(self, data: memoryview) -> None:
        self.carried += len(data)
        self._timer.start(self._idle)
        self._other.write(data)

    def eof_received(self) -> None:
        if self._tunnel is not None:
            self._tunnel.end()

    def pause_writing(self) -> None:
        self._other.pause_reading()

    def resume_writing(self) -> None:
        self._timer.start(self._idle)  # it takes bytes again, slowly: that is no silence
        self._other.resume_reading()

    def connection_lost(self, error: OSError | None) -> None:
        tunnel, lost = self._tunnel, self._lost
        self._tunnel = self._lost = None
        if tunnel is not None:
            tunnel.end(self._loss if error else None, f"the WebSocket broke off: {error}" if error else "")
        if lost is not None:
            lost(error)


class _ClientEnd(_End):
    """Whose client has to read, too: what it sends is no reason to keep what it does not take."""

    __slots__ = ("_owed", "_patience", "_stalled", "_stream")

    def watch(self, wheel: TimerWheel, stream: ClientStream, patience: float) -> None:
        """patience: seconds in which it must take something of what is kept for it."""
        self._stream = stream
        self._patience = patience
        self._owed = 0
        self._stalled = wheel.timer(self._look)

    def pause_writing(self) -> None:
        self.hold()
        super().pause_writing()

    def hold(self) -> None:
        self._owed = self._stream.owed
        self._stalled.start(self._patience)

    def resume_writing(self) -> None:
        self._stalled.stop()
        super().resume_writing()

    def connection_lost(self, error: OSError | None) -> None:
        self._stalled.close()
        super().connection_lost(error)

    def _look(self) -> None:
        if (owed := self._stream.owed) != self._owed:
            self.hold()
        elif self._tunnel is not None:
            self._tunnel.end(Reason.REQUEST_TIMEOUT, f"the client took nothing of {owed} bytes in {self._patience:g}s")


class Tunnel:
    """Ends with exactly one call of `Owner.tunnel_ended`."""

    __slots__ = ("_client", "_client_end", "_owner", "_server", "_timer", "_upstream", "_upstream_end")

    def __init__(
        self, wheel: TimerWheel, owner: Owner, client: ClientStream, origin: Origin, idle: float, patience: float
    ) -> None:
        """idle: seconds without a byte in either direction after which it ends. patience: those in which a client must
        take something of what is kept for it."""
        self._owner: Owner | None = owner
        self._server = origin.server
        self._client, self._upstream = client, origin.stream
        self._timer = wheel.timer(self.end)
        self._timer.start(idle)
        lost = owner.connection_lost
        self._client_end = _ClientEnd(Reason.CLIENT_ABORTED, self, self._upstream, self._timer, idle, lost)
        self._client_end.watch(wheel, client, patience)
        self._upstream_end = _End(Reason.UPSTREAM_ERROR, self, client, self._timer, idle, origin.connection_lost)

    def start(self, from_client: bytes, from_upstream: bytes, *, client_slow: bool) -> None:
        """Take both streams over. The bytes are what each end had sent behind its part of the handshake."""
        self._client.handler = self._client_end
        self._upstream.handler = self._upstream_end
        if client_slow:
            self._client_end.hold()
            self._upstream.pause_reading()
        if from_upstream:
            self._upstream_end.data_received(memoryview(from_upstream))
        if from_client:
            self._client_end.data_received(memoryview(from_client))
        self._client.resume_reading()

    @property
    def from_client(self) -> int:
        """Bytes carried until now."""
        return self._client_end.carried

    @property
    def from_upstream(self) -> int:
        return self._upstream_end.carried

    def review(self) -> None:
        """To be asked again and again: it ends when its server is no longer trusted."""
        stream, secure = self._upstream, self._server.endpoint.secure
        if isinstance(stream, SecureStream) and isinstance(secure, SecureServer):
            stream.review(secure, self._server_refused)

    def belongs_to(self, servers: Iterable[Server]) -> None:
        """These are its route's servers now (a reload): its own has to be among them."""
        url = self._server.url
        for server in servers:
            if server.url == url:
                self._server = server
                self.review()
                return
        self.end(Reason.UPSTREAM_UNAVAILABLE, f"{url} is no longer a server of the route's upstream")

    def _server_refused(self, detail: str) -> None:
        self.end(Reason.UPSTREAM_ERROR, self._server.named(detail))

    def end(self, reason: Reason | None = None, detail: str = "") -> None:
        """Close both ends; what each had been sent still goes out, unless there is a reason against it."""
        owner, self._owner = self._owner, None
        if owner is None:
            return
        self._timer.close()
        for stream in (self._client, self._upstream):
            if reason is None:
                stream.close()
            else:
                stream.abort()
        owner.tunnel_ended(reason, detail)
