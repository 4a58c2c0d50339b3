"""RSASSA-PSS as a signature algorithm names it (RFC 4055 §3.1): the library gives it for lists, not for OCSP."""

from collections.abc import Mapping

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from mtlsproxy.x509 import der as asn1

MASKS: Mapping[str, type[hashes.HashAlgorithm]] = {
    kind.name: kind for kind in (hashes.SHA1, hashes.SHA224, hashes.SHA256, hashes.SHA384, hashes.SHA512)
}
"""Hashes of the mask generation, which need not resist collisions: SHA-1 is its default (RFC 4055 §3.1)."""

LONGEST_SALT = 1024
"""Octets: as long as the longest RSA key that anybody uses."""

_HASHES: Mapping[str, type[hashes.HashAlgorithm]] = {
    "1.3.14.3.2.26": hashes.SHA1,
    "2.16.840.1.101.3.4.2.4": hashes.SHA224,
    "2.16.840.1.101.3.4.2.1": hashes.SHA256,
    "2.16.840.1.101.3.4.2.2": hashes.SHA384,
    "2.16.840.1.101.3.4.2.3": hashes.SHA512,
}
_MGF1 = "1.2.840.113549.1.1.8"
_NULL = b"\x05\x00"
_HASH, _MASK, _SALT, _TRAILER = 0xA0, 0xA1, 0xA2, 0xA3
_DEFAULT_SALT, _TRAILER_BC = 20, 1


def read_pss(data: bytes, at: int, end: int) -> tuple[hashes.HashAlgorithm, padding.PSS]:
    """The hash and the padding that RSASSA-PSS-params in data[at:end], exactly one element, stand for.

    Whether they are strong enough is the caller's to say. Raises ValueError (DerError is one) for anything else.
    """
    start, after = asn1.enter(data, at, end, asn1.SEQUENCE)
    fields = asn1.children(data, start, after)
    tags = [tag for tag, _, _ in fields]
    if after != end or tags != sorted({_HASH, _MASK, _SALT, _TRAILER}.intersection(tags)):
        raise ValueError("malformed RSASSA-PSS-params (RFC 4055 §3.1)")
    inner = {tag: asn1.enter(data, begin, stop, tag) for tag, begin, stop in fields}
    hashing = _hash(data, *inner[_HASH]) if _HASH in inner else hashes.SHA1()  # noqa: S303 - the default: to be refused
    mask = _mask(data, *inner[_MASK]) if _MASK in inner else hashes.SHA1()  # noqa: S303 - see MASKS
    salt = _integer(data, *inner[_SALT]) if _SALT in inner else _DEFAULT_SALT
    if _TRAILER in inner and _integer(data, *inner[_TRAILER]) != _TRAILER_BC:
        raise ValueError("RSASSA-PSS-params with another trailer field than 1 (RFC 4055 §3.1)")
    if not 0 <= salt <= LONGEST_SALT:
        raise ValueError(f"RSASSA-PSS-params with a salt of {salt} octets")
    return hashing, padding.PSS(padding.MGF1(mask), salt)


def _hash(data: bytes, at: int, end: int) -> hashes.HashAlgorithm:
    """An AlgorithmIdentifier whose parameters are NULL or absent (RFC 4055 §2.1: either is to be accepted)."""
    start, after = asn1.enter(data, at, end, asn1.SEQUENCE)
    parts = asn1.children(data, start, after)
    if after != end or not parts or data[parts[0][2] : after] not in (b"", _NULL):
        raise ValueError("malformed hash algorithm in RSASSA-PSS-params (RFC 4055 §2.1)")
    identifier = asn1.dotted(data, *parts[0][1:])
    if identifier not in _HASHES:
        raise ValueError(f"RSASSA-PSS-params with the hash {identifier}, which is not supported")
    return _HASHES[identifier]()


def _mask(data: bytes, at: int, end: int) -> hashes.HashAlgorithm:
    start, after = asn1.enter(data, at, end, asn1.SEQUENCE)
    parts = asn1.children(data, start, after)
    if after != end or len(parts) != 2 or asn1.dotted(data, *parts[0][1:]) != _MGF1:
        raise ValueError("RSASSA-PSS-params with another mask generation than MGF1 (RFC 4055 §2.2)")
    return _hash(data, *parts[1][1:])


def _integer(data: bytes, at: int, end: int) -> int:
    start, after = asn1.enter(data, at, end, asn1.INTEGER)
    if after != end or start == after:
        raise ValueError("a malformed number in RSASSA-PSS-params")
    return int.from_bytes(data[start:after], "big", signed=True)
