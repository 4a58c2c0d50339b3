"""What the CRLs of a certificate's issuer say about it (RFC 5280 §6.3).

A revoked entry decides, however old its list. Silence means good only from a list that the certificate's issuer in
this very chain signed, that covers the certificate, and that is fresh.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from mtlsproxy.revocation.answer import Answer, Freshness
from mtlsproxy.revocation.combined import HOLD, CombinedCrl, has_begun
from mtlsproxy.revocation.crl import Crl, RevokedEntry
from mtlsproxy.revocation.crlset import CrlSet
from mtlsproxy.revocation.policy import RevocationPolicy
from mtlsproxy.revocation.wording import ago, moment, span, title
from mtlsproxy.x509.certificate import Certificate


def answer_of_crls(
    certificate: Certificate, issuer: Certificate, policy: RevocationPolicy, crls: CrlSet, at: datetime
) -> Answer:
    """revoked, good or unknown, at an aware time."""
    signed = crls.signed_by(issuer)
    if (hit := signed.lookup(certificate.serial, at)) is not None:
        return _revoked(certificate, *hit, policy, at)
    covering = [found for found in signed.lists if found.covers(certificate)]
    usable = [found for found in covering if _freshness(found.in_force(at), policy, at) != "none"]
    if usable:
        return _good(certificate, max(usable, key=lambda found: _ends(found.in_force(at))), policy, at)
    return _unknown(certificate, issuer, covering, signed.lists, signed.refused, at)


def revoked_by(certificate: Certificate, issuer: Certificate, crls: CrlSet, at: datetime) -> str:
    """The list of `issuer` that revokes `certificate`; "" where none does."""
    hit = crls.signed_by(issuer).lookup(certificate.serial, at)
    return "" if hit is None else hit[1].title


def _revoked(certificate: Certificate, entry: RevokedEntry, crl: Crl, policy: RevocationPolicy, at: datetime) -> Answer:
    seen = (
        f"{title(certificate)} was revoked at {moment(entry.revoked_at)} ({entry.reason or 'no reason given'}): "
        f"{crl.title}, issued {moment(crl.this_update)} ({ago(crl.this_update, at)})"
    )
    fix, held = fix_revoked(certificate, entry.reason), entry.reason == HOLD
    return Answer("revoked", "crl", seen, fix, None, _freshness(crl, policy, at), held=held)


def fix_revoked(certificate: Certificate, reason: str | None) -> str:
    """How a client whose certificate is revoked gets in again."""
    if reason == HOLD:
        return f"have {certificate.issuer} lift the hold and publish that, or issue a new certificate"
    return f"have {certificate.issuer} issue a new certificate"


def _freshness(crl: Crl, policy: RevocationPolicy, at: datetime) -> Freshness:
    if not has_begun(crl, at) or at > _deadline(crl, policy):
        return "none"
    return "fresh" if at <= _ends(crl) else "grace"


def _ends(crl: Crl) -> datetime:
    assert crl.next_update is not None  # CrlSet.build leaves the others out
    return crl.next_update


def _deadline(crl: Crl, policy: RevocationPolicy) -> datetime:
    try:
        return _ends(crl) + policy.grace
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)  # a CA that never means to publish again, plus grace


def _good(certificate: Certificate, found: CombinedCrl, policy: RevocationPolicy, at: datetime) -> Answer:
    crl = found.in_force(at)
    ends, deadline = _ends(crl), _deadline(crl, policy)
    seen = (
        f"{title(certificate)} is not in {found.title}, issued {moment(crl.this_update)} ({ago(crl.this_update, at)})"
    )
    seen += f", next update {moment(ends)}"
    if at > ends:
        seen += f": it ended {ago(ends, at)} and counts by grace until {moment(deadline)}"
    elif found.delta is not None and crl is found.base:
        seen += f": the delta ended {ago(_ends(found.delta), at)}, and the complete list still counts"
    return Answer("good", "crl", seen, deadline=deadline, freshness=_freshness(crl, policy, at))


def _unknown(
    certificate: Certificate,
    issuer: Certificate,
    covering: Sequence[CombinedCrl],
    signed: Sequence[CombinedCrl],
    refused: Sequence[str],
    at: datetime,
) -> Answer:
    """Why no list answers, in the order of what an operator can mend soonest."""
    name = title(certificate)
    if covering:
        newest = max((found.in_force(at) for found in covering), key=_ends)
        if at < newest.this_update:
            fix = f"set the clocks of this host and of {issuer.subject}, or publish a CRL that has begun"
            return _no(f"{name}: {newest.title} begins only in {span(newest.this_update - at)}", fix)
        ended = f"{newest.title} ended {ago(_ends(newest), at)}, at {moment(_ends(newest))}"
        fix = f"publish a fresh CRL of {issuer.subject}: the one from {newest.source} ended {ago(_ends(newest), at)}"
        return _no(f"{name}: {ended}", fix)
    if signed:
        limits = ", ".join(f"{found.title} ({_limits(found.base)})" for found in signed)
        fix = f"add a CRL of {issuer.subject} that covers it"
        return _no(f"{name} is covered by no CRL of its issuer: {limits}", fix)
    fix = f"add a CRL that {issuer.subject} signed with the key {issuer.spki_sha256[:16]} to revocation.crl.sources"
    why = f": {'; '.join(refused)}" if refused else ""
    return _no(f"{name}: there is no CRL of its issuer {issuer.subject}{why}", fix)


def _no(seen: str, fix: str) -> Answer:
    return Answer("unknown", "none", seen, fix)


def _limits(crl: Crl) -> str:
    urls = f" that name {' or '.join(sorted(crl.urls))}" if crl.urls else ""
    kind = {"all": "certificates", "user": "end-entity certificates", "ca": "CA certificates"}[crl.scope]
    return f"for {kind}{urls}"
