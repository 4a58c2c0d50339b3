"""CRLs and OCSP together: every combination, and what is asked for, named and counted on in each."""

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import product

import pytest
from cryptography import x509
from tests.unit.revocation import build
from tests.unit.revocation.build import DAY, HOUR, NOW, authority, crl, leaf
from tests.unit.revocation.responder import delegate, respond

from mtlsproxy.reasons import Reason
from mtlsproxy.revocation.crl import Crl, parse_crl
from mtlsproxy.revocation.decide import OCSP_RETRY, CrlSet, OcspPolicy, RevocationPolicy, RevocationResult, decide
from mtlsproxy.revocation.ocsp import read_response
from mtlsproxy.revocation.ocsp_answers import OcspAnswer, OcspFailure
from mtlsproxy.x509.certificate import Certificate
from mtlsproxy.x509.evidence import Result

AIA = x509.AuthorityInformationAccess(
    [x509.AccessDescription(x509.oid.AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier("http://o/"))]
)
ROOT = authority()
SUB = authority("Sub", ROOT)
LEAF = leaf(SUB, AIA, serial=5)
CHAIN = (LEAF, SUB.certificate, ROOT.certificate)
PAIR = (LEAF, SUB.certificate)
SECOND = timedelta(seconds=1)
OCSP = OcspPolicy(enabled=True)


class Known(dict[tuple[Certificate, Certificate], OcspAnswer | OcspFailure]):
    """What was fetched, and what was looked up."""

    def get(self, certificate: Certificate, issuer: Certificate) -> OcspAnswer | OcspFailure | None:
        return super().get((certificate, issuer))


def answered(
    status: str = "good", *, signer: build.Authority | None = None, issuer: build.Authority = SUB, **options: object
) -> OcspAnswer:
    """What a real response says about the leaf at a time when it was fresh."""
    der = respond(LEAF, issuer, status, signer=signer, **options)
    read_at = options.get("this_update", NOW - HOUR)
    return read_response(der, LEAF, issuer.certificate, None, read_at, OCSP)


STALE = {"this_update": NOW - 2 * DAY, "next_update": NOW - DAY}
CRLS: dict[str, tuple[Crl, ...]] = {
    "good": (crl(SUB, 6, source="sub.crl"),),
    "revoked": (crl(SUB, 5, source="sub.crl"),),
    "none": (),
    "stale": (crl(SUB, 6, source="sub.crl", **STALE),),
    "stale revoked": (crl(SUB, 5, source="sub.crl", **STALE),),
}
ANSWERS: dict[str, OcspAnswer | OcspFailure | None] = {
    "good": answered(),
    "revoked": answered("revoked"),
    "unknown": answered("unknown"),
    "failure": OcspFailure("connection refused by o", NOW - SECOND),
    "missing": None,
    "stale": answered(**STALE),
    "stale revoked": answered("revoked", **STALE),
}


def judged(
    crls: tuple[Crl, ...],
    answer: OcspAnswer | OcspFailure | None,
    mode: str = "hard_fail",
    *,
    at: datetime = NOW,
    ocsp: OcspPolicy = OCSP,
    **options: object,
) -> RevocationResult:
    known = Known() if answer is None else Known({PAIR: answer})
    policy = RevocationPolicy(mode, options.pop("scope", "leaf"), ocsp=ocsp, **options)
    result = decide(CHAIN, policy, CrlSet.build(crls, [ROOT.certificate])[0], at, known)
    assert (result.check.result is Result.FAIL) == (result.reason is not None)
    assert bool(result.check.fix) == (result.reason is not None)
    return result


def expected(listed: str, asked: str, mode: str) -> tuple[Reason | None, str]:
    """The order that `decide` documents, as a table of its own."""
    if "revoked" in listed:
        return Reason.REVOKED, "crl"
    if "revoked" in asked:
        return Reason.REVOKED, "ocsp"
    if listed == "good":
        return None, "crl"
    if asked == "good":
        return None, "ocsp"
    return (Reason.REVOCATION_UNKNOWN if mode == "hard_fail" else None), "none"


