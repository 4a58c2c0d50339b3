"""Which server, which connection, who waits. Connections are lent for one exchange and come back, or end."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mtlsproxy.reasons import Reason
from mtlsproxy.transport.stream import Counter, Stream
from mtlsproxy.transport.wheel import TICK, TimerWheel
from mtlsproxy.upstream.addresses import Address
from mtlsproxy.upstream.connect import Connecting, Endpoint


class Lendable(Protocol):
    """A connection to a server, as the pool sees it."""

    server: "Server"
    lent_before: bool
    outdated: bool
    """It is not to be lent again: another would be made otherwise now (another address, other certificates)."""
    address: Address | None
    """Where it leads to; the pool says it."""

    @property
    def is_stale(self) -> bool:
        """Whether the server has closed or spoken since it was given back. Costs a system call."""
        ...

    def rest(self, seconds: float) -> None:
        """Nobody uses it now: close when `seconds` go by, or when the server speaks or closes."""
        ...

    def close(self) -> None: ...


class Borrower(Protocol):
    """Who wants a connection. One of the two is called, once; `lent` possibly from inside `Upstream.lend`."""

    def lent(self, connection: Lendable) -> None: ...

    response_timeout: float
    """Seconds that it waits for a connection, at most, when all are busy."""

    def not_lent(self, reason: Reason, detail: str, *, again: bool) -> None:
        """again: whether another attempt could end otherwise."""
        ...


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """Times in seconds; max_connections is per server."""

    name: str
    connect_timeout: float
    idle_timeout: float
    max_connections: int
    queue: int


Make = Callable[[TimerWheel, Stream, "Server"], Lendable]
"""Makes a connection of a stream that nobody has started."""


class Server:
    """One server of an upstream: its connections, and its counts."""

    __slots__ = ("connecting", "connections", "endpoint", "failures", "idle", "open", "retries", "upstream", "url")

    def __init__(self, upstream: "Upstream", url: str, endpoint: Endpoint, failures: Counter, retries: Counter) -> None:
        self.upstream = upstream
        self.url = url
        self.endpoint = endpoint
        self.idle: list[Lendable] = []
        self.open = 0
        """Connections, those being made included."""
        self.connecting: set[Connecting] = set()
        self.connections: set[Lendable] = set()
        """Resting and lent."""
        self.failures = failures
        self.retries = retries

    @property
    def authority(self) -> str:
        """What goes into Host with `host: server`."""
        return self.endpoint.authority

    def outdate(self, is_outdated: Callable[[Lendable], bool]) -> None:
        """Connections that are `is_outdated` serve no other request: resting ones end now, others after theirs."""
        for connection in [c for c in self.connections if is_outdated(c)]:
            connection.outdated = True
            if connection in self.idle:
                connection.close()

    def start(self, last_known: tuple[Address, ...] = ()) -> None:
        """Keep its addresses up to date. last_known: see `Addresses.start`."""
        self.endpoint.addresses.start(self._moved, last_known)

    def _moved(self, addresses: frozenset[Address]) -> None:
        self.outdate(lambda connection: connection.address not in addresses)


class Upstream:
    """The servers of one upstream, round robin. Not safe for threads: it lives on one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wheel: TimerWheel, settings: PoolSettings, make: Make) -> None:
        self._loop = loop
        self._wheel = wheel
        self.settings = settings
        self._make = make
        self.servers: list[Server] = []
        self._turn = 0
        self._waiting: dict[Borrower, float] = {}
        """Until when each waits; first come, first served."""
        self._patience = wheel.timer(self._check_waiting)
        self._closed = False

    @property
    def name(self) -> str:
        return self.settings.name

    def lend(self, borrower: Borrower) -> None:
        """Lend a connection now, or when one is made or comes back."""
        servers = self.servers
        count = len(servers)
        turn = self._turn
        self._turn = (turn + 1) % count
        for step in range(count):
            server = servers[(turn + step) % count]
            while server.idle:
                connection = server.idle.pop()
                # A server that has spoken since would have its words taken for the answer; one that has closed is lost
                # for what cannot be asked twice.
                if not connection.is_stale:
                    borrower.lent(connection)
                    return
                connection.close()
            if server.open < self.settings.max_connections:
                self._connect(server, borrower)
                return
        if len(self._waiting) >= self.settings.queue:
            detail = f"{len(self._waiting)} requests wait already (queue)"
            borrower.not_lent(Reason.UPSTREAM_UNAVAILABLE, detail, again=False)
            return
        self._waiting[borrower] = self._wheel.now + borrower.response_timeout
        self._patience.start(TICK)

    def _check_waiting(self) -> None:
        now = self._wheel.now
        for borrower in [b for b, until in self._waiting.items() if until <= now]:
            del self._waiting[borrower]
            detail = f"no connection became free in {borrower.response_timeout:g}s (max_connections)"
            borrower.not_lent(Reason.UPSTREAM_UNAVAILABLE, detail, again=False)
        if self._waiting:
            self._patience.start(TICK)

    def _next_waiting(self) -> Borrower:
        borrower = next(iter(self._waiting))
        del self._waiting[borrower]
        return borrower

    def give_up(self, borrower: Borrower) -> None:
        """`borrower` no longer waits. A connection made for it goes to the next, or rests."""
        self._waiting.pop(borrower, None)

    def _connect(self, server: Server, borrower: Borrower) -> None:
        server.open += 1

        def connected(stream: Stream) -> None:
            server.connecting.discard(attempt)
            connection = self._make(self._wheel, stream, server)
            connection.address = attempt.address
            server.connections.add(connection)
            borrower.lent(connection)

        def failed(reason: Reason, detail: str) -> None:
            server.connecting.discard(attempt)
            server.failures.value += 1
            self.gone(server)
            borrower.not_lent(reason, detail, again=reason is not Reason.UPSTREAM_TIMEOUT)

        timeout = self.settings.connect_timeout
        attempt = Connecting(self._loop, self._wheel, server.endpoint, timeout, connected, failed)
        server.connecting.add(attempt)

    def give_back(self, connection: Lendable) -> None:
        """`connection` finished an exchange and is fit for another."""
        connection.lent_before = True
        if self._waiting and not connection.outdated and not connection.is_stale:
            self._next_waiting().lent(connection)
        elif self._closed or self._waiting or connection.outdated:
            connection.close()
        else:
            connection.server.idle.append(connection)
            connection.rest(self.settings.idle_timeout)

    def withdraw(self, connection: Lendable) -> None:
        """`connection` is about to end: it is lent to nobody any more."""
        if connection in connection.server.idle:
            connection.server.idle.remove(connection)

    def gone(self, server: Server, connection: Lendable | None = None) -> None:
        """A connection has ended (or was never made): its place is free."""
        server.open -= 1
        if connection is not None:
            self.withdraw(connection)
            server.connections.discard(connection)
        if self._waiting:
            self._connect(server, self._next_waiting())

    def retire(self) -> None:
        """Nobody asks any more (a new configuration): close what rests; who waits and what is lent goes on."""
        self._closed = True
        for server in self.servers:
            server.endpoint.addresses.close()
            for connection in list(server.idle):
                connection.close()

    def close(self) -> None:
        """The process ends: connections that are being made are given up, and whoever waits for them."""
        self.retire()
        for server in self.servers:
            for attempt in list(server.connecting):
                attempt.cancel()
