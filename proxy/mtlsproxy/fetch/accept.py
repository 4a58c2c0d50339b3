"""Whether fetched lists may take the place of those known. Pure.

CRLs travel over plain http: who is on the way can replay an old list, or serve another one of the same CA. So what is
verified and still fresh gives way only to what replaces it (RFC 5280 §5.2.3), and nothing ever gives way to older.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from mtlsproxy.revocation.combined import is_newer
from mtlsproxy.revocation.crl import Crl, verify_crl
from mtlsproxy.revocation.decide import CLOCK_SKEW
from mtlsproxy.revocation.errors import CrlError
from mtlsproxy.x509.certificate import Certificate

MAX_LISTS = 256
"""In one answer. Each is a file here and a mapping in every worker, and over plain http anybody can send pending ones;
a CA has a handful, a bundle of many CAs a hundred."""

MAX_NAMES = 16 * 1024
"""Octets of a list's issuer and URLs together: these are parsed, logged and shown by the process that serves requests,
and an honest list has a few hundred."""


class Refusal(StrEnum):
    """Why a list that was fetched is not used: fixed words, for logs and counters."""

    MALFORMED = "malformed"
    TOO_MUCH = "too_much"
    NOT_SIGNED = "not_signed"
    FOREIGN_ISSUER = "foreign_issuer"
    ROLLBACK = "rollback"
    NO_NEXT_UPDATE = "no_next_update"
    NOT_YET_VALID = "not_yet_valid"


_BEGIN = b"-----BEGIN "


class Unfit(Exception):
    """Fetched lists that are not used. detail: one sentence that names the list."""

    def __init__(self, refusal: Refusal, detail: str) -> None:
        super().__init__(detail)
        self.refusal = refusal
        self.detail = detail


def accept(
    offered: Sequence[Crl], known: Sequence[Crl], issuers: Sequence[Certificate], at: datetime, *, pending: bool
) -> bool:
    """Return when `offered` may replace `known`: True if every list is verified, False if some are pending, that is, of
    a CA whose certificate is not among `issuers`. Raises Unfit.

    pending: whether such lists are taken at all; they count only for chains that bring their CA.
    """
    for crl in offered:
        names = len(crl.issuer_der) + sum(map(len, (*crl.urls, *crl.freshest_urls)))
        if names > MAX_NAMES:
            text = f"{crl.title} has {names} octets of names and URLs; {MAX_NAMES} are allowed"
            raise Unfit(Refusal.TOO_MUCH, text)
    verified = [_is_verified(crl, issuers, pending=pending) for crl in offered]
    for crl in offered:
        if crl.next_update is None:
            text = f"{crl.title} of {crl.issuer} has no nextUpdate (RFC 5280 §5.1.2.5)"
            raise Unfit(Refusal.NO_NEXT_UPDATE, text)
        if crl.this_update > at + CLOCK_SKEW:
            text = f"{crl.title} of {crl.issuer} begins only at {crl.this_update:%Y-%m-%dT%H:%M:%SZ}"
            raise Unfit(Refusal.NOT_YET_VALID, text)
    successors = [crl for crl, is_verified in zip(offered, verified, strict=True) if is_verified]
    for old in known:
        if any(_signed_by(old, issuer) for issuer in issuers):
            _require_successor(old, successors, at)
    return all(verified)


def refuse_bundle(data: bytes, source: str) -> None:
    """Before `data` is parsed: raises Unfit where it holds more lists than are taken."""
    count = data.count(_BEGIN)
    if count > MAX_LISTS:
        raise Unfit(Refusal.TOO_MUCH, f"{source}: {count} PEM blocks; {MAX_LISTS} lists are allowed in one answer")


def _is_verified(crl: Crl, issuers: Sequence[Certificate], *, pending: bool) -> bool:
    if any(_signed_by(crl, issuer) for issuer in issuers):
        return True
    named = [issuer for issuer in issuers if issuer.subject_der == crl.issuer_der]
    # One that names the very key, or whose issuer is known for certain, can wait for no other.
    if any(issuer.subject_key_id == crl.authority_key_id is not None for issuer in named) or (named and not pending):
        raise Unfit(Refusal.NOT_SIGNED, f"{crl.title} is not signed by its issuer {crl.issuer}")
    if not pending:
        expected = " or ".join(sorted({issuer.subject for issuer in issuers})) or "nobody known"
        raise Unfit(Refusal.FOREIGN_ISSUER, f"{crl.title} is of {crl.issuer}, and expected was {expected}")
    return False


def _signed_by(crl: Crl, issuer: Certificate) -> bool:
    try:
        verify_crl(crl, issuer)
    except CrlError:
        return False
    return True


def _require_successor(old: Crl, offered: Sequence[Crl], at: datetime) -> None:
    ended = old.next_update is not None and old.next_update < at
    successors = [crl for crl in offered if _replaces(crl, old)]
    for new in successors:
        # A CA that numbers anew cannot be told from a replay while the known list is fresh; a later date of issue can.
        if new.this_update < old.this_update or (is_newer(old, new) and not ended):
            text = f"{new.title} of {new.issuer} is older than {_name(old)}, which is known already (rollback)"
            raise Unfit(Refusal.ROLLBACK, text)
    if not successors and not ended:
        text = f"{old.source} no longer holds {_name(old)} of {old.issuer} or its successor, and that is still fresh"
        raise Unfit(Refusal.FOREIGN_ISSUER, text)


def _replaces(new: Crl, old: Crl) -> bool:
    return (new.issuer_der, new.scope, new.urls, new.is_delta) == (old.issuer_der, old.scope, old.urls, old.is_delta)


def _name(crl: Crl) -> str:
    issued = f"{crl.this_update:%Y-%m-%dT%H:%M:%SZ}"
    return f"the one issued {issued}" if crl.number is None else f"number {crl.number} issued {issued}"
