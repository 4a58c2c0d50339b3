"""Who is this, and may they come in: the one judgement that data path, re-judging and `explain` share."""

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise

from mtlsproxy.identity.client import Client, client_of
from mtlsproxy.reasons import Reason
from mtlsproxy.revocation.decide import RevocationResult
from mtlsproxy.revocation.decide import decide as decide_revocation
from mtlsproxy.verdict.trust import Trust
from mtlsproxy.x509.certificate import Certificate, MalformedCertificate, parse_certificate
from mtlsproxy.x509.evidence import CHECK_NAMES, Check, Result
from mtlsproxy.x509.validate import Refused, Verified, validate

MAX_PRESENTED = 20
"""Certificates of a client's chain: more than the deepest that `max_chain_depth` allows, with its leaf and anchor."""

MAX_PRESENTED_SIZE = 16 * 1024
"""Bytes of each: a client's certificate is a kilobyte or two, with post-quantum signatures less than ten."""

_JUDGED_HERE = CHECK_NAMES[: CHECK_NAMES.index("route")]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What could change a verdict and is not here: an OCSP answer, or lists of distribution points never asked.

    points: URLs of the certificate's distribution points, and of the deltas to their lists (RFC 5280 §4.2.1.15).
    """

    truststore: str
    certificate: Certificate
    issuer: Certificate
    ocsp: bool
    points: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Vouch:
    """A truststore that verified the client. chain: leaf … trust anchor. checks: `chain` … `deny`."""

    truststore: str
    chain: tuple[Certificate, ...]
    checks: tuple[Check, ...]
    revocation_source: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of a client. Accepted when `reason` is None; then at least one truststore vouches.

    checks: of the first truststore that vouches, else of the one that came closest. deadline: until when an acceptance
    holds (the earliest notAfter or end of revocation data relied upon); None for a refusal, which is not kept.
    """

    leaf: Certificate | None
    client: Client | None
    vouches: tuple[Vouch, ...]
    reason: Reason | None
    detail: str
    checks: tuple[Check, ...]
    deadline: datetime | None
    truststore: str | None
    """The first that vouches; of a refusal, the one that came closest."""
    revocation_source: str = "none"
    fingerprint: str | None = None
    """SHA-256 of the DER presented as leaf, lower-case hexadecimal; also of one that cannot be read."""
    wanted: tuple[Wanted, ...] = ()
    """Fetch these and judge again; until then the verdict stands on what is known."""

    @property
    def truststores(self) -> tuple[str, ...]:
        return tuple(vouch.truststore for vouch in self.vouches)

    def vouch(self, truststore: str) -> Vouch:
        return next(vouch for vouch in self.vouches if vouch.truststore == truststore)


@dataclass(frozen=True, slots=True)
class _Judged:
    """One truststore's answer."""

    name: str
    reason: Reason | None
    detail: str
    checks: tuple[Check, ...]
    chain: tuple[Certificate, ...]
    deadline: datetime | None
    source: str
    wanted: tuple[Wanted, ...] = ()


def judge(presented: Sequence[bytes], trusts: Sequence[Trust], at: datetime) -> Verdict:
    """Judge DER certificates, leaf first, against truststores in the listener's order, at an aware time.

    Revoked or denied by one truststore that verifies the chain is refused, whoever else vouches: such an answer
    decides (configuration.md, "Details fixed").
    """
    if (excess := _excess(presented)) is not None:
        return _malformed(excess, presented, readable=False)
    try:
        certificates = [parse_certificate(der) for der in presented]
    except MalformedCertificate as error:
        return _malformed(error.detail, presented)
    if not certificates:
        return _no_certificate()
    leaf, others = certificates[0], certificates[1:]
    client = client_of(leaf)
    judged = [_judge_one(leaf, others, client, trust, at) for trust in trusts]
    decisive = [j for j in judged if j.reason in (Reason.REVOKED, Reason.DENIED)]
    accepted = [j for j in judged if j.reason is None]
    # One that nothing could change settles it, whatever the others would have asked for.
    settled = any(not j.wanted for j in decisive)
    wanted = () if settled else tuple(want for j in decisive or judged for want in j.wanted)
    if decisive or not accepted:
        closest = decisive[0] if decisive else max(judged, key=_progress)
        return Verdict(
            leaf, client, (), closest.reason, closest.detail, closest.checks, None, closest.name, closest.source,
            leaf.fingerprint_sha256, wanted,
        )  # fmt: skip
    vouches = tuple(Vouch(j.name, j.chain, j.checks, j.source) for j in accepted)
    deadline = min(j.deadline for j in accepted if j.deadline is not None)
    first = accepted[0]
    return Verdict(
        leaf, client, vouches, None, "", first.checks, deadline, first.name, first.source, leaf.fingerprint_sha256,
        wanted,
    )  # fmt: skip


