"""Is any certificate of a verified chain revoked? The answer, with its evidence (RFC 5280 §6.3).

A revoked entry decides, however old its list. Silence means good only from a list that the certificate's issuer in
this very chain signed, that covers the certificate, and that is fresh.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Literal

from mtlsproxy.reasons import Reason
from mtlsproxy.revocation.crl import Crl
from mtlsproxy.revocation.crlset import CrlSet, Problem, ProblemKind
from mtlsproxy.x509.certificate import Certificate
from mtlsproxy.x509.evidence import Check, Result

__all__ = ["CLOCK_SKEW", "CrlSet", "Problem", "ProblemKind", "RevocationPolicy", "RevocationResult", "Source", "decide"]

CLOCK_SKEW = timedelta(minutes=5)
"""How far in the future thisUpdate may be: CAs publish at once, and clocks differ by this much, not more."""

Source = Literal["crl", "ocsp", "exempt", "none"]

_RULES = {
    ("hard_fail", "chain"): "every certificate below the trust anchor is known not to be revoked (RFC 5280 §6.3)",
    ("hard_fail", "leaf"): "the leaf is known not to be revoked (RFC 5280 §6.3)",
    ("soft_fail", "chain"): "no certificate below the trust anchor is known to be revoked (soft_fail)",
    ("soft_fail", "leaf"): "the leaf is not known to be revoked (soft_fail)",
}


@dataclass(frozen=True, slots=True)
class RevocationPolicy:
    """A truststore's `revocation`. grace: how long past nextUpdate a list still counts. short_lived: leaves that live
    no longer are exempt; zero exempts none."""

    mode: Literal["hard_fail", "soft_fail", "off"]
    scope: Literal["chain", "leaf"] = "chain"
    grace: timedelta = timedelta(0)
    short_lived: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class RevocationResult:
    """reason: REVOKED, REVOCATION_UNKNOWN or None. source: what gave the answer. detail: one sentence.

    deadline: until when the answer holds, the earliest nextUpdate with grace among the lists relied upon; None where
    it relied upon none.
    """

    reason: Reason | None
    source: Source
    detail: str
    check: Check
    deadline: datetime | None


@dataclass(frozen=True, slots=True)
class _Answer:
    """What is known about one certificate. fix: how to mend a bad answer."""

    state: Literal["revoked", "good", "unknown", "exempt"]
    seen: str
    fix: str = ""
    deadline: datetime | None = None


def decide(chain: Sequence[Certificate], policy: RevocationPolicy, crls: CrlSet, at: datetime) -> RevocationResult:
    """Judge a verified chain, leaf first and trust anchor last, at an aware time. Never raises for what it meets."""
    if policy.mode == "off":
        check = Check("revocation", Result.SKIPPED, "revocation is off for this truststore", "none: mode is off")
        return RevocationResult(None, "none", "revocation is off for this truststore", check, None)
    below = list(pairwise(chain))
    judged = below[:1] if policy.scope == "leaf" else below
    answers = [_judge(*pair, policy, crls, at, is_leaf=number == 0) for number, pair in enumerate(judged)]
    if not answers:
        # A client that presents a trust anchor itself: nobody above could have revoked it.
        answers = [_Answer("unknown", "the chain has no issuer that could revoke", "use a leaf that a CA issued")]
    return _conclude(answers, policy)


def _conclude(answers: Sequence[_Answer], policy: RevocationPolicy) -> RevocationResult:
    rule = _RULES[policy.mode, policy.scope]
    for answer in answers:
        if answer.state == "revoked":
            check = Check("revocation", Result.FAIL, answer.seen, rule, answer.fix)
            return RevocationResult(Reason.REVOKED, "crl", answer.seen, check, None)
    unknown = [answer for answer in answers if answer.state == "unknown"]
    seen = "; ".join(answer.seen for answer in answers)
    fix = "; ".join(dict.fromkeys(answer.fix for answer in unknown))
    if unknown and policy.mode == "hard_fail":
        detail = "; ".join(answer.seen for answer in unknown)
        check = Check("revocation", Result.FAIL, detail, rule, fix)
        return RevocationResult(Reason.REVOCATION_UNKNOWN, "none", detail, check, None)
    deadline = min((answer.deadline for answer in answers if answer.deadline is not None), default=None)
    if unknown:
        seen = f"NOT KNOWN, let pass by soft_fail: {seen} (to mend: {fix})"
        source: Source = "none"
    else:
        source = "exempt" if answers[0].state == "exempt" else "crl"
    return RevocationResult(None, source, seen, Check("revocation", Result.PASS, seen, rule), deadline)


def _judge(
    certificate: Certificate,
    issuer: Certificate,
    policy: RevocationPolicy,
    crls: CrlSet,
    at: datetime,
    *,
    is_leaf: bool,
) -> _Answer:
    if is_leaf and (why := _exemption(certificate, policy)):
        return _Answer("exempt", f"{_title(certificate)} is exempt: {why}")
    signed = crls.signed_by(issuer)
    for crl in signed.crls:
        if (answer := _revoked(certificate, crl)) is not None:
            return answer
    covering = [crl for crl in signed.crls if crl.covers(certificate)]
    usable = [crl for crl in covering if _is_usable(crl, policy, at)]
    if usable:
        return _good(certificate, max(usable, key=_ends), policy, at)
    return _unknown(certificate, issuer, covering, signed.crls, signed.refused, at)


def _exemption(leaf: Certificate, policy: RevocationPolicy) -> str:
    """Why nobody has to ask about this leaf; "" when somebody has to."""
    if leaf.no_rev_avail and not leaf.is_ca:
        return "noRevAvail, its CA publishes no revocations of it (RFC 9608)"
    lifetime = leaf.not_after - leaf.not_before
    if timedelta(0) < policy.short_lived and lifetime <= policy.short_lived:
        return f"it lives {_span(lifetime)}, and short_lived is {_span(policy.short_lived)}"
    return ""


def _revoked(certificate: Certificate, crl: Crl) -> _Answer | None:
    entry = crl.lookup(certificate.serial)
    if entry is None:
        return None
    seen = (
        f"{_title(certificate)} was revoked at {_time(entry.revoked_at)} ({entry.reason or 'no reason given'}): "
        f"{crl.title}, issued {_time(crl.this_update)}"
    )
    fix = f"have {certificate.issuer} issue a new certificate"
    if entry.reason == "certificateHold":
        fix = f"have {certificate.issuer} lift the hold and publish a CRL without it, or issue a new certificate"
    return _Answer("revoked", seen, fix)


def _is_usable(crl: Crl, policy: RevocationPolicy, at: datetime) -> bool:
    return crl.this_update <= at + CLOCK_SKEW and at <= _deadline(crl, policy)


def _ends(crl: Crl) -> datetime:
    assert crl.next_update is not None  # CrlSet.build leaves the others out
    return crl.next_update


def _deadline(crl: Crl, policy: RevocationPolicy) -> datetime:
    try:
        return _ends(crl) + policy.grace
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)  # a CA that never means to publish again, plus grace


def _good(certificate: Certificate, crl: Crl, policy: RevocationPolicy, at: datetime) -> _Answer:
    ends, deadline = _ends(crl), _deadline(crl, policy)
    seen = f"{_title(certificate)} is not in {crl.title}, issued {_time(crl.this_update)}, next update {_time(ends)}"
    if at > ends:
        seen += f": it ended {_span(at - ends)} ago and counts by grace until {_time(deadline)}"
    return _Answer("good", seen, deadline=deadline)


def _unknown(
    certificate: Certificate,
    issuer: Certificate,
    covering: Sequence[Crl],
    signed: Sequence[Crl],
    refused: Sequence[str],
    at: datetime,
) -> _Answer:
    """Why no list answers, in the order of what an operator can mend soonest."""
    name = _title(certificate)
    if covering:
        newest = max(covering, key=_ends)
        if at < newest.this_update:
            ahead = _span(newest.this_update - at)
            fix = f"set the clocks of this host and of {issuer.subject}, or publish a CRL that has begun"
            return _Answer("unknown", f"{name}: {newest.title} begins only in {ahead}", fix)
        ended = f"{newest.title} ended {_span(at - _ends(newest))} ago, at {_time(_ends(newest))}"
        fix = f"publish a fresh CRL of {issuer.subject}: the one from {newest.source} ended"
        return _Answer("unknown", f"{name}: {ended}", f"{fix} {_span(at - _ends(newest))} ago")
    if signed:
        limits = ", ".join(f"{crl.title} ({_limits(crl)})" for crl in signed)
        fix = f"add a CRL of {issuer.subject} that covers it"
        return _Answer("unknown", f"{name} is covered by no CRL of its issuer: {limits}", fix)
    fix = f"add a CRL that {issuer.subject} signed with the key {issuer.spki_sha256[:16]} to revocation.crl.sources"
    why = f": {'; '.join(refused)}" if refused else ""
    return _Answer("unknown", f"{name}: there is no CRL of its issuer {issuer.subject}{why}", fix)


def _limits(crl: Crl) -> str:
    urls = f" that name {' or '.join(sorted(crl.urls))}" if crl.urls else ""
    kind = {"all": "certificates", "user": "end-entity certificates", "ca": "CA certificates"}[crl.scope]
    return f"for {kind}{urls}"


def _title(certificate: Certificate) -> str:
    return f"{certificate.subject or 'a certificate without subject'} (serial {certificate.serial:X})"


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _span(delta: timedelta) -> str:
    """A duration in its two largest units: `2 d 3 h`."""
    seconds = int(delta.total_seconds())
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    parts: list[str] = []
    for unit, size in units:
        count, seconds = divmod(seconds, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
