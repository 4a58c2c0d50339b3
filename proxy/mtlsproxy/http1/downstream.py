"""A client's connection: reads requests one at a time, has each judged, and answers or forwards it."""

import os
from time import perf_counter

from mtlsproxy.http1.body import Body, ChunkedBody, LengthBody
from mtlsproxy.http1.client import DRAIN_GRACE, ClientConnection
from mtlsproxy.http1.errors import BadMessage
from mtlsproxy.http1.exchange import Exchange
from mtlsproxy.http1.forwarding import Forwarding, TrustedForwarding
from mtlsproxy.http1.gate import Refusal, judge_request
from mtlsproxy.http1.refuser import CLOSING
from mtlsproxy.http1.request_head import RequestHead, RequestHeadParser
from mtlsproxy.http1.service import Rules, Service
from mtlsproxy.http1.visitor import Visitor
from mtlsproxy.reasons import Reason
from mtlsproxy.tls.acceptor import Established

REQUESTS_A_TURN = 32
"""Requests of one client that are answered before others have their turn: refusals cost it nothing to ask for."""

_IDLE, _HEAD, _BODY, _ANSWER = range(4)


class Downstream(ClientConnection):
    """Handler of a TLS stream, from the end of the handshake to the end of the connection."""

    __slots__ = ("_body", "_buffer", "_count", "_forwarding", "_held", "_id_prefix", "_parser", "_skipped", "_state")

    def __init__(self, service: Service, established: Established, visitor: Visitor) -> None:
        super().__init__(service, established, visitor)
        self._forwarding: Forwarding
        self._parser: RequestHeadParser
        self._read_by(service.rules)
        self._id_prefix = os.urandom(8).hex().encode("ascii")
        self._count = 0
        self._buffer = b""
        self._skipped = False
        """Whether a line end was skipped since the last request: one is forgiven, however it came."""
        self._body: Body | None = None
        self._held = False
        self._state = _IDLE

    def start(self) -> None:
        self._service.connections.add(self)
        self._timer.start(self._service.timeouts.idle)
        self._stream.start(self)

    # -- what the stream says --------------------------------------------------------------------------------------

    def data_received(self, data: memoryview) -> None:
        if self.ending and self._exchange is None:
            return
        if self._body is not None:
            data = data[self._read_body(data) :]
            if not data:
                return
        if self._exchange is not None or self._writing_paused:
            # Requests sent ahead of their turn wait here; no more is read until then.
            self._buffer += data
            self._hold()
            return
        self._run(self._buffer + data if self._buffer else bytes(data))

    def eof_received(self) -> None:
        """The client sends no more; an answer under way still goes out (half-close)."""
        if self._body is not None:
            self._abandon(Reason.CLIENT_ABORTED, "the client ended the connection within a request's body")
        elif self._exchange is None and not (self._buffer and self._held):
            self._stop()
        else:
            self._peer_ended = True  # what it asked before that is still answered

    def connection_lost(self, error: OSError | None) -> None:
        self._parser.close()
        self._body = None
        self._buffer = b""
        self._lost(error)

    # -- requests --------------------------------------------------------------------------------------------------

    def _run(self, data: bytes) -> None:
        """Take requests from `data` as long as they are answered at once; keep the rest."""
        self._buffer = b""
        at, turns = 0, 0
        while at < len(data) and self._exchange is None and not self.ending and not self._writing_paused:
            if self._standing.is_over and not self._judge_again():
                break  # an answer about its certificate is on its way: the request waits for it
            turns += 1
            if turns > REQUESTS_A_TURN:
                break
            if data.startswith(b"\r\n", at):  # a stray line end before a request (RFC 9112 §2.2)
                at += 2
                if self._skipped:
                    self._refuse_head(BadMessage(Reason.BAD_REQUEST, "empty lines before a request"))
                    return
                self._skipped = True
                continue
            try:
                at = self._take(data, at)
            except BadMessage as error:
                self._refuse_head(error)
                return
            if self._state == _HEAD:
                break
        self._keep(data[at:] if at else data, go_on=turns > REQUESTS_A_TURN)

    def _keep(self, rest: bytes, *, go_on: bool) -> None:
        """What is left waits for its turn, or for more of it. go_on: only others were to have theirs in between."""
        if self.ending:
            return
        if self._state == _HEAD:
            self._buffer = rest
        elif rest:
            self._buffer = rest
            self._hold()
            if go_on:
                self._service.loop.call_soon(self._go_on_if_idle)
        if self._peer_ended and self._exchange is None and not (self._writing_paused or self._standing.asking or go_on):
            self._stop()

    def _go_on_if_idle(self) -> None:
        if self._exchange is None and self._held and not (self.ending or self._writing_paused):
            self._go_on()

    def _take(self, data: bytes, at: int) -> int:
        """One request at `data[at:]`; returns where the next one begins, or `at` without a whole head."""
        end = data.find(b"\r\n\r\n", at)
        if end < 0:
            self._parser.check_partial(data[at:] if at else data)
            if self._state != _HEAD:
                self._state = _HEAD
                self._timer.start(self._service.timeouts.request_headers)
            return at
        end += 4
        began = perf_counter()
        head = self._parser.parse(data[at:end] if at or end < len(data) else data)
        self._state = _ANSWER
        self._skipped = False
        self._begin(head, began)
        exchange = self._exchange
        if exchange is None:
            return end
        if head.has_body:
            self._body = self._new_body(head)
            if end < len(data):
                end += self._read_body(memoryview(data)[end:])
        if exchange is self._exchange:
            self._start(exchange)
        return end

    def _new_body(self, head: RequestHead) -> Body:
        if head.chunked:
            return ChunkedBody(Reason.BAD_REQUEST)
        return LengthBody(head.content_length or 0)

    def _begin(self, head: RequestHead, began: float) -> None:
        """Judge a request: an answer goes out here and now, or an exchange begins."""
        service = self._service
        request_id = head.request_id or self._new_id()
        standing = self._standing
        admission = judge_request(head, standing.visitor, standing.rules, self._served, service.body_limit)
        if isinstance(admission, Refusal):
            self._answer(head, request_id, began, admission)
            return
        self._timer.stop()
        service.in_flight.value += 1
        self._exchange = Exchange(self, head, admission, request_id, began)

    def _start(self, exchange: Exchange) -> None:
        request = self._forwarding.request(exchange.head, exchange.admission, exchange.request_id)
        exchange.start(request)
        if self._exchange is exchange and self._body is not None:
            if exchange.waiting:
                self._hold()
            else:
                self._timer.start(self._service.timeouts.request_body)
            self._state = _BODY

    def _answered(self) -> None:
        """What the verdict wanted has been asked for: judge with it, then go on with the request that waits."""
        if self.ending or not self._judge_again():
            return
        if self._buffer and self._held and self._exchange is None:
            self._go_on()
        else:
            self._let_go_when_refused()

    def _judge_again(self) -> bool:
        """False: the verdict has to wait for an answer."""
        rules = self._standing.rules
        if not self._standing.renew():
            return False
        if self._standing.rules is not rules:
            self._parser.close()
            self._read_by(self._standing.rules)
        return True

    def _read_by(self, rules: Rules) -> None:
        """From now on requests are read, and written, as `rules` have it for this client's address."""
        address = self.established.address[0]
        trusted = bool(rules.trusted_proxies) and rules.trusted_proxies.covers(address)
        self._parser = RequestHeadParser(self._service.limits, rules.trusted_fields if trusted else rules.fields)
        self._forwarding = TrustedForwarding(address) if trusted else Forwarding(address)

    # -- bodies ----------------------------------------------------------------------------------------------------

    def _read_body(self, data: memoryview) -> int:
        """Hand on what of `data` is the request's body; returns how much that is."""
        body, exchange = self._body, self._exchange
        assert body is not None
        assert exchange is not None
        try:
            pieces, used = body.feed(data)
        except BadMessage as error:
            self._abandon(error.reason, error.detail)
            return len(data)
        if len(pieces) > 1:  # chunks: many small ones go on as one
            pieces = [memoryview(b"".join(pieces))]
        for piece in pieces:
            exchange.request_body(piece)
        limit = self._service.body_limit
        if limit and exchange.request_bytes > limit:
            self._abandon(Reason.BODY_TOO_LARGE, f"a body of more than {limit} bytes (limits.body)")
            return len(data)
        if self._exchange is not exchange:
            return len(data)
        if body.done:
            self._body = None
            self._state = _ANSWER
            self._timer.stop()
            rules = self._standing.rules.fields
            exchange.request_end(
                [b"%b: %b\r\n" % (name, value) for name, value in body.trailers if rules.passes_in_trailer(name)]
            )
        elif not self._held:
            self._timer.start(self._service.timeouts.request_body)
        return used

    def _hold(self) -> None:
        """Read no more for now."""
        if not self._held:
            self._held = True
            self._timer.stop()
            self._stream.pause_reading()

    def upstream_slow(self) -> None:
        self._hold()

    def upstream_ready(self) -> None:
        if self._held and self._body is not None:
            self._held = False
            self._timer.start(self._service.timeouts.request_body)
            self._stream.resume_reading()

    # -- answers ---------------------------------------------------------------------------------------------------

    def finished(self, exchange: Exchange) -> None:
        """The answer is whole and on its way."""
        self._exchange = None
        self._service.in_flight.value -= 1
        self.recorder.answered(exchange)
        if self._body is not None:
            self._body = None
            self._stop()  # the rest of the request is not worth reading, and cannot be skipped safely
        elif exchange.close_after or self.ending or (self._peer_ended and not self._buffer):
            self._stop()
        else:
            self._next()

    def failed(self, exchange: Exchange) -> None:
        """Nothing of an answer has gone out: say what happened."""
        self._exchange = None
        self._service.in_flight.value -= 1
        reason, head = exchange.reason, exchange.head
        assert reason is not None
        close = (
            self._body is not None
            or self.ending
            or (self._peer_ended and not self._buffer)
            or not head.keep_alive
            or reason in CLOSING
        )
        self._body = None
        self._refuser.exchange(exchange, close=close)
        if close:
            self._stop()
        else:
            self._next()

    def cut_short(self, exchange: Exchange) -> None:
        """The answer broke off: end the connection so that the client sees that it is not whole."""
        self._exchange = None
        self._service.in_flight.value -= 1
        self._body = None
        self.recorder.failed(exchange)
        self.ending = True
        self._stream.abort()

    def _next(self) -> None:
        """Ready for the next request."""
        self._state = _IDLE
        self.idle_since = self._service.wheel.now
        # Until the client has taken its answers it gets no further ones: what is kept for it stays bounded.
        if self._writing_paused:
            self._hold()
        elif self._held:
            self._go_on()
        else:
            self._timer.start(DRAIN_GRACE if self._service.draining else self._service.timeouts.idle)

    def _go_on(self) -> None:
        if not self._held:
            return
        self._held = False
        self._stream.resume_reading()
        if self._buffer:
            self._service.loop.call_soon(self._run_kept)
        else:
            self._timer.start(self._service.timeouts.idle)

    def _run_kept(self) -> None:
        if self._exchange is None and self._buffer and not self.ending:
            self._run(self._buffer)

    def _answer(self, head: RequestHead, request_id: bytes, began: float, refusal: Refusal) -> None:
        """Refuse a request whose head is fine."""
        close = refusal.close or head.has_body or not head.keep_alive or refusal.reason in CLOSING or self.closes_next
        self._refuser.request(head, request_id, began, refusal, close=close)
        if close:
            self._stop()
        else:
            self._next()

    def _refuse_head(self, error: BadMessage) -> None:
        """Refuse what is no proper head: nothing behind it can be trusted, so the connection ends."""
        self._refuser.head(error, self._new_id())
        self._stop()

    def _new_id(self) -> bytes:
        self._count += 1
        return b"%b%x" % (self._id_prefix, self._count)

    # -- ending ----------------------------------------------------------------------------------------------------

    def _abandon(self, reason: Reason, detail: str) -> None:
        """The request under way turned out to be bad: the upstream is cut off, the client told if that is possible."""
        exchange = self._exchange
        assert exchange is not None
        self._exchange = None
        self._body = None
        exchange.abandon()
        exchange.reason, exchange.detail = reason, detail
        self._service.in_flight.value -= 1
        if exchange.started:
            self.recorder.failed(exchange)
            self.ending = True
            self._stream.abort()
            return
        self._refuser.exchange(exchange, close=True)
        self._stop()

    def _timed_out(self) -> None:
        timeouts = self._service.timeouts
        if self._state == _BODY and self._exchange is not None:
            detail = f"the request's body stopped coming for {timeouts.request_body:g}s (timeouts.request_body)"
            self._abandon(Reason.REQUEST_TIMEOUT, detail)
        elif self._state == _HEAD:
            seconds = f"{timeouts.request_headers:g}s (timeouts.request_headers)"
            detail = f"the request's headers were not complete in {seconds}"
            self._refuse_head(BadMessage(Reason.REQUEST_TIMEOUT, detail))
        elif self._exchange is None:
            self._stop()

    @property
    def is_idle(self) -> bool:
        return self._exchange is None and not self._buffer and not self.ending

    def _take_ahead(self) -> bytes:
        ahead, self._buffer = self._buffer, b""
        self._held = False
        return ahead

    def _stop(self) -> None:
        self._buffer = b""
        super()._stop()
