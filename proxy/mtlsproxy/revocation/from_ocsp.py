"""What OCSP says about a certificate, of the answers fetched so far (RFC 6960)."""

from datetime import datetime, timedelta

from mtlsproxy.revocation.answer import Answer
from mtlsproxy.revocation.crlset import CrlSet
from mtlsproxy.revocation.from_crls import fix_revoked, revoked_by
from mtlsproxy.revocation.ocsp_answers import OcspAnswer, OcspAnswers, OcspFailure
from mtlsproxy.revocation.policy import OcspPolicy
from mtlsproxy.revocation.wording import ago, moment, title
from mtlsproxy.x509.certificate import Certificate

OCSP_RETRY = timedelta(minutes=1)
"""How long a verdict without the OCSP answer that it wanted may stand before it is judged again."""


def answer_of_ocsp(
    certificate: Certificate,
    issuer: Certificate,
    policy: OcspPolicy,
    ocsp: OcspAnswers | None,
    crls: CrlSet,
    at: datetime,
) -> Answer:
    """revoked, good or unknown, at an aware time. crls: what they say about a responder counts."""
    found = None if ocsp is None else ocsp.get(certificate, issuer)
    name = title(certificate)
    if found is None and policy.responder is None and not certificate.ocsp_urls:
        fix = f"set revocation.ocsp.responder, or have {issuer.subject} name its responder in certificates"
        return Answer("unknown", "none", f"{name} names no OCSP responder", fix)
    retry = at + OCSP_RETRY
    if found is None:
        seen = (
            f"{name}: OCSP has not answered yet, asked at {policy.responder or ' or '.join(certificate.ocsp_urls[:2])}"
        )
        return Answer("unknown", "none", seen, "try again", retry, wanted=True)
    if isinstance(found, OcspFailure):
        seen = f"{name}: OCSP failed {ago(found.at, at)}: {found.detail}"
        return Answer("unknown", "none", seen, f"mend the OCSP responder of {issuer.subject}, or the way there", retry)
    if found.delegate is not None and (crl := revoked_by(found.delegate, issuer, crls, at)):
        seen = f"{name}: the OCSP responder that answered, {found.responder}, is revoked itself by {crl}"
        return Answer("unknown", "none", seen, f"have {issuer.subject} certify another responder", retry)
    return _judge(certificate, issuer, found, at)


def _judge(certificate: Certificate, issuer: Certificate, answer: OcspAnswer, at: datetime) -> Answer:
    name, stale = title(certificate), at > answer.expires
    source = f"OCSP of {answer.responder}, {_age(answer, at)}"
    if answer.status == "revoked":
        when = f"at {moment(answer.revoked_at)} " if answer.revoked_at is not None else ""
        seen = f"{name} was revoked {when}({answer.reason or 'no reason given'}): {source}"
        fix = fix_revoked(certificate, answer.reason)
        return Answer("revoked", "ocsp", seen, fix, None, "none" if stale else "fresh", wanted=stale)
    if stale:
        seen = f"{name}: the answer by {source}, ended {ago(answer.expires, at)}"
        return Answer("unknown", "none", seen, f"see why the OCSP responder of {issuer.subject} does not answer",
                      at + OCSP_RETRY, wanted=True)  # fmt: skip
    if answer.status == "unknown":
        fix = f"have {issuer.subject} tell its OCSP responder of the certificate"
        return Answer("unknown", "none", f"{name} is unknown to the {source}", fix, _deadline(answer, at))
    return Answer("good", "ocsp", f"{name} is good by {source}", deadline=_deadline(answer, at), freshness="fresh")


def _deadline(answer: OcspAnswer, at: datetime) -> datetime:
    """When to look for the next answer, which tells of connections that stay open, too."""
    return answer.due if at < answer.due else answer.expires


def _age(answer: OcspAnswer, at: datetime) -> str:
    """How old the answer is, and how long it counts."""
    ends = f"next update {moment(answer.next_update)}" if answer.next_update else f"counted to {moment(answer.expires)}"
    return f"of {moment(answer.this_update)} ({ago(answer.this_update, at)}), {ends}"
