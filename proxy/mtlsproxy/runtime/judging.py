"""Judges what connections present, and remembers whom it accepted: a client's second connection costs a look-up."""

from dataclasses import dataclass
from datetime import UTC, datetime

from mtlsproxy.verdict.judge import Verdict, judge, with_denials_of
from mtlsproxy.verdict.trust import Trust

MAX_REMEMBERED = 4096
"""Acceptances kept, one a leaf. Refusals are not: they may end by themselves (a certificate not valid yet)."""

MAX_CHAIN_BYTES = 16 * 1024
"""Longest presented chain that is kept: a client can choose its length."""

MAX_REMEMBERED_BYTES = 8 * 1024 * 1024
"""Of all presented chains that are kept: 2 KiB for each, which a leaf and an intermediate take."""


@dataclass(slots=True, eq=False)
class _Acceptance:
    """deny: of the judge under whose deny lists it counts."""

    presented: tuple[bytes, ...]
    verdict: Verdict
    deny: object


class _Memory:
    """Acceptances by leaf, the oldest first to go. A client that varies what it sends beside its leaf has one."""

    __slots__ = ("_kept", "size")

    def __init__(self) -> None:
        self._kept: dict[bytes, _Acceptance] = {}
        self.size = 0

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, presented: tuple[bytes, ...], at: datetime) -> _Acceptance | None:
        """One that still holds."""
        kept = self._kept.get(presented[0]) if presented else None
        if kept is None or kept.presented != presented:
            return None
        deadline = kept.verdict.deadline
        return kept if deadline is not None and at < deadline else None

    def keep(self, acceptance: _Acceptance) -> None:
        presented = acceptance.presented
        size = _size(presented)
        if size > MAX_CHAIN_BYTES:
            return
        self._forget(presented[0])
        while self._kept and (len(self._kept) >= MAX_REMEMBERED or self.size + size > MAX_REMEMBERED_BYTES):
            self._forget(next(iter(self._kept)))
        self._kept[presented[0]] = acceptance
        self.size += size

    def _forget(self, leaf: bytes) -> None:
        known = self._kept.pop(leaf, None)
        if known is not None:
            self.size -= _size(known.presented)


class Judge:
    """Of one listener and one Snapshot."""

    __slots__ = ("_deny", "_memory", "_trusts")

    def __init__(self, trusts: tuple[Trust, ...], before: "Judge | None" = None) -> None:
        """before: whose acceptances count on where the deny lists of now leave them. Only where nothing else that it
        judged by has changed, OCSP answers included; where trusts differ it is as if there were none."""
        self._trusts = trusts
        self._deny = object()
        carries = before is not None and before.differs_in_denials_alone(trusts)
        self._memory: _Memory = before._memory if before is not None and carries else _Memory()

    def __call__(self, presented: tuple[bytes, ...]) -> Verdict:
        """presented: DER, leaf first. Two connections with one verdict share one object."""
        now = datetime.now(UTC)
        known = self._known(presented, now)
        if known is not None:
            return known
        verdict = judge(presented, self._trusts, now)
        if verdict.reason is None and not verdict.wanted:
            self._memory.keep(_Acceptance(presented, verdict, self._deny))
        return verdict

    def of_stranger(self, presented: tuple[bytes, ...]) -> Verdict:
        """The same of who has not proved to hold the leaf's key, and may have taken it from anywhere: remembered is
        nothing of it."""
        return judge(presented, self._trusts, datetime.now(UTC))

    def differs_in_denials_alone(self, trusts: tuple[Trust, ...]) -> bool:
        return list(map(_all_but_denials, self._trusts)) == list(map(_all_but_denials, trusts))

    def _known(self, presented: tuple[bytes, ...], now: datetime) -> Verdict | None:
        kept = self._memory.find(presented, now)
        if kept is None:
            return None
        if kept.deny is not self._deny:
            renewed = with_denials_of(kept.verdict, self._trusts, now)
            if renewed is None:
                return None
            kept.verdict, kept.deny = renewed, self._deny
        return kept.verdict


def _all_but_denials(trust: Trust) -> tuple[object, ...]:
    return (trust.truststore, trust.revocation, id(trust.crls), id(trust.ocsp), id(trust.points))


def _size(presented: tuple[bytes, ...]) -> int:
    return sum(map(len, presented))
