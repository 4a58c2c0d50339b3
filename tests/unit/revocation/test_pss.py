"""RSASSA-PSS-params: read as RFC 4055 §3.1 says, and refused where they are anything else."""

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.revocation.build import integer, tlv

from mtlsproxy.revocation.pss import read_pss

NULL = b"\x05\x00"
SHA1 = bytes.fromhex("06052b0e03021a")
SHA224, SHA256, SHA384, SHA512 = (bytes.fromhex(f"060960864801650304020{n}") for n in (4, 1, 2, 3))
SHA3 = bytes.fromhex("0609608648016503040208")
MGF1 = bytes.fromhex("06092a864886f70d010108")


def field(number: int, *parts: bytes) -> bytes:
    return tlv(0xA0 | number, *parts)


def hashed(oid: bytes, parameters: bytes = NULL) -> bytes:
    return tlv(0x30, oid, parameters)


def mask(oid: bytes, function: bytes = MGF1) -> bytes:
    return tlv(0x30, function, hashed(oid))


def read(*fields: bytes) -> tuple[str, padding.PSS]:
    data = b"\xff" + tlv(0x30, *fields) + b"\xff"  # inside of a larger whole
    hashing, scheme = read_pss(data, 1, len(data) - 1)
    return hashing.name, scheme


WHOLE = (field(0, hashed(SHA256)), field(1, mask(SHA256)), field(2, integer(32)), field(3, integer(1)))
PSS_256 = padding.PSS(padding.MGF1(hashes.SHA256()), 32)


def test_every_field_is_read() -> None:
    assert read(*WHOLE) == read(*WHOLE[:3]) == ("sha256", PSS_256)
    assert read(field(0, hashed(SHA384, b"")), field(1, mask(SHA512)), field(2, integer(0))) == (
        "sha384",
        padding.PSS(padding.MGF1(hashes.SHA512()), 0),
    )


def test_what_is_absent_has_its_default() -> None:
    by_default = padding.PSS(padding.MGF1(hashes.SHA1()), 20)
    assert read() == ("sha1", by_default)
    assert read(field(0, hashed(SHA512))) == ("sha512", by_default)
    assert read(field(1, mask(SHA224))) == ("sha1", padding.PSS(padding.MGF1(hashes.SHA224()), 20))
    assert read(field(2, integer(1024))) == ("sha1", padding.PSS(padding.MGF1(hashes.SHA1()), 1024))


@pytest.mark.parametrize(
    "fields",
    [
        (WHOLE[1], WHOLE[0]),
        (WHOLE[0], WHOLE[0]),
        (*WHOLE, field(4, NULL)),
        (*WHOLE, NULL),
        (field(0, hashed(SHA3)),),
        (field(0, hashed(SHA256, b"\x05\x01\x00")),),
        (field(0, hashed(SHA256, NULL + NULL)),),
        (field(0, hashed(SHA256), NULL),),
        (field(0, tlv(0x30)),),
        (field(0),),
        (field(1, mask(SHA3)),),
        (field(1, mask(SHA256, SHA256)),),
        (field(1, tlv(0x30, MGF1)),),
        (field(1, mask(SHA256), NULL),),
        (field(2, integer(-1)),),
        (field(2, integer(1025)),),
        (field(2, integer(1 << 64)),),
        (field(2, b"\x02\x00"),),
        (field(2, integer(32), NULL),),
        (field(3, integer(2)),),
        (field(3, integer(0)),),
    ],
)
def test_anything_else_is_refused(fields: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(*fields)


def test_parameters_that_are_absent_cut_short_or_followed_are_refused() -> None:
    """RFC 4055 §3: in a signature they must be there."""
    whole = tlv(0x30, *WHOLE)
    assert read_pss(whole, 0, len(whole))[1] == PSS_256
    for data in (*(whole[:size] for size in range(len(whole))), whole + b"\0", NULL):
        with pytest.raises(ValueError, match=r"."):
            read_pss(data, 0, len(data))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=8), st.lists(st.tuples(st.integers(0, 80), st.integers(0, 255)), max_size=4))
def test_whatever_the_bytes_only_value_errors_are_raised(tail: bytes, changes: list[tuple[int, int]]) -> None:
    data = bytearray(tlv(0x30, *WHOLE) + tail)
    for at, octet in changes:
        if at < len(data):
            data[at] = octet
    try:
        hashing, _ = read_pss(bytes(data), 0, len(data))
    except ValueError:
        return
    assert hashing.name in {"sha1", "sha224", "sha256", "sha384", "sha512"}
