"""CertificateRequest as servers send it, in both versions; whatever the bytes, it is read or refused."""

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.integration.clients import VERSIONS
from tests.unit.x509.build import dn, issue, tlv

from mtlsproxy.probe.messages import (
    ALERTS,
    CertificateRequest,
    MalformedMessage,
    alert_name,
    ca_name_text,
    chosen_suite,
    names_an_issuer,
    parse_certificate_request,
)

NAMES = tuple(dn(text).public_bytes() for text in ("One CA", "Another CA, of two"))


def vector(size: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return len(content).to_bytes(size, "big") + content


def message(body: bytes) -> bytes:
    return b"\x0d" + vector(3, body)


def listed(names: tuple[bytes, ...]) -> bytes:
    return vector(2, *(vector(2, name) for name in names))


def of_tls12(names: tuple[bytes, ...]) -> bytes:
    return message(vector(1, b"\x01\x40") + vector(2, b"\x04\x03\x08\x04") + listed(names))


def of_tls13(names: tuple[bytes, ...]) -> bytes:
    algorithms = b"\x00\x0d" + vector(2, vector(2, b"\x04\x03"))
    authorities = b"\x00\x2f" + vector(2, listed(names)) if names else b""
    return message(vector(1, b"") + vector(2, algorithms, authorities))


FORMS = {"TLSv1.2": of_tls12, "TLSv1.3": of_tls13}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("names", [(), NAMES[:1], NAMES])
def test_the_names_are_read_in_their_order(version: str, names: tuple[bytes, ...]) -> None:
    found = parse_certificate_request(FORMS[version](names), tls13=version == "TLSv1.3")
    assert found == CertificateRequest(names)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_cut_short_or_goes_on_is_refused(version: str) -> None:
    whole = FORMS[version](NAMES)
    for size in range(len(whole)):
        with pytest.raises(MalformedMessage):
            parse_certificate_request(whole[:size], tls13=version == "TLSv1.3")
        with pytest.raises(MalformedMessage):  # with a header that says so
            parse_certificate_request(message(whole[4:size]) if size > 4 else b"", tls13=version == "TLSv1.3")
    for excess in (whole + b"\0", message(whole[4:] + b"\0")):
        with pytest.raises(MalformedMessage):
            parse_certificate_request(excess, tls13=version == "TLSv1.3")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80), st.booleans())
def test_any_bytes_are_read_or_refused(body: bytes, tls13: bool) -> None:
    try:
        found = parse_certificate_request(message(body), tls13=tls13)
    except MalformedMessage:
        return
    assert sum(map(len, found.ca_names)) <= len(body)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_name_has_a_text(der: bytes) -> None:
    """Names are whatever the server sends."""
    assert bool(ca_name_text(der)) == (der != b"\x30\x00")


def test_a_name_is_rfc_4514_and_what_is_none_says_so() -> None:
    assert ca_name_text(NAMES[1]) == "CN=Another CA\\, of two"
    assert ca_name_text(NAMES[0] + b"\0") == f"(no distinguished name: {NAMES[0].hex()}00)"
    assert ca_name_text(tlv(0x04, b"x")).startswith("(no distinguished name: ")


def test_a_long_name_is_read() -> None:
    names = [dn(f"{'x' * 60}{number}").rdns[0] for number in range(20)]
    name = x509.Name(names)
    assert ca_name_text(name.public_bytes()) == name.rfc4514_string()


def test_a_client_goes_by_the_issuers_of_its_chain() -> None:
    root = issue("One CA", ca=True)
    middle = issue("Middle CA", root, ca=True)
    leaf = issue("alice", middle)
    assert names_an_issuer(NAMES, (leaf.certificate, middle.certificate))
    assert not names_an_issuer(NAMES, (leaf.certificate,))
    one = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "One CA", x509.name._ASN1Type.PrintableString)])
    assert one.public_bytes() != NAMES[0]  # the same name in another encoding
    assert names_an_issuer((one.public_bytes(),), (middle.certificate,))
    assert names_an_issuer((), (leaf.certificate,))  # a server that names none leaves the choice to the client


def test_the_cipher_suite_is_behind_the_session_id() -> None:
    head = b"\x02\x00\x00\x00" + b"\x03\x03" + bytes(32)
    assert chosen_suite(head + vector(1, b"session") + b"\x13\x02\x00") == 0x1302
    for size in range(4, len(head) + 2):
        with pytest.raises(MalformedMessage):
            chosen_suite((head + b"\0\x13\x02")[:size])


def test_an_alert_has_a_name() -> None:
    assert alert_name(116) == "certificate_required"
    assert alert_name(255) == "alert 255"
    assert len(set(ALERTS.values())) == len(ALERTS)
