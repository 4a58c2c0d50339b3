"""A connection to an upstream server: sends a request, reads its answer, and says whether it can be used again."""

from typing import Protocol

from mtlsproxy.http1.body import Body, ChunkedBody, Trailers, UntilClose
from mtlsproxy.http1.errors import BadMessage
from mtlsproxy.http1.response_head import MAX_HEAD, ResponseHead, parse_response_head
from mtlsproxy.http1.websocket import check_switch
from mtlsproxy.reasons import Reason
from mtlsproxy.transport.interfaces import Stream
from mtlsproxy.transport.wheel import TimerWheel
from mtlsproxy.upstream.addresses import Address
from mtlsproxy.upstream.server import Server

MAX_INTERIM = 32
"""Interim (1xx) answers to one request: more is an upstream that never comes to the point."""

_HEAD, _LENGTH, _OTHER = range(3)


class Asker(Protocol):
    """Whose request it is. Pieces are only valid during the call."""

    @property
    def client_key(self) -> str | None:
        """The client's principal."""
        ...

    wants_no_body: bool
    websocket_key: bytes | None
    """Set where the request asks to go on as a WebSocket."""
    request_sent: bool
    response_timeout: float
    body_timeout: float

    def interim(self, head: ResponseHead) -> None: ...

    def response_head(self, head: ResponseHead, has_body: bool) -> None: ...

    def switched(self, head: ResponseHead, origin: "Origin", early: bytes) -> None:
        """The upstream has left HTTP. The stream is the asker's now; `early` came behind the head."""
        ...

    def response_body(self, piece: memoryview) -> None: ...

    def response_end(self, trailers: Trailers) -> None: ...

    def flush(self) -> None:
        """All that came at once was handed over: nothing more will be joined to it."""
        ...

    def response_failed(self, reason: Reason, detail: str) -> None: ...

    def upstream_slow(self) -> None:
        """The upstream does not take the request's body: stop reading it from the client."""
        ...

    def upstream_ready(self) -> None: ...


