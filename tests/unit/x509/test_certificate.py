"""Certificates are read once, exactly, and whatever could be read in two ways is refused."""

from datetime import UTC, datetime
from hashlib import sha256
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AuthorityInformationAccessOID as Aia
from cryptography.x509.oid import NameOID as Oid
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.x509.build import DAY, NOW, assemble, dn, fields_of, issue, new_key, tlv

from mtlsproxy.x509.certificate import (
    MAX_CERTIFICATE,
    Certificate,
    MalformedCertificate,
    load_pem_certificates,
    parse_certificate,
    serial_hex,
)

CA = issue("root", ca=True, path_length=3)
RICH = issue(
    x509.Name([x509.NameAttribute(Oid.ORGANIZATION_NAME, "Acmé, Inc."), x509.NameAttribute(Oid.COMMON_NAME, "a b")]),
    CA,
    sans=[
        x509.UniformResourceIdentifier("spiffe://example.org/a"),
        x509.DNSName("A.example"),
        x509.IPAddress(ip_address("192.0.2.1")),
        x509.RFC822Name("a@b.example"),
        x509.IPAddress(ip_address("2001:db8::1")),
        x509.DirectoryName(dn("other")),
        x509.OtherName(x509.ObjectIdentifier("1.2.3.4"), tlv(0x0C, b"x")),
    ],
    policies=["1.2.3", "1.2.4"],
    serial=0xABCDEF,
    extra=[
        (
            x509.AuthorityInformationAccess(
                [
                    x509.AccessDescription(Aia.OCSP, x509.UniformResourceIdentifier("http://o.example/")),
                    x509.AccessDescription(Aia.CA_ISSUERS, x509.UniformResourceIdentifier("http://i.example/ca.der")),
                ]
            ),
            False,
        ),
        (
            x509.CRLDistributionPoints(
                [x509.DistributionPoint([x509.UniformResourceIdentifier("http://c.example/a.crl")], None, None, None)]
            ),
            False,
        ),
        (x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.56"), b"\x05\x00"), False),
    ],
)


def der_of(certificate: Certificate, **changes: bytes) -> bytes:
    """The certificate with tbs elements replaced by name (b"" leaves one out) and signed anew by CA."""
    names = ("version", "serial", "algorithm", "issuer", "validity", "subject", "key", "extensions")
    fields = dict(zip(names, fields_of(certificate.der), strict=True)) | changes
    return assemble([field for field in fields.values() if field], CA.key)


def test_every_field_is_read_as_the_certificate_has_it() -> None:
    leaf = RICH.certificate
    assert leaf.version == 3
    assert leaf.subject == "CN=a b,O=Acmé\\, Inc."
    assert leaf.issuer == "CN=root"
    assert (leaf.serial, leaf.not_before, leaf.not_after) == (0xABCDEF, NOW - DAY, NOW + 30 * DAY)
    assert leaf.not_after.tzinfo is UTC
    assert leaf.fingerprint_sha256 == sha256(leaf.der).hexdigest()
    spki = RICH.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert leaf.spki_sha256 == sha256(spki).hexdigest()
    assert leaf.issuer_der == CA.certificate.subject_der == dn("root").public_bytes()
    assert (leaf.self_issued, CA.certificate.self_issued) == (False, True)
    assert (leaf.key_name, leaf.signature_hash, leaf.signature_algorithm) == ("P-256", "sha256", "1.2.840.10045.4.3.2")
    assert (leaf.is_ca, leaf.path_length) == (False, None)
    assert (CA.certificate.is_ca, CA.certificate.path_length) == (True, 3)
    assert leaf.key_usage == {"digitalSignature"}
    assert CA.certificate.key_usage == {"keyCertSign", "cRLSign"}
    assert leaf.extended_key_usage == ("1.3.6.1.5.5.7.3.2",)
    assert CA.certificate.extended_key_usage is None
    assert leaf.certificate_policies == ("1.2.3", "1.2.4")
    assert leaf.authority_key_id == CA.certificate.subject_key_id is not None
    assert leaf.no_rev_avail
    assert not CA.certificate.no_rev_avail
    assert (leaf.ocsp_urls, leaf.ca_issuer_urls) == (("http://o.example/",), ("http://i.example/ca.der",))
    assert leaf.crl_urls == ("http://c.example/a.crl",)
    assert leaf.unhandled_critical == ()


def test_distribution_points_for_some_reasons_or_of_another_issuer_are_not_taken_for_whole() -> None:
    """RFC 5280 §4.2.1.13: such a list says nothing about the rest."""
    here = [x509.UniformResourceIdentifier("http://c.example/a.crl")]
    some = x509.DistributionPoint(here, None, frozenset({x509.ReasonFlags.key_compromise}), None)
    indirect = x509.DistributionPoint(here, None, None, [x509.DirectoryName(dn("another"))])
    whole = x509.DistributionPoint(here, None, None, None)
    for points in ([some, indirect], [some, whole, indirect]):
        extra = [(x509.CRLDistributionPoints(points), False), (x509.FreshestCRL(points), False)]
        found = issue("x", CA, extra=extra).certificate
        assert found.crl_urls == found.freshest_urls == (("http://c.example/a.crl",) if whole in points else ())


def test_a_pointer_to_deltas_that_is_critical_refuses_the_path() -> None:
    """RFC 5280 §4.2.1.15: it MUST be non-critical."""
    points = x509.FreshestCRL([x509.DistributionPoint([x509.UniformResourceIdentifier("http://c/")], None, None, None)])
    assert issue("x", CA, extra=[(points, True)]).certificate.unhandled_critical == ("2.5.29.46",)
    assert issue("x", CA, extra=[(points, False)]).certificate.unhandled_critical == ()


def test_alternative_names_keep_their_type_and_order() -> None:
    sans = RICH.certificate.sans
    assert sans.dns == ("A.example",)
    assert sans.uris == ("spiffe://example.org/a",)
    assert sans.emails == ("a@b.example",)
    assert sans.ips == (ip_address("192.0.2.1"), ip_address("2001:db8::1"))
    assert sans.directory_names == (dn("other"),)
    assert sans.others == ("1.2.3.4",)
    assert sans.ordered == (
        ("URI", "spiffe://example.org/a"),
        ("DNS", "A.example"),
        ("IP", "192.0.2.1"),
        ("EMAIL", "a@b.example"),
        ("IP", "2001:db8::1"),
    )
    assert (sans.present, sans.critical) == (True, False)
    assert not CA.certificate.sans.present


def test_certificates_are_equal_when_their_bytes_are() -> None:
    again = parse_certificate(RICH.certificate.der)
    assert again == RICH.certificate
    assert hash(again) == hash(RICH.certificate)
    assert again != CA.certificate
    assert again != RICH.certificate.der
    assert "a b" in repr(again)


def test_critical_extensions_that_nobody_acts_upon_are_kept_for_validation_to_refuse() -> None:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4.5"), b"\x05\x00")
    assert issue("x", CA, extra=[(unknown, True)]).certificate.unhandled_critical == ("1.2.3.4.5",)
    assert issue("x", CA, extra=[(unknown, False)]).certificate.unhandled_critical == ()


@pytest.mark.parametrize("kind", ["P-384", "P-521", "Ed25519", "Ed448", "RSA-2048", "secp256k1"])
def test_keys_are_called_by_the_names_that_truststores_use(kind: str) -> None:
    assert issue("x", key=new_key(kind)).certificate.key_name == kind


def test_a_serial_that_is_zero_or_negative_is_read_without_a_warning() -> None:
    """RFC 5280 §4.1.2.2: handled gracefully."""
    for number, octets in ((0, b"\0"), (-1, b"\xff"), (-32769, b"\xff\x7f\xff")):
        assert parse_certificate(der_of(RICH.certificate, serial=tlv(0x02, octets))).serial == number


@pytest.mark.parametrize(
    ("number", "printed"),
    [
        (0, "00"),
        (0x6, "06"),
        (0xABC, "0ABC"),
        (0x80, "80"),
        (0x6877F, "06877F"),
        (2**159 - 1, "7F" + "FF" * 19),
        (-1, "-01"),
    ],
)
def test_serials_are_printed_in_whole_bytes(number: int, printed: str) -> None:
    """As `openssl x509 -serial` prints them, so that what is copied from one is found in the other."""
    assert serial_hex(number) == printed


def test_generalized_time_is_read_beyond_2049() -> None:
    end = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert issue("x", CA, end=end).certificate.not_after == end


def test_a_version_1_certificate_is_read_and_left_to_validation() -> None:
    old = parse_certificate(der_of(RICH.certificate, version=b"", extensions=b""))
    assert (old.version, old.is_ca, old.key_usage, old.sans.present) == (1, None, None, False)


@pytest.mark.parametrize(
    ("place", "control"),
    [(place, c) for place in ("subject", "directory") for c in ("\0", "\r\n", "\x1b", "\x7f", "\x85")]
    + [(place, c) for place in ("dns", "uri", "email") for c in ("\0", "\r\n", "\x1b", "\x7f")],
)
def test_control_characters_in_names_are_refused(place: str, control: str) -> None:
    """security.md: Envoy CVE-2026-47778; `admin\\0.example` must not be read as `admin`."""
    text = f"admin{control}.example"
    if place == "subject":
        der = der_of(RICH.certificate, subject=dn(text).public_bytes())
    else:
        tags = {"dns": 0x82, "uri": 0x86, "email": 0x81}
        name = tlv(0xA4, dn(text).public_bytes()) if place == "directory" else tlv(tags[place], text.encode())
        der = der_of(RICH.certificate, extensions=_san_extension(name))
    with pytest.raises(MalformedCertificate, match="control character"):
        parse_certificate(der)


def _san_extension(*names: bytes) -> bytes:
    value = tlv(0x04, tlv(0x30, *names))
    return tlv(0xA3, tlv(0x30, tlv(0x30, bytes.fromhex("0603551d11"), value)))


def test_names_beyond_ascii_are_no_control_characters() -> None:
    assert issue("Zoë Ω 株式会社", CA).certificate.subject == "CN=Zoë Ω 株式会社"


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ((), "empty"),
        ((tlv(0x87, bytes(8)),), "network"),
        ((tlv(0x87, bytes(5)),), "not a certificate"),
        ((tlv(0x82, b"\xff.example"),), "not a certificate"),
    ],
)
def test_alternative_names_that_are_none_are_refused(names: tuple[bytes, ...], why: str) -> None:
    with pytest.raises(MalformedCertificate, match=why):
        parse_certificate(der_of(RICH.certificate, extensions=_san_extension(*names)))


