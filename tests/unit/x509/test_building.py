"""Path building finds the path where there is one, and its cost is bounded where there is none."""

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from tests.unit.x509.build import NOW, Issued, issue, new_key, truststore

from mtlsproxy.reasons import Reason
from mtlsproxy.x509 import building, signatures
from mtlsproxy.x509.building import MAX_PRESENTED, MAX_SIGNATURES, PathSearch
from mtlsproxy.x509.certificate import Certificate
from mtlsproxy.x509.path import Link
from mtlsproxy.x509.policy import Truststore
from mtlsproxy.x509.validate import Refused, Verified, validate

ROOT = issue("root", ca=True)


@pytest.fixture
def verifications(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Certificate, Certificate]]:
    """Every signature verification that a search makes; they still run."""
    made: list[tuple[Certificate, Certificate]] = []

    def counted(certificate: Certificate, issuer: Certificate) -> Link:
        made.append((certificate, issuer))
        return link(certificate, issuer)

    link = signatures.link
    monkeypatch.setattr(building.signatures, "link", counted)
    return made


def judge(leaf: Issued, sent: list[Issued], store: Truststore) -> Verified | Refused:
    return validate(leaf.certificate, [issued.certificate for issued in sent], store, NOW)


def test_an_honest_chain_costs_one_verification_a_certificate(verifications: list[object]) -> None:
    ca = issue("ca", ROOT, ca=True)
    assert isinstance(judge(issue("client", ca), [ca, ROOT], truststore(ROOT)), Verified)
    assert len(verifications) == 2


def test_key_identifiers_choose_among_cas_of_one_name(verifications: list[object]) -> None:
    """A hint that saves work: twenty renewed roots of one name cost one verification."""
    roots = [issue("root", ca=True) for _ in range(20)]
    assert isinstance(judge(issue("client", roots[13]), [], truststore(*roots)), Verified)
    assert len(verifications) == 1


def test_a_key_identifier_that_is_wrong_does_not_hide_the_issuer() -> None:
    wrong = x509.AuthorityKeyIdentifier(b"wrong", None, None)
    leaf = issue("client", ROOT, identifiers=False, extra=[(wrong, False)])
    assert isinstance(judge(leaf, [], truststore(ROOT)), Verified)


def test_same_name_different_key_cas_are_told_apart_without_identifiers() -> None:
    roots = [issue("root", ca=True, identifiers=False) for _ in range(5)]
    for root in roots:
        outcome = judge(issue("client", root, identifiers=False), [], truststore(*roots))
        assert isinstance(outcome, Verified)
        assert outcome.anchor == root.certificate


def test_a_cross_signed_ca_is_reached_by_whichever_side_is_trusted() -> None:
    key, old, new = new_key(), issue("old root", ca=True), issue("new root", ca=True)
    by_old, by_new = issue("ca", old, ca=True, key=key), issue("ca", new, ca=True, key=key)
    leaf = issue("client", by_old)
    for root, through in ((old, by_old), (new, by_new)):
        for sent in ([by_old, by_new], [by_new, by_old]):
            outcome = judge(leaf, sent, truststore(root))
            assert isinstance(outcome, Verified)
            assert outcome.chain == (leaf.certificate, through.certificate, root.certificate)


def test_the_second_path_is_taken_when_policy_refuses_the_first() -> None:
    key, weak = new_key(), issue("old root", ca=True)
    limited = issue("ca", weak, ca=True, key=key, eku=["1.3.6.1.5.5.7.3.1"])
    fine = issue("ca", ROOT, ca=True, key=key)
    outcome = judge(issue("client", fine), [limited, fine], truststore(weak, ROOT))
    assert isinstance(outcome, Verified)
    assert outcome.chain[1] == fine.certificate


def test_a_name_in_another_string_type_or_case_is_the_same_name() -> None:
    """RFC 5280 §7.1: CAs that re-encode the issuer are in the field."""

    def named(text: str, kind: x509.name._ASN1Type) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text, _type=kind)])

    utf8, printable = x509.name._ASN1Type.UTF8String, x509.name._ASN1Type.PrintableString
    root = issue(named("Test Root", utf8), ca=True)
    for name in (named("Test Root", printable), named("test  ROOT ", utf8)):
        leaf = issue("client", root, issuer_name=name)
        assert leaf.certificate.issuer_der != root.certificate.subject_der
        assert isinstance(judge(leaf, [], truststore(root)), Verified)
    other = issue("client", root, issuer_name=named("Test Roots", utf8))
    outcome = judge(other, [], truststore(root))
    assert isinstance(outcome, Refused)
    assert outcome.reason is Reason.UNTRUSTED_ISSUER


def test_cas_that_certify_each_other_end_the_search() -> None:
    one, two = issue("one", ca=True), issue("two", ca=True)
    loop = [issue("one", two, ca=True, key=one.key), issue("two", one, ca=True, key=two.key)]
    outcome = judge(issue("client", one), loop, truststore(ROOT))
    assert isinstance(outcome, Refused)
    assert outcome.reason is Reason.UNTRUSTED_ISSUER
    way_out = issue("two", ROOT, ca=True, key=two.key)
    assert isinstance(judge(issue("client", one), [*loop, way_out], truststore(ROOT)), Verified)


def test_namesakes_cannot_make_a_search_verify_without_end(verifications: list[object]) -> None:
    """A client sends what it likes: the budget holds, and the refusal says that the search gave up."""
    crowd = [issue("crowd", ca=True, identifiers=False) for _ in range(MAX_PRESENTED)]
    outcome = judge(issue("client", issue("crowd", ca=True, identifiers=False)), crowd, truststore(ROOT))
    assert isinstance(outcome, Refused)
    assert outcome.reason is Reason.UNTRUSTED_ISSUER
    assert "many certificates" in outcome.detail
    assert len(verifications) <= MAX_SIGNATURES


def test_a_mesh_of_cross_signed_cas_cannot_make_a_search_walk_without_end(verifications: list[object]) -> None:
    """Six CAs that all certify one another: few signatures, hundreds of paths."""
    cas = [issue(f"ca {n}", ca=True) for n in range(6)]
    mesh = [issue(f"ca {b}", cas[a], ca=True, key=cas[b].key) for a in range(6) for b in range(6) if a != b]
    store = truststore(ROOT, max_chain_depth=8)
    search = PathSearch(issue("client", cas[0]).certificate, [issued.certificate for issued in mesh], store)
    assert list(search.complete()) == []
    assert not search.closest().anchored
    assert search.closest().gave_up
    assert len(verifications) < MAX_SIGNATURES


def test_a_path_is_complete_only_when_every_signature_verifies() -> None:
    impostor = issue("root", ca=True, identifiers=False)
    leaf = issue("client", impostor, identifiers=False).certificate
    assert list(PathSearch(leaf, [], truststore(ROOT)).complete()) == []
    closest = PathSearch(leaf, [], truststore(ROOT)).closest()
    assert (closest.anchored, closest.links) == (True, (Link.FORGED,))


def test_only_the_first_certificates_of_a_flood_are_looked_at() -> None:
    ca = issue("ca", ROOT, ca=True)
    leaf = issue("client", ca)
    noise = [issue(f"noise {n}", ca=True) for n in range(MAX_PRESENTED)]
    assert isinstance(judge(leaf, [ca, *noise], truststore(ROOT)), Verified)
    outcome = judge(leaf, [*noise, ca], truststore(ROOT))
    assert isinstance(outcome, Refused)
    assert "many certificates" in outcome.detail
