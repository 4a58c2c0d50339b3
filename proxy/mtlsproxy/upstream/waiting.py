"""Who waits for a connection. Pure: clients have their turns, first come, first served within each.

A client with many connections could else fill the queue by itself, and have every connection that comes free.
"""

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar


class Waits(Protocol):
    @property
    def client_key(self) -> str | None:
        """The client's principal; those without one are one client."""
        ...


WaitsT = TypeVar("WaitsT", bound=Waits)


class Waiting(Generic[WaitsT]):
    """The queue of one upstream. Times are seconds of a clock that only goes forward."""

    __slots__ = ("_by_client", "_size")

    def __init__(self) -> None:
        self._by_client: dict[str | None, dict[WaitsT, float]] = {}
        """Until when each waits, by client, whose turn comes next first."""
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[WaitsT]:
        for line in self._by_client.values():
            yield from line

    def count_of(self, who: WaitsT) -> int:
        """How many of the same client wait."""
        return len(self._by_client.get(who.client_key, ()))

    @property
    def first(self) -> WaitsT:
        """Whose turn it is; somebody has to wait."""
        return next(iter(next(iter(self._by_client.values()))))

    def add(self, who: WaitsT, until: float) -> None:
        self._by_client.setdefault(who.client_key, {})[who] = until
        self._size += 1

    def take(self) -> WaitsT:
        """`first`, who waits no more. Its client's next one comes behind everybody else's."""
        who = self.first
        line = self._by_client.pop(who.client_key)
        del line[who]
        if line:
            self._by_client[who.client_key] = line
        self._size -= 1
        return who

    def discard(self, who: WaitsT) -> bool:
        """Whether `who` has waited until now."""
        line = self._by_client.get(who.client_key, {})
        if line.pop(who, None) is None:
            return False
        if not line:
            del self._by_client[who.client_key]
        self._size -= 1
        return True

    def due(self, now: float) -> list[WaitsT]:
        """Who has waited long enough."""
        return [who for line in self._by_client.values() for who, until in line.items() if until <= now]

    def make_room_for(self, who: WaitsT) -> WaitsT | None:
        """Who has to give way to `who` where all places are taken: the last of the client that has most of them, if it
        still has as many as this one then. None: `who` itself. The caller discards whom it tells."""
        most = max(self._by_client.values(), key=len, default={})
        if len(most) <= self.count_of(who) + 1:
            return None
        return next(reversed(most))
