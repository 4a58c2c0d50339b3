"""Revocation decisions: who is let pass, who is not, and what the evidence says."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from tests.unit.revocation import build
from tests.unit.revocation.build import DAY, HOUR, NOW, authority, crl, entry, leaf

from mtlsproxy.reasons import Reason
from mtlsproxy.revocation.crl import Crl, parse_crl
from mtlsproxy.revocation.decide import CLOCK_SKEW, CrlSet, RevocationPolicy, RevocationResult, decide
from mtlsproxy.x509.certificate import Certificate
from mtlsproxy.x509.evidence import Result

ROOT = authority()
SUB = authority("Sub", ROOT)
LEAF = leaf(SUB, serial=5)
CHAIN = (LEAF, SUB.certificate, ROOT.certificate)
SECOND = timedelta(seconds=1)
NO_REV_AVAIL = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.56"), b"\x05\x00")

HARD = RevocationPolicy("hard_fail")
SOFT = RevocationPolicy("soft_fail")
HARD_LEAF = RevocationPolicy("hard_fail", "leaf")


def judged(
    *crls: Crl, policy: RevocationPolicy = HARD, chain: tuple[Certificate, ...] = CHAIN, at: datetime = NOW
) -> RevocationResult:
    found, _ = CrlSet.build(crls, [ROOT.certificate])
    result = decide(chain, policy, found, at)
    assert result.check.name == "revocation"
    assert (result.check.result is Result.FAIL) == (result.reason is not None)
    assert bool(result.check.fix) == (result.reason is not None)
    return result


def test_a_good_chain_passes_until_the_earliest_list_ends() -> None:
    result = judged(crl(ROOT, next_update=NOW + 3 * DAY), crl(SUB, 6, next_update=NOW + DAY, source="sub.crl"))
    assert (result.reason, result.source, result.deadline) == (None, "crl", NOW + DAY)
    assert result.check.result is Result.PASS
    assert "CRL number 1 from sub.crl" in result.detail
    assert "next update 2025-06-02T12:00:00Z" in result.detail


@pytest.mark.parametrize("policy", [HARD, SOFT, HARD_LEAF])
def test_a_revoked_leaf_is_refused_in_every_mode(policy: RevocationPolicy) -> None:
    result = judged(crl(ROOT), crl(SUB, 5, number=7, source="sub.crl"), policy=policy)
    assert (result.reason, result.source, result.deadline) == (Reason.REVOKED, "crl", None)
    assert "CN=client (serial 05) was revoked at 2025-05-31T12:00:00Z" in result.detail
    assert "CRL number 7 from sub.crl" in result.detail


def test_off_skips_even_the_revoked() -> None:
    result = judged(crl(SUB, 5), policy=RevocationPolicy("off"))
    assert (result.reason, result.source, result.check.result) == (None, "none", Result.SKIPPED)


def test_a_revoked_intermediate_is_refused_in_chain_scope_alone() -> None:
    revoking = crl(ROOT, SUB.certificate.serial)
    assert judged(revoking, crl(SUB)).reason is Reason.REVOKED
    assert judged(revoking, crl(SUB), policy=HARD_LEAF).reason is None


def test_leaf_scope_asks_for_no_list_of_the_anchor() -> None:
    assert judged(crl(SUB), policy=HARD_LEAF).reason is None
    result = judged(crl(SUB))
    assert (result.reason, result.source) == (Reason.REVOCATION_UNKNOWN, "none")
    assert "there is no CRL of its issuer CN=Root" in result.detail


def test_the_trust_anchor_itself_is_never_asked_about() -> None:
    assert judged(crl(ROOT, ROOT.certificate.serial), crl(SUB)).reason is None


def test_revoked_decides_over_unknown() -> None:
    assert judged(crl(ROOT, SUB.certificate.serial)).reason is Reason.REVOKED


def test_without_any_list_hard_fail_refuses_and_soft_fail_says_loudly_that_it_does_not() -> None:
    assert judged().reason is Reason.REVOCATION_UNKNOWN
    result = judged(policy=SOFT)
    assert (result.reason, result.source, result.deadline) == (None, "none", None)
    assert result.check.result is Result.PASS
    assert result.check.seen.startswith("NOT KNOWN, let pass by soft_fail: ")
    assert "revocation.crl.sources" in result.check.seen


@pytest.mark.parametrize(
    ("mode", "grace", "late", "reason", "source"),
    [
        ("hard_fail", 0 * HOUR, 0 * SECOND, None, "crl"),
        ("hard_fail", 0 * HOUR, SECOND, Reason.REVOCATION_UNKNOWN, "none"),
        ("hard_fail", HOUR, HOUR, None, "crl"),
        ("hard_fail", HOUR, HOUR + SECOND, Reason.REVOCATION_UNKNOWN, "none"),
        ("soft_fail", 0 * HOUR, SECOND, None, "none"),
        ("soft_fail", HOUR, HOUR, None, "crl"),
    ],
)
def test_a_list_counts_to_its_next_update_and_through_grace(
    mode: str, grace: timedelta, late: timedelta, reason: Reason | None, source: str
) -> None:
    ended = crl(SUB, next_update=NOW - late)
    result = judged(ended, policy=RevocationPolicy(mode, "leaf", grace))
    assert (result.reason, result.source) == (reason, source)
    assert result.deadline == (NOW - late + grace if source == "crl" else None)


def test_grace_is_named_in_the_evidence() -> None:
    result = judged(crl(SUB, next_update=NOW - HOUR), policy=RevocationPolicy("hard_fail", "leaf", 3 * HOUR))
    assert "it ended 1 h ago and counts by grace until 2025-06-01T14:00:00Z" in result.detail


def test_an_ended_list_says_since_when_and_how_to_mend_it() -> None:
    result = judged(crl(SUB, source="sub.crl", next_update=NOW - 26 * HOUR), policy=HARD_LEAF)
    assert "CRL number 1 from sub.crl ended 1 d 2 h ago, at 2025-05-31T10:00:00Z" in result.detail
    assert result.check.fix == "publish a fresh CRL of CN=Sub: the one from sub.crl ended 1 d 2 h ago"


def test_an_ended_list_still_revokes() -> None:
    """A revoked answer decides however old its list is."""
    old = crl(SUB, 5, this_update=NOW - 900 * DAY, next_update=NOW - 800 * DAY)
    for policy in (HARD, SOFT):
        assert judged(old, policy=policy).reason is Reason.REVOKED


@pytest.mark.parametrize(("ahead", "reason"), [(CLOCK_SKEW, None), (CLOCK_SKEW + SECOND, Reason.REVOCATION_UNKNOWN)])
def test_a_list_from_the_future_counts_within_the_clock_skew(ahead: timedelta, reason: Reason | None) -> None:
    result = judged(crl(SUB, this_update=NOW + ahead), policy=HARD_LEAF)
    assert result.reason is reason
    if reason:
        assert "begins only in 5 min 1 s" in result.detail


def test_a_list_from_the_future_still_revokes() -> None:
    assert judged(crl(SUB, 5, this_update=NOW + DAY, next_update=NOW + 2 * DAY)).reason is Reason.REVOKED


def test_a_list_that_never_ends_has_a_deadline_all_the_same() -> None:
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    result = judged(crl(SUB, next_update=last), policy=RevocationPolicy("hard_fail", "leaf", 2 * DAY))
    assert result.reason is None
    assert result.deadline == datetime.max.replace(tzinfo=UTC)


def test_certificate_hold_is_revoked() -> None:
    held = parse_crl(build.assemble(SUB, entry(5, NOW - DAY, build.reason(6))), "sub.crl")
    result = judged(held)
    assert result.reason is Reason.REVOKED
    assert "(certificateHold)" in result.detail
    assert "lift the hold" in result.check.fix


def test_a_lifted_hold_lets_the_certificate_pass_again() -> None:
    assert judged(crl(SUB, 5, number=1), crl(SUB, number=2), policy=HARD_LEAF).reason is None


def test_a_list_of_the_wrong_signer_neither_vouches_nor_revokes() -> None:
    forger = build.Authority(ROOT.key, SUB.certificate)
    assert judged(crl(forger), policy=HARD_LEAF).reason is Reason.REVOCATION_UNKNOWN
    assert judged(crl(forger, 5), policy=HARD_LEAF).reason is Reason.REVOCATION_UNKNOWN
    result = judged(crl(forger, 5), policy=RevocationPolicy("soft_fail", "leaf"))
    assert (result.reason, result.source) == (None, "none")
    assert "is not signed by that issuer's key" in result.detail


def test_a_list_of_another_issuer_says_nothing() -> None:
    result = judged(crl(ROOT, 5), policy=HARD_LEAF)
    assert result.reason is Reason.REVOCATION_UNKNOWN


def test_after_a_key_rollover_each_key_answers_for_what_it_signed() -> None:
    """The same name and serial under two keys are two certificates."""
    rolled = authority("Sub", ROOT)
    renewed = (leaf(rolled, serial=5), rolled.certificate, ROOT.certificate)
    both = (crl(ROOT), crl(SUB, 5), crl(rolled))
    assert judged(*both).reason is Reason.REVOKED
    assert judged(*both, chain=renewed).reason is None
    assert judged(crl(ROOT), crl(SUB), chain=renewed).reason is Reason.REVOCATION_UNKNOWN


def test_a_list_that_does_not_cover_the_certificate_does_not_vouch_for_it_but_may_revoke_it() -> None:
    limits = [build.distribution_point(build.ONLY_CA)]
    result = judged(crl(SUB, extensions=limits), policy=HARD_LEAF)
    assert result.reason is Reason.REVOCATION_UNKNOWN
    assert "covered by no CRL of its issuer" in result.detail
    assert "for CA certificates" in result.detail
    assert judged(crl(SUB, 5, extensions=limits), policy=HARD_LEAF).reason is Reason.REVOKED


def test_a_shard_vouches_for_its_own_certificates_alone() -> None:
    def pointing_to(url: str) -> tuple[Certificate, ...]:
        point = x509.DistributionPoint([x509.UniformResourceIdentifier(url)], None, None, None)
        return (leaf(SUB, x509.CRLDistributionPoints([point])), SUB.certificate, ROOT.certificate)

    shard = crl(SUB, extensions=[build.distribution_point(build.url("http://crl.example/1"))])
    assert judged(shard, policy=HARD_LEAF, chain=pointing_to("http://crl.example/1")).reason is None
    result = judged(shard, policy=HARD_LEAF, chain=pointing_to("http://crl.example/2"))
    assert result.reason is Reason.REVOCATION_UNKNOWN
    assert "http://crl.example/1" in result.detail


def test_one_fresh_list_suffices_beside_an_ended_one() -> None:
    ended = crl(SUB, extensions=[build.distribution_point(build.ONLY_USER)], next_update=NOW - HOUR)
    result = judged(ended, crl(SUB, next_update=NOW + HOUR), policy=HARD_LEAF)
    assert (result.reason, result.deadline) == (None, NOW + HOUR)


# Exemptions


def test_no_rev_avail_exempts_the_leaf() -> None:
    """RFC 9608: its CA will never publish an answer."""
    chain = (leaf(SUB, NO_REV_AVAIL, serial=5), SUB.certificate, ROOT.certificate)
    result = judged(crl(ROOT, next_update=NOW + DAY), chain=chain)
    assert (result.reason, result.source, result.deadline) == (None, "exempt", NOW + DAY)
    assert "RFC 9608" in result.detail


def test_no_rev_avail_exempts_no_intermediate() -> None:
    marked = build.Authority(
        SUB.key,
        build.certificate("Sub", ROOT, SUB.key, x509.BasicConstraints(ca=True, path_length=None), NO_REV_AVAIL),
    )
    chain = (leaf(marked, NO_REV_AVAIL), marked.certificate, ROOT.certificate)
    assert judged(chain=chain).reason is Reason.REVOCATION_UNKNOWN
    assert judged(crl(ROOT, marked.certificate.serial), chain=chain).reason is Reason.REVOKED


@pytest.mark.parametrize(
    ("lifetime", "short_lived", "source"),
    [(HOUR, HOUR, "exempt"), (HOUR + 2 * SECOND, HOUR, "none"), (HOUR, timedelta(0), "none")],
)
def test_a_leaf_that_lives_no_longer_than_short_lived_is_exempt(
    lifetime: timedelta, short_lived: timedelta, source: str
) -> None:
    chain = (leaf(SUB, lifetime=lifetime), SUB.certificate, ROOT.certificate)
    result = judged(policy=RevocationPolicy("hard_fail", "leaf", short_lived=short_lived), chain=chain)
    assert result.source == source
    assert (result.reason is None) == (source == "exempt")


def test_short_lived_exempts_no_intermediate() -> None:
    policy = RevocationPolicy("hard_fail", short_lived=9999 * DAY)
    assert judged(policy=policy).reason is Reason.REVOCATION_UNKNOWN


def test_a_lone_trust_anchor_cannot_be_judged() -> None:
    result = judged(crl(ROOT), chain=(ROOT.certificate,))
    assert result.reason is Reason.REVOCATION_UNKNOWN
