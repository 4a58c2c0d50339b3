"""One connection to a server: the handshake, a request, and what was seen of both.

The server is not verified while it is talked to: what it is has to be found out, whatever its certificate. Sockets
block; a command has nothing else to do.
"""

import contextlib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic

from mtlsproxy.probe.answers import is_complete, parse_answer
from mtlsproxy.probe.conclude import End, Talk
from mtlsproxy.probe.messages import (
    CertificateRequest,
    MalformedMessage,
    alert_name,
    chosen_suite,
    parse_certificate_request,
)
from mtlsproxy.tls.capture import certificates_of, set_message_callback
from mtlsproxy.tls.credentials import Credential
from mtlsproxy.tls.failures import detail_of

ANSWER_SECONDS = 5.0
"""How long an answer to the request is waited for: who refuses for want of a certificate asks nobody else first."""

_GRACE = 0.3
"""Seconds, beside the handshake's own time, in which a TLS 1.3 server may object to the client's last flight. A request
on its way then would make its system answer with a reset, and the alert could be lost."""

_MOST_REQUESTS = 8
"""Certificate requests of a connection that are kept: usual are one in the handshake, and one for an HTTP request."""

_TLS13 = 0x0304
_VERSIONS = {0x0303: "TLSv1.2", _TLS13: "TLSv1.3"}
_ALERT, _HANDSHAKE = 21, 22
_SERVER_HELLO, _TICKET, _CERTIFICATE, _CERTIFICATE_REQUEST = 2, 4, 11, 13
_WARNING, _CLOSE_NOTIFY = 1, 0
_H2 = "h2"
_H2_BEGIN = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"  # RFC 9113 §3.4, with empty SETTINGS
_RECORDS = range(20, 24)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is said to the server. address: where it is. server_name: SNI and Host. path: of the GET. maximum: the
    newest version of TLS that is offered. seconds: for the handshake. protocol: offered by ALPN."""

    address: tuple[str, int]
    server_name: str
    path: str
    maximum: ssl.TLSVersion
    seconds: float
    credential: Credential | None = None
    protocol: str = "http/1.1"


def talk(plan: Plan) -> Talk:
    """Connect, shake hands and send one GET. Raises OSError where there is no connection."""
    found = _talk(plan)
    if found.alert == "no_application_protocol" and plan.protocol != _H2:
        return _talk(replace(plan, protocol=_H2))  # gRPC servers and the like
    return found


def _talk(plan: Plan) -> Talk:
    context = _unsafe_context(plan)
    seen = _Seen()
    set_message_callback(context, seen.message)
    try:
        with socket.create_connection(plan.address, plan.seconds) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return _Conversation(plan, context, seen, sock).hold()
    finally:
        set_message_callback(context, None)  # it knows `seen`, which knows nobody; kept alive it would be by the cycle


def _unsafe_context(plan: Plan) -> ssl.SSLContext:
    """Takes every server, also one with weak keys or ciphers: it is to be shown. Raises ssl.SSLError for a credential
    that OpenSSL does not take."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = plan.maximum
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.post_handshake_auth = True  # RFC 8446 §4.6.2: some servers ask once they know the path
    context.set_alpn_protocols([plan.protocol])
    if plan.credential is not None:
        password = plan.credential.password
        context.load_cert_chain(
            plan.credential.certificate_file,
            plan.credential.private_key_file,
            None if password is None else lambda: password,
        )
    return context


class _Seen:
    """What OpenSSL's message callback showed."""

    def __init__(self) -> None:
        self.version = 0
        self.suite: int | None = None
        self.chain: tuple[bytes, ...] = ()
        self.requests: list[CertificateRequest] = []
        self.malformed = ""
        self.sent = False
        self.tickets = False
        self.alert: str | None = None

    def message(self, _: object, direction: str, version: int, content: int, kind: int, data: bytes) -> None:
        if direction == "write":
            if content == _HANDSHAKE and kind == _CERTIFICATE:
                self.sent = bool(certificates_of(data, version == _TLS13))
        elif content == _ALERT:
            self._alerted(data)
        elif content == _HANDSHAKE:
            try:
                self._handshake(version, kind, data)
            except MalformedMessage as error:
                self.malformed = str(error)

    def _alerted(self, data: bytes) -> None:
        """Those of TLS 1.2 that warn, such as of an unrecognized_name, end nothing (RFC 5246 §7.2)."""
        if len(data) == 2 and (data[0] != _WARNING or data[1] == _CLOSE_NOTIFY or self.version == _TLS13):
            self.alert = alert_name(data[1])

    def _handshake(self, version: int, kind: int, data: bytes) -> None:
        if kind == _SERVER_HELLO:
            self.version, self.suite = version, chosen_suite(data)
        elif kind == _CERTIFICATE:
            self.version, self.chain = version, certificates_of(data, version == _TLS13)
        elif kind == _CERTIFICATE_REQUEST:
            self.version = version
            if len(self.requests) < _MOST_REQUESTS:
                self.requests.append(parse_certificate_request(data, tls13=version == _TLS13))
        elif kind == _TICKET:
            self.tickets = True


class _Closed(Exception):
    """The server ended the connection without an alert."""


