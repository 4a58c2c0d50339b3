"""How long revocation data still lasts, and what became of asking for more: for status and readiness."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from mtlsproxy.fetch.client import CrlEvent
from mtlsproxy.revocation.combined import CombinedCrl
from mtlsproxy.revocation.crl import Crl
from mtlsproxy.revocation.policy import RevocationPolicy
from mtlsproxy.verdict.trust import Trust

_BEYOND_EXACT = 1 << 53

Asked = tuple[str, CrlEvent | None]
"""A URL that is kept fetched, and what became of the last try; None before the first."""


def lists_of(trust: Trust, now: datetime) -> list[dict[str, Any]]:
    """Every CRL in use with its delta, when it ends and what that means by now."""
    return [
        {
            "issuer": found.base.issuer,
            **_list(found.base),
            "state": _state(found, trust.revocation, now),
            "seconds_left": _seconds_left(found, now),
            "delta": found.delta and _list(found.delta),
        }
        for found in trust.crls.lists
    ]


def missing_from(trust: Trust) -> list[str]:
    """Trust anchors whose every client is refused for want of a list that nobody has given, by subject."""
    policy = trust.revocation
    elsewhere = trust.ocsp is not None or trust.points is not None
    if policy.mode != "hard_fail" or policy.scope != "chain" or elsewhere:
        return []
    return [anchor.subject for anchor in trust.truststore.anchors if not trust.crls.signed_by(anchor).lists]


def ends_of(trust: Trust, now: datetime) -> list[dict[str, Any]]:
    """The same in short, of each CA; and those that `missing_from` names."""
    missing = [
        {"truststore": trust.name, "issuer": issuer, "state": "missing", "seconds_left": None}
        for issuer in missing_from(trust)
    ]
    return missing + [
        {
            "truststore": trust.name,
            "issuer": found.base.issuer,
            "state": _state(found, trust.revocation, now),
            "seconds_left": _seconds_left(found, now),
        }
        for found in trust.crls.lists
    ]


def tries_of(asked: Iterable[Asked]) -> list[dict[str, Any]]:
    """Each URL: `ok` or what went wrong at the last try, when the server last confirmed its list, and the next try."""
    return [_try(url, event) for url, event in asked]


def _try(url: str, event: CrlEvent | None) -> dict[str, Any]:
    if event is None:
        return {"url": url, "named_by": None, "last_try": "under way", "fetched_at": None, "next_try": None}
    return {
        "url": url,
        "named_by": event.source.named_by,
        "last_try": event.detail if event.failure else "ok",
        "fetched_at": event.fetched_at,
        "next_try": event.next_at,
    }


def _list(crl: Crl) -> dict[str, Any]:
    return {
        "source": crl.source,
        "number": _exact(crl.number),
        "this_update": crl.this_update,
        "next_update": crl.next_update,
        "entries": crl.entries,
    }


def _exact(number: int | None) -> int | str | None:
    """In digits where it is beyond what readers of JSON keep exactly (RFC 7493 §2.2): CRL numbers have 20 octets."""
    return number if number is None or number < _BEYOND_EXACT else str(number)


def _seconds_left(found: CombinedCrl, now: datetime) -> int:
    """Until nextUpdate; below 0 after it."""
    end = found.in_force(now).next_update
    assert end is not None  # CrlSet.build leaves the others out
    return int((end - now).total_seconds())


def _state(found: CombinedCrl, policy: RevocationPolicy, now: datetime) -> str:
    """fresh, grace, or ended: then the mode decides."""
    left = _seconds_left(found, now)
    if left >= 0:
        return "fresh"
    return "grace" if -left < policy.grace.total_seconds() else "ended"