def test_duplicate_extensions_are_refused() -> None:
    one = tlv(0x30, bytes.fromhex("0603551d11"), tlv(0x04, tlv(0x30, tlv(0x82, b"a.example"))))
    with pytest.raises(MalformedCertificate, match="Duplicate"):
        parse_certificate(der_of(RICH.certificate, extensions=tlv(0xA3, tlv(0x30, one, one))))


def test_an_algorithm_that_differs_from_the_signed_one_is_refused() -> None:
    """RFC 5280 §4.1.1.2."""
    der = assemble(fields_of(RICH.certificate.der), CA.key, bytes.fromhex("300a06082a8648ce3d040303"))
    with pytest.raises(MalformedCertificate, match="differs from the one that was signed"):
        parse_certificate(der)


def test_an_elliptic_key_with_explicit_parameters_is_not_used() -> None:
    """CVE-2020-0601: whoever chooses the generator can match any public key."""
    leaf = RICH.certificate
    named = fields_of(leaf.der)[6]
    oid = bytes.fromhex("06082a8648ce3d030107")
    assert oid in named
    prime = "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff"
    a = "ffffffff00000001000000000000000000000000fffffffffffffffffffffffc"
    b = "5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b"
    generator = (
        "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
        "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
    )
    order = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"
    explicit = tlv(
        0x30,
        tlv(0x02, b"\1"),
        tlv(0x30, bytes.fromhex("06072a8648ce3d0101"), tlv(0x02, b"\0" + bytes.fromhex(prime))),
        tlv(0x30, tlv(0x04, bytes.fromhex(a)), tlv(0x04, bytes.fromhex(b))),
        tlv(0x04, bytes.fromhex(generator)),
        tlv(0x02, b"\0" + bytes.fromhex(order)),
        tlv(0x02, b"\1"),
    )
    point = named[-68:]
    key = tlv(0x30, tlv(0x30, bytes.fromhex("06072a8648ce3d0201"), explicit), point)
    parsed = parse_certificate(der_of(leaf, key=key))
    assert parsed.public_key is None
    assert parsed.key_name == "unusable key (algorithm 1.2.840.10045.2.1)"


