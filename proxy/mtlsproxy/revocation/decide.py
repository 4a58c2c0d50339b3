"""Is any certificate of a verified chain revoked? The answer of all sources together, with its evidence.

Every certificate in scope is judged by itself, in this order:
1. An exempt leaf (noRevAvail, short_lived) is asked about nowhere.
2. A CRL that revokes it decides, however old. The lists are here already: that costs nothing and leaves nothing to ask.
3. An OCSP answer that says revoked decides, however old.
4. A fresh list that is silent, or a fresh OCSP answer that says good, suffices: either one of them.
5. Otherwise nobody knows, and the mode decides. OCSP's `unknown` is no answer, nor is a failure.

Where OCSP is enabled it is asked about every certificate in scope, also where a list says good: an operator who enables
both wants to hear of a revocation from whoever knows it first, and 3 could not hold otherwise. What is missing is in
`wanted`; whoever can fetch it does so and decides again. A responder that is down then costs its timeout and no client
that a list vouches for. The deadline is the earliest end of anything relied upon, so that a week's list does not keep
an hour's OCSP answer from being asked for again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise

from mtlsproxy.reasons import Reason
from mtlsproxy.revocation.answer import Answer, Freshness, Source
from mtlsproxy.revocation.crlset import CrlSet, Problem, ProblemKind
from mtlsproxy.revocation.from_crls import answer_of_crls
from mtlsproxy.revocation.from_ocsp import OCSP_RETRY, answer_of_ocsp
from mtlsproxy.revocation.ocsp_answers import OcspAnswers
from mtlsproxy.revocation.policy import CLOCK_SKEW, OcspPolicy, RevocationPolicy
from mtlsproxy.revocation.wording import span, title
from mtlsproxy.x509.certificate import Certificate
from mtlsproxy.x509.evidence import Check, Result

__all__ = [
    "CLOCK_SKEW",
    "OCSP_RETRY",
    "CrlSet",
    "Freshness",
    "OcspPolicy",
    "Problem",
    "ProblemKind",
    "RevocationPolicy",
    "RevocationResult",
    "Source",
    "decide",
]

_RULES = {
    ("hard_fail", "chain"): "every certificate below the trust anchor is known not to be revoked (RFC 5280 §6.3)",
    ("hard_fail", "leaf"): "the leaf is known not to be revoked (RFC 5280 §6.3)",
    ("soft_fail", "chain"): "no certificate below the trust anchor is known to be revoked (soft_fail)",
    ("soft_fail", "leaf"): "the leaf is not known to be revoked (soft_fail)",
}

Pair = tuple[Certificate, Certificate]
"""A certificate and its issuer."""


@dataclass(frozen=True, slots=True)
class RevocationResult:
    """reason: REVOKED, REVOCATION_UNKNOWN or None. source: what gave the answer; of several certificates, the leaf's.
    detail: one sentence.

    deadline: until when the answer holds, the earliest end of what it relied upon: nextUpdate with grace of a list,
    expiry of an OCSP answer, OCSP_RETRY where one is missing; None where it relied upon nothing that ends.
    wanted: (certificate, issuer) whose OCSP answer is missing or over and could change this result.
    freshness: of the worst certificate judged (exempt ones are fresh); of a revocation, that of the source.
    held: REVOKED by holds of lists alone, which lists that were never asked for could lift.
    """

    reason: Reason | None
    source: Source
    detail: str
    check: Check
    deadline: datetime | None
    wanted: tuple[Pair, ...] = ()
    freshness: Freshness = "none"
    held: bool = False


def decide(
    chain: Sequence[Certificate],
    policy: RevocationPolicy,
    crls: CrlSet,
    at: datetime,
    ocsp: OcspAnswers | None = None,
) -> RevocationResult:
    """Judge a verified chain, leaf first and trust anchor last, at an aware time. Never raises for what it meets.

    ocsp: the answers fetched so far; asked only where the policy enables OCSP.
    """
    if policy.mode == "off":
        check = Check("revocation", Result.SKIPPED, "revocation is off for this truststore", "none: mode is off")
        return RevocationResult(None, "none", "revocation is off for this truststore", check, None)
    below = list(pairwise(chain))
    judged = below[:1] if policy.scope == "leaf" else below
    answers = [_judge(pair, policy, crls, ocsp, at, is_leaf=number == 0) for number, pair in enumerate(judged)]
    wanted = tuple(pair for pair, answer in zip(judged, answers, strict=True) if answer.wanted)
    if not answers:
        # A client that presents a trust anchor itself: nobody above could have revoked it.
        answers = [
            Answer("unknown", "none", "the chain has no issuer that could revoke", "use a leaf that a CA issued")
        ]
    return _conclude(answers, policy, wanted)


def _judge(
    pair: Pair, policy: RevocationPolicy, crls: CrlSet, ocsp: OcspAnswers | None, at: datetime, *, is_leaf: bool
) -> Answer:
    certificate, issuer = pair
    if is_leaf and (why := _exemption(certificate, policy)):
        return Answer("exempt", "exempt", f"{title(certificate)} is exempt: {why}", freshness="fresh")
    if not policy.lists and policy.ocsp.enabled:
        return answer_of_ocsp(certificate, issuer, policy.ocsp, ocsp, crls, at)
    listed = answer_of_crls(certificate, issuer, policy, crls, at)
    if not policy.ocsp.enabled or listed.state == "revoked":
        return listed
    asked = answer_of_ocsp(certificate, issuer, policy.ocsp, ocsp, crls, at)
    if asked.state == "revoked":
        return asked
    return _combine(listed, asked)


def _combine(listed: Answer, asked: Answer) -> Answer:
    """What a CRL and OCSP say together, where neither says revoked."""
    good = [answer for answer in (listed, asked) if answer.state == "good"]
    # The list speaks where it is fresh: it is here. One that counts by grace alone gives way to an OCSP answer.
    first = next((answer for answer in good if answer.freshness == "fresh"), good[0] if good else listed)
    other = asked if first is listed else listed
    deadline = min((a.deadline for a in (listed, asked) if a.deadline is not None), default=None)
    if not good:
        fix = f"{listed.fix}; or {asked.fix}"
        return replace(listed, seen=f"{listed.seen}; {asked.seen}", fix=fix, deadline=deadline, wanted=asked.wanted)
    seen = f"{first.seen} (also: {other.seen})" if other is asked or other in good else first.seen
    return replace(first, seen=seen, deadline=deadline, wanted=asked.wanted)


def _conclude(answers: Sequence[Answer], policy: RevocationPolicy, wanted: tuple[Pair, ...]) -> RevocationResult:
    rule = _RULES[policy.mode, policy.scope]
    revoked = [answer for answer in answers if answer.state == "revoked"]
    if revoked:
        # One that is certain goes first: then no new OCSP answer can change the result.
        worst = min(revoked, key=lambda answer: answer.wanted)
        check = Check("revocation", Result.FAIL, worst.seen, rule, worst.fix)
        asked = wanted if worst.wanted else ()
        held = all(answer.held for answer in revoked)
        return RevocationResult(Reason.REVOKED, worst.source, worst.seen, check, None, asked, worst.freshness, held)
    unknown = [answer for answer in answers if answer.state == "unknown"]
    seen = "; ".join(answer.seen for answer in answers)
    fix = "; ".join(dict.fromkeys(answer.fix for answer in unknown))
    if unknown and policy.mode == "hard_fail":
        detail = "; ".join(answer.seen for answer in unknown)
        check = Check("revocation", Result.FAIL, detail, rule, fix)
        return RevocationResult(Reason.REVOCATION_UNKNOWN, "none", detail, check, None, wanted)
    deadline = min((answer.deadline for answer in answers if answer.deadline is not None), default=None)
    if unknown:
        seen = f"NOT KNOWN, let pass by soft_fail: {seen} (to mend: {fix})"
        check = Check("revocation", Result.PASS, seen, rule)
        return RevocationResult(None, "none", seen, check, deadline, wanted)
    freshness: Freshness = "grace" if any(answer.freshness == "grace" for answer in answers) else "fresh"
    check = Check("revocation", Result.PASS, seen, rule)
    return RevocationResult(None, answers[0].source, seen, check, deadline, wanted, freshness)


def _exemption(leaf: Certificate, policy: RevocationPolicy) -> str:
    """Why nobody has to ask about this leaf; "" when somebody has to."""
    if leaf.no_rev_avail and not leaf.is_ca:
        return "noRevAvail, its CA publishes no revocations of it (RFC 9608)"
    lifetime = leaf.not_after - leaf.not_before
    if timedelta(0) < policy.short_lived and lifetime <= policy.short_lived:
        return f"it lives {span(lifetime)}, and short_lived is {span(policy.short_lived)}"
    return ""
