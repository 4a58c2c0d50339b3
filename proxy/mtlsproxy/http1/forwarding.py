"""The head of a request as the upstream gets it: re-serialised, with what we vouch for set by us alone."""

import re

from mtlsproxy.http1.request_head import RequestHead, is_authority
from mtlsproxy.http1.visitor import Admission

_CRLF = b"\r\n"
_VIA = b"Via: 1.1 mtlsproxy\r\n"

MAX_FORWARDED_FOR = 4096
"""Bytes of a trusted proxy's X-Forwarded-For that are kept: eighty hops of IPv6 addresses. A longer one is no path."""

_LIST = re.compile(rb"[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?")
_SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]{0,31}")


class Forwarding:
    """A connection's part in it. The lines that repeat from request to request are put together once."""

    __slots__ = ("_admission", "_client", "_host_field", "_lines")

    def __init__(self, client_ip: str) -> None:
        self._client = client_ip.encode("ascii")
        self._admission: Admission | None = None
        self._host_field: bytes | None = None
        self._lines = b""

    def request(self, head: RequestHead, admission: Admission, request_id: bytes) -> bytes:
        """The whole head. With `host: server` the Host line is left empty for the exchange, which knows the server."""
        if admission is not self._admission or head.host_field != self._host_field:
            self._remember(head, admission)
        via = _VIA
        if head.via is not None or not head.version_1_1:
            received = b"1.1 mtlsproxy" if head.version_1_1 else b"1.0 mtlsproxy"
            via = b"Via: %b\r\n" % (received if head.via is None else head.via + b", " + received)
        framing = b""
        if head.chunked:
            framing = b"Transfer-Encoding: chunked\r\n"
        elif head.content_length is not None:
            framing = b"Content-Length: %d\r\n" % head.content_length
        if head.websocket:
            framing = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
        elif head.te_trailers:
            framing += b"TE: trailers\r\nConnection: TE\r\n"
        if head.expects_continue and head.has_body:
            framing += b"Expect: 100-continue\r\n"
        return b"".join(
            (
                b"%b %b HTTP/1.1\r\n" % (head.method_bytes, head.target),
                self._lines,
                head.lines,
                via,
                b"X-Request-Id: %b\r\n" % request_id,
                framing,
                _CRLF,
            )
        )

    def _remember(self, head: RequestHead, admission: Admission) -> None:
        host = head.host_field if head.host_field is not None else b""
        lines = [b"Host: %b\r\n" % (b"" if admission.target.host_of_server else host)]
        lines.append(self._forwarded(head, host))
        lines.append(admission.identity)
        self._lines = b"".join(lines)
        self._admission = admission
        self._host_field = head.host_field

    def _forwarded(self, head: RequestHead, host: bytes) -> bytes:
        """X-Forwarded-*: by us alone. host: b"" where the client named none."""
        lines = b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: https\r\n" % self._client
        return lines + b"X-Forwarded-Host: %b\r\n" % host if host else lines


class TrustedForwarding(Forwarding):
    """Of a connection from a trusted proxy: what it says of its clients is kept, and its own address put behind.

    What is malformed is replaced, as anybody else's is; of a list of addresses, as much as its last elements allow.
    """

    __slots__ = ("_said",)

    def __init__(self, client_ip: str) -> None:
        super().__init__(client_ip)
        self._said: tuple[bytes | None, bytes | None, bytes | None] = (None, None, None)

    def request(self, head: RequestHead, admission: Admission, request_id: bytes) -> bytes:
        said = (head.forwarded_for, head.forwarded_proto, head.forwarded_host)
        if said != self._said:  # another of its clients
            self._said = said
            self._admission = None
        return super().request(head, admission, request_id)

    def _forwarded(self, head: RequestHead, host: bytes) -> bytes:
        client, proto = self._client, b"https"
        before, scheme, authority = head.forwarded_for, head.forwarded_proto, head.forwarded_host
        if before is not None and (path := _trustworthy(before)):
            client = path + b", " + client
        if scheme is not None and _SCHEME.fullmatch(scheme):
            proto = scheme
        if authority is not None and is_authority(authority):
            host = authority
        lines = b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\n" % (client, proto)
        return lines + b"X-Forwarded-Host: %b\r\n" % host if host else lines


def _trustworthy(said: bytes) -> bytes:
    """Of a list of addresses what may pass on: its end, up to an element that is malformed or does not fit.

    The trusted proxy has put its client's address behind what that client said: nonsense before it must not take the
    address away, and leave the proxy's own as if it were the client's.
    """
    if len(said) <= MAX_FORWARDED_FOR and _LIST.fullmatch(said):
        return said
    end = said[-MAX_FORWARDED_FOR:]
    elements = [element.strip(b" \t") for element in end.split(b",")]
    if len(end) < len(said):
        del elements[0]  # cut off, perhaps
    kept: list[bytes] = []
    size = 0
    for element in reversed(elements):
        size += len(element) + 2
        if size > MAX_FORWARDED_FOR or (element and not _LIST.fullmatch(element)):
            break
        kept += [element] if element else []  # an empty one is none (RFC 9110 §5.6.1.2)
    return b", ".join(reversed(kept))