def test_a_key_that_cannot_be_loaded_leaves_the_certificate_readable() -> None:
    key = tlv(0x30, tlv(0x30, bytes.fromhex("06032a0304")), tlv(0x03, b"\0\1"))
    parsed = parse_certificate(der_of(RICH.certificate, key=key))
    assert (parsed.public_key, parsed.key_name) == (None, "unusable key (algorithm 1.2.3.4)")


def test_bytes_after_the_certificate_are_refused() -> None:
    for extra in (b"\0", b"\x30\x00", RICH.certificate.der):
        with pytest.raises(MalformedCertificate):
            parse_certificate(RICH.certificate.der + extra)


def test_every_truncation_is_refused() -> None:
    for size in range(len(RICH.certificate.der)):
        with pytest.raises(MalformedCertificate):
            parse_certificate(RICH.certificate.der[:size])


def test_a_certificate_that_is_too_large_is_refused_unread() -> None:
    with pytest.raises(MalformedCertificate, match="more than a certificate may have"):
        parse_certificate(bytes(MAX_CERTIFICATE + 1))


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_arbitrary_bytes_are_no_certificate(data: bytes) -> None:
    with pytest.raises(MalformedCertificate):
        parse_certificate(data)


@given(st.lists(st.tuples(st.integers(0, len(RICH.certificate.der) - 1), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=200, deadline=None)
def test_mutated_certificates_parse_or_raise_what_is_declared(changes: list[tuple[int, int]]) -> None:
    """Nothing but MalformedCertificate, no warning, and every field readable when it parses."""
    data = bytearray(RICH.certificate.der)
    for at, octet in changes:
        data[at] = octet
    try:
        parsed = parse_certificate(bytes(data))
    except MalformedCertificate as error:
        assert error.detail
    else:
        assert parsed.der == bytes(data)
        assert parsed.fingerprint_sha256 == sha256(data).hexdigest()


def pem(*certificates: Certificate) -> bytes:
    return b"".join(certificate.x509.public_bytes(Encoding.PEM) for certificate in certificates)


def test_a_pem_file_gives_all_its_certificates_in_order() -> None:
    text = b"subject=whoever\n" + pem(CA.certificate) + b"\nnotes\n" + pem(RICH.certificate).replace(b"\n", b"\r\n")
    assert load_pem_certificates(text) == (CA.certificate, RICH.certificate)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no certificate in the file, but nothing in PEM"),
        (
            b"-----BEGIN EC PRIVATE KEY-----\nAA==\n-----END EC PRIVATE KEY-----\n",
            "but EC PRIVATE KEY: name the file of",
        ),
        (b"-----BEGIN X509 CRL-----\nAA==\n-----END X509 CRL-----\n", "no certificate in the file, but X509 CRL$"),
        (pem(CA.certificate) + pem(RICH.certificate)[:-20], "certificate 2 of the file has no end"),
        (pem(CA.certificate).replace(b"MII", b"M*I", 1), "certificate 1 of the file: not base64"),
        (
            pem(CA.certificate) + pem(RICH.certificate).replace(b"MII", b"AAA", 1),
            "certificate 2 of the file: not",
        ),
    ],
)
def test_a_bad_pem_file_says_which_certificate_is_at_fault(data: bytes, why: str) -> None:
    with pytest.raises(MalformedCertificate, match=why):
        load_pem_certificates(data)
