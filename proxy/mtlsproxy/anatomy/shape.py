"""Which kind of thing a DER file holds, by its outermost elements: no parser is asked to guess."""

from enum import Enum

from mtlsproxy.x509 import der


class Shape(Enum):
    """The value is what an error calls it."""

    CERTIFICATE = "a certificate"
    REQUEST = "a certificate signing request"
    CRL = "a CRL"
    PKCS8 = "a private key (PKCS#8)"
    ENCRYPTED_PKCS8 = "an encrypted private key (PKCS#8)"
    PKCS1 = "an RSA private key (PKCS#1)"
    SEC1 = "an EC private key (SEC 1)"
    PUBLIC_KEY = "a public key"
    PKCS7 = "a PKCS#7 bundle"
    PKCS12 = "a PKCS#12 file"


_LOOKED_AT = 16
"""Elements: none of these has as many beside each other, and a file may have millions."""
_BIT_STRING = 0x03
_TIMES = (0x17, 0x18)
_VERSION = 0xA0
_SEQUENCE, _INTEGER, _OCTETS, _OID = der.SEQUENCE, der.INTEGER, der.OCTET_STRING, der.OBJECT_IDENTIFIER


def shape_of(data: bytes) -> Shape | None:
    """None for what is no DER, or of another kind."""
    try:
        start, end = der.enter(data, 0, len(data), _SEQUENCE)
        parts = der.children(data, start, end, _LOOKED_AT)
        tags = [tag for tag, _, _ in parts]
        if tags[:3] == [_SEQUENCE, _SEQUENCE, _BIT_STRING] and len(tags) == 3:
            inner = der.children(data, *der.enter(data, parts[0][1], parts[0][2], _SEQUENCE), _LOOKED_AT)
            return _signed([tag for tag, _, _ in inner])
    except der.DerError:
        return _indefinite(data)
    return _unsigned(tags)


def _signed(tags: list[int]) -> Shape | None:
    """tags: of the part that was signed."""
    if tags[:1] == [_VERSION]:
        return Shape.CERTIFICATE
    if tags in ([_INTEGER, _SEQUENCE, _SEQUENCE], [_INTEGER, _SEQUENCE, _SEQUENCE, _VERSION]):
        return Shape.REQUEST
    rest = tags[1:] if tags[:1] == [_INTEGER] else tags
    if rest[:2] == [_SEQUENCE, _SEQUENCE] and rest[2:3] and rest[2] in _TIMES:
        return Shape.CRL
    return Shape.CERTIFICATE if tags[:6] == [_INTEGER, *[_SEQUENCE] * 5] else None


def _unsigned(tags: list[int]) -> Shape | None:
    found = (
        {
            (_SEQUENCE, _OCTETS): Shape.ENCRYPTED_PKCS8,
            (_SEQUENCE, _BIT_STRING): Shape.PUBLIC_KEY,
            (_INTEGER, _OCTETS): Shape.SEC1,
            (_OID, _VERSION): Shape.PKCS7,
        }.get((tags[0], tags[1]))
        if len(tags) > 1
        else None
    )
    if found is None and tags[:3] == [_INTEGER, _SEQUENCE, _OCTETS]:
        return Shape.PKCS8
    if found is None and tags[:2] == [_INTEGER, _SEQUENCE] and len(tags) in (2, 3):
        return Shape.PKCS12
    if found is None and tags == [_INTEGER] * 9:
        return Shape.PKCS1
    return found


def _indefinite(data: bytes) -> Shape | None:
    """BER of indefinite length, as Windows and Java have written both (RFC 7292 §4 allows it)."""
    if data[:5] == b"\x30\x80\x02\x01\x03":
        return Shape.PKCS12
    return Shape.PKCS7 if data[:3] == b"\x30\x80\x06" else None
