"""The DER reader takes exactly what is there, or says where it is not."""

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.x509.build import issue, tlv

from mtlsproxy.x509.certificate import parse_certificate
from mtlsproxy.x509.der import DerError, children, dotted, enter, read
from mtlsproxy.x509.raw import slice_certificate


@given(st.lists(st.binary(max_size=300), max_size=5))
@settings(max_examples=100, deadline=None)
def test_elements_come_back_as_they_were_written(contents: list[bytes]) -> None:
    data = tlv(0x30, *(tlv(0x04, content) for content in contents))
    start, after = enter(data, 0, len(data), 0x30)
    assert after == len(data)
    found = children(data, start, after)
    assert [data[at:end] for _, at, end in found] == [tlv(0x04, content) for content in contents]
    assert [data[slice(*enter(data, at, end, 0x04))] for _, at, end in found] == contents


def test_every_truncation_is_an_error() -> None:
    data = tlv(0x30, tlv(0x04, bytes(200)))
    for size in range(len(data)):
        with pytest.raises(DerError):
            read(data[:size], 0, size)


@pytest.mark.parametrize(
    "data",
    [
        "3080",
        "30810000",
        "308100",
        "30820001ff",
        "30850000000001ff",
        "1f0100",
        "3081",
        "308101ff",
        "30820080" + "00" * 128,
    ],
)
def test_lengths_and_tags_that_are_not_der_are_errors(data: str) -> None:
    """Indefinite, not minimal, too long, high tag numbers."""
    octets = bytes.fromhex(data)
    with pytest.raises(DerError):
        read(octets, 0, len(octets))


def test_another_tag_is_an_error() -> None:
    with pytest.raises(DerError, match="0x31 where 0x30"):
        enter(b"\x31\x00", 0, 2, 0x30)


@pytest.mark.parametrize("oid", ["0.0", "1.2.3", "2.5.29.32.0", "2.999.1", "1.3.6.1.4.1.311.20.2.2", "1.39.16384"])
def test_object_identifiers_are_read_as_the_library_writes_them(oid: str) -> None:
    data = x509.ExtendedKeyUsage([x509.ObjectIdentifier(oid)]).public_bytes()[2:]
    assert dotted(data, 0, len(data)) == oid


def test_a_certificate_is_sliced_only_when_nothing_follows_it() -> None:
    der = issue("x").certificate.der
    assert slice_certificate(der).serial == parse_certificate(der).serial
    with pytest.raises(DerError, match="1 bytes after the end"):
        slice_certificate(der + b"\0")


@pytest.mark.parametrize("data", ["0600", "060180", "06022a80", "0500"])
def test_truncated_object_identifiers_are_errors(data: str) -> None:
    octets = bytes.fromhex(data)
    with pytest.raises(DerError):
        dotted(octets, 0, len(octets))
