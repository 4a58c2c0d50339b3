"""What cryptography re-encodes, drops or leaves unread, taken from the bytes that were signed (RFC 5280 §4.1)."""

from dataclasses import dataclass

from mtlsproxy.x509 import der as asn1

_VERSION_TAG = 0xA0
_EXTENSIONS_TAG = 0xA3
_NAME_CONSTRAINTS = "2.5.29.30"


@dataclass(frozen=True, slots=True)
class Raw:
    """Whole elements, as encoded; extensions is empty where there are none."""

    serial: int
    issuer: bytes
    subject: bytes
    spki: bytes
    extensions: bytes


def slice_certificate(der: bytes) -> Raw:
    """Certificate { tbs { [0] version?, serial, signature, issuer, validity, subject, spki, … }, … }.

    Raises DerError.
    """
    start, after = asn1.enter(der, 0, len(der), asn1.SEQUENCE)
    if after != len(der):
        raise asn1.DerError(f"{len(der) - after} bytes after the end")
    parts = asn1.children(der, start, after)
    if len(parts) != 3:
        raise asn1.DerError("a certificate has three parts")
    fields = asn1.children(der, *asn1.enter(der, parts[0][1], parts[0][2], asn1.SEQUENCE))
    if fields and fields[0][0] == _VERSION_TAG:
        fields = fields[1:]
    if len(fields) < 6:
        raise asn1.DerError("fields are missing")
    _, signature, issuer, _, subject, spki = (der[at:end] for _, at, end in fields[:6])
    if signature != der[parts[1][1] : parts[1][2]]:
        # §4.1.1.2: an attacker could otherwise have a strong signature taken for a weak one, or the reverse.
        raise asn1.DerError("the signature algorithm differs from the one that was signed")
    number, end = asn1.enter(der, fields[0][1], fields[0][2], asn1.INTEGER)
    extensions = next((der[at:after] for tag, at, after in fields[6:] if tag == _EXTENSIONS_TAG), b"")
    return Raw(int.from_bytes(der[number:end], "big", signed=True), issuer, subject, spki, extensions)


def names_its_curve(spki: bytes) -> bool:
    """Whether an EC key says which curve it is on. Explicit parameters (forbidden by RFC 5480 §2.1.1) let a forger
    choose the generator (CVE-2020-0601). Raises DerError."""
    algorithm, _ = asn1.enter(spki, 0, len(spki), asn1.SEQUENCE)
    parts = asn1.children(spki, *asn1.enter(spki, algorithm, len(spki), asn1.SEQUENCE))
    return len(parts) == 2 and parts[1][0] == asn1.OBJECT_IDENTIFIER


def policy_mappings(value: bytes) -> tuple[tuple[str, str], ...]:
    """The extension's value as (issuer's, subject's) dotted policies (§4.2.1.5). Raises DerError."""
    pairs = []
    start, after = asn1.enter(value, 0, len(value), asn1.SEQUENCE)
    for _, at, end in asn1.children(value, start, after):
        oids = asn1.children(value, *asn1.enter(value, at, end, asn1.SEQUENCE))
        if len(oids) != 2:
            raise asn1.DerError("a policy mapping has two policies")
        pairs.append((asn1.dotted(value, *oids[0][1:]), asn1.dotted(value, *oids[1][1:])))
    if not pairs or after != len(value):
        raise asn1.DerError("policy mappings are empty, or more follows them")
    return tuple(pairs)


def refuse_subtree_distances(extensions: bytes) -> None:
    """Minimum and maximum of name constraints must be processed or refused (§4.2.1.10); cryptography drops them.

    Raises DerError.
    """
    value = _extension(extensions, _NAME_CONSTRAINTS)
    for _, at, end in asn1.children(value, *asn1.enter(value, 0, len(value), asn1.SEQUENCE)):
        _, start, after = asn1.read(value, at, end)
        for _, subtree, subtree_end in asn1.children(value, start, after):
            if len(asn1.children(value, *asn1.enter(value, subtree, subtree_end, asn1.SEQUENCE))) != 1:
                raise asn1.DerError("a name constraint has a minimum or maximum")


def _extension(extensions: bytes, oid: str) -> bytes:
    """The contents of the extension's extnValue: the last element of its SEQUENCE."""
    wrapper, _ = asn1.enter(extensions, 0, len(extensions), _EXTENSIONS_TAG)
    listed = asn1.enter(extensions, wrapper, len(extensions), asn1.SEQUENCE)
    for _, at, end in asn1.children(extensions, *listed):
        parts = asn1.children(extensions, *asn1.enter(extensions, at, end, asn1.SEQUENCE))
        if asn1.dotted(extensions, *parts[0][1:]) == oid:
            return extensions[slice(*asn1.enter(extensions, *parts[-1][1:], asn1.OCTET_STRING))]
    raise asn1.DerError(f"the extension {oid} is missing")
