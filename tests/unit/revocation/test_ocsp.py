"""OCSP: what is asked, which answers count, and with which words the others are refused."""

from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.revocation import build, responder
from tests.unit.revocation.build import DAY, HOUR, NOW, Authority, authority, leaf, tlv
from tests.unit.revocation.responder import OCSP_SIGNING, delegate, respond, single, until

from mtlsproxy.revocation.ocsp import (
    MAX_RESPONSE,
    OcspAnswer,
    OcspError,
    OcspPolicy,
    build_request,
    read_response,
)
from mtlsproxy.revocation.policy import CLOCK_SKEW
from mtlsproxy.x509.certificate import Certificate, parse_certificate

ROOT = authority()
LEAF = leaf(ROOT, serial=5)
OTHER = leaf(ROOT, serial=6)
SECOND = timedelta(seconds=1)
POLICY = OcspPolicy(enabled=True)
STRICT = OcspPolicy(enabled=True, require_nonce=True)
NONCE = b"n" * 32
DELEGATE = delegate(ROOT)


def read(
    der: bytes,
    *,
    certificate: Certificate = LEAF,
    issuer: Authority = ROOT,
    nonce: bytes | None = None,
    policy: OcspPolicy = POLICY,
    at: object = NOW,
) -> OcspAnswer:
    return read_response(der, certificate, issuer.certificate, nonce, at, policy)


def refusal(der: bytes, **options: object) -> str:
    with pytest.raises(OcspError) as caught:
        read(der, **options)
    return caught.value.detail


# Requests


@pytest.mark.parametrize("nonce", [None, b"\x01", NONCE])
def test_a_request_names_the_certificate_and_carries_the_nonce(nonce: bytes | None) -> None:
    request = ocsp.load_der_ocsp_request(build_request(LEAF, ROOT.certificate, nonce))
    built = ocsp.OCSPRequestBuilder().add_certificate(LEAF.x509, ROOT.certificate.x509, hashes.SHA1()).build()
    for field in ("issuer_name_hash", "issuer_key_hash", "serial_number"):
        assert getattr(request, field) == getattr(built, field)
    assert request.hash_algorithm.name == "sha1"
    carried = [extension.value.nonce for extension in request.extensions]
    assert carried == ([] if nonce is None else [nonce])


@pytest.mark.parametrize("nonce", [b"", b"n" * 33])
def test_a_nonce_of_another_length_is_a_mistake_of_the_caller(nonce: bytes) -> None:
    with pytest.raises(ValueError, match="1 to 32 octets"):
        build_request(LEAF, ROOT.certificate, nonce)


def test_a_negative_serial_number_cannot_be_asked_about() -> None:
    negative = parse_certificate(LEAF.der.replace(b"\x02\x01\x05", b"\x02\x01\xfb", 1))
    assert negative.serial == -5
    with pytest.raises(OcspError, match="negative"):
        build_request(negative, ROOT.certificate, None)


# Answers


def test_a_good_answer_by_the_issuer_is_read_in_full() -> None:
    got = read(respond(LEAF, ROOT))
    assert (got.status, got.this_update, got.next_update) == ("good", NOW - HOUR, NOW + HOUR)
    assert (got.revoked_at, got.reason, got.delegate) == (None, None, None)
    assert (got.responder, got.expires) == ("CN=Root", NOW + HOUR + CLOCK_SKEW)


def test_a_revoked_answer_tells_when_and_why() -> None:
    got = read(respond(LEAF, ROOT, "revoked", reason=x509.ReasonFlags.key_compromise))
    assert (got.status, got.revoked_at, got.reason) == ("revoked", NOW - DAY, "keyCompromise")
    assert read(respond(LEAF, ROOT, "revoked")).reason is None


def test_an_unknown_answer_is_read_as_that() -> None:
    assert read(respond(LEAF, ROOT, "unknown")).status == "unknown"


