"""CRL files: what is taken, what is refused with which words, and whose signature counts."""

import base64
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.revocation import build
from tests.unit.revocation.build import DAY, HOUR, NOW, Authority, assemble, authority, crl, entry, leaf, tlv

from mtlsproxy.revocation import indexfile
from mtlsproxy.revocation.crl import CrlError, Scope, load_crls, parse_crl, verify_crl

ROOT = authority()
GOOD = assemble(
    ROOT,
    entry(5, NOW - DAY, build.reason(1)) + entry(6),
    extensions=[build.crl_number(9), build.key_identifier(ROOT)],
)
UNKNOWN_OID = b"\x06\x03\x2a\x03\x04"


def refusal(data: bytes) -> str:
    with pytest.raises(CrlError) as caught:
        parse_crl(data, "here.crl")
    assert caught.value.detail.startswith("here.crl: ")
    return caught.value.detail


def test_the_outer_facts_are_read() -> None:
    got = parse_crl(GOOD, "here.crl")
    assert (got.issuer, got.issuer_der) == ("CN=Root", ROOT.certificate.subject_der)
    assert (got.number, got.this_update, got.next_update) == (9, NOW - HOUR, NOW + DAY)
    assert got.authority_key_id == ROOT.certificate.subject_key_id
    assert (got.entries, got.size, got.source) == (2, len(GOOD), "here.crl")
    assert (got.scope, got.urls) == (Scope.ALL, frozenset())
    assert got.title == "CRL number 9 from here.crl"


def test_an_entry_yields_its_date_and_reason() -> None:
    got = parse_crl(GOOD, "here.crl")
    found = got.lookup(5)
    assert found is not None
    assert (found.serial, found.revoked_at, found.reason) == (5, NOW - DAY, "keyCompromise")
    assert got.lookup(6).reason is None
    assert got.lookup(7) is None


def test_a_list_without_entries_revokes_nobody() -> None:
    got = crl(ROOT)
    assert got.entries == 0
    assert got.lookup(1) is None


def test_a_version_1_list_is_read() -> None:
    """`openssl ca -gencrl` writes one unless it is told otherwise."""
    got = parse_crl(assemble(ROOT, entry(5), version=b""), "v1.crl")
    assert (got.number, got.authority_key_id) == (None, None)
    assert got.lookup(5)
    verify_crl(got, ROOT.certificate)


@pytest.mark.parametrize(
    ("entries", "extensions"),
    [(entry(5, NOW, build.reason(1)), ()), (entry(5), (build.crl_number(1),))],
    ids=["in an entry", "in the list"],
)
def test_a_version_1_list_with_extensions_is_refused(entries: bytes, extensions: tuple[bytes, ...]) -> None:
    refusal(assemble(ROOT, entries, extensions=extensions, version=b""))


def test_a_list_of_an_unknown_version_is_refused() -> None:
    assert "version" in refusal(assemble(ROOT, None, version=build.integer(2)))


def test_a_missing_next_update_is_read_and_left_to_the_set() -> None:
    assert crl(ROOT, next_update=None).next_update is None


def test_dates_after_2049_are_generalized_times() -> None:
    far = NOW.replace(year=2060)
    got = parse_crl(assemble(ROOT, entry(5, far), next_update=far), "here.crl")
    assert got.next_update == far
    assert got.lookup(5).revoked_at == far


@pytest.mark.parametrize(
    ("field", "words"),
    [
        (build.INDIRECT, "indirect"),
        (build.SOME_REASONS, "reasons only"),
        (build.ONLY_ATTRIBUTE, "attribute certificates"),
        (tlv(0xA0, tlv(0xA0, tlv(0x82, b"crl.example"))), "no URL"),
        (tlv(0xA0, tlv(0xA1, tlv(0x30, b"\x06\x03\x55\x04\x03", tlv(0x0C, b"x")))), "relative"),
        (build.ONLY_USER + build.ONLY_CA, ""),
    ],
)
@pytest.mark.parametrize("critical", [True, False])
def test_a_list_that_answers_only_in_part_is_refused(field: bytes, words: str, critical: bool) -> None:
    assert words in refusal(assemble(ROOT, None, extensions=[build.distribution_point(field, critical=critical)]))


