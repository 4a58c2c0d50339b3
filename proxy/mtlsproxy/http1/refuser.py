"""Says no on a connection: the answer to the client, and the record of it."""

from time import perf_counter

from mtlsproxy.http1.answers import problem
from mtlsproxy.http1.errors import BadMessage
from mtlsproxy.http1.exchange import Exchange
from mtlsproxy.http1.gate import Refusal
from mtlsproxy.http1.record import Recorder
from mtlsproxy.http1.request_head import RequestHead
from mtlsproxy.reasons import Reason
from mtlsproxy.tls.stream import TlsStream

CLOSING = frozenset(
    {
        Reason.BAD_REQUEST,
        Reason.URI_TOO_LONG,
        Reason.HEADERS_TOO_LARGE,
        Reason.BODY_TOO_LARGE,
        Reason.REQUEST_TIMEOUT,
        Reason.EXPECTATION_FAILED,
        Reason.NOT_IMPLEMENTED,
        Reason.VERSION_NOT_SUPPORTED,
    }
)
"""After these the bytes that follow cannot be trusted to be a request."""


class Refuser:
    """Of one connection. told: whether the refusal of this client itself has been recorded."""

    __slots__ = ("_recorder", "_stream", "told")

    def __init__(self, stream: TlsStream, recorder: Recorder) -> None:
        self._stream = stream
        self._recorder = recorder
        self.told = False

    def request(self, head: RequestHead, request_id: bytes, began: float, refusal: Refusal, *, close: bool) -> None:
        """A request whose head is fine."""
        self.told = True
        self._send(refusal.reason, request_id, refusal.detail, close, head.method == "HEAD", refusal.allow)
        seconds = perf_counter() - began
        self._recorder.refused(head, request_id, seconds, refusal.reason, refusal.detail, refusal.admission)

    def head(self, error: BadMessage, request_id: bytes) -> None:
        """What is no proper head. A client that is refused anyway is told that, whatever it sends."""
        self.told = True
        reason, detail = error.reason, error.detail
        verdict = self._recorder.visitor.verdict
        if verdict.reason is not None:
            reason, detail = verdict.reason, verdict.detail
        self._send(reason, request_id, detail, True, False, ())
        self._recorder.refused(None, request_id, 0.0, reason, detail, None)

    def exchange(self, exchange: Exchange, *, close: bool) -> None:
        """A request whose answer has not begun, by the upstream's fault or by its body's."""
        assert exchange.reason is not None
        if exchange.reason is not Reason.CLIENT_ABORTED:
            self._stream.write(
                problem(
                    exchange.reason,
                    exchange.request_id.decode(),
                    exchange.detail,
                    close=close,
                    head_only=exchange.wants_no_body,
                    asked=exchange.asked,
                )
            )
        self._recorder.failed(exchange)

    def client(self) -> None:
        """The client itself, when no request asks."""
        verdict = self._recorder.visitor.verdict
        if verdict.reason is not None and not self.told:
            self.told = True
            self._recorder.let_go(verdict.reason, verdict.detail)

    def _send(
        self, reason: Reason, request_id: bytes, detail: str, close: bool, head_only: bool, allow: tuple[str, ...]
    ) -> None:
        self._stream.write(problem(reason, request_id.decode(), detail, close=close, head_only=head_only, allow=allow))
