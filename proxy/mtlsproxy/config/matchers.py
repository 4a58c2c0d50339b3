"""Entries of `allow` and `deny`: what a client's certificate must say. Kept as the operator wrote them."""

import re
from typing import Annotated, Self

from pydantic import AfterValidator, WithJsonSchema, model_validator

from mtlsproxy.config.base import Absent, Section
from mtlsproxy.config.scalars import Instant, Text, checked_text, parse_network

_HEX = re.compile(r"[0-9A-Fa-f]+|[0-9A-Fa-f]{1,2}(?::[0-9A-Fa-f]{2})+")
_PATTERN_LABEL = re.compile(r"\*\*?|[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]+")


def checked_oid(text: str) -> str:
    """A dotted object identifier (X.660): two arcs or more, no leading zeros."""
    if not re.fullmatch(
        r"(?:[01]\.[0-3]?[0-9]|2\.(?:0|[1-9][0-9]{0,38}))(?:\.(?:0|[1-9][0-9]{0,38}))*", text
    ) or re.search(r"\.0[0-9]", text):
        raise ValueError(f"{text!r} is not a dotted OID such as 1.3.6.1.4.1.99999.1")
    return text


def _digits(text: str) -> str:
    if not _HEX.fullmatch(text):
        raise ValueError(f"{text!r} is not hexadecimal (any case, with or without colons)")
    return text.replace(":", "")


def _serial(text: str) -> str:
    # RFC 5280 §4.1.2.2: at most 20 octets; some CAs go beyond, so a little room is left.
    if len(_digits(text)) > 64:
        raise ValueError("is longer than any serial number")
    return text


def _sha256(text: str) -> str:
    if (count := len(_digits(text))) != 64:
        raise ValueError(f"has {count} hexadecimal digits: a SHA-256 value has 64")
    return text


def _dns(text: str) -> str:
    for label in text.split("."):
        if not _PATTERN_LABEL.fullmatch(label):
            raise ValueError(_why_no_dns_pattern(text, label))
    if re.fullmatch(r"[0-9]+(?:\.[0-9]+){3}", text):
        raise ValueError(f"{text} is an address: match it with ip")
    return text


def _why_no_dns_pattern(text: str, label: str) -> str:
    if "*" in label:
        return f"{text!r}: a * stands for one whole label and ** for any number, never for a part of one"
    if not text.isascii():
        return f"{text!r}: certificates carry internationalised names in their xn-- form: write that"
    return f"{text!r} is not a DNS name or a pattern such as *.clients.example.org"


def _uri(text: str) -> str:
    if not _URI.fullmatch(text):
        raise ValueError(f"{text!r} is not a URI or a pattern such as spiffe://example.org/ns/*/sa/orders")
    _, separator, rest = text.partition("://")
    authority, *segments = rest.split("/") if separator else ("", *re.split("[:/]", text))
    for part in (*authority.split("."), *segments):
        if "*" in part and part not in ("*", "**"):
            raise ValueError(f"{text!r}: a * stands for one whole segment and ** for any number, never for a part")
    return text


def _email(text: str) -> str:
    checked_text(text)
    local, at, domain = text.rpartition("@")
    if not (at and local and domain) or " " in text:
        raise ValueError(f"{text!r} is not an e-mail address or a pattern such as *@clients.example.org")
    _dns(domain)
    return text


def _network(text: str) -> str:
    parse_network(text)
    return text


def _distinguished_name(text: str) -> str:
    checked_text(text)
    # Imported on use: few files name an issuer, and it is the dearest import of this room.
    from cryptography.x509 import Name

    try:
        Name.from_rfc4514_string(text)
    except ValueError as error:
        raise ValueError(
            f"{text!r} is not a distinguished name such as CN=Client CA,O=Example (RFC 4514); "
            "openssl x509 -noout -issuer -nameopt RFC2253 prints one"
        ) from error
    return text


_HEX_SCHEMA = WithJsonSchema({"type": "string", "pattern": "^[0-9A-Fa-f:]+$"})


class Match(Section):
    """One entry: every field written must match. `*` is one label or path segment, `**` any number."""

    common_name: Absent[Text] = None
    """The subject's common name (never compared with a SAN)."""
    organization: Absent[Text] = None
    """The subject's organization."""
    organizational_unit: Absent[Text] = None
    """The subject's organizational unit."""
    dns: Absent[Annotated[str, AfterValidator(_dns)]] = None
    """A DNS name among the SANs."""
    uri: Absent[Annotated[str, AfterValidator(_uri)]] = None
    """A URI among the SANs, such as a SPIFFE ID."""
    email: Absent[Annotated[str, AfterValidator(_email)]] = None
    """An e-mail address among the SANs."""
    ip: Absent[Annotated[str, AfterValidator(_network)]] = None
    """An address or network (CIDR) that holds an IP address among the SANs."""
    serial: Absent[Annotated[str, AfterValidator(_serial), _HEX_SCHEMA]] = None
    """The serial number in hexadecimal, quoted."""
    issuer: Absent[Annotated[str, AfterValidator(_distinguished_name)]] = None
    """The issuer's distinguished name (RFC 4514)."""
    fingerprint_sha256: Absent[Annotated[str, AfterValidator(_sha256), _HEX_SCHEMA]] = None
    """SHA-256 of the certificate's DER in hexadecimal, quoted."""
    spki_sha256: Absent[Annotated[str, AfterValidator(_sha256), _HEX_SCHEMA]] = None
    """SHA-256 of the public key's SubjectPublicKeyInfo in hexadecimal, quoted."""
    policy_oid: Absent[Annotated[str, AfterValidator(checked_oid)]] = None
    """A certificate policy, as a dotted OID."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_fields_set & Match.model_fields.keys():
            raise ValueError("names no field, and would match everybody: write at least one")
        return self


class DenyEntry(Match):
    """An entry of a truststore's `deny`."""

    expires: Absent[Instant] = None
    """From then on the entry has no effect (RFC 3339 with zone)."""
    reason: Absent[Text] = None
    """A note for logs and status."""