@pytest.mark.parametrize("algorithm", [hashes.SHA1(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
def test_the_certificate_may_be_named_in_any_good_hash(algorithm: hashes.HashAlgorithm) -> None:
    assert read(respond(LEAF, ROOT, cert_id_hash=algorithm)).status == "good"


def test_a_cert_id_in_an_unknown_hash_is_nobodys() -> None:
    assert "other certificates" in refusal(respond(LEAF, ROOT, cert_id_hash=hashes.SHA224()))


@pytest.mark.parametrize("by_name", [True, False])
@pytest.mark.parametrize(
    ("key", "digest"),
    [
        (ec.generate_private_key(ec.SECP384R1()), hashes.SHA384()),
        (ec.generate_private_key(ec.SECP521R1()), hashes.SHA512()),
        (rsa.generate_private_key(public_exponent=65537, key_size=2048), hashes.SHA256()),
        (ed25519.Ed25519PrivateKey.generate(), None),
        (ed448.Ed448PrivateKey.generate(), None),
    ],
    ids=["P-384", "P-521", "RSA", "Ed25519", "Ed448"],
)
def test_every_kind_of_key_signs_as_issuer_and_as_delegate(key: object, digest: object, by_name: bool) -> None:
    issuer = authority("Sub", ROOT, key=key)
    own = leaf(issuer)
    answered = respond(own, issuer, signature_hash=digest, by_name=by_name)
    assert read(answered, certificate=own, issuer=issuer).status == "good"
    by = delegate(ROOT, key=key)
    assert read(respond(LEAF, ROOT, signer=by, signature_hash=digest, by_name=by_name)).delegate == by.certificate


# Who may answer


@pytest.mark.parametrize("by_name", [True, False])
def test_a_delegate_of_the_issuer_may_answer(by_name: bool) -> None:
    got = read(respond(LEAF, ROOT, signer=DELEGATE, by_name=by_name))
    assert (got.responder, got.delegate) == ("CN=Responder", DELEGATE.certificate)


def test_a_delegate_with_nocheck_may_answer() -> None:
    assert read(respond(LEAF, ROOT, signer=delegate(ROOT, OCSP_SIGNING, x509.OCSPNoCheck()))).status == "good"


def test_a_delegate_whose_certificate_is_not_enclosed_is_nobody() -> None:
    assert "neither by CN=Root nor by a certificate" in refusal(respond(LEAF, ROOT, signer=DELEGATE, enclosed=()))


def test_certificates_for_others_do_not_hide_the_signers() -> None:
    strangers = tuple(authority(f"Stranger {number}") for number in range(6))
    assert read(respond(LEAF, ROOT, signer=DELEGATE, enclosed=(*strangers, DELEGATE))).status == "good"


def test_only_so_many_certificates_are_read_and_tried() -> None:
    """Whoever answers chooses how many they are, and each costs us time."""
    stranger = authority("Stranger")
    assert read(respond(LEAF, ROOT, signer=DELEGATE, enclosed=(*[stranger] * 15, DELEGATE))).status == "good"
    assert "nor by a certificate" in refusal(
        respond(LEAF, ROOT, signer=DELEGATE, enclosed=(*[stranger] * 16, DELEGATE))
    )
    namesake = delegate(ROOT)
    named = {"signer": DELEGATE, "by_name": True}
    assert read(respond(LEAF, ROOT, enclosed=(*[namesake] * 3, DELEGATE), **named)).status == "good"
    assert "did not make" in refusal(respond(LEAF, ROOT, enclosed=(*[namesake] * 4, DELEGATE), **named))


SUB = authority("Sub", ROOT)
TWIN = authority()  # the same name, another key
USAGE = dict.fromkeys(
    ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign",
     "encipher_only", "decipher_only"), False)  # fmt: skip
CRL_SIGN_ONLY = x509.KeyUsage(digital_signature=False, crl_sign=True, **USAGE)
SIGNING = x509.KeyUsage(digital_signature=True, crl_sign=False, **USAGE)
CLIENT = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH])
ANY = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])


@pytest.mark.parametrize(
    ("signer", "words"),
    [
        (TWIN, "not certified by CN=Root itself"),
        (SUB, "no extended key usage OCSPSigning"),
        (delegate(TWIN), "not certified by CN=Root itself"),
        (delegate(SUB), "not certified by CN=Root itself"),
        (delegate(authority("Alias", key=ROOT.key)), "not certified by CN=Root itself"),
        (delegate(ROOT, CLIENT), "no extended key usage OCSPSigning"),
        (delegate(ROOT, ANY), "no extended key usage OCSPSigning"),
        (delegate(ROOT, SIGNING), "no extended key usage OCSPSigning"),
        (delegate(ROOT, OCSP_SIGNING, CRL_SIGN_ONLY), "without digitalSignature"),
        (delegate(ROOT, key=rsa.generate_private_key(public_exponent=65537, key_size=1024)), "RSA-1024"),
        (delegate(ROOT, key=ec.generate_private_key(ec.SECP256K1())), "secp256k1"),
    ],
    ids=["namesake", "sub-CA", "of a namesake", "of a sub-CA", "of an alias", "client", "any", "no EKU", "key usage",
         "RSA-1024", "secp256k1"],
)  # fmt: skip
def test_nobody_else_may_answer(signer: Authority, words: str) -> None:
    assert words in refusal(respond(LEAF, ROOT, signer=signer))