@pytest.mark.parametrize(("field", "scope"), [(build.ONLY_USER, Scope.USER), (build.ONLY_CA, Scope.CA)])
def test_a_list_for_one_kind_of_certificate_covers_that_kind_alone(field: bytes, scope: Scope) -> None:
    got = crl(ROOT, extensions=[build.distribution_point(field)])
    assert got.scope is scope
    assert got.covers(leaf(ROOT)) == (scope is Scope.USER)
    assert got.covers(authority("Sub", ROOT).certificate) == (scope is Scope.CA)


def test_a_list_with_a_named_distribution_point_covers_the_certificates_that_name_it() -> None:
    """RFC 5280 §6.3.3 b 2 i: another shard of the same CA says nothing about this certificate."""
    got = crl(ROOT, extensions=[build.distribution_point(build.url("http://crl.example/1"))])

    def pointing_to(url: str) -> x509.CRLDistributionPoints:
        point = x509.DistributionPoint([x509.UniformResourceIdentifier(url)], None, None, None)
        return x509.CRLDistributionPoints([point])

    assert got.covers(leaf(ROOT, pointing_to("http://crl.example/1")))
    assert not got.covers(leaf(ROOT, pointing_to("http://crl.example/2")))
    assert not got.covers(leaf(ROOT))


def test_a_delta_list_tells_its_base() -> None:
    got = crl(ROOT, number=8, extensions=[build.delta_of(5)], source="d.crl")
    assert (got.is_delta, got.base_number, got.number) == (True, 5, 8)
    assert got.title == "delta CRL number 8 from d.crl"
    assert not crl(ROOT).is_delta


def test_a_delta_list_without_a_number_is_refused() -> None:
    assert "without a number" in refusal(assemble(ROOT, None, extensions=[build.delta_of(5)]))


def test_remove_from_crl_is_read_in_a_delta_alone() -> None:
    removed = entry(5, NOW, build.reason(8))
    extensions = [build.crl_number(8), build.delta_of(5)]
    assert parse_crl(assemble(ROOT, removed, extensions=extensions), "d.crl").lookup(5).reason == "removeFromCRL"
    assert "removeFromCRL" in refusal(assemble(ROOT, removed, extensions=extensions[:1]))


def test_an_unknown_extension_counts_only_where_it_is_critical() -> None:
    plain = build.extension(UNKNOWN_OID, b"\x05\x00")
    critical = build.extension(UNKNOWN_OID, b"\x05\x00", critical=True)
    assert parse_crl(assemble(ROOT, entry(5, NOW, plain), extensions=[plain]), "here.crl").lookup(5)
    assert "1.2.3.4" in refusal(assemble(ROOT, None, extensions=[critical]))
    assert "entry 2" in refusal(assemble(ROOT, entry(4) + entry(5, NOW, critical)))


def test_an_extension_that_comes_twice_is_refused() -> None:
    refusal(assemble(ROOT, None, extensions=[build.crl_number(1), build.crl_number(2)]))


def test_a_negative_number_is_refused() -> None:
    refusal(assemble(ROOT, None, extensions=[build.crl_number(-1)]))


def test_an_algorithm_that_differs_from_the_signed_one_is_refused() -> None:
    sha384 = bytes.fromhex("300a06082a8648ce3d040303")
    refusal(assemble(ROOT, None, signed_algorithm=sha384))


def test_a_signature_with_unused_bits_is_refused() -> None:
    """Otherwise one list would have two fingerprints wherever its signature happens to end in a zero bit."""
    while (data := assemble(ROOT, None))[-1] & 1:
        pass  # ECDSA signatures differ each time
    at = data.rindex(build.ECDSA_SHA256) + len(build.ECDSA_SHA256) + 2
    assert data[at] == 0
    assert "whole octets" in refusal(data[:at] + b"\1" + data[at + 1 :])


def test_an_empty_signature_is_refused() -> None:
    at = GOOD.rindex(build.ECDSA_SHA256) + len(build.ECDSA_SHA256)
    whole = GOOD[4 if GOOD[1] == 0x82 else 3 : at]
    refusal(tlv(0x30, whole, b"\x03\x00"))
    with pytest.raises(CrlError):
        verify_crl(parse_crl(tlv(0x30, whole, b"\x03\x01\x00"), "here.crl"), ROOT.certificate)


def test_a_name_that_the_library_warns_about_is_read_in_silence() -> None:
    """The suite turns warnings into errors: none may leave the parser."""
    country = GOOD.replace(b"\x06\x03\x55\x04\x03", b"\x06\x03\x55\x04\x06")
    assert parse_crl(country, "here.crl").issuer == "C=Root"


