"""Which server, which connection, who waits. Connections are lent for one exchange and come back, or end."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from mtlsproxy.reasons import Reason
from mtlsproxy.transport.interfaces import Stream
from mtlsproxy.transport.wheel import TICK, TimerWheel
from mtlsproxy.upstream.balance import Balance
from mtlsproxy.upstream.connect import Connecting
from mtlsproxy.upstream.server import Borrower, Lendable, Server
from mtlsproxy.upstream.waiting import Waiting

_NAMED = 3
"""Servers of which an answer's detail says why they are not asked: a log line, not a report."""


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """Times in seconds; max_connections is per server."""

    name: str
    connect_timeout: float
    idle_timeout: float
    max_connections: int
    queue: int


Make = Callable[[TimerWheel, Stream, Server], Lendable]
"""Makes a connection of a stream that nobody has started."""


class Upstream:
    """The servers of one upstream. Not safe for threads: it lives on one event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        wheel: TimerWheel,
        settings: PoolSettings,
        balance: Balance[Server],
        make: Make,
    ) -> None:
        self._loop = loop
        self._wheel = wheel
        self.settings = settings
        self._max_connections = settings.max_connections
        self._balance = balance
        self._make = make
        self.servers: tuple[Server, ...] = ()
        self._only: Server | None = None
        self._waiting: Waiting[Borrower] = Waiting()
        self._patience = wheel.timer(self._check_waiting)
        self._closed = False

    @property
    def name(self) -> str:
        return self.settings.name

    def add(self, server: Server) -> None:
        """Before anybody borrows."""
        self.servers = (*self.servers, server)
        self._only = server if len(self.servers) == 1 else None

    # -- lending ---------------------------------------------------------------------------------------------------

    def lend(self, borrower: Borrower) -> None:
        """Lend a connection now, or when one is made or comes back."""
        server = self._only
        if server is None or server.is_down or borrower.wants_fresh:
            chosen = self._choose(borrower)
            if chosen is None:
                return
            server = chosen
        self._lend_at(server, borrower)

    def _lend_at(self, server: Server, borrower: Borrower) -> None:
        idle = server.idle
        while idle and not borrower.wants_fresh:
            connection = idle.pop()
            # A server that has spoken since would have its words taken for the answer; one that has closed is lost
            # for what cannot be asked twice.
            if not connection.is_stale:
                borrower.lent(connection)
                return
            connection.close()
        if server.open < self._max_connections:
            self._connect(server, borrower)
            return
        if idle:  # none of which will do: the new one gets a place of theirs
            idle[0].close()
        self._wait(borrower)

    def _choose(self, borrower: Borrower) -> Server | None:
        """Whom to ask; None: the borrower has been told, or waits."""
        client = borrower.client_key
        server = self._balance.pick(self.servers, client)
        if borrower.tried or borrower.wants_fresh or (server.is_down and not server.may_be_asked_by(client)):
            return self._choose_with_care(borrower)
        if not server.idle and server.open >= self._max_connections:
            return self._choose_with_care(borrower)
        if server.is_down:
            server.asked()  # here, not after a second choice: of servers that take turns, that is another's
        return server

    def _choose_with_care(self, borrower: Borrower) -> Server | None:
        """As `_choose`, where not every server will do."""
        client = borrower.client_key
        usable = [server for server in self.servers if not server.is_down or server.may_be_asked_by(client)]
        if not usable:
            borrower.not_lent(Reason.UPSTREAM_UNAVAILABLE, self._why_nobody(), again=False)
            return None
        # To the one that failed it only where there is no other.
        usable = [server for server in usable if server not in borrower.tried] or usable
        with_room = [server for server in usable if server.idle or server.open < self._max_connections]
        if not with_room:
            self._wait(borrower)
            return None
        server = self._balance.pick(with_room, client)
        if server.is_down:
            server.asked()
        return server

    def _why_nobody(self) -> str:
        words = "; ".join(f"{server.url}: {server.why_not}" for server in self.servers[:_NAMED])
        more = len(self.servers) - _NAMED
        return f"no server may be asked: {words}" + (f"; and {more} more" if more > 0 else "")

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
            if borrower.tried:
                server.retries.value += 1
            borrower.tried |= {server}
            if reason is Reason.UPSTREAM_TIMEOUT:
                detail = f"{detail}: {timeout:g}s (connect_timeout)"
            server.failed(detail)
            self.gone(server)
            # One that took all the time is not given as much again.
            again = reason is not Reason.UPSTREAM_TIMEOUT or self.has_another(borrower)
            borrower.not_lent(reason, server.named(detail), again=again)

        timeout = self.settings.connect_timeout
        attempt = Connecting(self._loop, self._wheel, server.endpoint, timeout, connected, failed)
        server.connecting.add(attempt)

    def has_another(self, borrower: Borrower) -> bool:
        """Whether there is a server that may be asked and has not failed it."""
        client = borrower.client_key
        return any(server.may_be_asked_by(client) and server not in borrower.tried for server in self.servers)

    # -- waiting ---------------------------------------------------------------------------------------------------

    def _wait(self, borrower: Borrower) -> None:
        gives_way: Borrower | None = None
        if len(self._waiting) >= self.settings.queue:
            gives_way = self._waiting.make_room_for(borrower) or borrower
            self._waiting.discard(gives_way)
        if gives_way is not borrower:
            self._waiting.add(borrower, self._wheel.now + borrower.response_timeout)
            self._patience.start(TICK)
        if gives_way is not None:
            gives_way.not_lent(Reason.UPSTREAM_UNAVAILABLE, self._why_full(gives_way), again=False)

    def _why_full(self, borrower: Borrower) -> str:
        own = self._waiting.count_of(borrower)
        return f"{len(self._waiting)} requests wait already, {own} of them this client's (queue)"

    def _check_waiting(self) -> None:
        now = self._wheel.now
        for borrower in self._waiting.due(now):
            if self._waiting.discard(borrower):  # who is told may take others along
                detail = f"no connection became free in {borrower.response_timeout:g}s (max_connections)"
                borrower.not_lent(Reason.UPSTREAM_UNAVAILABLE, detail, again=False)
        for server in self.servers:  # one that was down may be back
            self._serve_waiting(server)
        if self._waiting:
            self._patience.start(TICK)

    def _serve_waiting(self, server: Server) -> None:
        """Give what is free at `server` to those who wait."""
        for _ in range(len(self._waiting)):  # once for each: some may have to wait again
            has_room = server.idle or server.open < self._max_connections
            if not (self._waiting and has_room and server.may_be_asked_by(self._waiting.first.client_key)):
                break
            if server.is_down:
                server.asked()
            self._lend_at(server, self._waiting.take())
        if self._waiting and not any(each.may_be_asked for each in self.servers):
            self._refuse_waiting()

    def _refuse_waiting(self) -> None:
        """Whoever waits for servers of which none may be asked."""
        why = self._why_nobody()
        for borrower in list(self._waiting):
            if not any(server.may_be_asked_by(borrower.client_key) for server in self.servers) and (
                self._waiting.discard(borrower)  # who is told may take others along
            ):
                borrower.not_lent(Reason.UPSTREAM_UNAVAILABLE, why, again=False)

    def give_up(self, borrower: Borrower) -> None:
        """`borrower` no longer waits. A connection made for it goes to the next, or rests."""
        self._waiting.discard(borrower)

    # -- what becomes of connections -------------------------------------------------------------------------------

    def give_back(self, connection: Lendable) -> None:
        """`connection` finished an exchange and is fit for another."""
        connection.lent_before = True
        if self._waiting or self._closed or connection.outdated:
            self._give_on(connection)
        else:
            connection.server.idle.append(connection)
            connection.rest(self.settings.idle_timeout)

    def _give_on(self, connection: Lendable) -> None:
        """To whose turn it is, where it is fit for them; else its place is what they get."""
        fit = not (connection.outdated or connection.server.is_down or connection.is_stale)
        if fit and self._waiting and not self._waiting.first.wants_fresh:
            self._waiting.take().lent(connection)
        else:
            connection.close()

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
            self._serve_waiting(server)

    def retire(self) -> None:
        """Nobody asks any more (a new configuration): close what rests; who waits and what is lent goes on."""
        self._closed = True
        for server in self.servers:
            server.endpoint.addresses.close()
            for connection in list(server.idle):
                connection.close()

    @property
    def is_used(self) -> bool:
        """Whether anybody has, makes or waits for a connection."""
        return bool(self._waiting) or any(server.open for server in self.servers)

    def close(self) -> None:
        """The process ends: connections that are being made are given up, and whoever waits for them."""
        self.retire()
        for server in self.servers:
            for attempt in list(server.connecting):
                attempt.cancel()
