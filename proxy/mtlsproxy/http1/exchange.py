"""One request and its answer: between a client's connection and one to an upstream, bytes both ways as they come."""

from time import perf_counter
from typing import TYPE_CHECKING

from mtlsproxy.http1.body import Trailers
from mtlsproxy.http1.origin import Origin
from mtlsproxy.http1.request_head import RequestHead
from mtlsproxy.http1.response_head import ResponseHead, passes_in_trailer
from mtlsproxy.http1.visitor import Admission
from mtlsproxy.reasons import Reason
from mtlsproxy.upstream.server import Lendable, Server

if TYPE_CHECKING:
    from mtlsproxy.http1.downstream import Downstream

_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Safe to repeat (RFC 9110 §9.2.2)."""

MAX_DISCARDED = 1024 * 1024
"""Bytes of a request's body that are read and thrown away after its answer, to keep the client's connection."""

_JOIN = 8 * 1024
"""Pieces of an answer up to this size are joined with what comes before them: one TLS record, one system call."""


class Exchange:
    """Borrower of a connection to the upstream, and its asker. Ends with exactly one call of `Downstream.finished`."""

    # What most exchanges leave as it is, set at the class: it costs nothing at each.
    _origin: Origin | None = None
    _request = b""
    _attempts = 0
    _answered = False
    _asked_at = 0.0
    _chunked_down = False
    _discarded = 0
    _over = False
    _failure: tuple[Reason, str] | None = None
    tried: frozenset[Server] = frozenset()
    wants_fresh = False
    started = False
    close_after = False
    status = 0
    reason: Reason | None = None
    detail = ""
    request_bytes = 0
    response_bytes = 0
    upstream_seconds: float | None = None

    def __init__(
        self, downstream: "Downstream", head: RequestHead, admission: Admission, request_id: bytes, began: float
    ) -> None:
        target = admission.target
        self._downstream = downstream
        self.head = head
        self.admission = admission
        self.request_id = request_id
        self.began = began
        self.wants_no_body = head.method == "HEAD"
        self.websocket_key = head.websocket_key if head.websocket else None
        self.request_sent = not head.has_body
        self.response_timeout = target.response_timeout
        self.body_timeout = target.body_timeout
        self._chunked_up = head.chunked
        self.only_once = not (self.request_sent and head.method in _IDEMPOTENT)
        self._early: list[bytes] = []
        self._joined: list[bytes] = []

    # -- the request -----------------------------------------------------------------------------------------------

    def start(self, request: bytes) -> None:
        """`request`: the head for the upstream. What came of the body until now is sent right behind it."""
        self._request = request
        self.admission.target.upstream.lend(self)

    def request_body(self, piece: memoryview) -> None:
        size = len(piece)
        self.request_bytes += size
        origin = self._origin
        if self._over:
            self._discard(size)
            return
        if self._chunked_up:
            framed = b"".join((b"%x\r\n" % size, piece, b"\r\n"))
            if origin is not None:
                origin.more(framed)
            else:
                self._early.append(framed)
        elif origin is not None:
            origin.more(piece)
        else:
            self._early.append(bytes(piece))

    def _discard(self, size: int) -> None:
        """The answer is out and the upstream gone: read on for the sake of the connection, within reason."""
        self._discarded += size
        if self._discarded > MAX_DISCARDED:
            self._downstream.finished(self)

    def request_end(self, trailers: list[bytes]) -> None:
        """The client's body is whole. trailers: complete lines, those that may pass."""
        self.request_sent = True
        if self._chunked_up:
            end = b"".join((b"0\r\n", *trailers, b"\r\n"))
            if self._origin is not None:
                self._origin.more(end)
            elif not self._over:
                self._early.append(end)
        if self._origin is not None:
            self._origin.request_sent()
        if self._answered:
            self._downstream.finished(self)

    @property
    def asked(self) -> bool:
        """Whether an upstream server was sent the request, or the beginning of it."""
        return self._asked_at > 0

    @property
    def waiting(self) -> bool:
        """No connection to the upstream yet: the client's body has to wait."""
        return self._origin is None and not self._over

    # -- what the pool asks and says -------------------------------------------------------------------------------

    @property
    def client_key(self) -> str | None:
        return self.admission.principal

    def lent(self, connection: Lendable) -> None:
        assert isinstance(connection, Origin)
        if self._over:  # the client left meanwhile
            connection.server.upstream.give_back(connection)
            return
        self._origin = connection
        if self._attempts:
            connection.server.retries.value += 1
        self._downstream.upstream_ready()  # before anything is written: that may already be too much for the upstream
        self._asked_at = perf_counter()
        early, self._early = self._early, []
        request = self._request
        if self.admission.target.host_of_server:
            request = request.replace(b"\r\nHost: \r\n", b"\r\nHost: %b\r\n" % connection.server.authority.encode(), 1)
        connection.ask(self, b"".join((request, *early)) if early else request)

    def not_lent(self, reason: Reason, detail: str, *, again: bool) -> None:
        if self._over:
            return
        # Nothing was sent, so any method may be tried again.
        if again and self._may_repeat():
            self._repeat(reason, detail)
        elif self._failure is not None and reason is Reason.UPSTREAM_UNAVAILABLE and not again:
            # There was nobody to try again with: what went wrong before is what the client is told.
            reason, before = self._failure
            self._end_with(reason, f"{before}; then {detail}")
        else:
            self._end_with(reason, detail)

    def _repeat(self, reason: Reason, detail: str) -> None:
        self._failure = (reason, detail)
        self.admission.target.upstream.lend(self)

    def _may_repeat(self) -> bool:
        if self._attempts >= self.admission.target.retries:
            return False
        self._attempts += 1
        return True

    # -- what the origin says --------------------------------------------------------------------------------------

    def interim(self, head: ResponseHead) -> None:
        """1xx passes on, but not to HTTP/1.0 clients (RFC 9110 §15.2)."""
        if self.head.version_1_1:
            self._joined += (b"HTTP/1.1 %d %b\r\n" % (head.status, head.phrase), head.lines, b"\r\n")

    def response_head(self, head: ResponseHead, has_body: bool) -> None:
        self.upstream_seconds = perf_counter() - self._asked_at
        self.started = True
        self.status = head.status
        out = self._joined
        out.append(b"HTTP/1.1 %d %b\r\n" % (head.status, head.phrase))
        out.append(head.lines)
        if not has_body:
            # To HEAD and in 304 it says what a GET would get; 204 has none (RFC 9110 §8.6).
            if head.content_length is not None and head.status != 204:
                out.append(b"Content-Length: %d\r\n" % head.content_length)
        elif head.content_length is not None:
            out.append(b"Content-Length: %d\r\n" % head.content_length)
        elif self.head.version_1_1:
            self._chunked_down = True
            out.append(b"Transfer-Encoding: chunked\r\n")
        else:
            self.close_after = True
        if not self.head.keep_alive or self._downstream.closes_next:
            self.close_after = True
        out.append(b"Connection: close\r\n\r\n" if self.close_after else b"\r\n")

    def switched(self, head: ResponseHead, origin: Origin, early: bytes) -> None:
        self.upstream_seconds = perf_counter() - self._asked_at
        self.started = self._over = True
        self.status = head.status
        self._origin = None
        switching = b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        self._joined += (b"HTTP/1.1 101 %b\r\n" % head.phrase, head.lines, switching)
        self.flush()
        self._downstream.switched(self, origin, early)

    def response_body(self, piece: memoryview) -> None:
        size = len(piece)
        self.response_bytes += size
        if size <= _JOIN:
            if self._chunked_down:
                self._joined += (b"%x\r\n" % size, bytes(piece), b"\r\n")
            else:
                self._joined.append(bytes(piece))
            return
        if self._chunked_down:
            self._joined.append(b"%x\r\n" % size)
        self.flush()
        self._downstream.write(piece)
        if self._chunked_down:
            self._joined.append(b"\r\n")

    def flush(self) -> None:
        joined = self._joined
        if joined:
            self._downstream.write(b"".join(joined))
            joined.clear()

    def response_end(self, trailers: Trailers) -> None:
        if self._chunked_down:
            self._joined.append(b"0\r\n")
            self._joined += [b"%b: %b\r\n" % field for field in trailers if passes_in_trailer(field[0])]
            self._joined.append(b"\r\n")
        self._origin = None  # it may be another's by now: what the client does not take must not pause it
        self._over = True
        self.flush()
        if self.request_sent:
            self._downstream.finished(self)
        else:
            # What still comes of the request is thrown away, within reason, to keep the client's connection.
            self._answered = True
            self._early.clear()
            self._downstream.upstream_ready()

    def response_failed(self, reason: Reason, detail: str) -> None:
        origin, self._origin = self._origin, None
        assert origin is not None
        detail = origin.server.named(detail)
        if self.started:
            # A message that has begun is cut short, never ended as if it were whole.
            self.reason, self.detail = reason, detail
            self._over = True
            self.flush()
            self._downstream.cut_short(self)
            return
        stale = origin.was_stale and reason is Reason.UPSTREAM_ERROR
        if stale and not self.only_once and not self.wants_fresh:
            # Not the client's problem, nor an attempt: the server closed what rested (RFC 9112 §9.3.1).
            self.wants_fresh = True
            self._repeat(reason, detail)
            return
        if stale:
            origin.server.failures.value += 1
        self.tried |= {origin.server}
        if self._may_be_asked_again(reason, origin) and self._may_repeat():
            self._repeat(reason, detail)
        else:
            self._end_with(reason, detail)

    def _may_be_asked_again(self, reason: Reason, origin: Origin) -> bool:
        if origin.answered or self.only_once:
            return False
        # One that took all the time is not given as much again.
        return reason is Reason.UPSTREAM_ERROR or self.admission.target.upstream.has_another(self)

    def upstream_slow(self) -> None:
        self._downstream.upstream_slow()

    def upstream_ready(self) -> None:
        self._downstream.upstream_ready()

    # -- what the downstream says ----------------------------------------------------------------------------------

    def client_slow(self) -> None:
        if self._origin is not None:
            self._origin.pause()

    def client_ready(self) -> None:
        if self._origin is not None:
            self._origin.resume()

    def abandon(self) -> None:
        """The client is gone, or its request turned out to be bad: the upstream sees its request cut short."""
        if self._over:
            return
        self._over = True
        self._early.clear()
        if self._origin is not None:
            self._origin.drop()
            self._origin = None
        else:
            self.admission.target.upstream.give_up(self)

    def _end_with(self, reason: Reason, detail: str) -> None:
        self._over = True
        self._early.clear()
        self.reason, self.detail = reason, detail
        self._downstream.failed(self)
