"""All of x509-limbo, with every difference from it listed and explained (limbo_deviations.py)."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tests.corpus.limbo_deviations import ACCEPTED, REFUSED

from mtlsproxy.revocation.crl import CrlError, load_crls
from mtlsproxy.revocation.decide import CrlSet, RevocationPolicy, decide
from mtlsproxy.x509.certificate import Certificate, MalformedCertificate, load_pem_certificates
from mtlsproxy.x509.evidence import CHECK_NAMES, Result
from mtlsproxy.x509.hostname import InvalidServerName, check_server_name
from mtlsproxy.x509.policy import CLIENT_AUTH, SERVER_AUTH, Policy, Truststore
from mtlsproxy.x509.validate import Refused, Verified, validate

SUITE = Path(__file__).with_name("limbo.json")
NOW = datetime(2026, 6, 1, tzinfo=UTC)
"""For cases that name no time; their certificates are valid for centuries."""


@cache
def cases() -> dict[str, dict[str, Any]]:
    return {case["id"]: case for case in json.loads(SUITE.read_text())["testcases"]}


@dataclass(frozen=True)
class Verdict:
    accepted: bool
    why: str


def _load(pems: list[str]) -> tuple[Certificate, ...]:
    return tuple(certificate for pem in pems for certificate in load_pem_certificates(pem.encode()))


def run(case: dict[str, Any]) -> Verdict:
    try:
        return _run(case)
    except MalformedCertificate as error:
        return Verdict(False, f"malformed_certificate: {error.detail}")
    except InvalidServerName as error:
        return Verdict(False, f"invalid server name: {error}")


def _run(case: dict[str, Any]) -> Verdict:
    server = case["validation_kind"] == "SERVER"
    policy = Policy(
        max_chain_depth=5 if case["max_chain_depth"] is None else case["max_chain_depth"],
        require_eku=(SERVER_AUTH if server else CLIENT_AUTH,),
        allow_absent_eku=not case["extended_key_usage"],
    )
    (leaf,) = _load([case["peer_certificate"]])
    truststore = Truststore("limbo", _load(case["trusted_certs"]), (), policy)
    at = datetime.fromisoformat(case["validation_time"]) if case["validation_time"] else NOW
    outcome = validate(leaf, _load(case["untrusted_intermediates"]), truststore, at)
    assert [check.name for check in outcome.checks] == list(CHECK_NAMES[:9])
    if isinstance(outcome, Refused):
        assert any(check.result is Result.FAIL and check.fix for check in outcome.checks)
        return Verdict(False, f"{outcome.reason}: {outcome.detail}")
    return _beyond_the_path(case, outcome, at)


def _beyond_the_path(case: dict[str, Any], verified: Verified, at: datetime) -> Verdict:
    """What a caller asks after path validation: the server's name, and revocation where the case brings CRLs."""
    name = case["expected_peer_name"]
    if case["validation_kind"] == "SERVER" and name is not None:
        check = check_server_name(verified.leaf, name["value"])
        if check.result is Result.FAIL:
            return Verdict(False, f"hostname: {check.seen}")
    if case["crls"]:
        try:
            crls = [crl for pem in case["crls"] for crl in load_crls(pem.encode(), "limbo")]
        except CrlError as error:
            return Verdict(False, f"crl: {error.detail}")
        known, _ = CrlSet.build(crls, verified.chain)
        policy = RevocationPolicy("hard_fail", "leaf", timedelta(0), timedelta(0))
        result = decide(verified.chain, policy, known, at)
        if result.reason is not None:
            return Verdict(False, f"{result.reason}: {result.detail}")
    return Verdict(True, "accepted")


def test_the_suite_is_whole_and_every_deviation_is_one_of_its_cases() -> None:
    assert len(cases()) == 194
    assert set(ACCEPTED) | set(REFUSED) <= set(cases())


@pytest.mark.parametrize("name", sorted(cases()))
def test_limbo(name: str) -> None:
    """Our verdict is the suite's, or the opposite where a deviation is listed: one that is no more must be struck."""
    case = cases()[name]
    expected = case["expected_result"] == "SUCCESS"
    if name in ACCEPTED or name in REFUSED:
        assert expected == (name in REFUSED), "listed on the wrong side"
        expected = not expected
    verdict = run(case)
    assert verdict.accepted == expected, f"{verdict.why}\n{case['description']}"


@pytest.mark.parametrize(
    ("prefix", "reason"),
    [
        ("rfc5280::validity::expired-", "expired"),
        ("rfc5280::validity::not-yet-valid-", "not_yet_valid"),
        ("rfc5280::validity::notbefore-fractional", "not_yet_valid"),
        ("rfc5280::nc::permitted-dns-mismatch", "name_constraint"),
        ("rfc5280::nc::excluded-", "name_constraint"),
        ("rfc5280::nc::restrictive-permits-", "name_constraint"),
        ("cve::cve-2025-61727", "name_constraint"),
        ("pathlen::intermediate-violates-pathlen-0", "path_length"),
        ("pathlen::intermediate-pathlen-too-long", "path_length"),
        ("pathlen::max-chain-depth-1-exhausted", "chain_too_long"),
        ("pathological::intermediate-cycle-", "untrusted_issuer"),
        ("pathological::pathological-chain-", "untrusted_issuer"),
        ("rfc5280::unknown-critical-extension-ee", "malformed_certificate"),
        ("rfc5280::unknown-critical-extension-root", "malformed_certificate"),
        ("rfc5280::duplicate-extensions", "malformed_certificate"),
        ("rfc5280::mismatching-signature-algorithm", "malformed_certificate"),
        ("rfc5280::chain-untrusted-root", "untrusted_issuer"),
        ("rfc5280::root-missing-basic-constraints", "not_a_ca"),
        ("rfc5280::intermediate-ca-without-ca-bit", "not_a_ca"),
        ("rfc5280::eku::ee-wrong-eku", "eku_mismatch"),
        ("rfc5280::ca-as-leaf", "ca_as_leaf"),
        ("webpki::ee-basicconstraints-ca", "ca_as_leaf"),
        ("webpki::explicit-curve", "weak_key"),
        ("webpki::forbidden-p192-leaf", "weak_key"),
        ("webpki::forbidden-weak-rsa-in-leaf", "weak_key"),
        ("webpki::forbidden-dsa-leaf", "weak_key"),
        ("webpki::v1-cert", "malformed_certificate"),
        ("crl::revoked-certificate-with-crl", "revoked"),
    ],
)
def test_a_refusal_names_the_very_thing_that_the_case_is_about(prefix: str, reason: str) -> None:
    named = [name for name in cases() if name.startswith(prefix)]
    assert named
    verdicts = {name: run(cases()[name]) for name in named}
    assert {name: v.why.partition(":")[0] for name, v in verdicts.items() if not v.accepted} == dict.fromkeys(
        (name for name, v in verdicts.items() if not v.accepted), reason
    )
    assert not all(verdict.accepted for verdict in verdicts.values())