@pytest.mark.parametrize("mode", ["hard_fail", "soft_fail", "off"])
@pytest.mark.parametrize(("listed", "asked"), list(product(CRLS, ANSWERS)))
def test_every_combination(listed: str, asked: str, mode: str) -> None:
    result = judged(CRLS[listed], ANSWERS[asked], mode)
    if mode == "off":
        assert (result.reason, result.source, result.wanted) == (None, "none", ())
        return
    reason, source = expected(listed, asked, mode)
    assert (result.reason, result.source) == (reason, source)
    open_question = asked in ("missing", "stale", "stale revoked") and "revoked" not in listed
    assert result.wanted == ((PAIR,) if open_question else ())
    if source == "none":
        assert result.freshness == "none"
    elif "stale" not in (listed if source == "crl" else asked):
        assert result.freshness == "fresh"


@pytest.mark.parametrize(("listed", "asked"), list(product(CRLS, ANSWERS)))
def test_without_ocsp_in_the_policy_no_answer_counts_and_none_is_wanted(listed: str, asked: str) -> None:
    result = judged(CRLS[listed], ANSWERS[asked], ocsp=OcspPolicy())
    assert result == judged(CRLS[listed], None, ocsp=OcspPolicy())
    assert result.wanted == ()


def test_without_any_answers_everything_is_wanted() -> None:
    policy = RevocationPolicy("hard_fail", ocsp=replace(OCSP, responder="http://responder/"))
    result = decide(CHAIN, policy, CrlSet.build((), ())[0], NOW)
    assert result.reason is Reason.REVOCATION_UNKNOWN
    assert result.wanted == (PAIR, (SUB.certificate, ROOT.certificate))


def test_a_revoked_intermediate_leaves_nothing_to_ask() -> None:
    lists = (crl(ROOT, SUB.certificate.serial), crl(SUB))
    result = judged(lists, None, scope="chain")
    assert (result.reason, result.wanted) == (Reason.REVOKED, ())


def test_a_certain_revocation_goes_before_one_that_a_new_answer_could_lift() -> None:
    lists = (crl(ROOT, SUB.certificate.serial, source="root.crl"), crl(SUB))
    result = judged(lists, ANSWERS["stale revoked"], scope="chain")
    assert (result.reason, result.source, result.wanted) == (Reason.REVOKED, "crl", ())


def test_a_certificate_that_names_no_responder_wants_none() -> None:
    """The intermediate has no AIA; a configured responder is asked about it all the same."""
    lists = (crl(ROOT), crl(SUB))
    assert judged(lists, None, scope="chain").wanted == (PAIR,)
    configured = replace(OCSP, responder="http://responder/")
    assert judged(lists, None, scope="chain", ocsp=configured).wanted == (PAIR, (SUB.certificate, ROOT.certificate))
    result = judged((crl(SUB),), ANSWERS["good"], scope="chain")
    assert result.reason is Reason.REVOCATION_UNKNOWN
    assert "CN=Sub (serial" in result.detail
    assert "names no OCSP responder" in result.detail


def test_an_exempt_leaf_is_asked_about_nowhere() -> None:
    result = judged((), None, short_lived=9999 * DAY)
    assert (result.reason, result.source, result.wanted, result.freshness) == (None, "exempt", (), "fresh")


# Until when


def test_a_verdict_ends_with_the_first_that_it_relied_upon() -> None:
    """Or else a week's list would keep an hour's answer from being asked for again."""
    both = judged(CRLS["good"], ANSWERS["good"])
    assert both.deadline == ANSWERS["good"].next_update < CRLS["good"][0].next_update
    long = answered(next_update=NOW + 9 * DAY)
    assert judged(CRLS["good"], long).deadline == CRLS["good"][0].next_update
    assert judged((), long).deadline == long.next_update


