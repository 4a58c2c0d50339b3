"""What becomes of a request in metrics and logs."""

from time import perf_counter, time

from mtlsproxy.http1.exchange import Exchange
from mtlsproxy.http1.request_head import RequestHead
from mtlsproxy.http1.service import Service
from mtlsproxy.http1.visitor import Admission, Visitor, sans_of
from mtlsproxy.identity.client import principal_of
from mtlsproxy.reasons import Reason, status_of
from mtlsproxy.telemetry.access_log import AccessEntry, connection_fragment
from mtlsproxy.telemetry.families import Cell
from mtlsproxy.tls.acceptor import Established
from mtlsproxy.x509.certificate import serial_hex

CLIENT_CLOSED = 499
"""Status in logs and metrics of a request whose client left before an answer began (nginx's convention)."""


class Recorder:
    """Of one connection. Its fields are encoded when the first line needs them, once for each route it uses."""

    __slots__ = ("_established", "_fragment", "_fragment_of", "_service", "visitor")

    def __init__(self, service: Service, established: Established, visitor: Visitor) -> None:
        self._service = service
        self._established = established
        self.visitor = visitor
        self._fragment = b""
        self._fragment_of: tuple[Visitor, Admission | None] | None = None

    # -- a request's ends ------------------------------------------------------------------------------------------

    def answered(self, exchange: Exchange) -> None:
        """By the upstream, whole."""
        admission = exchange.admission
        target = admission.target
        seconds = perf_counter() - exchange.began
        key = (exchange.head.method, exchange.status, exchange.head.version_1_1)
        cell = target.answered.get(key)
        if cell is None:
            cell = self._cell(exchange.head, target.route.name, exchange.status)
            target.answered[key] = cell
        cell.value += 1
        target.duration.observe(seconds)
        if exchange.upstream_seconds is not None:
            target.upstream_duration.observe(exchange.upstream_seconds)
        service = self._service
        if service.access_log is None and admission.noted is None:
            return
        entry = self._exchange_entry(exchange, exchange.status, admission.noted, seconds)
        if service.access_log is not None:
            service.access_log.append(entry)
        if admission.noted is not None:
            self._reject(entry, target.route.name, admission.noted, admission.detail, enforced=False)

    def failed(self, exchange: Exchange) -> None:
        """Not answered, or not to the end."""
        reason = exchange.reason
        assert reason is not None
        status = exchange.status if exchange.started else status_of(reason)
        if reason is Reason.CLIENT_ABORTED and not exchange.started:
            status = CLIENT_CLOSED
        self._end(exchange, status, reason, exchange.detail)

    def aborted(self, exchange: Exchange, detail: str) -> None:
        """The client left."""
        status = exchange.status if exchange.started else CLIENT_CLOSED
        self._end(exchange, status, Reason.CLIENT_ABORTED, detail)

    def _end(self, exchange: Exchange, status: int, reason: Reason, detail: str) -> None:
        target = exchange.admission.target
        seconds = perf_counter() - exchange.began
        self._cell(exchange.head, target.route.name, status).value += 1
        target.duration.observe(seconds)
        entry = self._exchange_entry(exchange, status, reason, seconds)
        if self._service.access_log is not None:
            self._service.access_log.append(entry)
        self._reject(entry, target.route.name, reason, detail, enforced=True)

    def refused(
        self,
        head: RequestHead | None,
        request_id: bytes,
        seconds: float,
        reason: Reason,
        detail: str,
        admission: Admission | None,
    ) -> None:
        """By the proxy itself, before an upstream was asked. head: None where there was none to speak of."""
        route = admission.target.route.name if admission is not None else ""
        status = status_of(reason)
        self._cell(head, route, status).value += 1
        entry: AccessEntry = (
            time(),
            self._connection(admission),
            head.method if head else None,
            head.host if head else None,
            head.path if head else None,
            _protocol(head) if head else None,
            status,
            reason,
            route or None,
            None,
            0,
            0,
            seconds,
            None,
            request_id.decode("ascii"),
        )
        if self._service.access_log is not None:
            self._service.access_log.append(entry)
        self._reject(entry, route, reason, detail, enforced=True)

    def let_go(self, reason: Reason, detail: str) -> None:
        """A connection that was accepted and no longer is: no request asked for this, so none answers it."""
        connection = self._connection(None)
        entry: AccessEntry = (
            time(), connection, None, None, None, None, None, reason, None, None, 0, 0, None, None, None,
        )  # fmt: skip
        self._reject(entry, "", reason, detail, enforced=True)

    # -- parts -----------------------------------------------------------------------------------------------------

    def _reject(self, entry: AccessEntry, route: str, reason: Reason, detail: str, *, enforced: bool) -> None:
        service = self._service
        cell = service.metrics.rejections_total.cell(service.name, route, reason, "true" if enforced else "false")
        cell.value += 1
        service.refusals.record(
            entry,
            self.visitor.verdict.fingerprint,
            detail,
            enforced=enforced,
            presented=self._established.presented,
            listener=service.name,
        )

    def _cell(self, head: RequestHead | None, route: str, status: int) -> Cell:
        method = head.method if head is not None else ""
        protocol = _protocol(head) if head is not None else ""
        return self._service.metrics.requests_total.cell(self._service.name, route, method, str(status), protocol)

    def _exchange_entry(self, exchange: Exchange, status: int, reason: Reason | None, seconds: float) -> AccessEntry:
        admission, head = exchange.admission, exchange.head
        target = admission.target
        return (
            time(),
            self._connection(admission),
            head.method,
            head.host,
            head.path,
            "HTTP/1.1" if head.version_1_1 else "HTTP/1.0",
            status,
            reason,
            target.route.config.name,
            target.upstream.settings.name,
            exchange.request_bytes,
            exchange.response_bytes,
            seconds,
            exchange.upstream_seconds,
            exchange.request_id.decode("ascii"),
        )

    def _connection(self, admission: Admission | None) -> bytes:
        known = self._fragment_of
        if known is not None and known[0] is self.visitor and known[1] is admission:
            return self._fragment
        established, verdict = self._established, self.visitor.verdict
        leaf = verdict.leaf
        if admission is not None:
            principal, truststore = admission.principal, admission.truststore
        else:
            order = self._service.rules.default_identity.principal
            principal = principal_of(verdict.client, order) if verdict.client is not None else None
            truststore = verdict.truststore if verdict.reason is None else None
        self._fragment = connection_fragment(
            listener=self._service.name,
            client_ip=established.address[0],
            client_port=established.address[1],
            tls_version=established.version,
            cipher=established.cipher,
            resumed=established.resumed,
            subject=leaf.subject if leaf else None,
            issuer=leaf.issuer if leaf else None,
            serial=serial_hex(leaf.serial) if leaf else None,
            fingerprint=verdict.fingerprint,
            san=sans_of(verdict),
            truststore=truststore,
            principal=principal,
        )
        self._fragment_of = (self.visitor, admission)
        return self._fragment


def _protocol(head: RequestHead) -> str:
    return "HTTP/1.1" if head.version_1_1 else "HTTP/1.0"
