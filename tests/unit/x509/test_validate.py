"""Verdicts on whole chains: each reason with the chain that earns it beside the chain that does not."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from tests.unit.x509.build import DAY, NOW, Issued, assemble, fields_of, issue, key_usage, new_key, truststore

from mtlsproxy.reasons import Reason
from mtlsproxy.x509.certificate import Certificate, parse_certificate
from mtlsproxy.x509.evidence import CHECK_NAMES, Check, Result
from mtlsproxy.x509.policy import CLIENT_AUTH, SERVER_AUTH, Truststore
from mtlsproxy.x509.validate import Refused, Verified, validate

ANY = "2.5.29.37.0"
ROOT = issue("root", ca=True)
CA1 = issue("ca1", ROOT, ca=True)
CA2 = issue("ca2", CA1, ca=True)
STORE = truststore(ROOT)


def judge(leaf: Issued, *sent: Issued, store: Truststore = STORE) -> Verified | Refused:
    return validate(leaf.certificate, [issued.certificate for issued in sent], store, NOW)


def refusal(leaf: Issued, *sent: Issued, store: Truststore = STORE) -> Reason:
    outcome = judge(leaf, *sent, store=store)
    assert isinstance(outcome, Refused), "accepted"
    failing = [check for check in outcome.checks if check.result is Result.FAIL]
    assert all(check.fix and check.rule and check.seen for check in failing)
    assert outcome.detail == failing[0].seen
    assert outcome.leaf == leaf.certificate
    return outcome.reason


def accepted(leaf: Issued, *sent: Issued, store: Truststore = STORE) -> Verified:
    outcome = judge(leaf, *sent, store=store)
    assert isinstance(outcome, Verified), outcome
    return outcome


def checks(outcome: Verified | Refused) -> dict[str, Check]:
    assert [check.name for check in outcome.checks] == list(CHECK_NAMES[:9])
    return {check.name: check for check in outcome.checks}


def test_a_verified_leaf_brings_its_chain_its_checks_and_the_earliest_end() -> None:
    short = issue("ca", ROOT, ca=True, end=NOW + DAY)
    leaf = issue("client", short)
    outcome = accepted(leaf, short)
    assert outcome.chain == (leaf.certificate, short.certificate, ROOT.certificate)
    assert (outcome.leaf, outcome.anchor) == (leaf.certificate, ROOT.certificate)
    assert outcome.deadline == NOW + DAY
    results = {name: check.result for name, check in checks(outcome).items()}
    assert results.pop("spiffe") is Result.SKIPPED
    assert set(results.values()) == {Result.PASS}
    assert all(check.fix == "" for check in outcome.checks)


def test_chains_of_every_kind_of_key_are_verified() -> None:
    """security.md: Ed25519 CAs are in the field, and ClientVerifier refuses them."""
    for kind in ("P-256", "P-384", "P-521", "Ed25519", "Ed448", "RSA-2048"):
        root = issue("root", ca=True, key=new_key(kind))
        ca = issue("ca", root, ca=True, key=new_key(kind))
        accepted(issue("client", ca, key=new_key(kind)), ca, store=truststore(root))


def test_rsa_pss_is_verified() -> None:
    root = issue("root", ca=True, key=new_key("RSA-2048"))
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    leaf = issue("client", root, padding=pss)
    accepted(leaf, store=truststore(root))
    assert refusal(altered(leaf), store=truststore(root)) is Reason.BAD_SIGNATURE


def altered(issued: Issued) -> Issued:
    der = bytearray(issued.certificate.der)
    der[-1] ^= 1
    return Issued(parse_certificate(bytes(der)), issued.key)


def test_what_rfc_5280_allows_is_accepted_by_default() -> None:
    """No SAN, no key identifiers, no key usage, a root without key usage."""
    root = issue("root", ca=True, usage=None, identifiers=False)
    accepted(issue("client", root, usage=None, identifiers=False), store=truststore(root))


# untrusted_issuer


def test_a_stranger_is_untrusted_and_the_missing_issuer_is_named() -> None:
    other = issue("other root", ca=True)
    assert refusal(issue("client", other)) is Reason.UNTRUSTED_ISSUER
    outcome = judge(issue("client", CA1))
    assert isinstance(outcome, Refused)
    assert (
        outcome.detail == "the issuer of the leaf, CN=ca1, was not sent and is no trust anchor of truststore partners"
    )
    assert "send the certificate of CN=ca1" in checks(outcome)["chain"].fix
    accepted(issue("client", CA1), CA1)


def test_a_self_signed_client_and_a_self_signed_ca_are_called_that() -> None:
    outcome = judge(issue("me", issuer_name=None))
    assert isinstance(outcome, Refused)
    assert outcome.reason is Reason.UNTRUSTED_ISSUER
    assert "self-signed" in outcome.detail
    other = issue("other root", ca=True)
    outcome = judge(issue("client", other), other)
    assert isinstance(outcome, Refused)
    assert outcome.reason is Reason.UNTRUSTED_ISSUER
    assert outcome.detail == "CA CN=other root is self-signed and no trust anchor of truststore partners"
    assert checks(outcome)["chain"].fix.startswith(
        "no CA of this chain is trusted here; trusted are: CN=root; if CN=oth"
    )


def test_a_ca_that_only_shares_the_anchors_name_is_untrusted() -> None:
    impostor = issue("root", ca=True)
    assert refusal(issue("client", impostor)) is Reason.UNTRUSTED_ISSUER
    assert refusal(issue("client", impostor), impostor) is Reason.UNTRUSTED_ISSUER
    edwards = issue("root", ca=True, key=new_key("Ed25519"), identifiers=False)
    assert refusal(issue("client", edwards, identifiers=False)) is Reason.UNTRUSTED_ISSUER


def test_a_truststore_without_anchors_trusts_nobody() -> None:
    """Fail closed: Caddy CVE-2026-27586."""
    empty = Truststore("empty", ())
    assert refusal(issue("client", ROOT), ROOT, store=empty) is Reason.UNTRUSTED_ISSUER
    assert refusal(issue("client", ROOT), ROOT, store=truststore(intermediates=[ROOT])) is Reason.UNTRUSTED_ISSUER


def test_intermediates_of_the_truststore_help_but_are_not_trusted() -> None:
    leaf = issue("client", CA1)
    accepted(leaf, store=truststore(ROOT, intermediates=[CA1]))
    assert refusal(leaf, store=truststore(CA2, intermediates=[CA1])) is Reason.UNTRUSTED_ISSUER


def test_a_trust_anchor_need_not_be_self_signed() -> None:
    outcome = accepted(issue("client", CA1), store=truststore(CA1))
    assert outcome.anchor == CA1.certificate
    assert refusal(issue("client", ROOT), store=truststore(CA1)) is Reason.UNTRUSTED_ISSUER


# bad_signature


def test_an_altered_signature_is_refused_at_every_place() -> None:
    leaf = issue("client", CA1)
    assert refusal(altered(leaf), CA1) is Reason.BAD_SIGNATURE
    assert refusal(leaf, altered(CA1)) is Reason.BAD_SIGNATURE
    accepted(leaf, altered(CA1), CA1)


def test_a_forgery_without_identifiers_is_a_bad_signature() -> None:
    impostor = issue("root", ca=True, identifiers=False)
    assert refusal(issue("client", impostor, identifiers=False)) is Reason.BAD_SIGNATURE


# validity


@pytest.mark.parametrize("place", ["leaf", "ca", "root"])
def test_nothing_on_the_path_may_be_expired_or_not_yet_valid(place: str) -> None:
    second = timedelta(seconds=1)
    for start, end, reason in (
        (NOW - DAY, NOW - second, Reason.EXPIRED),
        (NOW + second, NOW + DAY, Reason.NOT_YET_VALID),
        (NOW, NOW, None),
    ):
        dates = {place: {"start": start, "end": end}}
        root = issue("root", ca=True, **dates.get("root", {}))
        ca = issue("ca", root, ca=True, **dates.get("ca", {}))
        leaf = issue("client", ca, **dates.get("leaf", {}))
        if reason is None:
            accepted(leaf, ca, store=truststore(root))
        else:
            assert refusal(leaf, ca, store=truststore(root)) is reason


def test_an_expired_ca_is_passed_over_for_its_renewal() -> None:
    key = new_key()
    old = issue("ca", ROOT, ca=True, key=key, end=NOW - timedelta(hours=1))
    new = issue("ca", ROOT, ca=True, key=key)
    leaf = issue("client", new)
    assert accepted(leaf, old, new).chain[1] == new.certificate
    assert refusal(leaf, old) is Reason.EXPIRED
    old_root = issue("root", ca=True, key=ROOT.key, end=NOW - timedelta(hours=1))
    accepted(issue("client", ROOT), store=truststore(old_root, ROOT))


# keys and signatures


def test_keys_below_the_anchor_are_held_to_the_policy_and_the_anchors_is_not() -> None:
    weak = new_key("RSA-1024")
    assert refusal(issue("client", ROOT, key=weak)) is Reason.WEAK_KEY
    ca = issue("ca", ROOT, ca=True, key=weak)
    assert refusal(issue("client", ca), ca) is Reason.WEAK_KEY
    accepted(issue("client", issue("root", ca=True, key=weak)), store=truststore(issue("root", ca=True, key=weak)))
    assert refusal(issue("client", ROOT, key=new_key("RSA-2048")), store=truststore(ROOT, minimum_rsa_bits=3072)) is (
        Reason.WEAK_KEY
    )


def test_curves_that_are_not_listed_are_weak_keys() -> None:
    assert refusal(issue("client", ROOT, key=new_key("secp256k1"))) is Reason.WEAK_KEY
    store = truststore(ROOT, curves=frozenset({"P-384", "Ed25519"}))
    assert refusal(issue("client", ROOT, key=new_key("P-256")), store=store) is Reason.WEAK_KEY
    accepted(issue("client", ROOT, key=new_key("P-384")), store=store)
    accepted(issue("client", ROOT, key=new_key("Ed25519")), store=store)


def test_signature_hashes_hold_below_the_anchor() -> None:
    rsa = issue("root", ca=True, key=new_key("RSA-2048"), hashing=hashes.SHA224())
    store = truststore(rsa)
    accepted(issue("client", rsa), store=store)
    assert refusal(issue("client", rsa, hashing=hashes.SHA224()), store=store) is Reason.WEAK_SIGNATURE
    only_384 = truststore(ROOT, signature_hashes=frozenset({"sha384"}))
    assert refusal(issue("client", ROOT), store=only_384) is Reason.WEAK_SIGNATURE
    accepted(issue("client", ROOT, hashing=hashes.SHA384()), store=only_384)


# key usage, EKU, CA bits


def test_only_cas_issue() -> None:
    for basic in (None, x509.BasicConstraints(False, None)):
        not_ca = issue("sub", ROOT, ca=True, basic=basic)
        assert refusal(issue("client", not_ca), not_ca) is Reason.NOT_A_CA
    client = issue("client", ROOT)
    assert refusal(issue("forged", client), client) is Reason.NOT_A_CA
    cannot_sign = issue("sub", ROOT, ca=True, usage=key_usage("crl_sign"))
    assert refusal(issue("client", cannot_sign), cannot_sign) is Reason.NOT_A_CA
    silent = issue("sub", ROOT, ca=True, usage=None)
    accepted(issue("client", silent), silent)


def test_the_anchor_must_be_a_ca_too() -> None:
    pinned = issue("pinned client")
    assert refusal(pinned, store=truststore(pinned)) is Reason.NOT_A_CA
    assert refusal(issue("client", pinned), store=truststore(pinned)) is Reason.NOT_A_CA


def test_nobody_authenticates_as_a_ca() -> None:
    assert refusal(CA1) is Reason.CA_AS_LEAF
    assert refusal(ROOT) is Reason.CA_AS_LEAF
    both = issue("x", ROOT, ca=True, usage=key_usage("key_cert_sign", "digital_signature"), eku=[CLIENT_AUTH])
    assert refusal(both) is Reason.CA_AS_LEAF


def test_the_leafs_key_usage_lets_it_sign_and_not_issue() -> None:
    assert refusal(issue("client", ROOT, usage=key_usage("key_encipherment"))) is Reason.KEY_USAGE
    assert refusal(issue("client", ROOT, usage=key_usage("digital_signature", "key_cert_sign"))) is Reason.KEY_USAGE
    accepted(issue("client", ROOT, usage=key_usage("digital_signature", "key_encipherment")))
    accepted(issue("client", ROOT, usage=None))


def test_the_leaf_needs_every_required_extended_key_usage() -> None:
    assert refusal(issue("client", ROOT, eku=None)) is Reason.EKU_MISSING
    accepted(issue("client", ROOT, eku=None), store=truststore(ROOT, allow_absent_eku=True))
    server = judge(issue("client", ROOT, eku=[SERVER_AUTH]))
    assert isinstance(server, Refused)
    assert server.reason is Reason.EKU_MISMATCH
    assert "this one is a server certificate" in checks(server)["extended_key_usage"].fix
    assert refusal(issue("c", ROOT, eku=[SERVER_AUTH]), store=truststore(ROOT, allow_absent_eku=True)) is (
        Reason.EKU_MISMATCH
    )
    two = truststore(ROOT, require_eku=(CLIENT_AUTH, "1.2.3"))
    assert refusal(issue("client", ROOT), store=two) is Reason.EKU_MISMATCH
    accepted(issue("client", ROOT, eku=[SERVER_AUTH, "1.2.3", CLIENT_AUTH]), store=two)


def test_any_extended_key_usage_counts_only_where_allowed() -> None:
    assert refusal(issue("client", ROOT, eku=[ANY])) is Reason.EKU_MISMATCH
    accepted(issue("client", ROOT, eku=[ANY]), store=truststore(ROOT, allow_any_eku=True))
    ca = issue("ca", ROOT, ca=True, eku=[ANY])
    assert refusal(issue("client", ca), ca) is Reason.EKU_MISMATCH
    accepted(issue("client", ca), ca, store=truststore(ROOT, allow_any_eku=True))


def test_an_issuers_extended_key_usage_limits_what_is_below_it() -> None:
    """A CA for servers cannot make clients, wherever on the path it stands."""
    for_servers = issue("ca", ROOT, ca=True, eku=[SERVER_AUTH])
    assert refusal(issue("client", for_servers), for_servers) is Reason.EKU_MISMATCH
    below = issue("ca below", for_servers, ca=True)
    assert refusal(issue("client", below), below, for_servers) is Reason.EKU_MISMATCH
    root = issue("root", ca=True, eku=[SERVER_AUTH])
    assert refusal(issue("client", root), store=truststore(root)) is Reason.EKU_MISMATCH
    for_both = issue("ca", ROOT, ca=True, eku=[SERVER_AUTH, CLIENT_AUTH])
    accepted(issue("client", for_both), for_both)


# length


def test_path_length_counts_cas_but_neither_the_leaf_nor_self_issued_ones() -> None:
    for limit, fits in ((0, False), (1, True)):
        top = issue("top", ROOT, ca=True, path_length=limit)
        middle = issue("middle", top, ca=True)
        leaf = issue("client", middle)
        if fits:
            accepted(leaf, top, middle)
        else:
            assert refusal(leaf, top, middle) is Reason.PATH_LENGTH
            accepted(issue("client", top), top)
    rollover = issue("top", issue("top", ROOT, ca=True, path_length=0, key=CA1.key), ca=True)
    top = issue("top", ROOT, ca=True, path_length=0, key=CA1.key)
    accepted(issue("client", rollover), rollover, top)


def test_the_anchors_path_length_holds() -> None:
    root = issue("root", ca=True, path_length=0)
    ca = issue("ca", root, ca=True)
    accepted(issue("client", root), store=truststore(root))
    assert refusal(issue("client", ca), ca, store=truststore(root)) is Reason.PATH_LENGTH


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_max_chain_depth_counts_the_cas_between_leaf_and_anchor(depth: int) -> None:
    leaf = issue("client", CA2)
    store = truststore(ROOT, max_chain_depth=depth)
    if depth >= 2:
        accepted(leaf, CA1, CA2, store=store)
    else:
        assert refusal(leaf, CA1, CA2, store=store) is Reason.CHAIN_TOO_LONG


def test_self_issued_cas_count_for_max_chain_depth_and_far_too_long_chains_are_called_that() -> None:
    renewed = issue("ca1", CA1, ca=True)
    leaf = issue("client", renewed)
    accepted(leaf, renewed, CA1)
    assert refusal(leaf, renewed, CA1, store=truststore(ROOT, max_chain_depth=1)) is Reason.CHAIN_TOO_LONG
    chain = [ROOT]
    for number in range(9):
        chain.append(issue(f"level {number}", chain[-1], ca=True))
    assert refusal(issue("client", chain[-1]), *chain[1:]) is Reason.CHAIN_TOO_LONG


# malformed


def test_unknown_critical_extensions_refuse_the_path_they_are_on() -> None:
    odd = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4.5"), b"\x05\x00"), True)
    root = issue("root", ca=True, extra=[odd])
    ca = issue("ca", ROOT, ca=True, extra=[odd])
    assert refusal(issue("client", ROOT, extra=[odd])) is Reason.MALFORMED_CERTIFICATE
    assert refusal(issue("client", ca), ca) is Reason.MALFORMED_CERTIFICATE
    assert refusal(issue("client", root), store=truststore(root)) is Reason.MALFORMED_CERTIFICATE
    accepted(issue("client", ROOT), ca, store=truststore(root, ROOT))


def test_version_1_certificates_are_refused_below_and_as_the_anchor() -> None:
    fields = fields_of(issue("client", ROOT).certificate.der)
    old = Issued(parse_certificate(assemble(fields[1:7], ROOT.key)), new_key())
    assert refusal(old) is Reason.MALFORMED_CERTIFICATE
    root = Issued(parse_certificate(assemble(fields_of(ROOT.certificate.der)[1:7], ROOT.key)), ROOT.key)
    assert refusal(issue("client", ROOT), store=truststore(root)) is Reason.MALFORMED_CERTIFICATE


def test_issuers_have_names() -> None:
    """RFC 5280 §4.1.2.4, §4.1.2.6."""
    nameless = issue("", ROOT, ca=True)
    assert refusal(issue("client", nameless), nameless) is Reason.MALFORMED_CERTIFICATE
    root = issue("", ca=True)
    assert refusal(issue("client", root), store=truststore(root)) is Reason.MALFORMED_CERTIFICATE
    accepted(issue("", ROOT, sans=[x509.DNSName("a.example")]))


def test_a_leaf_that_constrains_names_is_refused() -> None:
    assert refusal(issue("client", ROOT, permitted=[x509.DNSName("a")])) is Reason.MALFORMED_CERTIFICATE


# what is reported


def test_everything_wrong_with_a_leaf_is_shown_and_the_first_check_names_the_reason() -> None:
    leaf = issue("client", ROOT, key=new_key("RSA-1024"), eku=[SERVER_AUTH], end=NOW - timedelta(hours=1))
    outcome = judge(leaf)
    assert isinstance(outcome, Refused)
    assert outcome.reason is Reason.EXPIRED
    failing = {name for name, check in checks(outcome).items() if check.result is Result.FAIL}
    assert failing == {"validity", "key", "extended_key_usage"}


def test_an_unknown_issuer_does_not_hide_what_is_wrong_with_the_leaf() -> None:
    outcome = judge(issue("client", issue("other", ca=True), eku=[SERVER_AUTH]))
    assert isinstance(outcome, Refused)
    assert outcome.reason is Reason.UNTRUSTED_ISSUER
    assert checks(outcome)["extended_key_usage"].result is Result.FAIL


def test_rubbish_beside_a_good_chain_does_no_harm() -> None:
    rubbish = [issue(f"noise {number}", ca=True) for number in range(5)]
    accepted(issue("client", CA2), *rubbish, CA2, CA2, ROOT, CA1)


def test_time_must_be_aware() -> None:
    leaf: Certificate = issue("client", ROOT).certificate
    with pytest.raises(TypeError):
        validate(leaf, [], STORE, NOW.replace(tzinfo=None))
