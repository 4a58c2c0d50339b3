"""What is remembered of whom was accepted: bounded, of those alone who proved who they are, and never past a denial."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.unit.x509.build import Issued, issue

from mtlsproxy.config.model import DenyEntry
from mtlsproxy.reasons import Reason
from mtlsproxy.revocation.crlset import CrlSet
from mtlsproxy.revocation.policy import RevocationPolicy
from mtlsproxy.runtime import judging
from mtlsproxy.runtime.judging import Judge
from mtlsproxy.verdict import judge as module
from mtlsproxy.verdict.judge import Verdict
from mtlsproxy.verdict.trust import Denial, DenyList, Trust
from mtlsproxy.x509.evidence import Result
from mtlsproxy.x509.policy import Policy, Truststore

NOW = datetime.now(UTC)
YEAR = {"start": NOW - timedelta(days=1), "end": NOW + timedelta(days=365)}
ROOT = issue("Root", ca=True, **YEAR)
OTHER = issue("Other", ca=True, **YEAR)
ALICE, BOB = issue("alice", ROOT, **YEAR), issue("bob", ROOT, **YEAR)
CRLS = CrlSet.build((), ())[0]


def trust(name: str = "partners", anchor: Issued = ROOT, *denials: Denial, **changes: Any) -> Trust:
    store = Truststore(name, (anchor.certificate,), (), Policy())
    parts = {"crls": CRLS, "deny": DenyList((), (), denials), **changes}
    return Trust(store, RevocationPolicy("off"), **parts)


def denial(name: str, **said: Any) -> Denial:
    entry = DenyEntry.model_validate({"common_name": name})
    return Denial(common_name=entry.common_name, id=name, created=NOW, by="test", **said)


def chain(*issued: Issued) -> tuple[bytes, ...]:
    return tuple(one.certificate.der for one in issued)


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[bytes, ...]]]:
    """What was judged from the start."""
    found: list[tuple[bytes, ...]] = []

    def noted(presented: tuple[bytes, ...], *rest: Any) -> Verdict:
        found.append(presented)
        return module.judge(presented, *rest)

    monkeypatch.setattr(judging, "judge", noted)
    yield found


def test_an_acceptance_is_remembered_and_a_refusal_is_not(judged: list[Any]) -> None:
    judge, stranger = Judge((trust(),)), issue("stranger", OTHER, **YEAR)
    assert judge(chain(ALICE)) is judge(chain(ALICE))
    assert judge(chain(stranger)).reason is judge(chain(stranger)).reason is Reason.UNTRUSTED_ISSUER
    assert judged == [chain(ALICE), chain(stranger), chain(stranger)]
    assert judge(()).reason is Reason.NO_CERTIFICATE


def test_what_a_client_sends_beside_its_leaf_is_remembered_once(judged: list[Any]) -> None:
    judge = Judge((trust(),))
    variants = [chain(ALICE, issue(f"beside {number}", ca=True)) for number in range(5)]
    for presented in variants:
        assert judge(presented).reason is None
    assert len(judge._memory) == 1
    assert judge._memory.size == sum(map(len, variants[-1]))
    judge(variants[0])
    assert len(judged) == 6


def test_all_that_is_remembered_is_bounded_in_bytes_and_the_oldest_goes_first(
    judged: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = [issue(f"client {number}", ROOT, **YEAR) for number in range(6)]
    monkeypatch.setattr(judging, "MAX_REMEMBERED_BYTES", sum(map(len, chain(*clients[:3]))) + 20)
    judge = Judge((trust(),))
    for client in clients:
        judge(chain(client))
        assert judge._memory.size <= judging.MAX_REMEMBERED_BYTES
    judged.clear()
    judge(chain(clients[-1]))
    assert judged == []
    judge(chain(clients[0]))
    assert judged == [chain(clients[0])]


def test_a_longer_chain_than_any_honest_one_is_not_remembered(judged: list[Any]) -> None:
    judge = Judge((trust(),))
    policies = [f"1.2.3.{number}" for number in range(150)]
    presented = chain(ALICE, *(issue(f"beside {number}", ca=True, policies=policies) for number in range(12)))
    assert sum(map(len, presented)) > judging.MAX_CHAIN_BYTES
    assert judge(presented).reason is judge(presented).reason is None
    assert len(judged) == 2


def test_who_has_not_proved_to_hold_the_key_is_not_remembered(judged: list[Any]) -> None:
    """Certificates are no secret: whoever has seen some must not crowd out those who own them."""
    judge = Judge((trust(),))
    assert judge.of_stranger(chain(ALICE)).reason is None
    assert len(judge._memory) == 0


def test_a_denial_lets_acceptances_of_others_count_on(judged: list[Any]) -> None:
    before = Judge((trust(),))
    alice, _ = before(chain(ALICE)), before(chain(BOB))
    judged.clear()
    after = Judge((trust("partners", ROOT, denial("bob"), crls=CRLS),), before)
    known = after(chain(ALICE))
    assert judged == []
    assert known.vouches[0].chain is alice.vouches[0].chain
    assert known.deadline == alice.deadline
    assert known.checks[-1].seen == "none of 1 entries matches"
    assert known.checks is known.vouches[0].checks
    assert after(chain(ALICE)) is known
    refused = after(chain(BOB))
    assert (refused.reason, refused.checks[-1].result) == (Reason.DENIED, Result.FAIL)
    lifted = Judge((trust(),), after)
    assert lifted(chain(BOB)).reason is None


def test_a_denial_of_any_of_several_truststores_is_seen(judged: list[Any]) -> None:
    """Also of one that did not vouch: what it makes of the client is judged from the start."""
    before = Judge((trust(), trust("others", OTHER)))
    before(chain(ALICE))
    judged.clear()
    after = Judge((trust(), trust("others", OTHER, denial("alice"))), before)
    assert after(chain(ALICE)).reason is None  # that truststore does not verify it, and has no say
    assert len(judged) == 1
    third = Judge((trust("partners", ROOT, denial("alice")), trust("others", OTHER)), after)
    assert third(chain(ALICE)).reason is Reason.DENIED


@pytest.mark.parametrize(
    "now",
    [
        (trust("partners", OTHER),),
        (trust(crls=CrlSet.build((), ())[0]),),
        (trust(ocsp=object()),),
        (trust(points=object()),),
        (trust(), trust("more")),
        (),
    ],
    ids=["anchors", "crls", "ocsp", "points", "one more", "none"],
)
def test_nothing_counts_on_where_more_than_denials_has_changed(now: tuple[Trust, ...], judged: list[Any]) -> None:
    before = Judge((trust(),))
    before(chain(ALICE))
    assert len(Judge(now, before)._memory) == 0
