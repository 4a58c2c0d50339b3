"""Chain, revocation and deny lists together: who is accepted, by whom, until when; and which reason a refusal has."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.x509.build import DAY, NOW, Issued, issue

from mtlsproxy.config.model import DenyEntry
from mtlsproxy.reasons import Reason
from mtlsproxy.revocation.crl import parse_crl
from mtlsproxy.revocation.decide import CrlSet, RevocationPolicy
from mtlsproxy.verdict.judge import Verdict, judge
from mtlsproxy.verdict.trust import DenyList, Trust
from mtlsproxy.x509.evidence import CHECK_NAMES, Result
from mtlsproxy.x509.policy import Policy, Truststore

OFF = RevocationPolicy("off")
HARD = RevocationPolicy("hard_fail")
SOFT = RevocationPolicy("soft_fail")

ROOT = issue("Root", ca=True)
OTHER = issue("Other", ca=True)
ALICE = issue("alice", ROOT, sans=[x509.DNSName("alice.test")])
NAMES = CHECK_NAMES[: CHECK_NAMES.index("route")]


def crl(issuer: Issued, *revoked: Issued, ends: datetime = NOW + DAY) -> bytes:
    builder = x509.CertificateRevocationListBuilder(issuer.certificate.x509.subject, NOW - DAY, ends)
    for one in revoked:
        record = x509.RevokedCertificateBuilder().serial_number(one.certificate.serial).revocation_date(NOW - DAY)
        builder = builder.add_revoked_certificate(record.build())
    builder = builder.add_extension(x509.CRLNumber(1), critical=False)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
    return (
        builder.add_extension(identifier, critical=False).sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)
    )


def trust(
    name: str = "partners",
    *anchors: Issued,
    revocation: RevocationPolicy = OFF,
    crls: Sequence[bytes] = (),
    deny: Sequence[DenyEntry] = (),
    **policy: object,
) -> Trust:
    anchors = anchors or (ROOT,)
    certificates = tuple(anchor.certificate for anchor in anchors)
    found, problems = CrlSet.build([parse_crl(data, "test.crl") for data in crls], certificates)
    assert problems == ()
    store = Truststore(name, certificates, (), Policy(**policy))  # type: ignore[arg-type]
    return Trust(store, revocation, found, DenyList(deny))


def judged(leaf: Issued, *trusts: Trust, at: datetime = NOW, others: Sequence[Issued] = ()) -> Verdict:
    return judge([issued.certificate.der for issued in (leaf, *others)], trusts or (trust(),), at)


def failing(verdict: Verdict) -> list[str]:
    return [check.name for check in verdict.checks if check.result is Result.FAIL]


# -- accepted ----------------------------------------------------------------------------------------------------------


def test_an_acceptance_says_who_and_by_whom_and_until_when() -> None:
    verdict = judged(ALICE)
    assert (verdict.reason, verdict.detail, verdict.leaf) == (None, "", ALICE.certificate)
    assert verdict.client is not None
    assert verdict.client.dns == ("alice.test",)
    assert verdict.truststores == ("partners",)
    assert verdict.truststore == "partners"
    assert verdict.vouch("partners").chain == (ALICE.certificate, ROOT.certificate)
    assert verdict.deadline == min(ALICE.certificate.not_after, ROOT.certificate.not_after)
    assert failing(verdict) == []


def test_the_checks_are_complete_and_in_the_data_path_s_order() -> None:
    """All that is judged here, for acceptances and refusals of every kind."""
    garbage = judge([b"garbage"], [trust()], NOW)
    nothing = judge([], [trust()], NOW)
    for verdict in (judged(ALICE), judged(issue("x", OTHER)), garbage, nothing):
        assert tuple(check.name for check in verdict.checks) == NAMES


def test_the_deadline_is_the_earliest_of_all_that_was_relied_upon() -> None:
    """notAfter of leaf and anchor, and nextUpdate with grace."""
    short = issue("short", ROOT, end=NOW + timedelta(hours=1))
    assert judged(short).deadline == short.certificate.not_after
    soon = NOW + timedelta(hours=2)
    by_list = judged(ALICE, trust(revocation=HARD, crls=[crl(ROOT, ends=soon)]))
    assert by_list.deadline == soon
    grace = RevocationPolicy("hard_fail", grace=timedelta(hours=3))
    assert judged(ALICE, trust(revocation=grace, crls=[crl(ROOT, ends=soon)])).deadline == soon + timedelta(hours=3)
    both = judged(short, trust(revocation=HARD, crls=[crl(ROOT, ends=soon)]))
    assert both.deadline == short.certificate.not_after


def test_an_acceptance_ends_at_its_deadline() -> None:
    """Judged again then, it is refused: nothing is accepted for longer than it says."""
    for trusted in (trust(), trust(revocation=HARD, crls=[crl(ROOT)])):
        deadline = judged(ALICE, trusted).deadline
        assert deadline is not None
        assert judged(ALICE, trusted, at=deadline - timedelta(seconds=1)).reason is None
        assert judged(ALICE, trusted, at=deadline + timedelta(seconds=1)).reason is not None


# -- several truststores -----------------------------------------------------------------------------------------------


def test_all_that_vouch_are_kept_in_the_listener_s_order() -> None:
    verdict = judged(ALICE, trust("other", OTHER), trust("b"), trust("a"))
    assert verdict.truststores == ("b", "a")
    assert verdict.truststore == "b"
    assert [vouch.truststore for vouch in verdict.vouches] == ["b", "a"]


def test_the_deadline_holds_for_all_that_vouch() -> None:
    """A route may rely on any of them, so the earliest counts."""
    soon = NOW + timedelta(hours=1)
    strict = trust("strict", revocation=HARD, crls=[crl(ROOT, ends=soon)])
    for trusts in ((trust("lax"), strict), (strict, trust("lax"))):
        assert judged(ALICE, *trusts).deadline == soon


@pytest.mark.parametrize("decisive_first", [True, False])
def test_revoked_by_one_is_refused_whoever_else_vouches(decisive_first: bool) -> None:
    """configuration.md, "Details fixed": one source that says revoked decides."""
    strict, lax = trust("strict", revocation=HARD, crls=[crl(ROOT, ALICE)]), trust("lax")
    verdict = judged(ALICE, *((strict, lax) if decisive_first else (lax, strict)))
    assert (verdict.reason, verdict.truststore, verdict.vouches) == (Reason.REVOKED, "strict", ())
    assert verdict.deadline is None
    assert verdict.revocation_source == "crl"


@pytest.mark.parametrize("decisive_first", [True, False])
def test_denied_by_one_is_refused_whoever_else_vouches(decisive_first: bool) -> None:
    strict, lax = trust("strict", deny=[DenyEntry(dns="alice.test")]), trust("lax")
    verdict = judged(ALICE, *((strict, lax) if decisive_first else (lax, strict)))
    assert (verdict.reason, verdict.truststore, verdict.vouches) == (Reason.DENIED, "strict", ())


def test_a_truststore_that_does_not_verify_the_chain_cannot_deny() -> None:
    """Its deny list is about its own clients: another CA's namesake is none of them."""
    verdict = judged(ALICE, trust("other", OTHER, deny=[DenyEntry(dns="alice.test")]), trust("partners"))
    assert (verdict.reason, verdict.truststores) == (None, ("partners",))