def test_every_truncation_is_refused_and_says_so() -> None:
    for size in range(len(GOOD)):
        refusal(GOOD[:size])


def test_trailing_octets_are_refused_with_their_number() -> None:
    assert f"1 of {len(GOOD) + 1} octets follow" in refusal(GOOD + b"\0")


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_changed_octet_is_refused_or_breaks_the_signature(at: int, mask: int) -> None:
    flipped = bytearray(GOOD)
    flipped[at] ^= mask
    with pytest.raises(CrlError):
        verify_crl(parse_crl(bytes(flipped), "here.crl"), ROOT.certificate)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(CrlError):
        load_crls(data, "here.crl")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_garbage_for_entries_is_refused_or_read(entries: bytes) -> None:
    """Nothing but CrlError leaves the parser, also behind a good signature."""
    try:
        got = parse_crl(assemble(ROOT, entries), "here.crl")
    except CrlError:
        return
    assert got.entries == 0 or entries[0] == 0x30


# Files


def pem(data: bytes, label: str = "X509 CRL") -> bytes:
    body = base64.encodebytes(data).decode()
    return f"-----BEGIN {label}-----\n{body}-----END {label}-----\n".encode()


def test_a_der_file_holds_one_list() -> None:
    assert [got.number for got in load_crls(GOOD, "a.crl")] == [9]
    with pytest.raises(CrlError, match="octets follow"):
        load_crls(GOOD + GOOD, "a.crl")


def test_a_pem_file_holds_one_or_many_with_text_before_each() -> None:
    other = assemble(ROOT, None, extensions=[build.crl_number(10)])
    (one,) = load_crls(b"Certificate Revocation List (CRL):\n" + pem(GOOD), "a.pem")
    assert (one.number, one.source) == (9, "a.pem")
    many = load_crls(pem(GOOD) + b"\n# the next\r\n" + pem(other).replace(b"\n", b"\r\n"), "a.pem")
    assert [(got.number, got.source) for got in many] == [(9, "a.pem (CRL 1)"), (10, "a.pem (CRL 2)")]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (pem(GOOD) + b"x", "octets follow the last PEM block"),
        (pem(GOOD)[:-30], "no END line"),
        (pem(GOOD).replace(b"\n", b"\n!", 2), "not base64"),
        (pem(GOOD) + pem(GOOD[:-1]), r"a.pem \(CRL 2\)"),
        (pem(ROOT.certificate.der, "CERTIFICATE"), "'CERTIFICATE'"),
        (pem(GOOD) + pem(b"k", "PRIVATE KEY"), "'PRIVATE KEY'"),
        (b"", "0 octets|truncated"),
    ],
)
def test_a_file_with_anything_else_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(CrlError, match=words):
        load_crls(data, "a.pem")


# Signatures


@pytest.fixture(scope="module")
def rsa_root() -> Authority:
    return authority(key=rsa.generate_private_key(public_exponent=65537, key_size=2048))


PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)


@pytest.mark.parametrize("pad", [padding.PKCS1v15(), PSS], ids=["PKCS1v15", "PSS"])
def test_rsa_signatures_are_verified(rsa_root: Authority, pad: padding.AsymmetricPadding) -> None:
    got = parse_crl(build.library_crl(rsa_root, hashes.SHA256(), pad), "here.crl")
    verify_crl(got, rsa_root.certificate)
    with pytest.raises(CrlError, match="not signed by"):
        verify_crl(got, ROOT.certificate)


