"""Which CRL counts: the newest that the issuer's own key signed, and a word about every other."""

import pytest
from tests.unit.revocation import build
from tests.unit.revocation.build import DAY, HOUR, NOW, authority, crl

from mtlsproxy.revocation.crl import Crl
from mtlsproxy.revocation.crlset import CrlSet, Problem, ProblemKind

ROOT = authority()
ROLLED = authority()  # the same name, another key
SUB = authority("Sub", ROOT)


def built(*crls: Crl, issuers: tuple[build.Authority, ...] = (ROOT,)) -> tuple[CrlSet, tuple[Problem, ...]]:
    return CrlSet.build(crls, [issuer.certificate for issuer in issuers])


def numbers(found: CrlSet, issuer: build.Authority = ROOT) -> list[int | None]:
    return sorted(got.base.number or 0 for got in found.signed_by(issuer.certificate).lists)


def test_a_list_that_a_configured_ca_signed_counts_for_it() -> None:
    found, problems = built(crl(ROOT, number=3))
    assert problems == ()
    assert numbers(found) == [3]
    assert found.pending == {}


@pytest.mark.parametrize("turn", [1, -1])
def test_the_highest_number_counts_in_whatever_order(turn: int) -> None:
    old = crl(ROOT, number=3, source="old.crl", this_update=NOW - DAY)
    new = crl(ROOT, number=4, source="new.crl", this_update=NOW)
    found, problems = built(*(old, new)[::turn])
    assert numbers(found) == [4]
    assert [(problem.kind, problem.crl) for problem in problems] == [(ProblemKind.SUPERSEDED, old)]
    assert "old.crl" in problems[0].detail
    assert "new.crl" in problems[0].detail


@pytest.mark.parametrize("turn", [1, -1])
def test_a_lower_number_that_was_issued_later_is_a_rollback(turn: int) -> None:
    odd = crl(ROOT, number=3, this_update=NOW)
    found, problems = built(*(odd, crl(ROOT, number=4, this_update=NOW - DAY))[::turn])
    assert numbers(found) == [4]
    assert [(problem.kind, problem.crl) for problem in problems] == [(ProblemKind.ROLLBACK, odd)]


@pytest.mark.parametrize("number", [None, 1])
def test_lists_whose_numbers_do_not_differ_are_ordered_by_date(number: int | None) -> None:
    old = crl(ROOT, number=number, this_update=NOW - DAY)
    new = crl(ROOT, number=number, this_update=NOW)
    found, problems = built(new, old)
    assert [got.base for got in found.signed_by(ROOT.certificate).lists] == [new]
    assert [problem.crl for problem in problems] == [old]


def test_the_same_list_twice_is_no_problem() -> None:
    one = crl(ROOT, number=3)
    found, problems = built(one, one)
    assert (numbers(found), problems) == ([3], ())


def test_a_rollback_at_a_reload_keeps_the_list_that_was_known() -> None:
    known, _ = built(crl(ROOT, 5, number=9))
    offered = crl(ROOT, number=8)
    found, problems = CrlSet.build([offered], [ROOT.certificate], known)
    assert numbers(found) == [9]
    assert [(problem.kind, problem.crl) for problem in problems] == [(ProblemKind.ROLLBACK, offered)]


def test_a_reload_takes_a_newer_list_and_lets_go_of_a_removed_one() -> None:
    known, _ = built(crl(ROOT, number=9))
    newer, problems = CrlSet.build([crl(ROOT, number=10)], [ROOT.certificate], known)
    assert (numbers(newer), problems) == ([10], ())
    removed, problems = CrlSet.build([], [ROOT.certificate], known)
    assert (numbers(removed), problems) == ([], ())


def test_a_list_without_next_update_is_left_out() -> None:
    found, problems = built(crl(ROOT, next_update=None))
    assert numbers(found) == []
    assert [problem.kind for problem in problems] == [ProblemKind.NO_NEXT_UPDATE]
    assert "nextUpdate" in problems[0].detail


def test_a_forged_list_is_left_out_however_high_its_number() -> None:
    """Its key identifier says that it is the root's: a wrong signature makes it nobody's."""
    forger = build.Authority(ROLLED.key, ROOT.certificate)
    found, problems = built(crl(forger, number=99), crl(ROOT, number=3))
    assert numbers(found) == [3]
    assert found.pending == {}
    assert [problem.kind for problem in problems] == [ProblemKind.NOT_SIGNED]


def test_both_keys_of_a_rolled_over_ca_keep_their_list() -> None:
    found, problems = built(crl(ROOT, number=7), crl(ROLLED, number=1), issuers=(ROOT, ROLLED))
    assert problems == ()
    assert numbers(found, ROOT) == [7]
    assert numbers(found, ROLLED) == [1]


@pytest.mark.parametrize("key_id", [True, False])
def test_a_list_of_an_unconfigured_key_is_pending_until_its_certificate_is_met(key_id: bool) -> None:
    found, problems = built(crl(ROLLED, number=1, key_id=key_id), crl(ROOT, number=7))
    assert [problem.kind for problem in problems] == [ProblemKind.UNVERIFIED]
    assert numbers(found, ROOT) == [7]
    assert numbers(found, ROLLED) == [1]


def test_a_pending_list_never_displaces_a_verified_one() -> None:
    """An unsigned promise of number 99 must not hide what number 7 revokes."""
    found, _ = built(crl(ROLLED, number=99, key_id=False), crl(ROOT, number=7))
    assert numbers(found, ROOT) == [7]
    assert "not signed by" in found.signed_by(ROOT.certificate).refused[0]


def test_a_list_of_an_unknown_ca_is_pending_without_a_problem() -> None:
    found, problems = built(crl(SUB, number=2), crl(SUB, number=1, this_update=NOW - DAY))
    assert problems == ()
    assert len(found.pending[SUB.certificate.subject_der]) == 2
    assert numbers(found, SUB) == [2]
    stranger = authority("Sub")
    assert found.signed_by(stranger.certificate).lists == ()


def test_lists_of_different_scopes_do_not_replace_one_another() -> None:
    users = crl(ROOT, number=1, extensions=[build.distribution_point(build.ONLY_USER)])
    cas = crl(ROOT, number=2, extensions=[build.distribution_point(build.ONLY_CA)])
    shards = [
        crl(ROOT, number=number, extensions=[build.distribution_point(build.url(f"http://crl.example/{number}"))])
        for number in (3, 4)
    ]
    found, problems = built(users, cas, *shards)
    assert (numbers(found), problems) == ([1, 2, 3, 4], ())


def test_a_certificate_without_crl_sign_takes_nothing_from_a_twin_that_has_it() -> None:
    twin = authority(key=ROOT.key, crl_sign=False)
    found, _ = built(crl(ROOT))
    signed = found.signed_by(twin.certificate)
    assert signed.lists == ()
    assert "cRLSign" in signed.refused[0]


def test_it_is_told_when_only_another_key_of_the_name_has_a_list() -> None:
    found, _ = built(crl(ROOT, source="root.crl"))
    assert found.signed_by(ROLLED.certificate).refused == (
        "CRL number 1 from root.crl is signed by another key of that name",
    )


def test_every_list_can_be_named_for_metrics() -> None:
    found, _ = built(crl(ROOT, next_update=NOW + HOUR), crl(SUB))
    assert sorted(got.issuer for got in found.crls) == ["CN=Root", "CN=Sub"]
