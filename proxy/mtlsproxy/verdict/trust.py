"""A truststore as a verdict needs it: path policy, revocation data, deny list."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from mtlsproxy.access.matcher import Matcher, compile_match
from mtlsproxy.access.pattern import Use
from mtlsproxy.config.model import DenyEntry
from mtlsproxy.identity.client import Client
from mtlsproxy.revocation.decide import CrlSet, RevocationPolicy
from mtlsproxy.x509.evidence import Check, Result
from mtlsproxy.x509.policy import Truststore

_RULE = "the truststore's deny: refused whatever else says"


@dataclass(frozen=True, slots=True)
class _Entry:
    matcher: Matcher
    expires: datetime | None
    reason: str | None


class DenyList:
    """Who is refused although a truststore verifies them. An entry past its `expires` no longer counts."""

    __slots__ = ("_entries",)

    def __init__(self, entries: Sequence[DenyEntry]) -> None:
        self._entries = tuple(_Entry(compile_match(e, Use.DENY), e.expires, e.reason) for e in entries)

    def check(self, client: Client, at: datetime) -> Check:
        for number, entry in enumerate(self._entries):
            if (entry.expires is None or at < entry.expires) and entry.matcher.matches(client):
                why = f": {entry.reason}" if entry.reason else ""
                return Check(
                    "deny",
                    Result.FAIL,
                    f"matched by deny[{number}] {{{entry.matcher.text}}}{why}",
                    _RULE,
                    "remove the entry from the truststore's deny, if it is mistaken",
                )
        return Check("deny", Result.PASS, f"none of {len(self._entries)} entries matches", _RULE)


@dataclass(frozen=True, slots=True)
class Trust:
    """Everything that decides whether a truststore vouches for a client."""

    truststore: Truststore
    revocation: RevocationPolicy
    crls: CrlSet
    deny: DenyList

    @property
    def name(self) -> str:
        return self.truststore.name
