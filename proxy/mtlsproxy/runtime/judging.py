"""Judges what connections present, and remembers whom it accepted: a client's second connection costs a look-up."""

from datetime import UTC, datetime

from mtlsproxy.verdict.judge import Verdict, judge
from mtlsproxy.verdict.trust import Trust

MAX_REMEMBERED = 4096
"""Acceptances kept. Refusals are not: they may end by themselves (a certificate not valid yet)."""

MAX_REMEMBERED_BYTES = 16 * 1024
"""Longest presented chain that is kept: a client can choose its length."""


class Judge:
    """Of one listener and one Snapshot."""

    __slots__ = ("_remembered", "_trusts")

    def __init__(self, trusts: tuple[Trust, ...]) -> None:
        self._trusts = trusts
        self._remembered: dict[tuple[bytes, ...], Verdict] = {}

    def __call__(self, presented: tuple[bytes, ...]) -> Verdict:
        """presented: DER, leaf first. Two connections with one verdict share one object."""
        now = datetime.now(UTC)
        known = self._remembered.get(presented)
        if known is not None and known.deadline is not None and now < known.deadline:
            return known
        verdict = judge(presented, self._trusts, now)
        if verdict.reason is None and not verdict.wanted and sum(map(len, presented)) <= MAX_REMEMBERED_BYTES:
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[presented] = verdict
        return verdict
