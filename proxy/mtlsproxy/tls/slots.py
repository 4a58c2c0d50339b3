"""Handshake slots: so many handshakes at once, and no address that keeps the others out of them.

Silence costs an attacker nothing, and neither does coming again. So those that wait have their turns address by
address, and who is silent in a slot while others wait gives it up: the sooner, the longer the queue, unless its address
has taken no more than its share.
"""

import asyncio
from typing import Protocol

from mtlsproxy.config.networks import origin_of

SLOT_PATIENCE = 1.0
"""Seconds that a client may be silent in a slot while others wait for one: several round trips."""

LEAST_PATIENCE = 0.1
"""The same at worst, for addresses with more than their share of the slots: a round trip still."""

TURN = 0.005
"""Seconds between two looks at who is silent, while somebody waits."""

AT_ONCE = 6
"""Slots given up in one look, and so handshakes begun (0.3 ms each): other clients have their turn in between, and a
third of the processor is the most that it comes to."""

_PART = 8
"""Patience is such that as many as wait now have their turn in this part of `timeout`: as the queue gets shorter it
grows, and who came last is to be in time still."""


class Handshake(Protocol):
    address: tuple[str, int]

    def begin(self) -> None:
        """The slot is its own now. It may have ended since."""

    def give_way(self) -> None:
        """End: others wait for the slot."""


class Slots:
    """Of one listener. limit: how many; timeout: seconds that a whole handshake may take, the waiting included."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: int, timeout: float) -> None:
        self._loop = loop
        self.limit = limit
        self.timeout = timeout
        self._taken: dict[Handshake, float] = {}
        """When each that holds a slot was last heard of, longest ago first."""
        self._held: dict[str, int] = {}
        """Slots of each address."""
        self._queues: dict[str, dict[Handshake, None]] = {}
        """Who waits, first come, first served; by address, whose turn comes next first."""
        self.waiting = 0
        self._looking: asyncio.TimerHandle | None = None

    def take(self, handshake: Handshake) -> bool:
        """True when `handshake` may begin; else its `begin` is called when its turn comes."""
        if len(self._taken) < self.limit:
            self._hold(handshake)
            return True
        self._queues.setdefault(_who(handshake), {})[handshake] = None
        self.waiting += 1
        if self._looking is None:
            self._make_way()
        return False

    def used(self, handshake: Handshake) -> None:
        """Something came from its client."""
        if self._taken.pop(handshake, None) is not None:
            self._taken[handshake] = self._loop.time()

    def leave(self, handshake: Handshake) -> None:
        """It has ended, wherever it was."""
        who = _who(handshake)
        if self._taken.pop(handshake, None) is not None:
            self._held[who] -= 1
            if not self._held[who]:
                del self._held[who]
            self._pass_on()
        elif handshake in (queue := self._queues.get(who, {})):
            del queue[handshake]
            self.waiting -= 1
            if not queue:
                del self._queues[who]

    def _hold(self, handshake: Handshake) -> None:
        self._taken[handshake] = self._loop.time()
        who = _who(handshake)
        self._held[who] = self._held.get(who, 0) + 1

    def _pass_on(self) -> None:
        if not self.waiting or len(self._taken) >= self.limit:
            return
        who = next(iter(self._queues))
        queue = self._queues.pop(who)
        following = next(iter(queue))
        del queue[following]
        if queue:
            self._queues[who] = queue  # its next one comes behind everybody else's
        self.waiting -= 1
        self._hold(following)
        self._loop.call_soon(following.begin)

    def _make_way(self) -> None:
        """Who is silent in a slot gives it to those who wait."""
        self._looking = None
        now = self._loop.time()
        patience = self._patience()
        share = self.limit / (len(self._held) + len(self._queues) or 1)
        ended = 0
        for handshake, heard in list(self._taken.items()):
            silent = now - heard
            if silent < patience or not self.waiting or ended == AT_ONCE:
                break
            if silent >= SLOT_PATIENCE or self._held[_who(handshake)] >= share:
                ended += 1
                handshake.give_way()
        if self.waiting:
            self._looking = self._loop.call_later(TURN, self._make_way)

    def _patience(self) -> float:
        """Seconds, of addresses with more than their share."""
        if not self.waiting:
            return SLOT_PATIENCE
        return min(SLOT_PATIENCE, max(LEAST_PATIENCE, self.limit * self.timeout / _PART / self.waiting))


def _who(handshake: Handshake) -> str:
    return origin_of(handshake.address[0])