def test_an_unknown_status_in_one_leaves_the_other() -> None:
    """Only revoked and denied decide for all; hard_fail without an answer is that truststore's own refusal."""
    verdict = judged(ALICE, trust("strict", revocation=HARD), trust("lax"))
    assert (verdict.reason, verdict.truststores) == (None, ("lax",))


@pytest.mark.parametrize("order", [1, -1])
def test_a_refusal_speaks_of_the_truststore_that_came_closest(order: int) -> None:
    """One that does not know the issuer has the least to say, one that verified the chain the most."""
    stranger, policy, unknown = (
        trust("stranger", OTHER),
        trust("policy", signature_hashes=frozenset({"sha512"})),
        trust("unknown", revocation=HARD),
    )
    closest = judged(ALICE, *[stranger, policy, unknown][::order])
    assert (closest.reason, closest.truststore) == (Reason.REVOCATION_UNKNOWN, "unknown")
    second = judged(ALICE, *[stranger, policy][::order])
    assert (second.reason, second.truststore) == (Reason.WEAK_SIGNATURE, "policy")


# -- reasons -----------------------------------------------------------------------------------------------------------


def test_untrusted() -> None:
    verdict = judged(issue("mallory", OTHER))
    assert verdict.reason is Reason.UNTRUSTED_ISSUER
    assert (verdict.vouches, verdict.truststores, verdict.deadline) == ((), (), None)
    assert verdict.leaf is not None
    assert verdict.leaf.subject == "CN=mallory"
    assert verdict.detail
    assert "chain" in failing(verdict)


