"""A truststore as a verdict needs it: path policy, revocation data, deny list."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from mtlsproxy.access.matcher import compile_match
from mtlsproxy.access.pattern import Use
from mtlsproxy.access.rules import RuleList
from mtlsproxy.config.model import DenyEntry
from mtlsproxy.config.scalars import Instant, Name, Text
from mtlsproxy.identity.client import Client
from mtlsproxy.revocation.decide import CrlSet, RevocationPolicy
from mtlsproxy.revocation.ocsp_answers import OcspAnswers
from mtlsproxy.x509.certificate import Certificate
from mtlsproxy.x509.evidence import Check, Result
from mtlsproxy.x509.policy import Truststore

_RULE = "the truststore's deny: refused whatever else says"


class Denial(DenyEntry):
    """An entry made while the proxy runs. truststore: None for all of them. created: aware UTC. by: who asked."""

    id: Text
    truststore: Name | None = None
    created: Instant
    by: Text

    def is_active(self, at: datetime) -> bool:
        return self.expires is None or at < self.expires


class DenyCounts(NamedTuple):
    """How many entries come from where."""

    configured: int
    file: int
    api: int


class _Group:
    """Entries of one origin. named: how evidence calls each, in their order; fix: how to take one back."""

    __slots__ = ("_fix", "_named", "_rules", "entries")

    def __init__(self, entries: Sequence[DenyEntry], named: Sequence[str], fix: str) -> None:
        self.entries = tuple(entries)
        self._named = tuple(named)
        self._fix = fix
        self._rules = RuleList([compile_match(entry, Use.DENY) for entry in self.entries])

    def check(self, client: Client, at: datetime) -> Check | None:
        """The failed check, when an entry that still counts matches."""
        for position in self._rules.matching(client):
            entry = self.entries[position]
            if entry.expires is None or at < entry.expires:
                why = f": {entry.reason}" if entry.reason else ""
                seen = f"matched by {self._named[position]} {{{self._rules.matchers[position].text}}}{why}"
                return Check("deny", Result.FAIL, seen, _RULE, self._fix)
        return None


class DenyList:
    """Who is refused although a truststore verifies them. An entry past its `expires` no longer counts.

    entries: of the configuration's `deny`; from_file: of its `deny_file`; denials: made through the API, for this
    truststore or for all.
    """

    __slots__ = ("_api", "_configured", "_file")

    def __init__(
        self, entries: Sequence[DenyEntry], from_file: Sequence[DenyEntry] = (), denials: Iterable[Denial] = ()
    ) -> None:
        self._configured = _Group(
            entries,
            [f"deny[{number}]" for number in range(len(entries))],
            "remove the entry from the truststore's deny, if it is mistaken",
        )
        self._file = _Group(
            from_file,
            [f"deny_file[{number}]" for number in range(len(from_file))],
            "remove the entry from the truststore's deny_file, if it is mistaken",
        )
        self._api = _api_group(denials)

    def with_denials(self, denials: Iterable[Denial]) -> "DenyList":
        """The same with these denials in place of those that it had; what comes from files is shared."""
        other = object.__new__(DenyList)
        other._configured, other._file = self._configured, self._file
        other._api = _api_group(denials)
        return other

    @property
    def configured(self) -> tuple[DenyEntry, ...]:
        return self._configured.entries

    @property
    def from_file(self) -> tuple[DenyEntry, ...]:
        return self._file.entries

    @property
    def counts(self) -> DenyCounts:
        return DenyCounts(len(self._configured.entries), len(self._file.entries), len(self._api.entries))

    def check(self, client: Client, at: datetime) -> Check:
        for group in (self._configured, self._file, self._api):
            failed = group.check(client, at)
            if failed is not None:
                return failed
        return Check("deny", Result.PASS, f"none of {sum(self.counts)} entries matches", _RULE)


def _api_group(denials: Iterable[Denial]) -> _Group:
    entries = tuple(denials)
    return _Group(
        entries,
        [f"denial {denial.id}" for denial in entries],
        "lift the denial (DELETE /api/deny/ID of the admin listener), if it is mistaken",
    )


class DistributionPoints(Protocol):
    """Which CRL URLs that certificates name have been asked for an issuer's lists, successfully or not."""

    def asked(self, url: str, issuer: Certificate) -> bool: ...


@dataclass(frozen=True, slots=True)
class Trust:
    """Everything that decides whether a truststore vouches for a client.

    ocsp: the answers known so far; None where OCSP is not enabled. points: None where the distribution points that
    certificates name are not asked.
    """

    truststore: Truststore
    revocation: RevocationPolicy
    crls: CrlSet
    deny: DenyList
    ocsp: OcspAnswers | None = None
    points: DistributionPoints | None = None

    @property
    def name(self) -> str:
        return self.truststore.name