def with_denials_of(verdict: Verdict, trusts: Sequence[Trust], at: datetime) -> Verdict | None:
    """An acceptance as it is under the deny lists of `trusts`, of whom nothing else has changed since it was made.

    None where one of them denies the client: then all has to be judged anew.
    """
    client = verdict.client
    assert client is not None
    denied = {trust.name: trust.deny.check(client, at) for trust in trusts}
    if any(check.result is Result.FAIL for check in denied.values()):
        return None
    vouches = tuple(replace(v, checks=(*v.checks[:-1], denied[v.truststore])) for v in verdict.vouches)
    return replace(verdict, vouches=vouches, checks=vouches[0].checks)


def _judge_one(leaf: Certificate, others: Sequence[Certificate], client: Client, trust: Trust, at: datetime) -> _Judged:
    outcome = validate(leaf, others, trust.truststore, at)
    denied = trust.deny.check(client, at)
    if isinstance(outcome, Refused):
        skipped = Check("revocation", Result.SKIPPED, "", "judged for verified chains only")
        return _Judged(trust.name, outcome.reason, outcome.detail, (*outcome.checks, skipped, denied), (), None, "none")
    return _judge_verified(outcome, denied, trust, at)


def _judge_verified(outcome: Verified, denied: Check, trust: Trust, at: datetime) -> _Judged:
    revocation = decide_revocation(outcome.chain, trust.revocation, trust.crls, at, trust.ocsp)
    checks = (*outcome.checks, revocation.check, denied)
    deadline = outcome.deadline if revocation.deadline is None else min(outcome.deadline, revocation.deadline)
    reason, detail = revocation.reason, revocation.detail
    # An entry that denies is certain where revocation is merely unknown, and the log should say so.
    if reason is not Reason.REVOKED and denied.result is Result.FAIL:
        reason, detail = Reason.DENIED, denied.seen
    wanted = () if denied.result is Result.FAIL else _wanted(outcome, revocation, trust)
    return _Judged(trust.name, reason, detail, checks, outcome.chain, deadline, revocation.source, wanted)


def _wanted(outcome: Verified, revocation: RevocationResult, trust: Trust) -> tuple[Wanted, ...]:
    """Every certificate in scope whose OCSP answer or lists have yet to be asked for. About one that is revoked nobody
    asks on, unless by a hold, which a list can lift."""
    is_revoked = revocation.reason is Reason.REVOKED
    asked = {} if is_revoked else {pair[0]: True for pair in revocation.wanted}
    pairs = list(pairwise(outcome.chain))
    if trust.revocation.scope == "leaf":
        pairs = pairs[:1]
    points: dict[Certificate, tuple[str, ...]] = {}
    if trust.points is not None and revocation.source != "exempt" and (revocation.held or not is_revoked):
        known = trust.points.asked
        points = {c: tuple(u for u in (*c.crl_urls, *c.freshest_urls) if not known(u, i)) for c, i in pairs}
    return tuple(
        Wanted(trust.name, certificate, issuer, certificate in asked, points.get(certificate, ()))
        for certificate, issuer in pairs
        if certificate in asked or points.get(certificate)
    )


def _progress(judged: _Judged) -> int:
    """How far a refusal came: a truststore that does not know the issuer has the least to say."""
    if judged.reason is Reason.UNTRUSTED_ISSUER:
        return 0
    return 2 if judged.chain else 1


def _excess(presented: Sequence[bytes]) -> str | None:
    """What is too much to be looked at: strangers choose what they present, and looking costs."""
    if len(presented) > MAX_PRESENTED:
        return f"{len(presented)} certificates presented; at most {MAX_PRESENTED} are looked at"
    largest = max(map(len, presented), default=0)
    if largest > MAX_PRESENTED_SIZE:
        return f"a certificate of {largest} bytes presented; at most {MAX_PRESENTED_SIZE} are looked at"
    return None


def _malformed(detail: str, presented: Sequence[bytes], *, readable: bool = True) -> Verdict:
    failed = Check(
        "chain",
        Result.FAIL,
        detail,
        "every certificate presented is well-formed (RFC 5280 §4.1)",
        "have the certificate issued again by a CA that encodes it properly",
    )
    leaf = None
    if readable:
        with contextlib.suppress(MalformedCertificate):  # then there is nobody to name
            leaf = parse_certificate(presented[0])
    client = client_of(leaf) if leaf is not None else None
    fingerprint = hashlib.sha256(presented[0]).hexdigest()
    return _refused(leaf, client, Reason.MALFORMED_CERTIFICATE, detail, failed, fingerprint)


def _no_certificate() -> Verdict:
    detail = "the client presented no certificate"
    failed = Check(
        "chain",
        Result.FAIL,
        detail,
        "a client certificate is required",
        "configure the client with a certificate and its key",
    )
    return _refused(None, None, Reason.NO_CERTIFICATE, detail, failed, None)


def _refused(
    leaf: Certificate | None, client: Client | None, reason: Reason, detail: str, failed: Check, fingerprint: str | None
) -> Verdict:
    rest = tuple(Check(name, Result.SKIPPED, "", "judged for readable certificates only") for name in _JUDGED_HERE[1:])
    return Verdict(leaf, client, (), reason, detail, (failed, *rest), None, None, fingerprint=fingerprint)
