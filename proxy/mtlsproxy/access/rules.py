"""A list of entries, indexed, so that a thousand of them cost about as much as a few."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from mtlsproxy.access.matcher import Key, Matcher, client_keys
from mtlsproxy.identity.client import Client

_INDEXED_FROM = 8
"""Entries. Below it, trying each is faster than making the client's keys."""


class RuleList:
    """Entries of which one is enough.

    Every entry is filed under the rarest of its keys; those without one are tried for every client.
    """

    def __init__(self, matchers: Sequence[Matcher]) -> None:
        self.matchers = tuple(matchers)
        self._always: list[int] = []
        self._by_key: dict[Key, list[int]] = defaultdict(list)
        if len(self.matchers) < _INDEXED_FROM:
            self._always.extend(range(len(self.matchers)))
            return
        frequency = Counter(key for matcher in self.matchers for key in matcher.keys)
        for position, matcher in enumerate(self.matchers):
            if matcher.keys:
                self._by_key[min(sorted(matcher.keys), key=frequency.__getitem__)].append(position)
            else:
                self._always.append(position)

    def __len__(self) -> int:
        return len(self.matchers)

    def matching(self, client: Client) -> Iterator[int]:
        """The positions of the entries that match, in the operator's order."""
        return (position for position in self._candidates(client) if self.matchers[position].matches(client))

    def first(self, client: Client) -> int | None:
        """The position of the first entry that matches."""
        return next(self.matching(client), None)

    def _candidates(self, client: Client) -> Sequence[int]:
        if not self._by_key:
            return self._always
        filed = self._by_key.keys() & set(client_keys(client))
        if not filed:
            return self._always
        return sorted({*self._always, *(position for key in filed for position in self._by_key[key])})
