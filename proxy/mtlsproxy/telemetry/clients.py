"""Who comes: every client that was accepted, when it was last here, and which routes it used.

Marked when a connection begins or ends and when a client uses a route for the first time: a request costs nothing.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

from mtlsproxy.telemetry.access_log import timestamp

MAX_CLIENTS = 10_000
MAX_TEXT = 6_000_000
"""Characters of all their names together: three times what ten thousand usual ones have. A partner's CA chooses names,
and neither our memory nor whether a worker's answer (workers.channel.MAX_MESSAGE) still fits."""
MAX_ROUTES = 32
"""Names kept of each client's routes."""


@dataclass(slots=True, eq=False)
class KnownClient:
    """A leaf certificate that was accepted. Times are Unix seconds; `routes` in the order of first use.

    identity, subject, issuer: as `access_log.shortened` leaves them. open: its connections now.
    """

    fingerprint: str
    identity: str | None
    subject: str
    issuer: str
    serial: str
    truststore: str | None
    not_after: datetime
    first_seen: float
    last_seen: float
    connections: int = 0
    open: int = 0
    routes: dict[str, None] = field(default_factory=dict)
    more_routes: bool = False
    san: tuple[str, ...] = ()
    """As in logs, `URI:spiffe://a/b`, and cut short as there."""
    truststores: tuple[str, ...] = ()
    """All that vouched."""

    @property
    def text(self) -> int:
        """Characters of its names."""
        return len(self.identity or "") + len(self.subject) + len(self.issuer) + sum(map(len, self.san))

    def used(self, route: str) -> None:
        if route in self.routes:
            return
        if len(self.routes) < MAX_ROUTES:
            self.routes[route] = None
        else:
            self.more_routes = True


class Clients:
    """The inventory of one process, bounded: who was here longest ago goes first. clock: Unix seconds."""

    def __init__(
        self, max_clients: int = MAX_CLIENTS, clock: Callable[[], float] = time.time, max_text: int = MAX_TEXT
    ) -> None:
        self._max = max_clients
        self._max_text = max_text
        self._text = 0
        self._clock = clock
        # In the order of last_seen.
        self._known: OrderedDict[str, KnownClient] = OrderedDict()

    def arrived(self, fingerprint: str, describe: Callable[[], KnownClient]) -> KnownClient:
        """One more connection of the leaf with this fingerprint. describe: makes the entry of a new one."""
        known = self._known.get(fingerprint)
        if known is None:
            known = self._known[fingerprint] = describe()
            self._text += known.text
            while len(self._known) > self._max or self._text > self._max_text:
                self._text -= self._known.popitem(last=False)[1].text
        else:
            self._known.move_to_end(fingerprint)
        known.last_seen = self._clock()
        known.connections += 1
        known.open += 1
        return known

    def left(self, known: KnownClient) -> None:
        """A connection that arrived is gone."""
        known.open -= 1
        known.last_seen = self._clock()
        if self._known.get(known.fingerprint) is known:
            self._known.move_to_end(known.fingerprint)

    def __len__(self) -> int:
        return len(self._known)

    def latest(self, limit: int = MAX_CLIENTS) -> list[KnownClient]:
        """Who was here last comes first."""
        return list(islice(reversed(self._known.values()), limit))


def as_dicts(clients: Iterable[KnownClient], now: float) -> list[dict[str, Any]]:
    """As JSON objects; may run in any thread. now: Unix seconds, which is when those were seen who are connected."""
    return [_as_dict(known, now) for known in clients]


def merged(inventories: Iterable[Iterable[dict[str, Any]]], limit: int = MAX_CLIENTS) -> list[dict[str, Any]]:
    """Inventories of several processes as one, by fingerprint; who was seen last comes first.

    Times are RFC 3339 in UTC, which sorts as it reads.
    """
    clients: dict[str, dict[str, Any]] = {}
    for inventory in inventories:
        for client in inventory:
            known = clients.get(client["fingerprint"])
            clients[client["fingerprint"]] = client if known is None else _joined(known, client)
    return sorted(clients.values(), key=lambda client: str(client["last_seen"]), reverse=True)[:limit]


def _joined(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    routes = list(dict.fromkeys([*one["routes"], *other["routes"]]))
    return max(one, other, key=lambda client: str(client["last_seen"])) | {
        "first_seen": min(one["first_seen"], other["first_seen"]),
        "connections": one["connections"] + other["connections"],
        "open": one["open"] + other["open"],
        "routes": routes[:MAX_ROUTES],
        "more_routes": one["more_routes"] or other["more_routes"] or len(routes) > MAX_ROUTES,
    }


def _as_dict(known: KnownClient, now: float) -> dict[str, Any]:
    return {
        "identity": known.identity,
        "subject": known.subject,
        "issuer": known.issuer,
        "serial": known.serial,
        "fingerprint": known.fingerprint,
        "truststore": known.truststore,
        "san": known.san,
        "truststores": known.truststores,
        "not_after": timestamp(known.not_after.timestamp()),
        "first_seen": timestamp(known.first_seen),
        "last_seen": timestamp(now if known.open else known.last_seen),
        "connections": known.connections,
        "open": known.open,
        "routes": list(known.routes),
        "more_routes": known.more_routes,
    }