def test_a_delegate_with_a_fitting_key_usage_may_answer() -> None:
    assert read(respond(LEAF, ROOT, signer=delegate(ROOT, OCSP_SIGNING, SIGNING))).status == "good"


def test_a_delegate_answers_to_the_last_second_of_its_validity() -> None:
    short = delegate(ROOT, lifetime=2 * DAY)
    assert read(respond(LEAF, ROOT, signer=short, next_update=NOW + 2 * DAY), at=NOW + DAY).status == "good"


@pytest.mark.parametrize(("at", "words"), [(-1, "not valid before"), (1, "expired at")])
def test_a_delegate_answers_within_its_own_validity_alone(at: int, words: str) -> None:
    short = delegate(ROOT, lifetime=2 * DAY)
    when = NOW + at * (DAY + 2 * SECOND)
    answered = respond(LEAF, ROOT, signer=short, this_update=when - HOUR, next_update=when + HOUR)
    assert words in refusal(answered, at=when)


def test_an_answer_expires_with_its_delegate() -> None:
    short = delegate(ROOT, lifetime=HOUR)
    got = read(respond(LEAF, ROOT, signer=short, next_update=NOW + DAY))
    assert got.expires == short.certificate.not_after == NOW + HOUR / 2


def test_a_delegate_with_an_unknown_critical_extension_is_refused() -> None:
    odd = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    key = ec.generate_private_key(ec.SECP256R1())
    made = (
        x509.CertificateBuilder()
        .subject_name(build.name("Odd"))
        .issuer_name(ROOT.name)
        .public_key(key.public_key())
        .serial_number(9)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .add_extension(OCSP_SIGNING, critical=False)
        .add_extension(odd, critical=True)
        .sign(ROOT.key, hashes.SHA256())
    )
    assert "1.2.3.4" in refusal(
        respond(LEAF, ROOT, signer=Authority(key, parse_certificate(made.public_bytes(Encoding.DER))))
    )


def test_the_minimums_of_the_truststore_hold_for_delegates() -> None:
    p384 = delegate(ROOT, key=ec.generate_private_key(ec.SECP384R1()))
    only_256 = OcspPolicy(enabled=True, curves=frozenset({"P-256"}))
    assert "P-384" in refusal(respond(LEAF, ROOT, signer=p384), policy=only_256)
    assert read(respond(LEAF, ROOT, signer=DELEGATE), policy=only_256)
    only_384 = OcspPolicy(enabled=True, signature_hashes=frozenset({"sha384"}))
    signed = respond(LEAF, ROOT, signer=DELEGATE, signature_hash=hashes.SHA384())
    assert "certified with sha256" in refusal(signed, policy=only_384)
    assert read(signed).status == "good"


def test_a_namesake_that_is_not_enclosed_is_taken_for_the_issuer_and_refused() -> None:
    named = respond(LEAF, ROOT, signer=TWIN, by_name=True, enclosed=())
    assert "names CN=Root as its signer, whose key did not make its signature" in refusal(named)


def test_a_wrong_signature_is_refused() -> None:
    answered = bytearray(respond(LEAF, ROOT))
    answered[-3] ^= 1
    assert "did not make its signature" in refusal(bytes(answered))


def test_a_signature_hash_that_is_not_accepted_is_refused_by_name() -> None:
    sha1 = tlv(0x30, bytes.fromhex("06072a8648ce3d0401"))
    made = responder.by_hand(ROOT, single(LEAF, ROOT), algorithm=sha1, hash_=hashes.SHA1())
    assert "signed with sha1" in refusal(made)
    only_384 = OcspPolicy(enabled=True, signature_hashes=frozenset({"sha384"}))
    assert "signed with sha256" in refusal(respond(LEAF, ROOT), policy=only_384)


# About whom