@pytest.mark.parametrize("asked", ["missing", "failure"])
@pytest.mark.parametrize(("listed", "mode"), [("good", "hard_fail"), ("none", "soft_fail")])
def test_a_verdict_without_the_answer_that_it_wanted_is_judged_again_soon(listed: str, mode: str, asked: str) -> None:
    assert judged(CRLS[listed], ANSWERS[asked], mode).deadline == NOW + OCSP_RETRY


@pytest.mark.parametrize("status", ["good", "unknown"])
def test_a_verdict_is_made_again_when_the_next_answer_is_due_and_when_this_one_expires(status: str) -> None:
    """Within the clock skew it stands for want of another one."""
    answer = ANSWERS[status]
    assert judged(CRLS["good"], answer).deadline == answer.due == answer.next_update
    assert answer.due < answer.expires < CRLS["good"][0].next_update
    assert judged(CRLS["good"], answer, at=answer.due).deadline == answer.expires


def test_an_answer_without_next_update_is_due_when_it_expires_and_none_is_due_later() -> None:
    answer = ANSWERS["good"]
    assert replace(answer, next_update=None).due == answer.expires
    assert replace(answer, expires=answer.next_update - SECOND).due == answer.next_update - SECOND


def test_a_good_answer_counts_to_the_second_it_expires() -> None:
    answer = ANSWERS["good"]
    assert judged((), answer, at=answer.expires).reason is None
    result = judged((), answer, at=answer.expires + SECOND)
    assert (result.reason, result.wanted) == (Reason.REVOCATION_UNKNOWN, (PAIR,))


# Freshness


def test_a_list_in_grace_gives_way_to_a_fresh_answer() -> None:
    ended = (crl(SUB, next_update=NOW - HOUR, this_update=NOW - DAY),)
    alone = judged(ended, ANSWERS["failure"], grace=2 * HOUR)
    assert (alone.reason, alone.source, alone.freshness) == (None, "crl", "grace")
    both = judged(ended, ANSWERS["good"], grace=2 * HOUR)
    assert (both.reason, both.source, both.freshness) == (None, "ocsp", "fresh")


@pytest.mark.parametrize(("late", "freshness"), [(0, "fresh"), (1, "grace")])
def test_a_list_is_fresh_to_the_second_of_its_next_update(late: int, freshness: str) -> None:
    ends = (crl(SUB, next_update=NOW),)
    assert judged(ends, None, at=NOW + late * SECOND, grace=HOUR).freshness == freshness


def test_the_worst_certificate_makes_the_freshness_of_the_chain() -> None:
    lists = (crl(ROOT, next_update=NOW - HOUR, this_update=NOW - DAY), crl(SUB))
    assert judged(lists, ANSWERS["good"], scope="chain", grace=2 * HOUR).freshness == "grace"


@pytest.mark.parametrize(
    ("listed", "grace", "freshness"),
    [("revoked", 0, "fresh"), ("stale revoked", 0, "none"), ("stale revoked", 48, "grace")],
)
def test_a_revocation_tells_how_fresh_its_source_is(listed: str, grace: int, freshness: str) -> None:
    assert judged(CRLS[listed], None, grace=grace * HOUR).freshness == freshness


# Evidence


