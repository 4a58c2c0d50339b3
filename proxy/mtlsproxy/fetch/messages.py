"""What the proxy and its helper process say to each other: one JSON object a line, each with an `op`.

To the helper: load, subscribe, unsubscribe, refresh. From it: loaded, event, log. `id` ties answers to questions.
"""

from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, cast

import orjson

from mtlsproxy.fetch.rules import FetchRules, NamedBy
from mtlsproxy.fetch.schedule import FIRST_RETRY
from mtlsproxy.x509.certificate import Certificate, parse_certificate

MAX_LINE = 64 * 1024 * 1024
"""Octets. A thousand CAs with large certificates fit; what is longer is a mistake of ours."""

Outcome = Literal["restored", "updated", "unchanged", "failed", "refused"]
"""restored: from disk. failed: nothing came. refused: something came and is not used; the known list stays in use."""


@dataclass(frozen=True, slots=True)
class CrlUrl:
    """A URL to keep fetched.

    scope: the truststore's name; copies of one URL in two scopes are two. issuers: certificates that may sign what
    comes. named_by: a configured URL may also serve lists of CAs that are met in clients' chains alone (pending until
    then); what a certificate names must be its issuer's. refresh: seconds, the longest wait between two fetches.
    first_retry: seconds until the first retry after a failure.
    """

    url: str
    scope: str
    named_by: NamedBy
    issuers: tuple[Certificate, ...]
    rules: FetchRules
    refresh: float
    first_retry: float = field(default=FIRST_RETRY)


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a fetch.

    failure: one of FetchFailure or Refusal, `disk`, `ended` for a list that has, "" for none. detail: one sentence.
    indexes: index files of what is in use from now on, empty where there is nothing. verified: whether all of it is
    signed by a known issuer. fetched_at: when the server last confirmed it. next_at: when it is asked again. All times
    aware UTC.
    """

    outcome: Outcome
    failure: str
    detail: str
    indexes: tuple[str, ...]
    verified: bool
    fetched_at: datetime | None
    next_at: datetime


def encode(message: dict[str, Any]) -> bytes:
    return orjson.dumps(message) + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """Raises ValueError for what is no JSON. Only our own two processes write here."""
    return cast(dict[str, Any], orjson.loads(line))


def subscribe_message(number: int, source: CrlUrl) -> dict[str, Any]:
    rules = source.rules
    return {
        "op": "subscribe",
        "id": number,
        "url": source.url,
        "scope": source.scope,
        "named_by": source.named_by,
        "issuers": [b64encode(issuer.der).decode() for issuer in source.issuers],
        "refresh": source.refresh,
        "first_retry": source.first_retry,
        "rules": {
            "configured_hosts": sorted(rules.configured_hosts),
            "allowed_hosts": sorted(rules.allowed_hosts),
            "max_size": rules.max_size,
            "timeout": rules.timeout,
            "trust_anchors": rules.trust_anchors,
        },
    }


def read_subscribe(message: dict[str, Any]) -> CrlUrl:
    return CrlUrl(
        message["url"],
        message["scope"],
        message["named_by"],
        tuple(parse_certificate(b64decode(text)) for text in message["issuers"]),
        FetchRules.of(**message["rules"]),
        message["refresh"],
        message["first_retry"],
    )


def event_message(number: int, report: Report) -> dict[str, Any]:
    return {
        "op": "event",
        "id": number,
        "outcome": report.outcome,
        "failure": report.failure,
        "detail": report.detail,
        "indexes": report.indexes,
        "verified": report.verified,
        "fetched_at": report.fetched_at,
        "next_at": report.next_at,
    }


def read_event(message: dict[str, Any]) -> Report:
    fetched_at = message["fetched_at"]
    return Report(
        cast(Outcome, message["outcome"]),
        message["failure"],
        message["detail"],
        tuple(message["indexes"]),
        message["verified"],
        None if fetched_at is None else datetime.fromisoformat(fetched_at),
        datetime.fromisoformat(message["next_at"]),
    )