def test_an_answer_about_another_certificate_is_none() -> None:
    assert "not about CN=client (serial 05)" in refusal(respond(OTHER, ROOT))


def test_an_answer_for_the_same_serial_of_another_issuer_is_none() -> None:
    """The name differs in one, the key in the other; ROOT signs both."""
    alias = authority("Alias", key=ROOT.key)
    for stranger in (alias, TWIN):
        claimed = respond(leaf(stranger, serial=5), Authority(ROOT.key, stranger.certificate), signer=ROOT)
        assert "other certificates" in refusal(claimed)


def test_of_several_answers_ours_is_picked() -> None:
    revoked = tlv(0xA1, responder.generalized(NOW - DAY))
    both = [single(OTHER, ROOT, revoked, next_update=until(NOW + HOUR)), single(LEAF, ROOT)]
    for singles in (both, both[::-1]):
        assert read(responder.by_hand(ROOT, *singles)).status == "good"
        assert read(responder.by_hand(ROOT, *singles), certificate=OTHER).status == "revoked"


def test_of_several_answers_about_ours_the_worst_counts() -> None:
    revoked, unknown = tlv(0xA1, responder.generalized(NOW - DAY)), b"\x82\x00"
    good = single(LEAF, ROOT)
    for worse, status in ((revoked, "revoked"), (unknown, "unknown")):
        for singles in ((good, single(LEAF, ROOT, worse)), (single(LEAF, ROOT, worse), good)):
            assert read(responder.by_hand(ROOT, *singles)).status == status


def test_a_response_without_any_answer_is_refused() -> None:
    assert "0 other certificates" in refusal(responder.by_hand(ROOT))


# When


@pytest.mark.parametrize("status", ["good", "unknown"])
def test_an_answer_counts_up_to_its_next_update_and_the_clock_skew(status: str) -> None:
    last = respond(LEAF, ROOT, status, next_update=NOW - CLOCK_SKEW)
    assert read(last).expires == NOW
    assert "no longer fresh: its nextUpdate" in refusal(last, at=NOW + SECOND)


@pytest.mark.parametrize("status", ["good", "unknown"])
def test_an_answer_from_the_future_counts_within_the_clock_skew(status: str) -> None:
    assert read(respond(LEAF, ROOT, status, this_update=NOW + CLOCK_SKEW)).status == status
    late = respond(LEAF, ROOT, status, this_update=NOW + CLOCK_SKEW + SECOND)
    assert "from the future: its thisUpdate" in refusal(late)


def test_an_answer_without_next_update_counts_for_max_age_from_its_this_update() -> None:
    open_ended = respond(LEAF, ROOT, next_update=None)
    assert read(open_ended).expires == NOW
    assert "max_age counts from its thisUpdate" in refusal(open_ended, at=NOW + SECOND)
    longer = OcspPolicy(enabled=True, max_age=2 * HOUR)
    assert read(open_ended, policy=longer, at=NOW + HOUR).expires == NOW + HOUR


def test_max_age_does_not_shorten_what_next_update_says() -> None:
    assert read(respond(LEAF, ROOT, next_update=NOW + 3 * DAY)).expires == NOW + 3 * DAY + CLOCK_SKEW


def test_a_revocation_counts_however_old_it_is() -> None:
    """configuration.md: one source that says revoked decides, however old. A CRL's entry does as well."""
    old = respond(LEAF, ROOT, "revoked", this_update=NOW - 90 * DAY, next_update=NOW - 89 * DAY)
    got = read(old)
    assert (got.status, got.expires) == ("revoked", NOW - 89 * DAY + CLOCK_SKEW)


def test_an_answer_that_ends_before_it_begins_is_refused() -> None:
    assert "before it begins" in refusal(responder.by_hand(ROOT, single(LEAF, ROOT, next_update=until(NOW - DAY))))


def test_an_answer_to_the_end_of_time_expires_all_the_same() -> None:
    far = responder.by_hand(ROOT, single(LEAF, ROOT, next_update=tlv(0xA0, tlv(0x18, b"99991231235959Z"))))
    assert read(far).expires.year == 9999


# Nonces and extensions


def nonce_of(value: bytes) -> tuple[tuple[x509.ExtensionType, bool], ...]:
    return ((x509.OCSPNonce(value), False),)