def test_revoked() -> None:
    verdict = judged(ALICE, trust(revocation=SOFT, crls=[crl(ROOT, ALICE)]))
    assert verdict.reason is Reason.REVOKED
    assert failing(verdict) == ["revocation"]


def test_not_revoked() -> None:
    verdict = judged(ALICE, trust(revocation=HARD, crls=[crl(ROOT, issue("bob", ROOT))]))
    assert (verdict.reason, verdict.vouch("partners").revocation_source) == (None, "crl")


@pytest.mark.parametrize(("policy", "reason"), [(HARD, Reason.REVOCATION_UNKNOWN), (SOFT, None), (OFF, None)])
def test_no_answer(policy: RevocationPolicy, reason: Reason | None) -> None:
    assert judged(ALICE, trust(revocation=policy)).reason is reason


def test_denied_counts_before_unknown_and_after_revoked() -> None:
    """An entry that denies is certain where revocation is merely unknown; revoked is the stronger word."""
    deny = [DenyEntry(dns="alice.test")]
    assert judged(ALICE, trust(revocation=HARD, deny=deny)).reason is Reason.DENIED
    revoked = judged(ALICE, trust(revocation=HARD, crls=[crl(ROOT, ALICE)], deny=deny))
    assert revoked.reason is Reason.REVOKED
    assert failing(revoked) == ["revocation", "deny"]


def test_a_deny_entry_ends_when_it_says() -> None:
    deny = [DenyEntry(dns="alice.test", expires=NOW, reason="lost laptop")]
    before = judged(ALICE, trust(deny=deny), at=NOW - timedelta(seconds=1))
    assert before.reason is Reason.DENIED
    assert "lost laptop" in before.detail
    assert judged(ALICE, trust(deny=deny), at=NOW).reason is None


def test_a_deny_entry_that_matches_somebody_else() -> None:
    assert judged(ALICE, trust(deny=[DenyEntry(dns="bob.test")])).reason is None


def test_nothing_presented() -> None:
    verdict = judge([], [trust()], NOW)
    assert (verdict.reason, verdict.leaf, verdict.client) == (Reason.NO_CERTIFICATE, None, None)
    assert failing(verdict) == ["chain"]


def test_a_leaf_that_cannot_be_read() -> None:
    verdict = judge([ALICE.certificate.der + b"\0"], [trust()], NOW)
    assert (verdict.reason, verdict.leaf, verdict.client) == (Reason.MALFORMED_CERTIFICATE, None, None)


def test_another_certificate_that_cannot_be_read() -> None:
    """The leaf is still named: somebody presented it."""
    verdict = judge([ALICE.certificate.der, b"garbage"], [trust()], NOW)
    assert (verdict.reason, verdict.leaf) == (Reason.MALFORMED_CERTIFICATE, ALICE.certificate)
    assert verdict.client is not None
    assert verdict.vouches == ()


@given(st.lists(st.binary(max_size=60), max_size=4))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_refused_and_never_raise(presented: list[bytes]) -> None:
    verdict = judge(presented, [trust()], NOW)
    assert verdict.reason in (Reason.MALFORMED_CERTIFICATE, Reason.NO_CERTIFICATE)
    assert verdict.vouches == ()


@given(st.integers(0, len(ALICE.certificate.der) - 1), st.integers(1, 255))
@settings(max_examples=200, deadline=None)
def test_a_changed_byte_never_makes_an_acceptance(at: int, change: int) -> None:
    """All of a certificate is signed, or is the signature."""
    der = bytearray(ALICE.certificate.der)
    der[at] ^= change
    assert judge([bytes(der)], [trust()], NOW).reason is not None