class _Conversation:
    """The steps of `talk` on a connected socket."""

    def __init__(self, plan: Plan, context: ssl.SSLContext, seen: _Seen, sock: socket.socket) -> None:
        self.plan = plan
        self.seen = seen
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=plan.server_name)
        self.suites = {cipher["id"] & 0xFFFF: cipher["name"] for cipher in context.get_ciphers()}
        self.first = b""
        self.data = b""
        self.done = False
        self.asked_in_time = 0

    def hold(self) -> Talk:
        began = monotonic()
        end, detail = self._until_end(lambda: self._shake_hands(began + self.plan.seconds))
        self.asked_in_time = len(self.seen.requests)
        if self.done:
            end, detail = self._until_end(lambda: self._ask(monotonic() - began))
        return self._report(end, detail)

    # -- steps -----------------------------------------------------------------------------------------------------

    def _shake_hands(self, deadline: float) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self._fill(deadline)
            else:
                self._flush()
                self.done = True
                return

    def _ask(self, took: float) -> None:
        """took: by the handshake, in seconds."""
        if self.seen.requests and not self._passed:
            with contextlib.suppress(TimeoutError):
                self._listen(monotonic() + _GRACE + 3 * took, lambda: self._passed)
        is_h2 = self.tls.selected_alpn_protocol() == _H2
        self.tls.write(_H2_BEGIN if is_h2 else _get(self.plan))
        self._listen(monotonic() + min(ANSWER_SECONDS, self.plan.seconds), self._answered)

    def _answered(self) -> bool:
        if not self.data.startswith(b"HTTP/"[: len(self.data)]):
            return True  # another protocol's answer
        return is_complete(self.data)

    def _listen(self, deadline: float, until: Callable[[], bool]) -> None:
        while not until():
            try:
                self.data += self.tls.read(65536)
            except ssl.SSLWantReadError:
                self._fill(deadline)

    def _fill(self, deadline: float) -> None:
        self._flush()
        left = deadline - monotonic()
        if left <= 0:  # however much the server has to say
            raise TimeoutError
        self.sock.settimeout(left)
        data = self.sock.recv(65536)
        if not data:
            raise _Closed
        self.first = (self.first + data)[:80]
        self.incoming.write(data)

    def _flush(self) -> None:
        data = self.outgoing.read()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # reading says why
            self.sock.sendall(data)

    # -- what came of it -------------------------------------------------------------------------------------------

    @property
    def _passed(self) -> bool:
        """Whether the server has gone on behind our answer to its last request for a certificate.

        In TLS 1.2 its Finished says so; in 1.3 a ticket, which needs the client's Finished (RFC 8446 §4.6.1), or data.
        """
        if len(self.seen.requests) > self.asked_in_time:
            return bool(self.data)
        return self.done and (self.seen.version != _TLS13 or self.seen.tickets or bool(self.data))

    def _until_end(self, step: Callable[[], None]) -> tuple[End, str]:
        """How `step` ended, and why in words."""
        try:
            step()
        except TimeoutError:
            return End.SILENT, f"the server said nothing {'more ' if self.first else ''}in time"
        except _Closed:
            return End.CLOSED, "the server closed the connection"
        except ConnectionError as error:
            return End.RESET, f"the connection broke: {error.strerror or error}"
        except ssl.SSLError as error:
            self._flush()
            return self._why(error)
        return End.ANSWERED, ""

    def _why(self, error: ssl.SSLError) -> tuple[End, str]:
        if self.seen.alert == "close_notify" or isinstance(error, ssl.SSLZeroReturnError):
            return End.CLOSED, "the server closed the connection"
        if self.seen.alert is not None:
            return End.ALERT, f"the server ended TLS with the alert {self.seen.alert}"
        if self.seen.version == 0 and not _is_tls(self.first):
            said = self.first.split(b"\n")[0].decode("latin-1").strip()
            return End.FAILED, f"the server does not speak TLS here: it answered {said!r}"
        return End.FAILED, f"TLS with the server failed: {self.seen.malformed or detail_of(error)}"

    def _report(self, end: End, detail: str) -> Talk:
        seen, answer = self.seen, parse_answer(self.data)
        if self.data:  # the connection may well end behind it
            end, detail = End.ANSWERED, "" if answer else "the server answered, but not in HTTP"
        return Talk(
            protocol=_VERSIONS.get(seen.version),
            cipher=self.suites.get(seen.suite) if seen.suite is not None else None,
            chain=seen.chain,
            requests=tuple(seen.requests),
            late=len(seen.requests) > self.asked_in_time,
            sent=seen.sent,
            done=self.done,
            passed=self._passed,
            end=end,
            alert=seen.alert if end is End.ALERT else None,
            detail=detail,
            answer=answer,
        )


def _is_tls(first: bytes) -> bool:
    return not first or (first[0] in _RECORDS and first[1:2] in (b"\x03", b""))


def _get(plan: Plan) -> bytes:
    host = f"[{plan.server_name}]" if ":" in plan.server_name else plan.server_name
    port = "" if plan.address[1] == 443 else f":{plan.address[1]}"
    lines = (
        f"GET {plan.path} HTTP/1.1",
        f"Host: {host}{port}",
        "User-Agent: mtlsproxy-probe",
        "Accept: */*",
        "Connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode("ascii")
