"""A client by what is known of it without its certificate: a line of a log, or somebody's description."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address

from cryptography import x509 as pyca
from cryptography.x509.oid import NameOID

from mtlsproxy.identity.client import Client, name_key

KINDS = ("URI", "DNS", "EMAIL", "IP")
"""Of names in X-Client-San and in logs."""

_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Description:
    """subject, issuer: RFC 4514. serial, fingerprint_sha256, spki_sha256: hexadecimal, with or without colons. san: as
    in X-Client-San, `URI:spiffe://a/b`. What is absent is the empty value, which no matcher takes for anything."""

    subject: str = ""
    issuer: str = ""
    serial: str = ""
    fingerprint_sha256: str = ""
    spki_sha256: str = ""
    san: tuple[str, ...] = ()
    policy_oids: tuple[str, ...] = ()


def client_described(what: Description) -> Client:
    """Raises ValueError, which says what cannot be understood."""
    subject, issuer = _name("subject", what.subject), _name("issuer", what.issuer)
    names = [_san(text) for text in what.san]
    return Client(
        common_names=_values(subject, NameOID.COMMON_NAME),
        organizations=_values(subject, NameOID.ORGANIZATION_NAME),
        organizational_units=_values(subject, NameOID.ORGANIZATIONAL_UNIT_NAME),
        dns=_of_kind(names, "DNS"),
        uris=_of_kind(names, "URI"),
        emails=_of_kind(names, "EMAIL"),
        ips=tuple(ip_address(value) for value in _of_kind(names, "IP")),
        serial=_serial(what.serial),
        subject=what.subject,
        issuer=what.issuer,
        fingerprint_sha256=_hexadecimal(what.fingerprint_sha256),
        spki_sha256=_hexadecimal(what.spki_sha256),
        policy_oids=what.policy_oids,
        not_after=_NEVER,
        sans=tuple(names),
        issuer_key=name_key(issuer),
    )


def _name(key: str, text: str) -> pyca.Name:
    try:
        return pyca.Name.from_rfc4514_string(text)
    except ValueError as error:
        raise ValueError(f"{key} {text!r} is not a distinguished name such as CN=a,O=b (RFC 4514)") from error


def _values(name: pyca.Name, oid: pyca.ObjectIdentifier) -> tuple[str, ...]:
    return tuple(a.value for a in name.get_attributes_for_oid(oid) if isinstance(a.value, str))


def _san(text: str) -> tuple[str, str]:
    kind, colon, value = text.partition(":")
    if not colon or kind not in KINDS:
        raise ValueError(f"san {text!r} does not begin with {', '.join(f'{each}:' for each in KINDS)}")
    if kind == "IP":
        try:
            return kind, str(ip_address(value))
        except ValueError:
            raise ValueError(f"san {text!r} is not an address") from None
    return kind, value


def _of_kind(names: Sequence[tuple[str, str]], wanted: str) -> tuple[str, ...]:
    return tuple(value for kind, value in names if kind == wanted)


def _serial(text: str) -> int:
    """-1, which no certificate has (RFC 5280 §4.1.2.2), where there is none."""
    try:
        return int(text.replace(":", ""), 16) if text else -1
    except ValueError:
        raise ValueError(f"serial {text!r} is not hexadecimal") from None


def _hexadecimal(text: str) -> str:
    return text.replace(":", "").lower()
