"""Which of several servers is next. Pure: it is told who can be asked, and by whom; chance is a parameter."""

import math
from collections.abc import Sequence
from hashlib import blake2b
from random import Random
from typing import Generic, Protocol, TypeVar

_REMEMBERED = 4096
"""Clients whose order of servers is kept; it is cleared when it is full."""


class Choice(Protocol):
    """A server, as far as the choice goes."""

    url: str
    weight: int
    turn: int
    """For RoundRobin alone, which writes it: how long overdue its turn is."""

    @property
    def in_use(self) -> int:
        """Requests that it has now."""
        ...


ServerT = TypeVar("ServerT", bound=Choice)


class Balance(Protocol[ServerT]):
    """How an upstream spreads its requests."""

    def pick(self, servers: Sequence[ServerT], key: str | None) -> ServerT:
        """One of `servers`: those that can be asked now, one at least. key: the client's principal, if it has one."""
        ...


class RoundRobin(Generic[ServerT]):
    """Smooth weighted round robin, as in nginx: with weights 5, 1, 1 it goes a a b a c a a, never a a a a a b c."""

    def pick(self, servers: Sequence[ServerT], key: str | None) -> ServerT:
        best = servers[0]
        best.turn += best.weight
        total = best.weight
        for server in servers[1:]:
            server.turn = turn = server.turn + server.weight
            total += server.weight
            if turn > best.turn:
                best = server
        best.turn -= total
        return best


class LeastRequests(Generic[ServerT]):
    """The power of two choices: of two at random (each as likely as its weight says), the one with fewer requests for
    its weight. The least busy of all would get every request until the next count: two choices do not herd."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def pick(self, servers: Sequence[ServerT], key: str | None) -> ServerT:
        if len(servers) == 1:
            return servers[0]
        first = self._draw(servers)
        second = self._draw([server for server in servers if server is not first])
        return second if second.in_use * first.weight < first.in_use * second.weight else first

    def _draw(self, servers: Sequence[ServerT]) -> ServerT:
        ticket = self._random.random() * sum(server.weight for server in servers)
        for server in servers:
            ticket -= server.weight
            if ticket < 0:
                return server
        return servers[-1]


class ClientHash(Generic[ServerT]):
    """The same client always to the same server: rendezvous hashing over principal and URL (Thaler and Ravishankar,
    "Using name-based mappings to increase hit rates"), weighted by -weight / ln(hash).

    A server that goes moves its own clients alone, each to its own next choice; one that comes takes its share and
    moves nobody else. Clients without a principal take turns.
    """

    def __init__(self) -> None:
        self._ranks: dict[str, dict[str, float]] = {}
        self._turns: RoundRobin[ServerT] = RoundRobin()

    def pick(self, servers: Sequence[ServerT], key: str | None) -> ServerT:
        if key is None:
            return self._turns.pick(servers, None)
        scores = self._ranks.get(key)
        if scores is None:
            if len(self._ranks) >= _REMEMBERED:
                self._ranks.clear()
            scores = self._ranks[key] = {}
        best, best_score = servers[0], -1.0
        for server in servers:
            score = scores.get(server.url)
            if score is None:
                score = scores[server.url] = _score(key, server.url, server.weight)
            if score > best_score:
                best, best_score = server, score
        return best


def _score(key: str, url: str, weight: int) -> float:
    digest = blake2b(f"{len(url)}:{url}{key}".encode("utf-8", "surrogateescape"), digest_size=8).digest()
    # In (0, 1), both ends left out: ln(1) is 0, ln(0) is not at all.
    place = (int.from_bytes(digest) + 0.5) / 2.0**64
    return -weight / math.log(min(place, math.nextafter(1.0, 0.0)))


def balance_of(name: str, random: Random) -> Balance[ServerT]:
    """name: as in the configuration. Raises KeyError."""
    made: dict[str, Balance[ServerT]] = {
        "round_robin": RoundRobin(),
        "least_requests": LeastRequests(random),
        "client_hash": ClientHash(),
    }
    return made[name]
