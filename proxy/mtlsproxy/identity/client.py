"""What a verified leaf says about its holder, taken out of X.509 once, then compared and rendered as plain values."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address

from cryptography import x509 as pyca
from cryptography.x509.oid import NameOID

from mtlsproxy.x509.certificate import Certificate

NameKey = tuple[frozenset[tuple[str, str]], ...]
"""A distinguished name made comparable: for each RDN, in encoded order, its (dotted type, prepared value) pairs."""


@dataclass(frozen=True, slots=True)
class Client:
    """A verified client. Every tuple is in certificate order; hexadecimal is lower-case; the subject's names and the
    subjectAltName's stay apart, so that nothing can be taken for what it is not (no SAN-to-CN fallback).
    """

    common_names: tuple[str, ...]
    organizations: tuple[str, ...]
    organizational_units: tuple[str, ...]
    dns: tuple[str, ...]
    uris: tuple[str, ...]
    emails: tuple[str, ...]
    ips: tuple[IPv4Address | IPv6Address, ...]
    serial: int
    subject: str
    issuer: str
    fingerprint_sha256: str
    spki_sha256: str
    policy_oids: tuple[str, ...]
    not_after: datetime
    sans: tuple[tuple[str, str], ...]
    """(kind, text) with kinds URI, DNS, EMAIL, IP; other kinds of names are not passed on."""
    issuer_key: NameKey


def client_of(leaf: Certificate) -> Client:
    """The facts of `leaf`. It has been parsed, hence cannot fail; whether it may be trusted is not asked here."""
    subject = leaf.x509.subject
    return Client(
        common_names=_values(subject, NameOID.COMMON_NAME),
        organizations=_values(subject, NameOID.ORGANIZATION_NAME),
        organizational_units=_values(subject, NameOID.ORGANIZATIONAL_UNIT_NAME),
        dns=leaf.sans.dns,
        uris=leaf.sans.uris,
        emails=leaf.sans.emails,
        ips=leaf.sans.ips,
        serial=leaf.serial,
        subject=leaf.subject,
        issuer=leaf.issuer,
        fingerprint_sha256=leaf.fingerprint_sha256,
        spki_sha256=leaf.spki_sha256,
        policy_oids=leaf.certificate_policies,
        not_after=leaf.not_after,
        sans=leaf.sans.ordered,
        issuer_key=name_key(leaf.x509.issuer),
    )


def name_key(name: pyca.Name) -> NameKey:
    """`name` as RFC 5280 §7.1 compares names: case and runs of spaces do not count, types, order and grouping do."""
    return tuple(
        frozenset((attribute.oid.dotted_string, _prepared(attribute.value)) for attribute in rdn) for rdn in name.rdns
    )


def _prepared(value: str | bytes) -> str:
    return "#" + value.hex() if isinstance(value, bytes) else " ".join(value.casefold().split())


def _values(name: pyca.Name, oid: pyca.ObjectIdentifier) -> tuple[str, ...]:
    return tuple(a.value for a in name.get_attributes_for_oid(oid) if isinstance(a.value, str))


def principal_of(client: Client, order: Sequence[str]) -> str | None:
    """The first value of the first kind in `order` (spiffe, uri, dns, email, common_name) that the client has.

    None where it has none of them. Raises KeyError for a kind that does not exist (the configuration admits none).
    """
    for kind in order:
        values = _PRINCIPALS[kind](client)
        if values:
            return values[0]
    return None


_PRINCIPALS: dict[str, Callable[[Client], tuple[str, ...]]] = {
    # A SPIFFE ID is a URI of that scheme, and schemes know no case (RFC 3986 §3.1).
    "spiffe": lambda client: tuple(uri for uri in client.uris if uri[:9].lower() == "spiffe://"),
    "uri": lambda client: client.uris,
    "dns": lambda client: client.dns,
    "email": lambda client: client.emails,
    "common_name": lambda client: client.common_names,
}
