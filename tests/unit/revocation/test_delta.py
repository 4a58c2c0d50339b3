"""Delta lists: which base they fit, what they change, and how long the two are good together (RFC 5280 §5.2.4)."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.revocation import build
from tests.unit.revocation.build import DAY, HOUR, NOW, authority, crl, entry, leaf

from mtlsproxy.reasons import Reason
from mtlsproxy.revocation.crl import Crl, parse_crl
from mtlsproxy.revocation.crlset import CrlSet, Problem, ProblemKind
from mtlsproxy.revocation.decide import CLOCK_SKEW, RevocationPolicy, RevocationResult, decide
from mtlsproxy.x509.certificate import Certificate

ROOT = authority()
ROLLED = authority()  # the same name, another key
LEAF = leaf(ROOT, serial=5)
SECOND = timedelta(seconds=1)
HARD = RevocationPolicy("hard_fail")
HOLD, REMOVED, COMPROMISE = build.reason(6), build.reason(8), build.reason(1)


def delta(
    *entries: bytes,
    base: int = 1,
    number: int = 2,
    issuer: build.Authority = ROOT,
    source: str = "delta.crl",
    extensions: tuple[bytes, ...] = (),
    key_id: bool = True,
    **options: object,
) -> Crl:
    ours = [build.crl_number(number), build.delta_of(base), *extensions]
    ours += [build.key_identifier(issuer)] if key_id else []
    return parse_crl(build.assemble(issuer, b"".join(entries) or None, extensions=ours, **options), source)


def listing(*entries: bytes, number: int = 1, **options: object) -> Crl:
    return parse_crl(build.assemble(ROOT, b"".join(entries), extensions=[build.crl_number(number)], **options), "b.crl")


def built(*crls: Crl, previous: CrlSet | None = None) -> tuple[CrlSet, list[ProblemKind]]:
    found, problems = CrlSet.build(crls, [ROOT.certificate], previous)
    return found, [problem.kind for problem in problems]


def judged(
    *crls: Crl, policy: RevocationPolicy = HARD, at: object = NOW, certificate: Certificate = LEAF
) -> RevocationResult:
    return decide((certificate, ROOT.certificate), policy, built(*crls)[0], at)


# What a delta changes


def test_a_delta_revokes_what_its_base_does_not() -> None:
    result = judged(crl(ROOT, source="base.crl"), delta(entry(5, NOW - HOUR, COMPROMISE)))
    assert (result.reason, result.source) == (Reason.REVOKED, "crl")
    assert "(keyCompromise): delta CRL number 2 from delta.crl" in result.detail


def test_a_silent_delta_leaves_the_base_as_it_is_and_the_evidence_names_both() -> None:
    assert judged(crl(ROOT, 5), delta(entry(6))).reason is Reason.REVOKED
    result = judged(crl(ROOT, 7, source="base.crl"), delta(entry(6)))
    assert result.reason is None
    assert "CRL number 1 from base.crl with delta CRL number 2 from delta.crl" in result.detail


def test_remove_from_crl_lifts_a_hold() -> None:
    held = listing(entry(5, NOW - DAY, HOLD))
    assert judged(held).reason is Reason.REVOKED
    assert judged(held, delta(entry(5, NOW, REMOVED))).reason is None


def test_only_a_hold_is_said_to_be_one() -> None:
    """A list that was not asked for yet could lift it: whoever can ask does."""
    assert judged(listing(entry(5, NOW - DAY, HOLD))).held
    assert not judged(listing(entry(5, NOW - DAY, COMPROMISE))).held
    assert not judged(listing(entry(6, NOW - DAY, HOLD))).held


@pytest.mark.parametrize("extensions", [(COMPROMISE,), ()], ids=["keyCompromise", "no reason"])
def test_remove_from_crl_brings_nothing_back_that_was_revoked_for_good(extensions: tuple[bytes, ...]) -> None:
    revoked = listing(entry(5, NOW - DAY, *extensions))
    assert judged(revoked, delta(entry(5, NOW, REMOVED))).reason is Reason.REVOKED


def test_remove_from_crl_of_what_no_base_has_revokes_nothing() -> None:
    assert judged(crl(ROOT), delta(entry(5, NOW, REMOVED))).reason is None


def test_a_hold_that_becomes_final_says_so() -> None:
    result = judged(listing(entry(5, NOW - DAY, HOLD)), delta(entry(5, NOW, COMPROMISE)))
    assert "(keyCompromise)" in result.detail


def test_a_delta_that_has_not_begun_revokes_and_lifts_nothing() -> None:
    ahead = {"this_update": NOW + CLOCK_SKEW + SECOND, "next_update": NOW + DAY}
    held = listing(entry(5, NOW - DAY, HOLD))
    assert judged(held, delta(entry(5, NOW, REMOVED), **ahead)).reason is Reason.REVOKED
    assert judged(held, delta(entry(5, NOW, REMOVED), **ahead), at=NOW + SECOND).reason is None
    assert judged(crl(ROOT), delta(entry(5), **ahead)).reason is Reason.REVOKED


# How long they are good


def test_a_delta_that_has_not_begun_lends_its_base_no_freshness() -> None:
    ahead = delta(this_update=NOW + CLOCK_SKEW + SECOND, next_update=NOW + 9 * DAY)
    assert judged(crl(ROOT), ahead).deadline == NOW + DAY
    ended = crl(ROOT, this_update=NOW - 2 * DAY, next_update=NOW - DAY)
    assert judged(ended, ahead).reason is Reason.REVOCATION_UNKNOWN
    assert judged(ended, ahead, at=NOW + SECOND).reason is None


@pytest.mark.parametrize(
    ("base_ends", "delta_ends", "grace", "deadline", "freshness"),
    [
        (DAY, HOUR, 0, HOUR, "fresh"),  # the delta's dates, while it is fresh
        (-DAY, HOUR, 0, HOUR, "fresh"),  # however old the base is
        (DAY, -HOUR, 0, DAY, "fresh"),  # then the base's own
        (-DAY, -HOUR, 0, None, "none"),
        (-DAY, -HOUR, 2, HOUR, "grace"),  # grace counts from whichever ends later
        (-HOUR, -DAY, 2, HOUR, "grace"),
        (HOUR, -HOUR, 2, 3 * HOUR, "fresh"),
    ],
)
def test_both_together_last_as_long_as_the_delta_and_then_as_the_base(
    base_ends: timedelta, delta_ends: timedelta, grace: int, deadline: timedelta | None, freshness: str
) -> None:
    policy = RevocationPolicy("hard_fail", grace=grace * HOUR)
    old = {"this_update": NOW - 2 * DAY}
    base = crl(ROOT, next_update=NOW + base_ends, **old)
    result = judged(base, delta(next_update=NOW + delta_ends, **old), policy=policy)
    assert result.freshness == freshness
    assert result.deadline == (None if deadline is None else NOW + deadline)
    assert result.reason is (Reason.REVOCATION_UNKNOWN if deadline is None else None)


def test_evidence_says_that_a_delta_has_ended() -> None:
    result = judged(crl(ROOT), delta(next_update=NOW - HOUR, this_update=NOW - DAY))
    assert "the delta ended 1 h ago, and the complete list still counts" in result.detail


def test_what_an_ended_delta_says_stays_true() -> None:
    ended = {"this_update": NOW - DAY, "next_update": NOW - HOUR}
    assert judged(crl(ROOT), delta(entry(5), **ended)).reason is Reason.REVOKED
    assert judged(listing(entry(5, NOW - DAY, HOLD)), delta(entry(5, NOW, REMOVED), **ended)).reason is None


# Which base it fits


@pytest.mark.parametrize(
    ("base", "delta_base", "delta_number", "fits"),
    [(5, 5, 6, True), (5, 3, 6, True), (5, 5, 9, True), (5, 6, 7, False), (5, 3, 5, False), (5, 3, 4, False)],
)
def test_a_base_fits_from_the_base_number_to_below_the_deltas(
    base: int, delta_base: int, delta_number: int, fits: bool
) -> None:
    lists = (crl(ROOT, number=base), delta(entry(9), base=delta_base, number=delta_number))
    assert ("with delta" in judged(*lists).detail) == fits
    assert bool(built(*lists)[1]) == (not fits)


@pytest.mark.parametrize("base", [None, 1], ids=["no base", "too old a base"])
def test_a_delta_without_a_usable_base_vouches_for_nobody_and_still_revokes(base: int | None) -> None:
    """What it revoked is revoked: it is newer than all that is known. What it does not say, nobody knows."""
    bases = [] if base is None else [crl(ROOT, number=base, next_update=NOW - HOUR)]
    stray = delta(entry(6), base=4, number=5)
    result = judged(*bases, stray)
    assert result.reason is Reason.REVOCATION_UNKNOWN
    if base is None:
        assert "delta CRL number 5 from delta.crl fits no complete CRL" in result.detail
    assert judged(*bases, stray, certificate=leaf(ROOT, serial=6)).reason is Reason.REVOKED
    _, problems = CrlSet.build([*bases, stray], [ROOT.certificate])
    assert [(problem.kind, problem.crl) for problem in problems] == [(ProblemKind.NO_BASE, stray)]
    assert "from number 4 on" in problems[0].detail


def test_a_removal_in_a_delta_without_base_lifts_nothing() -> None:
    held = listing(entry(5, NOW - DAY, HOLD), number=1)
    assert judged(held, delta(entry(5, NOW, REMOVED), base=4, number=5)).reason is Reason.REVOKED


def test_a_removal_in_a_delta_without_base_revokes_nothing_either() -> None:
    assert judged(crl(ROOT, number=1), delta(entry(5, NOW, REMOVED), base=4, number=5)).reason is None


def test_a_stray_delta_leaves_a_fresh_base_its_word() -> None:
    result = judged(crl(ROOT, number=1), delta(entry(6), base=4, number=5))
    assert (result.reason, result.deadline) == (None, NOW + DAY)


def test_a_base_without_number_takes_no_delta() -> None:
    assert built(crl(ROOT, number=None), delta())[1] == [ProblemKind.NO_BASE]


def test_a_delta_of_another_key_changes_nothing() -> None:
    """Two keys of one name number their lists apart."""
    foreign = delta(entry(5), issuer=ROLLED, key_id=False)
    assert judged(crl(ROOT), foreign).reason is None
    found, _ = CrlSet.build([crl(ROOT), foreign], [ROOT.certificate, ROLLED.certificate])
    assert decide((LEAF, ROOT.certificate), HARD, found, NOW).reason is None


def test_a_forged_delta_changes_nothing() -> None:
    forged = delta(entry(5), issuer=build.Authority(ROLLED.key, ROOT.certificate))
    assert judged(crl(ROOT), forged).reason is None
    assert built(crl(ROOT), forged)[1] == [ProblemKind.NOT_SIGNED]


def test_a_delta_of_another_scope_fits_not() -> None:
    users = build.distribution_point(build.ONLY_USER)
    assert built(crl(ROOT), delta(extensions=(users,)))[1] == [ProblemKind.NO_BASE]
    assert built(crl(ROOT, extensions=[users]), delta(extensions=(users,)))[1] == []


def test_a_delta_without_next_update_is_left_out() -> None:
    assert built(crl(ROOT), delta(next_update=None))[1] == [ProblemKind.NO_NEXT_UPDATE]


# Several


def test_the_newest_delta_that_fits_is_taken() -> None:
    old, new = delta(entry(5), number=2, this_update=NOW - 3 * HOUR), delta(entry(6), number=3)
    too_new = delta(entry(7), base=3, number=4, this_update=NOW)
    for lists in ((old, new, too_new), (too_new, new, old)):
        found, problems = built(crl(ROOT), *lists)
        (combined,) = found.lists
        assert combined.delta is new
        assert sorted(problems) == [ProblemKind.NO_BASE, ProblemKind.SUPERSEDED]
        assert judged(crl(ROOT), *lists).reason is None
        assert judged(crl(ROOT), *lists, certificate=leaf(ROOT, serial=7)).reason is Reason.REVOKED


def test_a_complete_list_replaces_older_deltas_and_those_of_its_own_number() -> None:
    """A CA that issues both at once gives them one number (§5.2.4): the complete one says all of it."""
    base = crl(ROOT, number=2)
    for number in (1, 2):
        late = delta(entry(5), base=0, number=number, this_update=NOW - HOUR + SECOND if number == 2 else NOW - DAY)
        found, problems = built(base, late)
        assert (found.lists[0].delta, problems) == (None, [ProblemKind.SUPERSEDED])
        assert decide((LEAF, ROOT.certificate), HARD, found, NOW).reason is None


def test_the_same_delta_twice_is_no_problem() -> None:
    one = delta()
    assert built(crl(ROOT), one, one)[1] == []


def test_a_rollback_of_a_delta_at_a_reload_keeps_the_one_that_was_known() -> None:
    known, _ = built(crl(ROOT), delta(entry(5), number=9))
    found, problems = built(crl(ROOT), delta(number=8), previous=known)
    assert problems == [ProblemKind.ROLLBACK]
    assert decide((LEAF, ROOT.certificate), HARD, found, NOW).reason is Reason.REVOKED


def test_a_delta_of_another_scope_is_no_rollback() -> None:
    scopes = [build.distribution_point(field) for field in (build.ONLY_USER, build.ONLY_CA)]
    bases = [crl(ROOT, extensions=[scope]) for scope in scopes]
    known, _ = built(*bases, delta(number=9, extensions=(scopes[0],)))
    found, problems = built(*bases, delta(number=8, extensions=(scopes[1],)), previous=known)
    assert problems == []
    assert [one.delta.number for one in found.lists if one.delta] == [8]


def test_a_reload_takes_a_newer_delta_and_lets_go_of_one_that_its_base_replaced() -> None:
    known, _ = built(crl(ROOT), delta(entry(5), number=3))
    newer, problems = built(crl(ROOT), delta(number=4), previous=known)
    assert (newer.lists[0].delta.number, problems) == (4, [])
    merged, problems = built(crl(ROOT, number=5), previous=known)
    assert (merged.lists[0].delta, problems) == (None, [])


def test_deltas_of_a_ca_that_is_met_in_chains_alone_are_combined_then() -> None:
    sub = authority("Sub", ROOT)
    pending = [crl(sub), delta(entry(5), issuer=sub)]
    found, problems = CrlSet.build([crl(ROOT), *pending], [ROOT.certificate])
    assert problems == ()
    chain = (leaf(sub, serial=5), sub.certificate, ROOT.certificate)
    assert decide(chain, HARD, found, NOW).reason is Reason.REVOKED
    assert decide((leaf(sub, serial=6), *chain[1:]), HARD, found, NOW).reason is None


def test_deltas_are_apart_from_the_complete_lists() -> None:
    base, change = crl(ROOT), delta()
    found, _ = built(base, change)
    assert found.crls == (base,)
    assert [(one.base, one.delta) for one in found.lists] == [(base, change)]
    assert found.lists[0].in_force(NOW) is change


CHANGES = st.lists(
    st.tuples(st.integers(1, 6), st.sampled_from(["revoke", "hold", "lift"])), max_size=12
)  # what a CA does, one after another


@settings(max_examples=60, deadline=None)
@given(CHANGES, st.integers(0, 12), st.integers(0, 12))
def test_base_and_delta_say_what_the_complete_list_of_that_day_would(
    changes: list[tuple[int, str]], first: int, second: int
) -> None:
    """§5.2.4: a delta lists all changes of status since its base number, and lifts what was on hold there."""

    def status_after(count: int) -> dict[int, bytes]:
        status: dict[int, bytes] = {}
        for serial, action in changes[:count]:
            if action == "lift" and status.get(serial) == HOLD:
                del status[serial]
            elif action != "lift" and status.get(serial) != COMPROMISE:
                status[serial] = HOLD if action == "hold" else COMPROMISE
        return status

    at_base, at_delta = status_after(min(first, second)), status_after(max(first, second))
    changed = [entry(s, NOW, code) for s, code in at_delta.items() if at_base.get(s) != code]
    lifted = [entry(s, NOW, REMOVED) for s in at_base.keys() - at_delta.keys()]
    base = listing(*(entry(s, NOW, code) for s, code in at_base.items()))
    (combined,) = built(base, delta(*changed, *lifted))[0].lists
    for serial in range(1, 7):
        assert (combined.lookup(serial, NOW) is not None) == (serial in at_delta)


def test_problems_name_the_list_and_its_issuer() -> None:
    _, problems = CrlSet.build([delta()], [ROOT.certificate])
    assert isinstance(problems[0], Problem)
    assert problems[0].detail.startswith("delta CRL number 2 from delta.crl of CN=Root fits no complete CRL")
