"""Subjects and subject alternative names: from what an operator writes, checked before anything is signed."""

import ipaddress
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import NameOID

from mtlsproxy.devpki.errors import PkiError

_ATTRIBUTES = {
    "CN": NameOID.COMMON_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "L": NameOID.LOCALITY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "C": NameOID.COUNTRY_NAME,
    "STREET": NameOID.STREET_ADDRESS,
    "DC": NameOID.DOMAIN_COMPONENT,
    "UID": NameOID.USER_ID,
    "SERIALNUMBER": NameOID.SERIAL_NUMBER,
    "EMAILADDRESS": NameOID.EMAIL_ADDRESS,
}
# RFC 4512, section 1.4: the short names are case-insensitive; cryptography's parser compares them as written.
_SPELLINGS = {spelling: oid for name, oid in _ATTRIBUTES.items() for spelling in (name, name.lower())}

_LONGEST = {  # RFC 5280, appendix A.1: upper bounds, in characters
    NameOID.COMMON_NAME: 64,
    NameOID.ORGANIZATION_NAME: 64,
    NameOID.ORGANIZATIONAL_UNIT_NAME: 64,
    NameOID.LOCALITY_NAME: 128,
    NameOID.STATE_OR_PROVINCE_NAME: 128,
    NameOID.SERIAL_NUMBER: 64,
    NameOID.EMAIL_ADDRESS: 255,
}

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ESCAPED_OR_GAP = re.compile(r"(\\.)|([,+])\s+", re.DOTALL)
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DNS = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")
_EMAIL = re.compile(rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~.-]{{1,64}}@{_LABEL}(?:\.{_LABEL})*")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")
_SPIFFE = re.compile(r"spiffe://[a-z0-9._-]{1,255}(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]+)*")
_SPIFFE_LONGEST = 2048

_PREFIXES: dict[type[x509.GeneralName], str] = {
    x509.UniformResourceIdentifier: "URI",
    x509.DNSName: "DNS",
    x509.IPAddress: "IP",
    x509.RFC822Name: "EMAIL",
}


def parse_subject(text: str) -> x509.Name:
    """A distinguished name from its string form (RFC 4514), `CN=x,O=y`; blanks after a comma do no harm.

    An empty text is the empty name: RFC 5280, section 4.1.2.6, allows it beside a subjectAltName. Raises PkiError.
    """
    compact = _ESCAPED_OR_GAP.sub(lambda found: found[1] or found[2], text.strip(" "))
    try:
        name = x509.Name.from_rfc4514_string(compact, _SPELLINGS)
    except ValueError as error:
        known = ", ".join(_ATTRIBUTES)
        hint = str(error) or f"write TYPE=value pairs such as CN=orders,O=Example, with a TYPE of {known}"
        raise PkiError(f"subject {text!r}: {hint}") from error
    check_subject(name)
    return name


def check_subject(name: x509.Name) -> None:
    """Raises PkiError for a subject that readers would cut short, misread or refuse: empty and control characters."""
    for attribute in name:
        value, kind = attribute.value, attribute.rfc4514_attribute_name
        if not isinstance(value, str) or not value.strip():
            raise PkiError(f"subject: {kind} is empty; leave it out or give it a value")
        if _CONTROL.search(value):
            raise PkiError(f"subject: {kind}={value!r} has a control character; remove it")
        if attribute.oid == NameOID.COUNTRY_NAME and not re.fullmatch("[A-Z]{2}", value):
            raise PkiError(f"subject: C={value!r} is not a country; give its two capital letters (ISO 3166)")
        longest = _LONGEST.get(attribute.oid)
        if longest is not None and len(value) > longest:
            raise PkiError(f"subject: {kind} has {len(value)} characters; RFC 5280 allows {longest}")


def parse_san(text: str) -> x509.GeneralName:
    """A subject alternative name from `URI:…`, `DNS:…`, `IP:…` or `EMAIL:…`. Raises PkiError."""
    prefix, separator, value = text.partition(":")
    try:
        match prefix.upper() if separator else "":
            case "URI":
                san: x509.GeneralName = x509.UniformResourceIdentifier(value)
            case "DNS":
                san = x509.DNSName(value)
            case "IP":
                san = x509.IPAddress(ipaddress.ip_address(value))
            case "EMAIL":
                san = x509.RFC822Name(value)
            case _:
                raise PkiError(f"SAN {text!r}: begin it with URI:, DNS:, IP: or EMAIL:, as in DNS:orders.internal")
    except ValueError as error:
        raise PkiError(f"SAN {text!r}: {error}") from error
    check_san(san)
    return san


def san_text(san: x509.GeneralName) -> str:
    """The name as `parse_san` reads it."""
    return f"{_PREFIXES.get(type(san), type(san).__name__)}:{san.value}"


def check_sans(sans: Sequence[x509.GeneralName]) -> None:
    """Raises PkiError unless every name is well formed, none is given twice and a SPIFFE ID is the only URI."""
    for index, san in enumerate(sans):
        check_san(san)
        if san in sans[:index]:
            raise PkiError(f"SAN {san_text(san)}: given twice; once is enough")
    uris = [san.value for san in sans if isinstance(san, x509.UniformResourceIdentifier)]
    if len(uris) > 1 and any(uri.lower().startswith("spiffe:") for uri in uris):
        raise PkiError("SAN: a SPIFFE ID must be the only URI of its certificate (X509-SVID, section 2)")


def check_san(san: x509.GeneralName) -> None:
    """Raises PkiError for a name of another kind than ours, or one that two readers could read differently."""
    match san:
        case x509.DNSName(value=value):
            if not _DNS.fullmatch(value) or len(value) > 253:
                raise PkiError(
                    f"SAN DNS:{value!r}: not a host name; use letters, digits and hyphens, "
                    "xn--… for other scripts, and * only as the whole first label"
                )
        case x509.IPAddress(value=value):
            if not isinstance(value, ipaddress.IPv4Address | ipaddress.IPv6Address) or "%" in str(value):
                raise PkiError(f"SAN IP:{value}: a network or a zone; give one plain address")
        case x509.RFC822Name(value=value):
            if not _EMAIL.fullmatch(value):
                raise PkiError(f"SAN EMAIL:{value!r}: not a plain mail address; write name@host.example")
        case x509.UniformResourceIdentifier(value=value):
            _check_uri(value)
        case _:
            raise PkiError(f"SAN of kind {type(san).__name__}: only URI, DNS, IP and EMAIL are signed; leave it out")


def _check_uri(value: str) -> None:
    """RFC 3986's characters and an absolute form; what begins as a SPIFFE ID must be one (SPIFFE-ID, section 2)."""
    if not _URI.fullmatch(value):
        raise PkiError(f"SAN URI:{value!r}: not an absolute URI; write scheme://host/path and percent-encode the rest")
    try:
        urlsplit(value)
    except ValueError as error:
        raise PkiError(f"SAN URI:{value!r}: {error}") from error
    if value.lower().startswith("spiffe:") and (not _SPIFFE.fullmatch(value) or len(value) > _SPIFFE_LONGEST):
        raise PkiError(
            f"SAN URI:{value!r}: not a SPIFFE ID; write spiffe://trust-domain/path in lower case, "
            "without a query, a port or empty segments"
        )