class Origin:
    """Handler of a stream to a server; lent by the pool for one exchange at a time."""

    __slots__ = (
        "_asker",
        "_body",
        "_buffer",
        "_head",
        "_interims",
        "_known",
        "_left",
        "_paused",
        "_state",
        "_timer",
        "address",
        "answered",
        "lent_before",
        "outdated",
        "server",
        "stream",
    )

    def __init__(self, wheel: TimerWheel, stream: Stream, server: Server) -> None:
        self.server = server
        self.lent_before = False
        self.outdated = False
        self.address: Address | None = None
        self._asker: Asker | None = None
        self._timer = wheel.timer(self._timed_out)
        self._state = _HEAD
        self._buffer = b""
        self._interims = 0
        self._head: ResponseHead | None = None
        self._body: Body | None = None
        self._left = 0
        self._known: tuple[bytes, ResponseHead] = (b"", ResponseHead())
        self._paused = False
        self.answered = False
        """Whether a byte of the answer to the request under way has come."""
        self.stream = stream
        stream.start(self)

    # -- what the asker says ---------------------------------------------------------------------------------------

    def ask(self, asker: Asker, data: bytes) -> None:
        """Begin an exchange with the head of a request, and what there is of its body."""
        self._asker = asker
        self.answered = False
        # While the client is still sending, only an upstream that does not take it is slow: see pause_writing.
        if asker.request_sent:
            self._timer.start(asker.response_timeout)
        else:
            self._timer.stop()
        self.stream.write(data)

    def more(self, data: bytes | memoryview) -> None:
        """More of the request's body, framed."""
        self.stream.write(data)

    def request_sent(self) -> None:
        """That was all of the request: from now on the upstream's time runs."""
        if self._state == _HEAD and self._asker is not None:
            self._timer.start(self._asker.response_timeout)

    @property
    def was_stale(self) -> bool:
        """Of one that has broken: whether the server had probably closed it before it had the request."""
        return self.lent_before and not self.answered

    @property
    def is_stale(self) -> bool:
        """Whether the server has closed or spoken since, and the loop has not come to say so yet."""
        return self.stream.has_news

    def pause(self) -> None:
        """The client does not take the answer: stop reading it."""
        self._paused = True
        self._timer.stop()
        self.stream.pause_reading()

    def resume(self) -> None:
        self._paused = False
        if self._asker is not None:
            self._timer.start(self._asker.body_timeout)
        self.stream.resume_reading()

    def drop(self) -> None:
        """The asker wants no more of it: end the connection, whatever it was doing."""
        self._asker = None
        self.stream.abort()

    # -- what the pool says ----------------------------------------------------------------------------------------

    def rest(self, seconds: float) -> None:
        self._timer.start(seconds)

    def close(self) -> None:
        self._retire()

    def _retire(self) -> None:
        """Out of the pool at once: the socket itself goes a moment later, and nobody may borrow it meanwhile."""
        self.server.upstream.withdraw(self)
        self.stream.close(linger=False)

    # -- what the stream says --------------------------------------------------------------------------------------

    def data_received(self, data: memoryview) -> None:
        asker = self._asker
        if asker is None:
            self._retire()  # a server that speaks unasked is confused: its next answer would be misattributed
            return
        self.answered = True
        try:
            if self._state == _HEAD:
                self._read_heads(data, asker)
            else:
                self._read_body(data, asker)
        except BadMessage as error:
            self._fail(error.reason, error.detail)
            return
        if self._asker is asker:
            if not self._paused and self._state != _HEAD:
                self._timer.start(asker.body_timeout)
            asker.flush()

    def eof_received(self) -> None:
        asker = self._asker
        if asker is None:
            self._retire()
        elif isinstance(self._body, UntilClose) and self.stream.cut_off:
            # Anybody on the way can end a connection: only the server's close_notify ends an answer (RFC 9112 §9.8).
            self._fail(Reason.UPSTREAM_ERROR, "the connection ended within the upstream's answer, without close_notify")
        elif isinstance(self._body, UntilClose):
            self._end(asker, [])
        elif self._state == _HEAD:
            self._fail(Reason.UPSTREAM_ERROR, "the upstream closed the connection without an answer")
        else:
            self._fail(Reason.UPSTREAM_ERROR, "the upstream closed the connection within its answer")

    def pause_writing(self) -> None:
        asker = self._asker
        if asker is not None:
            if self._state == _HEAD:
                self._timer.start(asker.response_timeout)
            asker.upstream_slow()

    def resume_writing(self) -> None:
        asker = self._asker
        if asker is not None:
            if self._state == _HEAD and not asker.request_sent:
                self._timer.stop()
            asker.upstream_ready()

    def connection_lost(self, error: OSError | None) -> None:
        self._timer.close()
        self.server.upstream.gone(self.server, self)
        if self._asker is not None:
            self._fail(Reason.UPSTREAM_ERROR, f"the connection to the upstream broke: {error}")

    # -- reading ---------------------------------------------------------------------------------------------------

    def _read_heads(self, data: memoryview, asker: Asker) -> None:
        """One head, or several: interim ones come before the final one (RFC 9110 §15.2)."""
        if self._buffer:
            data = memoryview(self._buffer + data)
            self._buffer = b""
        while True:
            window = bytes(data[:MAX_HEAD])
            end = window.find(b"\r\n\r\n")
            if end < 0:
                if len(window) >= MAX_HEAD:
                    raise BadMessage(Reason.UPSTREAM_ERROR, f"the upstream's answer: a head of over {MAX_HEAD} bytes")
                self._buffer = window
                return
            known, head = self._known
            if len(window) != end + 4:
                window = window[: end + 4]
            if window != known:
                head = parse_response_head(window)
                self._known = (window, head)  # the same answer often comes again
            data = data[end + 4 :]
            if head.status >= 200:
                break
            if head.status == 101 and asker.websocket_key is not None:
                check_switch(head, asker.websocket_key)
                if self.server.troubled:
                    self.server.answered()
                self._asker = None
                self._timer.stop()
                asker.switched(head, self, bytes(data))
                return
            self._interims += 1
            if head.status == 101 or self._interims > MAX_INTERIM:
                what = "101 unasked" if head.status == 101 else f"more than {MAX_INTERIM} interim answers"
                raise BadMessage(Reason.UPSTREAM_ERROR, f"the upstream's answer: {what}")
            asker.interim(head)
            if not data:
                return
        if self.server.troubled:
            self.server.answered()
        self._head = head
        self._choose_body(head, asker)
        if self._asker is asker and (data or (self._state == _LENGTH and not self._left)):
            self._read_body(data, asker)

    def _choose_body(self, head: ResponseHead, asker: Asker) -> None:
        """How the answer ends (RFC 9112 §6.3)."""
        has_body = True
        if asker.wants_no_body or head.status == 204 or head.status == 304:
            self._state, self._left, has_body = _LENGTH, 0, False
        elif head.chunked:
            self._state, self._body = _OTHER, ChunkedBody(Reason.UPSTREAM_ERROR)
        elif head.content_length is not None:
            self._state, self._left = _LENGTH, head.content_length
        else:
            self._state, self._body = _OTHER, UntilClose()
        asker.response_head(head, has_body)

    def _read_body(self, data: memoryview, asker: Asker) -> None:
        size = len(data)
        if self._state == _LENGTH:
            if size < self._left:
                self._left -= size
                asker.response_body(data)
                return
            if self._left:
                used = self._left
                self._left = 0
                asker.response_body(data[:used] if used < size else data)
            else:
                used = 0
            if self._asker is asker:
                self._end(asker, [], surplus=used < size)
            return
        body = self._body
        assert body is not None
        pieces, used = body.feed(data)
        if len(pieces) > 1:  # chunks: many small ones go on as one
            pieces = [memoryview(b"".join(pieces))]
        for piece in pieces:
            asker.response_body(piece)
            if self._asker is not asker:
                return
        if body.done:
            self._end(asker, body.trailers, surplus=used < size)

    def _end(self, asker: Asker, trailers: Trailers, surplus: bool = False) -> None:
        """The answer is whole. The connection is used again only after an exchange without any oddity."""
        head = self._head
        # Who answers before it has the whole request may take the rest of it for another one: it gets no more.
        reusable = (
            head is not None
            and head.keep_alive
            and not surplus
            and asker.request_sent
            and not isinstance(self._body, UntilClose)
            and not self.stream.unsent
        )
        self._asker = None
        self._state = _HEAD
        self._interims = 0
        self._head = self._body = None
        if self._paused:  # by a slow client
            self._paused = False
            self.stream.resume_reading()
        if reusable:
            self.server.upstream.give_back(self)
        else:
            self.stream.abort()
        asker.response_end(trailers)

    # -- failing ---------------------------------------------------------------------------------------------------

    def _timed_out(self) -> None:
        if self._asker is None:
            self._retire()
        elif self._state == _HEAD:
            seconds = f"{self._asker.response_timeout:g}s (timeouts.response)"
            self._fail(Reason.UPSTREAM_TIMEOUT, f"the upstream did not answer in time: {seconds}")
        else:
            seconds = f"{self._asker.body_timeout:g}s (timeouts.response_body)"
            self._fail(Reason.UPSTREAM_TIMEOUT, f"the upstream stopped within its answer for {seconds}")

    def _fail(self, reason: Reason, detail: str) -> None:
        asker, self._asker = self._asker, None
        self.stream.abort()
        if asker is None:
            return
        if self._state != _HEAD and reason is not Reason.UPSTREAM_TIMEOUT:
            self.server.failures.value += 1  # the breaker asks for answers, not for whole ones
        elif not (self.was_stale and reason is Reason.UPSTREAM_ERROR):
            self.server.failed(detail, asker.client_key)
        asker.response_failed(reason, detail)