def test_the_nonce_of_the_request_is_accepted_even_where_it_is_required() -> None:
    assert read(respond(LEAF, ROOT, extensions=nonce_of(NONCE)), nonce=NONCE, policy=STRICT).status == "good"


@pytest.mark.parametrize("policy", [POLICY, STRICT])
@pytest.mark.parametrize("other", [b"m" * 32, b"n" * 31, b""])
def test_another_nonce_is_always_refused(policy: OcspPolicy, other: bytes) -> None:
    assert "another nonce" in refusal(respond(LEAF, ROOT, extensions=nonce_of(other)), nonce=NONCE, policy=policy)


def test_a_missing_nonce_is_refused_only_where_one_is_required() -> None:
    assert read(respond(LEAF, ROOT), nonce=NONCE).status == "good"
    assert "lacks the nonce" in refusal(respond(LEAF, ROOT), nonce=NONCE, policy=STRICT)


def test_a_nonce_that_nobody_sent_proves_nothing() -> None:
    answered = respond(LEAF, ROOT, extensions=nonce_of(NONCE))
    assert read(answered).status == "good"
    assert "the request had no nonce" in refusal(answered, policy=STRICT)


ODD = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")


@pytest.mark.parametrize("critical", [True, False])
def test_an_unknown_extension_counts_only_where_it_is_critical(critical: bool) -> None:
    in_response = respond(LEAF, ROOT, extensions=((ODD, critical),))
    odd = build.extension(b"\x06\x03\x2a\x03\x04", b"\x05\x00", critical=critical)
    for position in (0, 1):
        singles = [single(OTHER, ROOT), single(LEAF, ROOT)]
        singles[position] = single([OTHER, LEAF][position], ROOT, b"\x80\x00", tlv(0xA1, tlv(0x30, odd)))
        for answered in (in_response, responder.by_hand(ROOT, *singles)):
            if critical:
                assert "unknown critical extension, 1.2.3.4" in refusal(answered)
            else:
                assert read(answered).status == "good"


# Bad bytes


@pytest.mark.parametrize("status", [status for status in ocsp.OCSPResponseStatus if status.value])
def test_a_responder_that_declines_is_quoted(status: ocsp.OCSPResponseStatus) -> None:
    declined = ocsp.OCSPResponseBuilder.build_unsuccessful(status).public_bytes(Encoding.DER)
    words = {1: "malformedRequest", 2: "internalError", 3: "tryLater", 5: "sigRequired", 6: "unauthorized"}
    assert words[status.value] in refusal(declined)


GOOD = respond(LEAF, ROOT, signer=DELEGATE, extensions=nonce_of(NONCE))


def test_every_truncation_and_every_extension_is_refused() -> None:
    assert read(GOOD).status == "good"
    for size in range(len(GOOD)):
        refusal(GOOD[:size])
    refusal(GOOD + b"\0")


def test_too_large_a_response_is_not_looked_at() -> None:
    assert f"{MAX_RESPONSE} are allowed" in refusal(bytes(MAX_RESPONSE + 1))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_garbage_is_refused(data: bytes) -> None:
    refusal(data)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_changed_octet_never_makes_an_answer_of_another_meaning(at: int, mask: int) -> None:
    """Outside of what was signed a change may go unnoticed, inside none may."""
    flipped = bytearray(GOOD)
    flipped[at] ^= mask
    try:
        got = read(bytes(flipped), nonce=NONCE)
    except OcspError:
        return
    # The delegate's own signature can be spelt in another way (ECDSA, unused bits): it is the same delegate.
    expected = read(GOOD, nonce=NONCE)
    assert replace(got, delegate=None) == replace(expected, delegate=None)
    assert (got.delegate and got.delegate.spki_sha256) == (expected.delegate and expected.delegate.spki_sha256)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40), st.integers(0, 4))
def test_odd_singles_behind_a_good_signature_raise_nothing_else(odd: bytes, where: int) -> None:
    """Nothing but OcspError leaves the reader, also when a CA's own responder is the attacker."""
    parts = [b"\x80\x00", b"", b""]
    if where < 3:
        parts[where] = odd
    singles = [single(LEAF, ROOT, parts[0], parts[1], next_update=parts[2])]
    singles += [odd] if where == 3 else []
    made = responder.by_hand(ROOT, *singles)
    try:
        assert read(made).status in ("good", "revoked", "unknown")
    except OcspError as error:
        assert error.detail