@pytest.mark.parametrize(
    "options",
    [(), ("rsa_pss_saltlen:0",), ("rsa_pss_saltlen:20", "rsa_mgf1_md:sha1"), ("rsa_mgf1_md:sha512",)],
    ids=" ".join,
)
def test_openssls_rsa_pss_lists_are_verified(rsa_root: Authority, tmp_path: Path, options: tuple[str, ...]) -> None:
    """RFC 4055 §3.1: whatever their salt and mask; also as an index file."""
    (tmp_path / "ca.pem").write_bytes(rsa_root.certificate.x509.public_bytes(Encoding.PEM))
    key = rsa_root.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "ca.key").write_bytes(key)
    (tmp_path / "index.txt").write_text("R\t491231235959Z\t250531120000Z\t07\tunknown\t/CN=client\n")
    (tmp_path / "ca.cnf").write_text("[ca]\ndefault_ca = d\n[d]\ndatabase = index.txt\n")
    command = [
        "openssl",
        "ca",
        "-gencrl",
        "-config",
        "ca.cnf",
        "-cert",
        "ca.pem",
        "-keyfile",
        "ca.key",
        "-md",
        "sha256",
    ]
    for option in ("rsa_padding_mode:pss", *options):
        command += ["-sigopt", option]
    subprocess.run([*command, "-crldays", "1", "-out", "ca.crl"], cwd=tmp_path, check=True, capture_output=True)
    (got,) = load_crls((tmp_path / "ca.crl").read_bytes(), "ca.crl")
    for found in (got, indexfile.load(memoryview(b"".join(indexfile.dump(got))))):
        verify_crl(found, rsa_root.certificate)
        assert found.lookup(7)
        with pytest.raises(CrlError, match="not signed by"):
            verify_crl(found, ROOT.certificate)


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (ec.generate_private_key(ec.SECP384R1()), hashes.SHA384()),
        (ec.generate_private_key(ec.SECP521R1()), hashes.SHA512()),
        (ed25519.Ed25519PrivateKey.generate(), None),
        (ed448.Ed448PrivateKey.generate(), None),
    ],
    ids=["P-384", "P-521", "Ed25519", "Ed448"],
)
def test_other_signatures_are_verified(key: object, algorithm: hashes.HashAlgorithm | None) -> None:
    signer = authority(key=key)
    got = parse_crl(build.library_crl(signer, algorithm), "here.crl")
    assert got.lookup(7)
    verify_crl(got, signer.certificate)
    with pytest.raises(CrlError, match="not signed by"):
        verify_crl(got, ROOT.certificate)


def test_a_sha1_signature_is_refused_by_name() -> None:
    algorithm = tlv(0x30, bytes.fromhex("06072a8648ce3d0401"))
    tbs = tlv(
        0x30,
        build.integer(1),
        algorithm,
        ROOT.certificate.subject_der,
        build.time(NOW),
        build.time(NOW + DAY),
    )
    data = tlv(0x30, tbs, algorithm, tlv(0x03, b"\0", ROOT.key.sign(tbs, ec.ECDSA(hashes.SHA1()))))
    with pytest.raises(CrlError, match="signed with sha1"):
        verify_crl(parse_crl(data, "here.crl"), ROOT.certificate)


def test_another_key_of_the_same_name_did_not_sign() -> None:
    twin = authority()
    with pytest.raises(CrlError, match="names the key"):
        verify_crl(crl(ROOT), twin.certificate)
    with pytest.raises(CrlError, match=r"not signed by that issuer's key$"):
        verify_crl(crl(ROOT, key_id=False), twin.certificate)


def test_the_signature_decides_and_the_key_identifier_does_not() -> None:
    twin = authority()
    got = parse_crl(assemble(ROOT, None, extensions=[build.key_identifier(twin)]), "here.crl")
    verify_crl(got, ROOT.certificate)


def test_a_list_of_another_name_is_refused_even_with_the_right_key() -> None:
    alias = authority("Alias", key=ROOT.key)
    with pytest.raises(CrlError, match="is of CN=Root, not of CN=Alias"):
        verify_crl(crl(ROOT), alias.certificate)


@pytest.mark.parametrize(("crl_sign", "accepted"), [(True, True), (None, True), (False, False)])
def test_a_key_usage_must_allow_crls_where_there_is_one(crl_sign: bool | None, accepted: bool) -> None:
    signer = authority(crl_sign=crl_sign)
    if accepted:
        verify_crl(crl(signer), signer.certificate)
        return
    with pytest.raises(CrlError, match="lacks cRLSign"):
        verify_crl(crl(signer), signer.certificate)


def test_a_number_has_twenty_octets_at_most() -> None:
    """Whoever serves a list chooses it, and Python does not write one of thousands of digits (RFC 5280 §5.2.3)."""
    assert crl(ROOT, number=2**160 - 1).number == 2**160 - 1
    for wrong in (2**160, 2**20_000):
        for extensions in ([build.crl_number(wrong)], [build.crl_number(1), build.delta_of(wrong)]):
            assert "longer than 20 octets" in refusal(assemble(ROOT, None, extensions=extensions))
