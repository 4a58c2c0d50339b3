"""What a server's handshake says of clients' certificates. Pure.

A CertificateRequest is encrypted in TLS 1.3; OpenSSL's message callback shows it as it was before.
"""

from dataclasses import dataclass

from mtlsproxy.x509.certificate import Certificate
from mtlsproxy.x509.names import name_text

_HEADER = 4
_CERTIFICATE_AUTHORITIES = 47  # RFC 8446 §4.2.4
_RANDOM = 2 + 32  # legacy_version in front of it

ALERTS = {
    0: "close_notify",
    10: "unexpected_message",
    20: "bad_record_mac",
    22: "record_overflow",
    40: "handshake_failure",
    41: "no_certificate",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    90: "user_canceled",
    100: "no_renegotiation",
    109: "missing_extension",
    110: "unsupported_extension",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    115: "unknown_psk_identity",
    116: "certificate_required",
    120: "no_application_protocol",
}
"""RFC 8446 §6; 41 and 100 are of older versions."""


class MalformedMessage(ValueError):
    """A handshake message that is not what its standard says."""


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """What a server asks for. ca_names: DER of the CAs whose certificates it takes; () where it names none."""

    ca_names: tuple[bytes, ...]


def parse_certificate_request(message: bytes, *, tls13: bool) -> CertificateRequest:
    """`message` with its header (RFC 8446 §4.3.2, RFC 5246 §7.4.4). Raises MalformedMessage."""
    body = _Part(message, _HEADER, len(message))
    if len(message) < _HEADER or int.from_bytes(message[1:_HEADER], "big") != len(message) - _HEADER:
        raise MalformedMessage("a message of another length than it says")
    names = _names_of_tls13(body) if tls13 else _names_of_tls12(body)
    body.finish()
    return CertificateRequest(names)


def chosen_suite(server_hello: bytes) -> int:
    """The cipher suite's number (RFC 8446 §4.1.3, RFC 5246 §7.4.1.3). Raises MalformedMessage."""
    body = _Part(server_hello, _HEADER, len(server_hello))
    body.number(_RANDOM)
    body.take(1)  # session_id
    return body.number(2)


def alert_name(code: int) -> str:
    return ALERTS.get(code, f"alert {code}")


def ca_name_text(der: bytes) -> str:
    """RFC 4514; where the server sent no distinguished name, that, and its bytes."""
    try:
        return name_text(der)
    except ValueError:
        return f"(no distinguished name: {der.hex()})"


def names_an_issuer(names: tuple[bytes, ...], chain: tuple[Certificate, ...]) -> bool:
    """Whether a client that goes by the server's list would send this chain (RFC 8446 §4.4.2.3)."""
    texts = set(map(ca_name_text, names))  # encodings of one name differ
    return not names or any(certificate.issuer in texts for certificate in chain)


def _names_of_tls12(body: "_Part") -> tuple[bytes, ...]:
    body.take(1)  # certificate_types
    body.take(2)  # supported_signature_algorithms
    return _names(body.take(2))


def _names_of_tls13(body: "_Part") -> tuple[bytes, ...]:
    body.take(1)  # certificate_request_context
    extensions = body.take(2)
    names: tuple[bytes, ...] = ()
    while extensions.left:
        kind = extensions.number(2)
        value = extensions.take(2)
        if kind == _CERTIFICATE_AUTHORITIES:
            listed = value.take(2)
            value.finish()
            names = _names(listed)
    return names


def _names(listed: "_Part") -> tuple[bytes, ...]:
    names = []
    while listed.left:
        names.append(listed.take(2).rest())
    return tuple(names)


class _Part:
    """A cursor over `data[at:end]` that does not read past the end."""

    __slots__ = ("_at", "_data", "_end")

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self._data, self._at, self._end = data, at, end

    @property
    def left(self) -> int:
        return self._end - self._at

    def number(self, size: int) -> int:
        if size > self.left:
            raise MalformedMessage("a length that points past the end")
        start, self._at = self._at, self._at + size
        return int.from_bytes(self._data[start : self._at], "big")

    def take(self, size: int) -> "_Part":
        """The vector whose length is in the next `size` octets."""
        length = self.number(size)
        if length > self.left:
            raise MalformedMessage("a length that points past the end")
        start, self._at = self._at, self._at + length
        return _Part(self._data, start, self._at)

    def rest(self) -> bytes:
        start, self._at = self._at, self._end
        return self._data[start : self._end]

    def finish(self) -> None:
        if self.left:
            raise MalformedMessage(f"{self.left} bytes too many")
