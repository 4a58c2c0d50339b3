"""CSRs: their signature counts, their wishes do not."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlsproxy.devpki import KeyType, PkiError
from mtlsproxy.devpki.keys import generate_key
from mtlsproxy.devpki.names import parse_subject
from mtlsproxy.devpki.requests import make_csr, make_request, read_csr

ALICE = parse_subject("CN=x")
KEY = ec.generate_private_key(ec.SECP256R1())
SANS = ["DNS:orders.internal", "URI:spiffe://example.org/orders"]
PEM = make_csr("CN=orders,O=Example", SANS, KEY)
DER = x509.load_pem_x509_csr(PEM).public_bytes(serialization.Encoding.DER)


def csr_with(*extensions: tuple[x509.ExtensionType, bool], subject: x509.Name = ALICE, key=KEY) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize("data", [PEM, DER])
def test_a_request_is_read_back_as_it_was_made(data: bytes) -> None:
    request = read_csr(data, "orders.csr")
    assert request == make_request("CN=orders,O=Example", SANS, KEY.public_key())


@pytest.mark.parametrize("key_type", list(KeyType))
def test_openssl_verifies_the_request_of_every_key_type(key_type: KeyType, openssl) -> None:
    pem = make_csr("CN=orders,O=Example", SANS, generate_key(key_type))
    shown = openssl("req", "-verify", "-noout", "-text", stdin=pem)
    assert shown.returncode == 0
    assert "verify OK" in shown.stdout
    assert "DNS:orders.internal, URI:spiffe://example.org/orders" in shown.stdout
    assert "O = Example, CN = orders" in shown.stdout


@pytest.mark.parametrize("old, new", [(b"orders.internal", b"admins.internal"), (b"Example", b"Exempla")])
def test_a_tampered_request_is_refused_by_us_and_by_openssl(old: bytes, new: bytes, openssl) -> None:
    assert DER.count(old) == 1
    tampered = DER.replace(old, new)
    with pytest.raises(PkiError, match=r"orders\.csr: the request's own signature"):
        read_csr(tampered, "orders.csr")
    assert "verify failure" in openssl("req", "-verify", "-noout", "-inform", "DER", stdin=tampered).stdout.lower()


def test_a_request_to_become_a_ca_is_refused() -> None:
    with pytest.raises(PkiError, match="cA"):
        read_csr(csr_with((x509.BasicConstraints(ca=True, path_length=0), True)), "x.csr")
    leaf = csr_with((x509.BasicConstraints(ca=False, path_length=None), True))
    assert read_csr(leaf, "x.csr").subject == parse_subject("CN=x")


def test_other_wishes_are_not_read() -> None:
    wishes = csr_with((x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), True))
    assert read_csr(wishes, "x.csr") == make_request("CN=x", [], KEY.public_key())


@pytest.mark.parametrize(
    "name",
    [
        x509.DirectoryName(parse_subject("CN=x")),
        x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x0c\x01x"),
        x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
        x509.DNSName("a\x00.example"),
        x509.DNSName(""),
        x509.UniformResourceIdentifier("spiffe://Example.org/x"),
    ],
)
def test_a_name_that_we_would_not_issue_is_not_copied_either(name: x509.GeneralName) -> None:
    with pytest.raises(PkiError, match=r"x\.csr: SAN"):
        read_csr(csr_with((x509.SubjectAlternativeName([name]), False)), "x.csr")


def test_a_subject_with_a_control_character_is_not_copied() -> None:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "admin\x00.evil")])
    with pytest.raises(PkiError, match=r"x\.csr: subject"):
        read_csr(csr_with(subject=subject), "x.csr")


def test_a_request_for_nobody_is_refused() -> None:
    with pytest.raises(PkiError, match="neither"):
        make_csr("", [], KEY)
    with pytest.raises(PkiError, match="neither"):
        read_csr(csr_with(subject=x509.Name([])), "x.csr")
    assert read_csr(make_csr("", SANS, KEY), "x.csr").subject == x509.Name([])


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 1024),
        ec.generate_private_key(ec.SECP256K1()),
        dsa.generate_private_key(1024),
    ],
    ids=["rsa-1024", "secp256k1", "dsa"],
)
def test_a_key_that_the_proxy_would_refuse_is_not_certified(key) -> None:
    with pytest.raises(PkiError, match=r"x\.csr: "):
        read_csr(csr_with(key=key), "x.csr")


@pytest.mark.parametrize("cut", range(0, len(DER), 7))
def test_a_truncated_request_is_refused(cut: int) -> None:
    with pytest.raises(PkiError, match="not a certificate signing request"):
        read_csr(DER[:cut], "x.csr")


def test_trailing_bytes_are_refused() -> None:
    with pytest.raises(PkiError, match="not a certificate signing request"):
        read_csr(DER + b"\x00", "x.csr")


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(DER) - 1), st.integers(1, 255))
def test_no_altered_byte_changes_what_is_asked_for(position: int, flip: int) -> None:
    """The signature's own encoding has some slack (unused bits of its BIT STRING); what it signs has none."""
    altered = bytearray(DER)
    altered[position] ^= flip
    try:
        request = read_csr(bytes(altered), "x.csr")
    except PkiError:
        return
    assert position >= len(DER) - len(x509.load_der_x509_csr(DER).signature) - 1
    assert request == read_csr(DER, "x.csr")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_noise_is_refused(data: bytes) -> None:
    for noise in (data, b"-----BEGIN CERTIFICATE REQUEST-----\n" + data):
        with pytest.raises(PkiError):
            read_csr(noise, "x.csr")
