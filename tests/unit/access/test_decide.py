"""Truststore, then deny, then allow; and the decision says which rule made it."""

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.access.build import route
from tests.unit.identity.build import client, dns, uri

from mtlsproxy.access.decide import Decision, decide
from mtlsproxy.reasons import Reason
from mtlsproxy.x509.evidence import Result

ORDERS = client(uri("spiffe://example.org/ns/prod/sa/orders"), dns("a.example.org"))
ALLOWED = [{"uri": "spiffe://example.org/ns/*/sa/other"}, {"uri": "spiffe://example.org/ns/*/sa/orders"}]
DENIED = [{"dns": "a.example.org"}]


def decided(vouched: tuple[str, ...] = ("partners",), **keys: Any) -> Decision:
    return decide(route("orders", **keys), ORDERS, vouched)


def results(decision: Decision) -> list[tuple[str, Result]]:
    return [(check.name, check.result) for check in decision.checks]


def test_an_allow_entry_lets_in_and_is_named() -> None:
    decision = decided(allow=ALLOWED)
    assert (decision.allowed, decision.reason, decision.enforced, decision.truststore) == (True, None, True, "partners")
    assert decision.rule == "allow[1] {uri: spiffe://example.org/ns/*/sa/orders}"
    assert results(decision) == [("route", Result.PASS), ("access", Result.PASS)]


def test_any_lets_in_whoever_was_verified() -> None:
    assert decided(allow="any").allowed
    assert decided(allow="any").rule == "allow: any"


@pytest.mark.parametrize(
    ("allow", "words"),
    [
        ([], "route orders allows nobody (allow: [])"),
        (ALLOWED[:1], "the one allow entry of route orders does not match"),
        ([*ALLOWED[:1], {"dns": "b.example.org"}], "none of the 2 allow entries of route orders matches"),
    ],
)
def test_a_refusal_says_what_did_not_match_and_whom(allow: list[dict[str, str]], words: str) -> None:
    decision = decided(allow=allow)
    assert decision.rule == words
    assert decision.checks[1].seen.startswith(f"{words}: CN=client; URI:spiffe://example.org/ns/prod/sa/orders")


@pytest.mark.parametrize("allow", [[], ALLOWED[:1]])
def test_nobody_else_gets_in(allow: list[dict[str, str]]) -> None:
    decision = decided(allow=allow)
    assert (decision.allowed, decision.reason) == (False, Reason.NOT_ALLOWED)
    assert results(decision) == [("route", Result.PASS), ("access", Result.FAIL)]
    assert "orders" in decision.checks[1].fix
    assert "spiffe://example.org/ns/prod/sa/orders" in decision.checks[1].seen


@pytest.mark.parametrize("allow", ["any", ALLOWED])
def test_deny_comes_before_allow(allow: Any) -> None:
    decision = decided(allow=allow, deny=DENIED)
    assert (decision.allowed, decision.reason) == (False, Reason.DENIED)
    assert decision.rule == "deny[0] {dns: a.example.org}"
    assert decision.checks[1].fix


def test_deny_of_somebody_else_changes_nothing() -> None:
    assert decided(allow="any", deny=[{"dns": "b.example.org"}]).allowed


@pytest.mark.parametrize("allow", ["any", ALLOWED])
def test_the_truststore_comes_before_both(allow: Any) -> None:
    decision = decided(("staff",), allow=allow, deny=DENIED, truststores=["partners"])
    assert (decision.allowed, decision.reason) == (False, Reason.TRUSTSTORE_MISMATCH)
    assert decision.truststore == "staff"
    assert results(decision) == [("route", Result.FAIL), ("access", Result.SKIPPED)]
    assert "partners" in decision.checks[0].fix


@pytest.mark.parametrize(
    ("truststores", "vouched", "named"),
    [
        (["partners"], ("staff", "partners"), "partners"),
        (["partners", "staff"], ("staff", "partners"), "partners"),
        (["staff", "partners"], ("partners", "staff"), "staff"),
        (None, ("staff",), "staff"),
        (None, ("staff", "partners"), "partners"),
    ],
)
def test_the_first_of_the_routes_truststores_that_vouched_is_named(
    truststores: list[str] | None, vouched: tuple[str, ...], named: str
) -> None:
    assert decided(vouched, truststores=truststores).truststore == named


def test_a_truststore_that_the_listener_has_and_the_route_has_not_does_not_count() -> None:
    assert decided(("other",)).reason is Reason.TRUSTSTORE_MISMATCH


@pytest.mark.parametrize(
    ("keys", "vouched", "reason"),
    [
        ({"allow": []}, ("partners",), Reason.NOT_ALLOWED),
        ({"deny": DENIED}, ("partners",), Reason.DENIED),
        ({"truststores": ["partners"]}, ("staff",), Reason.TRUSTSTORE_MISMATCH),
    ],
)
def test_shadow_mode_lets_pass_and_says_what_it_would_have_said(
    keys: dict[str, Any], vouched: tuple[str, ...], reason: Reason
) -> None:
    shadow, real = decided(vouched, enforce=False, **keys), decided(vouched, **keys)
    assert (shadow.allowed, shadow.reason, shadow.enforced) == (True, reason, False)
    assert replace(shadow, allowed=False, enforced=True) == real
    assert shadow.truststore == vouched[0]


def test_shadow_mode_never_lets_the_unverified_pass() -> None:
    decision = decided((), enforce=False)
    assert (decision.allowed, decision.enforced) == (False, True)
    assert decision.reason is Reason.TRUSTSTORE_MISMATCH
    assert decision.truststore is None


def test_evidence_of_a_certificate_with_a_thousand_names_stays_short() -> None:
    many = replace(ORDERS, sans=tuple(("DNS", f"h{n}.example") for n in range(1000)))
    seen = decide(route(allow=[]), many, ("partners",)).checks[1].seen
    assert seen.endswith("and 996 more")
    assert len(seen) < 300