@pytest.mark.parametrize(
    ("listed", "asked", "words"),
    [
        ("good", "good", ("CRL number 1 from sub.crl", "(1 h ago)", "also: CN=client (serial 05) is good by OCSP of")),
        ("none", "good", ("is good by OCSP of CN=Sub, of 2025-06-01T11:00:00Z (1 h ago)", "next update 2025-06-01T13")),
        ("good", "failure", ("CRL number 1 from sub.crl", "OCSP failed 1 s ago: connection refused by o")),
        ("none", "failure", ("there is no CRL of its issuer", "OCSP failed 1 s ago: connection refused by o")),
        ("none", "unknown", ("is unknown to the OCSP of CN=Sub",)),
        ("stale", "stale", ("ended 1 d ago", "OCSP of CN=Sub", "ended 23 h 55 min ago")),
        ("good", "revoked", ("was revoked at 2025-05-31T12:00:00Z (no reason given): OCSP of CN=Sub", "(1 h ago)")),
        ("none", "stale revoked", ("was revoked", "OCSP of CN=Sub", "(2 d ago)")),
        ("none", "missing", ("OCSP has not answered yet",)),
    ],
)  # fmt: skip
def test_the_evidence_says_which_source_decided_and_how_old_it_is(
    listed: str, asked: str, words: tuple[str, ...]
) -> None:
    detail = judged(CRLS[listed], ANSWERS[asked]).detail
    for phrase in words:
        assert phrase in detail


@pytest.mark.parametrize("asked", ["failure", "unknown", "stale", "missing"])
def test_where_ocsp_alone_is_asked_the_evidence_speaks_of_nothing_else(asked: str) -> None:
    alone, both = judged((), ANSWERS[asked], lists=False), judged((), ANSWERS[asked])
    assert alone.reason is both.reason is Reason.REVOCATION_UNKNOWN
    assert (alone.wanted, alone.deadline) == (both.wanted, both.deadline)
    assert "CRL" in both.detail
    assert "CRL" not in alone.detail + alone.check.fix
    assert alone.detail in both.detail
    assert judged((), ANSWERS["good"], lists=False).reason is None
    assert judged((), ANSWERS["revoked"], lists=False).reason is Reason.REVOKED


def test_an_answer_that_is_awaited_is_said_with_whom_it_was_asked_of() -> None:
    responder = OcspPolicy(enabled=True, responder="http://ocsp.example/")
    assert judged((), None, ocsp=responder).detail.endswith("OCSP has not answered yet, asked at http://ocsp.example/")
    assert judged((), None).detail.endswith(f"asked at {' or '.join(PAIR[0].ocsp_urls)}")


def test_soft_fail_says_both_ways_to_mend_it() -> None:
    result = judged((), ANSWERS["failure"], "soft_fail")
    assert result.check.seen.startswith("NOT KNOWN, let pass by soft_fail: ")
    assert "revocation.crl.sources; or mend the OCSP responder of CN=Sub" in result.check.seen


def test_a_held_certificate_says_how_to_get_in_again() -> None:
    held = answered("revoked", reason=x509.ReasonFlags.certificate_hold)
    result = judged((), held)
    assert "(certificateHold)" in result.detail
    assert "lift the hold" in result.check.fix


# Responders


DELEGATE = delegate(SUB)


@pytest.mark.parametrize("status", ["good", "revoked"])
def test_an_answer_by_a_delegate_counts_unless_a_list_revokes_the_delegate(status: str) -> None:
    """RFC 6960 §4.2.2.2.1: whoever stole its key may say neither good nor revoked."""
    by = answered(status, signer=DELEGATE)
    assert judged((), by).source == "ocsp"
    assert judged((crl(SUB, 6),), by).reason is (None if status == "good" else Reason.REVOKED)
    gone = (crl(SUB, DELEGATE.certificate.serial, source="sub.crl", **STALE),)
    result = judged(gone, by)
    assert result.reason is Reason.REVOCATION_UNKNOWN
    assert "CN=Responder, is revoked itself by CRL number 1 from sub.crl" in result.detail
    assert result.wanted == ()


def test_a_delegate_that_a_stray_delta_revokes_counts_no_more() -> None:
    extensions = [build.crl_number(9), build.delta_of(8)]
    stray = parse_crl(build.assemble(SUB, build.entry(DELEGATE.certificate.serial), extensions=extensions), "d.crl")
    assert "is revoked itself by delta CRL number 9 from d.crl" in judged((stray,), answered(signer=DELEGATE)).detail
