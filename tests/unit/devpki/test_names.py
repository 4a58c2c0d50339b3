"""Subjects and SANs: what an operator may write, and what is never signed."""

import ipaddress

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlsproxy.devpki import PkiError
from mtlsproxy.devpki.names import check_sans, check_subject, parse_san, parse_subject, san_text


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("CN=x,O=y", "CN=x,O=y"),
        ("CN=x, O=y", "CN=x,O=y"),
        ("cn=x,o=y,ou=z", "CN=x,O=y,OU=z"),
        ("CN=Müller,O=Example", "CN=Müller,O=Example"),
        (r"CN=Sales\, North,O=y", r"CN=Sales\, North,O=y"),
        (r"CN=a\\, O=y", r"CN=a\\,O=y"),
        ("CN=x+UID=7,DC=example,DC=org", "CN=x+UID=7,DC=example,DC=org"),
        ("2.5.4.5=42", "2.5.4.5=42"),
        ("serialNumber=42".upper(), "2.5.4.5=42"),
        ("CN=x,C=NZ", "CN=x,C=NZ"),
        ("", ""),
    ],
)
def test_a_subject_is_read_as_rfc_4514_says(text: str, canonical: str) -> None:
    assert parse_subject(text).rfc4514_string() == canonical


def test_the_string_form_is_the_reverse_of_the_encoded_order() -> None:
    """RFC 4514, section 2.1: the last RDN of the certificate is written first."""
    assert [attribute.oid for attribute in parse_subject("CN=x,O=y")] == [
        NameOID.ORGANIZATION_NAME,
        NameOID.COMMON_NAME,
    ]


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "CN",
        "CN=",
        "O=",
        "O=\\20",
        "CN=x,",
        ",CN=x",
        "CN=x;O=y",
        "/CN=x/O=y",
        "NOPE=x",
        "CN=a\x00b",
        r"CN=a\00b",
        r"CN=a\0Ab",
        r"CN=a\C2\85b",
        r"CN=\FF",
        r"CN=\zz",
        "C=USA",
        "C=nz",
        "O=" + "x" * 65,
        "CN=" + "x" * 65,
    ],
)
def test_a_malformed_empty_or_deceptive_subject_is_refused(text: str) -> None:
    with pytest.raises(PkiError, match="subject"):
        parse_subject(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("DNS:orders.internal", x509.DNSName("orders.internal")),
        ("dns:localhost", x509.DNSName("localhost")),
        ("DNS:*.clients.example", x509.DNSName("*.clients.example")),
        ("DNS:xn--bcher-kva.example", x509.DNSName("xn--bcher-kva.example")),
        ("IP:192.0.2.1", x509.IPAddress(ipaddress.ip_address("192.0.2.1"))),
        ("IP:2001:db8::1", x509.IPAddress(ipaddress.ip_address("2001:db8::1"))),
        ("EMAIL:a.b+c@example.org", x509.RFC822Name("a.b+c@example.org")),
        ("URI:urn:example:orders", x509.UniformResourceIdentifier("urn:example:orders")),
        ("URI:https://x.example/a?b=c#d", x509.UniformResourceIdentifier("https://x.example/a?b=c#d")),
        ("URI:spiffe://example.org", x509.UniformResourceIdentifier("spiffe://example.org")),
        ("URI:spiffe://example.org/ns/a/sa/B_1", x509.UniformResourceIdentifier("spiffe://example.org/ns/a/sa/B_1")),
    ],
)
def test_a_san_is_read_by_its_prefix(text: str, expected: x509.GeneralName) -> None:
    assert parse_san(text) == expected
    assert parse_san(san_text(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "orders.internal",
        "FOO:x",
        ":x",
        "",
        "DNS:",
        "DNS:a..b",
        "DNS:.a",
        "DNS:a.",
        "DNS:-a",
        "DNS:a-",
        "DNS:a_b",
        "DNS:a b",
        "DNS:a\x00.example",
        "DNS:a\n",
        "DNS:*",
        "DNS:*.*.example",
        "DNS:a*.example",
        "DNS:a.*.example",
        "DNS:bücher.example",
        "DNS:" + "a" * 64,
        "DNS:" + ".".join(["a" * 60] * 5),
        "DNS:https://a",
        "IP:192.0.2.0/24",
        "IP:192.0.2",
        "IP:192.0.2.01",
        "IP:fe80::1%eth0",
        "EMAIL:example.org",
        "EMAIL:A <a@example.org>",
        "EMAIL:a@",
        "EMAIL:a@b@c",
        "EMAIL:a@example.org\r\n",
        "EMAIL:a\x00@example.org",
        "URI:orders",
        "URI:/orders",
        "URI:https://a b",
        "URI:https://a/%zz",
        "URI:https://a\x00",
        "URI:https://a\n",
        "URI:https://[::1",
        "URI:spiffe://Example.org/a",
        "URI:SPIFFE://example.org/a",
        "URI:spiffe://example.org/",
        "URI:spiffe://example.org//a",
        "URI:spiffe://example.org/a/",
        "URI:spiffe://example.org/./a",
        "URI:spiffe://example.org/a/..",
        "URI:spiffe://example.org/a?b",
        "URI:spiffe://example.org:1/a",
        "URI:spiffe://u@example.org/a",
        "URI:spiffe:///a",
        "URI:spiffe://example.org/" + "a" * 2048,
    ],
)
def test_a_san_that_readers_could_read_differently_is_refused(text: str) -> None:
    with pytest.raises(PkiError, match="SAN"):
        parse_san(text)


def test_a_spiffe_id_is_the_only_uri() -> None:
    spiffe, other = parse_san("URI:spiffe://example.org/a"), parse_san("URI:urn:example:a")
    check_sans([spiffe, parse_san("DNS:a.example")])
    check_sans([other, parse_san("URI:urn:example:b")])
    with pytest.raises(PkiError, match="only URI"):
        check_sans([spiffe, other])


def test_a_name_is_given_once_and_is_of_a_kind_that_we_sign() -> None:
    with pytest.raises(PkiError, match="twice"):
        check_sans([parse_san("DNS:a.example")] * 2)
    with pytest.raises(PkiError, match="DirectoryName"):
        check_sans([x509.DirectoryName(parse_subject("CN=x"))])
    with pytest.raises(PkiError, match="network"):
        check_sans([x509.IPAddress(ipaddress.ip_network("192.0.2.0/24"))])


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from('CNO=,+\\# "<>;a0.\x00\x7fé\n'), max_size=30))
def test_any_subject_is_read_or_refused_and_never_has_a_control_character(text: str) -> None:
    try:
        name = parse_subject(text)
    except PkiError:
        return
    check_subject(name)
    assert not any(ord(letter) < 32 or ord(letter) == 127 for attribute in name for letter in str(attribute.value))
    assert parse_subject(name.rfc4514_string()) == name


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["URI:", "DNS:", "IP:", "EMAIL:", ""]), st.text(max_size=30))
def test_any_san_is_read_or_refused_and_reads_back_the_same(prefix: str, text: str) -> None:
    try:
        san = parse_san(prefix + text)
    except PkiError:
        return
    assert san_text(san).isascii()
    assert parse_san(san_text(san)) == san
