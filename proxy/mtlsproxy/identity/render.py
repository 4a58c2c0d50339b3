"""A verified client as header lines for the upstream: rendered once, then copied into every request.

Whatever a certificate holds, a value comes out as printable ASCII that its own grammar reads back to exactly one thing.
"""

import re
import unicodedata
from base64 import b64encode
from collections.abc import Callable, Sequence
from datetime import UTC
from urllib.parse import quote

from cryptography.hazmat.primitives.serialization import Encoding

from mtlsproxy.config.model import Identity
from mtlsproxy.identity.client import Client, principal_of
from mtlsproxy.x509.certificate import Certificate, serial_hex

_PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))
_UNENCODED = _PRINTABLE.replace("%", "")
_ESCAPED = re.compile(r"\\([0-9A-Fa-f]{2}|.)", re.DOTALL)
_XFCC_BARE = re.compile(r"[A-Za-z0-9._~:/?#@!$&'()*+%\[\]-]+")


class UnrenderableIdentity(Exception):
    """A name that no header value may carry: control characters, or no ASCII where IA5String promises it.

    Refused with reason malformed_certificate.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


def render(identity: Identity, client: Client, chain: Sequence[Certificate], truststore: str) -> bytes:
    """The complete header lines, CRLF included, of every form that `identity` asks for.

    chain: the verified path, leaf first, trust anchor last. truststore: the name of the one that vouched. A header with
    an empty value (no SAN, no principal, an empty subject, no intermediate) is left out: the client's was stripped, so
    its absence says as much, and an empty structured-field list is no field at all (RFC 9651 §3.1). Raises
    UnrenderableIdentity.
    """
    lines = [line for form in identity.forms for line in _FORMS[form](identity, client, chain, truststore)]
    return "".join(f"{name}: {value}\r\n" for name, value in lines if value).encode("ascii")


_Lines = list[tuple[str, str]]


def _fields(identity: Identity, client: Client, chain: Sequence[Certificate], truststore: str) -> _Lines:
    prefix = identity.prefix
    return [
        (prefix + "Verify", "SUCCESS"),
        (prefix + "Id", _text(principal_of(client, identity.principal) or "")),
        (prefix + "Subject", _name(client.subject)),
        (prefix + "Issuer", _name(client.issuer)),
        (prefix + "Serial", serial_hex(client.serial)),
        (prefix + "Fingerprint", client.fingerprint_sha256),
        (prefix + "San", ", ".join(_string(f"{kind}:{text}") for kind, text in client.sans)),
        (prefix + "Not-After", client.not_after.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")),
        (prefix + "Truststore", _text(truststore)),
    ]


def _client_cert(identity: Identity, client: Client, chain: Sequence[Certificate], truststore: str) -> _Lines:
    return [("Client-Cert", _binary(chain[0].der))]


def _client_cert_chain(identity: Identity, client: Client, chain: Sequence[Certificate], truststore: str) -> _Lines:
    # RFC 9440 §2.3: the leaf has its own header and the trust anchor is the upstream's to know.
    return [("Client-Cert-Chain", ", ".join(_binary(certificate.der) for certificate in chain[1:-1]))]


def _xfcc(identity: Identity, client: Client, chain: Sequence[Certificate], truststore: str) -> _Lines:
    pairs = [f"Hash={client.fingerprint_sha256}", f'Subject="{_xfcc_name(client.subject)}"']
    pairs += [f"URI={_xfcc_value(uri)}" for uri in client.uris]
    pairs += [f"DNS={_xfcc_value(name)}" for name in client.dns]
    pem = chain[0].x509.public_bytes(Encoding.PEM).decode("ascii")
    pairs.append(f'Cert="{quote(pem, safe="")}"')
    return [("X-Forwarded-Client-Cert", ";".join(pairs))]


_FORMS: dict[str, Callable[[Identity, Client, Sequence[Certificate], str], _Lines]] = {
    "fields": _fields,
    "client_cert": _client_cert,
    "client_cert_chain": _client_cert_chain,
    "xfcc": _xfcc,
}


def _text(value: str) -> str:
    """Free text: `%` and what is not ASCII percent-encoded, and spaces at the ends, which HTTP would trim away."""
    encoded = _percent(value)
    inner = encoded.strip(" ")
    if inner == encoded:
        return encoded
    start = len(encoded) - len(encoded.lstrip(" "))
    return "%20" * start + inner + "%20" * (len(encoded) - start - len(inner))


def _name(rfc4514: str) -> str:
    r"""A distinguished name; spaces at the ends of a value as `\20` (RFC 4514 §2.4), for `\ ` would lose its space."""
    return _percent(_ESCAPED.sub(lambda pair: _pair(pair[1], " "), rfc4514))


def _xfcc_name(rfc4514: str) -> str:
    r"""A distinguished name for quotes, every escape in its hexadecimal form.

    Envoy's grammar escapes `"` and leaves `\` alone; some readers unescape both. With no `\"` and no `\\` in it, the
    value ends at the same quote and names the same attributes for either.
    """
    return _percent(_ESCAPED.sub(lambda pair: _pair(pair[1], ' "\\+,;<>#='), rfc4514))


def _pair(escaped: str, as_hexadecimal: str) -> str:
    if len(escaped) == 2:
        _refuse_controls(chr(int(escaped, 16)))
        return "\\" + escaped
    return f"\\{ord(escaped):02X}" if escaped in as_hexadecimal else "\\" + escaped


def _percent(value: str) -> str:
    _refuse_controls(value)
    try:
        return quote(value, safe=_UNENCODED, encoding="utf-8", errors="strict")
    except UnicodeEncodeError as error:
        raise UnrenderableIdentity(f"{value!a} is not text: it has half a surrogate pair") from error


def _string(value: str) -> str:
    """A structured-field string (RFC 9651 §3.3.3)."""
    escaped = _ia5(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _binary(value: bytes) -> str:
    """A structured-field byte sequence (RFC 9651 §3.3.5)."""
    return f":{b64encode(value).decode('ascii')}:"


def _xfcc_value(value: str) -> str:
    r"""A URI or DNS name: quoted where it has delimiters, `"` as `\"`; `\`, which neither may have, as `%5C`."""
    plain = _ia5(value).replace("\\", "%5C")
    if _XFCC_BARE.fullmatch(plain):
        return plain
    escaped = plain.replace('"', '\\"')
    return f'"{escaped}"'


def _ia5(value: str) -> str:
    _refuse_controls(value)
    if not value.isascii():
        raise UnrenderableIdentity(f"the subjectAltName {value!a} is not ASCII (RFC 5280 §4.2.1.6 IA5String)")
    return value


def _refuse_controls(value: str) -> None:
    if not value.isprintable() and any(unicodedata.category(character) == "Cc" for character in value):
        raise UnrenderableIdentity(f"{value!a} has control characters")
