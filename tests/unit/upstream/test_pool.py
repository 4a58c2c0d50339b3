"""Which connection a borrower gets, who waits, and what becomes of connections; over real sockets."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from mtlsproxy.reasons import Reason
from mtlsproxy.transport.interfaces import NullCounter, Stream
from mtlsproxy.transport.stream import SocketStream
from mtlsproxy.transport.wheel import TICK, TimerWheel
from mtlsproxy.upstream import addresses
from mtlsproxy.upstream.addresses import Address, Addresses
from mtlsproxy.upstream.balance import RoundRobin
from mtlsproxy.upstream.breaker import Breaker
from mtlsproxy.upstream.connect import Endpoint
from mtlsproxy.upstream.health import Health
from mtlsproxy.upstream.pool import PoolSettings, Upstream
from mtlsproxy.upstream.server import Lendable, Server

PATIENCE = 10.0


class Lent:
    """A connection of the pool's, as little of one as will do."""

    def __init__(self, stream: Stream, server: Server) -> None:
        assert isinstance(stream, SocketStream)
        self.sock = stream._sock
        self.server = server
        self.lent_before = False
        self.outdated = False
        self.address: Address | None = None
        self.is_stale = False
        self.resting: list[float] = []

    def rest(self, seconds: float) -> None:
        self.resting.append(seconds)

    def close(self) -> None:
        self.server.upstream.withdraw(self)
        self.sock.close()

    def end(self) -> None:
        """Its stream is gone, and says so."""
        self.sock.close()
        self.server.upstream.gone(self.server, self)


class Borrower:
    def __init__(
        self, response_timeout: float = PATIENCE, *, only_once: bool = False, client: str | None = None
    ) -> None:
        self.response_timeout = response_timeout
        self.only_once = only_once
        self.tried: frozenset[Server] = frozenset()
        self.wants_fresh = False
        self.client_key = client
        self.got: Lent | None = None
        self.refused: tuple[Reason, str] | None = None
        self.again: bool | None = None
        self.said = asyncio.Event()

    def lent(self, connection: Lendable) -> None:
        assert isinstance(connection, Lent)
        assert not self.said.is_set()
        self.got = connection
        self.said.set()

    def not_lent(self, reason: Reason, detail: str, *, again: bool) -> None:
        assert not self.said.is_set()
        self.refused, self.again = (reason, detail), again
        self.said.set()


class Pool:
    """An upstream whose servers are listening sockets of this test."""

    failures = 100
    open_for = 0.2

    def __init__(self, wheel: TimerWheel, stack: contextlib.ExitStack) -> None:
        self._wheel = wheel
        self._stack = stack
        self.made: list[Lent] = []

    def upstream(self, servers: int = 1, max_connections: int = 2, queue: int = 2) -> Upstream:
        loop = asyncio.get_running_loop()
        settings = PoolSettings("u", connect_timeout=0.3, idle_timeout=7, max_connections=max_connections, queue=queue)
        upstream = Upstream(loop, self._wheel, settings, RoundRobin(), self._make)
        for _ in range(servers):
            listening = self._stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            upstream.add(self.server(upstream, listening.getsockname()[1]))
        return upstream

    def server(self, upstream: Upstream, port: int, host: str = "127.0.0.1") -> Server:
        where = Addresses(asyncio.get_running_loop(), self._wheel, host, port)
        endpoint = Endpoint(f"{host}:{port}", "", where)
        return Server(
            self._wheel,
            upstream,
            f"http://127.0.0.1:{port}",
            endpoint,
            NullCounter(),
            NullCounter(),
            breaker=Breaker(self.failures, self.open_for),
            health=Health(2, 3),
        )

    def _make(self, _wheel: TimerWheel, stream: Stream, server: Server) -> Lent:
        self.made.append(Lent(stream, server))
        self._stack.enter_context(self.made[-1].sock)
        return self.made[-1]


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    wheel = TimerWheel(asyncio.get_running_loop())
    with contextlib.ExitStack() as stack:
        yield Pool(wheel, stack)
    wheel.close()


async def borrowed(upstream: Upstream, borrower: Borrower | None = None) -> Lent:
    borrower = borrower or Borrower()
    upstream.lend(borrower)
    return await got(borrower)


async def got(borrower: Borrower) -> Lent:
    async with asyncio.timeout(PATIENCE):
        await borrower.said.wait()
    assert borrower.got is not None, borrower.refused
    return borrower.got


async def until(look: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not look():  # noqa: ASYNC110 - anything may be awaited here
            await asyncio.sleep(0.01)


def silent(borrower: Borrower) -> bool:
    return not borrower.said.is_set()


async def test_a_connection_that_came_back_is_lent_again(pool: Pool) -> None:
    upstream = pool.upstream()
    first = await borrowed(upstream)
    assert not first.lent_before
    upstream.give_back(first)
    assert first.resting == [7]
    assert first.lent_before
    second = Borrower()
    upstream.lend(second)
    assert second.got is first, "at once, from inside the call"
    assert upstream.servers[0].open == 1
    assert upstream.servers[0].idle == []


async def test_the_latest_that_came_back_is_lent_first(pool: Pool) -> None:
    """The others may reach their idle timeout."""
    upstream = pool.upstream()
    one, two = await borrowed(upstream), await borrowed(upstream)
    upstream.give_back(two)
    upstream.give_back(one)
    assert await borrowed(upstream) is one


async def test_no_more_than_max_connections_are_open_and_the_next_waits(pool: Pool) -> None:
    upstream = pool.upstream(max_connections=2)
    one, two = await borrowed(upstream), await borrowed(upstream)
    waiting = Borrower()
    upstream.lend(waiting)
    assert upstream.servers[0].open == 2
    assert silent(waiting)
    upstream.give_back(two)
    assert await got(waiting) is two
    assert two.resting == [], "it never rested"
    one.end()


async def test_the_queue_is_first_come_first_served_and_limited(pool: Pool) -> None:
    upstream = pool.upstream(max_connections=1, queue=2)
    connection = await borrowed(upstream)
    first, second, third = Borrower(), Borrower(), Borrower()
    for borrower in (first, second, third):
        upstream.lend(borrower)
    assert third.refused is not None
    assert (third.refused[0], third.again) == (Reason.UPSTREAM_UNAVAILABLE, False)
    upstream.give_back(connection)
    assert (first.got, silent(second)) == (connection, True)
    upstream.give_back(connection)
    assert second.got is connection


async def test_a_client_that_fills_the_queue_keeps_nobody_else_out_of_it(pool: Pool) -> None:
    """Nor from the connections that come back: clients have their turns."""
    upstream = pool.upstream(max_connections=1, queue=4)
    connection = await borrowed(upstream)
    greedy = [Borrower(client="mallory") for _ in range(6)]
    alice, bob, again = Borrower(client="alice"), Borrower(client="bob"), Borrower(client="alice")
    for borrower in (*greedy, alice, bob, again):
        upstream.lend(borrower)
    assert [bool(borrower.refused) for borrower in greedy] == [False, False, True, True, True, True]
    assert again.refused is not None, "who has a place like everybody takes no other's"
    assert "4 requests wait already, 1 of them this client's" in again.refused[1]
    assert greedy[3].refused is not None
    assert greedy[3].refused[0] is Reason.UPSTREAM_UNAVAILABLE
    for borrower in (greedy[0], alice, bob, greedy[1]):
        upstream.give_back(connection)
        assert borrower.got is connection
    upstream.give_back(connection)
    assert upstream.servers[0].idle == [connection]


async def test_who_waits_too_long_is_told(pool: Pool) -> None:
    upstream = pool.upstream(max_connections=1)
    connection = await borrowed(upstream)
    hasty, patient = Borrower(0.2), Borrower()
    upstream.lend(hasty)
    upstream.lend(patient)
    async with asyncio.timeout(PATIENCE):
        await hasty.said.wait()
    assert hasty.refused is not None
    assert hasty.refused[0] is Reason.UPSTREAM_UNAVAILABLE
    assert silent(patient)
    upstream.give_back(connection)
    assert patient.got is connection


async def test_who_gives_up_is_passed_over(pool: Pool) -> None:
    upstream = pool.upstream(max_connections=1, queue=1)
    connection = await borrowed(upstream)
    gone, next_one = Borrower(), Borrower()
    upstream.lend(gone)
    upstream.give_up(gone)
    upstream.give_up(gone)  # once more does no harm
    upstream.lend(next_one)
    upstream.give_back(connection)
    assert (silent(gone), next_one.got) == (True, connection)


async def test_a_place_that_becomes_free_is_filled_for_who_waits(pool: Pool) -> None:
    upstream = pool.upstream(max_connections=1)
    connection = await borrowed(upstream)
    waiting = Borrower()
    upstream.lend(waiting)
    connection.end()
    other = await got(waiting)
    assert other is not connection
    assert upstream.servers[0].open == 1


async def test_a_connection_that_ends_while_it_rests_is_not_lent(pool: Pool) -> None:
    upstream = pool.upstream()
    one, two = await borrowed(upstream), await borrowed(upstream)
    upstream.give_back(one)
    upstream.give_back(two)
    two.end()
    assert upstream.servers[0].open == 1
    assert await borrowed(upstream) is one


async def test_who_asks_only_once_gets_none_that_the_server_has_closed(pool: Pool) -> None:
    """Nor does it matter how many of them there are: all are passed over, in one turn of the loop."""
    upstream = pool.upstream(max_connections=100)
    lent = [await borrowed(upstream) for _ in range(100)]
    for connection in lent:
        upstream.give_back(connection)
    for connection in lent[1:]:
        connection.is_stale = True
    assert await borrowed(upstream, Borrower(only_once=True)) is lent[0]
    assert [connection.sock.fileno() for connection in lent[1:]] == [-1] * 99


async def test_a_withdrawn_connection_is_not_lent_though_its_end_comes_later(pool: Pool) -> None:
    upstream = pool.upstream(max_connections=1)
    connection = await borrowed(upstream)
    upstream.give_back(connection)
    upstream.withdraw(connection)
    waiting = Borrower()
    upstream.lend(waiting)
    assert silent(waiting)
    connection.end()
    assert await got(waiting) is not connection


async def test_servers_take_turns(pool: Pool) -> None:
    upstream = pool.upstream(servers=3, max_connections=2)
    found = [(await borrowed(upstream)).server for _ in range(6)]
    assert found == [*upstream.servers] * 2
    assert [server.open for server in upstream.servers] == [2, 2, 2]


async def test_a_full_server_is_passed_over(pool: Pool) -> None:
    upstream = pool.upstream(servers=2, max_connections=1)
    first = await borrowed(upstream)
    assert (await borrowed(upstream)).server is upstream.servers[1]
    upstream.give_back(first)
    assert await borrowed(upstream) is first


async def test_a_refused_connect_frees_its_place_and_is_counted(pool: Pool) -> None:
    """And may be asked for again: nothing was sent."""
    upstream = pool.upstream(servers=0, max_connections=1)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        upstream.add(pool.server(upstream, closed.getsockname()[1]))
        for count in (1, 2):
            borrower = Borrower()
            upstream.lend(borrower)
            async with asyncio.timeout(PATIENCE):
                await borrower.said.wait()
            assert borrower.refused is not None
            assert (borrower.refused[0], borrower.again) == (Reason.UPSTREAM_UNAVAILABLE, True)
            assert upstream.servers[0].open == 0
            assert upstream.servers[0].failures.value == count


async def test_everyone_who_waits_is_told_when_connects_fail(pool: Pool) -> None:
    upstream = pool.upstream(servers=0, max_connections=1, queue=5)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        upstream.add(pool.server(upstream, closed.getsockname()[1]))
        borrowers = [Borrower() for _ in range(6)]
        for borrower in borrowers:
            upstream.lend(borrower)
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(borrower.said.wait() for borrower in borrowers))
    assert all(borrower.refused and borrower.refused[0] is Reason.UPSTREAM_UNAVAILABLE for borrower in borrowers)
    assert upstream.servers[0].open == 0


async def test_closing_ends_what_rests_and_what_comes_back(pool: Pool) -> None:
    upstream = pool.upstream()
    resting, busy = await borrowed(upstream), await borrowed(upstream)
    upstream.give_back(resting)
    upstream.close()
    assert resting.sock.fileno() == -1
    assert busy.sock.fileno() != -1
    upstream.give_back(busy)
    assert busy.sock.fileno() == -1


def failed(server: Server, times: int = 1) -> None:
    for _ in range(times):
        server.failed("it said nothing")


async def refused(upstream: Upstream, borrower: Borrower | None = None) -> tuple[Reason, str]:
    borrower = borrower or Borrower()
    upstream.lend(borrower)
    async with asyncio.timeout(PATIENCE):
        await borrower.said.wait()
    assert borrower.refused is not None
    assert borrower.again is False
    return borrower.refused


async def test_weights_are_heard(pool: Pool) -> None:
    upstream = pool.upstream(servers=2, max_connections=100)
    upstream.servers[0].weight = 3
    found = [(await borrowed(upstream)).server for _ in range(8)]
    assert [found.count(server) for server in upstream.servers] == [6, 2]


@pytest.mark.parametrize("servers", [1, 2, 3, 4, 5])
async def test_a_server_whose_breaker_lets_one_try_has_its_turn(pool: Pool, servers: int) -> None:
    """However many there are: within one round, whoever's turn it was when it went down."""
    pool.failures = 1
    for turn in range(servers):
        upstream = pool.upstream(servers=servers, max_connections=50)
        for _ in range(turn):
            await borrowed(upstream)
        down = upstream.servers[0]
        down.failed("gone")
        assert down.is_down
        await until(lambda down=down: down.may_be_asked)  # type: ignore[misc]
        asked = [(await borrowed(upstream)).server for _ in range(servers)]
        assert asked.count(down) == 1


async def test_a_server_whose_breaker_is_open_is_passed_over(pool: Pool) -> None:
    pool.failures, pool.open_for = 2, PATIENCE
    upstream = pool.upstream(servers=2, max_connections=10)
    dead, alive = upstream.servers
    failed(dead)
    assert {(await borrowed(upstream)).server for _ in range(4)} == {dead, alive}
    failed(dead)
    assert {(await borrowed(upstream)).server for _ in range(4)} == {alive}
    failed(alive, 2)
    reason, detail = await refused(upstream)
    assert reason is Reason.UPSTREAM_UNAVAILABLE
    assert f"{dead.url}: 2 failures in a row, tried again in" in detail
    assert alive.url in detail


async def test_who_fails_a_server_again_and_again_keeps_nobody_else_from_it(pool: Pool) -> None:
    """Nor from waiting for it; the one that does is told why."""
    pool.failures, pool.open_for = 2, PATIENCE
    upstream = pool.upstream(max_connections=1)
    (server,) = upstream.servers
    connection = await borrowed(upstream)
    waiting, other = Borrower(client="mallory"), Borrower(client="alice")
    upstream.lend(waiting)
    upstream.lend(other)
    for _ in range(2):
        server.failed("it said nothing", "mallory")
    _, detail = await refused(upstream, Borrower(client="mallory"))
    assert "2 failures in a row, all of requests of mallory, tried again in" in detail
    connection.end()
    assert (await got(other)).server is server
    assert waiting.refused is not None
    assert not server.may_be_asked, "what operators are shown"


async def test_after_a_while_one_tries_it_and_an_answer_brings_it_back(pool: Pool) -> None:
    pool.failures = 1
    upstream = pool.upstream(max_connections=10)
    (server,) = upstream.servers
    failed(server)
    await refused(upstream)
    await until(lambda: server.may_be_asked)
    trial = await borrowed(upstream)
    assert "one request is trying it" in (await refused(upstream))[1]
    trial.server.answered()
    assert not server.is_down
    assert (await borrowed(upstream)).server is server


async def test_an_unhealthy_server_is_passed_over_until_it_is_healthy(pool: Pool) -> None:
    upstream = pool.upstream(servers=2, max_connections=10)
    ill, well = upstream.servers
    for _ in range(3):
        ill.checked("it answers 503")
    assert {(await borrowed(upstream)).server for _ in range(4)} == {well}
    for _ in range(3):
        well.checked("it broke")
    _, detail = await refused(upstream)
    assert f"{ill.url}: unhealthy (it answers 503)" in detail
    assert "it broke" in detail
    ill.checked("")
    ill.checked("")
    assert (await borrowed(upstream)).server is ill


async def test_of_many_servers_a_few_are_named(pool: Pool) -> None:
    pool.failures, pool.open_for = 1, PATIENCE
    upstream = pool.upstream(servers=5)
    for server in upstream.servers:
        failed(server)
    assert (await refused(upstream))[1].endswith("; and 2 more")


async def test_who_was_failed_by_a_server_gets_another_one_where_there_is_one(pool: Pool) -> None:
    upstream = pool.upstream(servers=2, max_connections=10)
    for server in upstream.servers:
        for _ in range(3):
            borrower = Borrower()
            borrower.tried = frozenset({server})
            assert (await borrowed(upstream, borrower)).server is not server
    borrower = Borrower()
    borrower.tried = frozenset(upstream.servers)
    assert (await borrowed(upstream, borrower)).server in upstream.servers


async def test_a_failed_connect_is_among_what_was_tried_and_counts_as_a_retry_when_it_was_one(pool: Pool) -> None:
    upstream = pool.upstream(servers=0)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        upstream.add(pool.server(upstream, closed.getsockname()[1]))
        borrower = Borrower()
        for retries in (0, 1):
            borrower.said.clear()
            upstream.lend(borrower)
            async with asyncio.timeout(PATIENCE):
                await borrower.said.wait()
            assert borrower.tried == {upstream.servers[0]}
            assert upstream.servers[0].retries.value == retries


async def test_who_wants_a_fresh_connection_gets_one_though_others_rest(pool: Pool) -> None:
    """And where there is no place for one, a resting one makes it."""
    upstream = pool.upstream(max_connections=2)
    one, two = await borrowed(upstream), await borrowed(upstream)
    upstream.give_back(one)
    borrower = Borrower()
    borrower.wants_fresh = True
    upstream.lend(borrower)
    assert silent(borrower)
    assert one.sock.fileno() == -1
    one.end()
    assert await got(borrower) not in (one, two)
    again = Borrower()
    again.wants_fresh = True
    upstream.lend(again)
    upstream.give_back(two)
    assert silent(again), "a used one will not do"
    two.end()
    assert await got(again) is not two


async def test_who_wants_a_fresh_connection_waits_for_it_without_spinning(pool: Pool) -> None:
    """Though connections rest that will not do."""
    upstream = pool.upstream(max_connections=3)
    lent = [await borrowed(upstream) for _ in range(3)]
    for connection in lent[:2]:
        upstream.give_back(connection)
    borrower = Borrower()
    borrower.wants_fresh = True
    upstream.lend(borrower)
    await asyncio.sleep(3 * TICK)
    assert silent(borrower)
    lent[0].end()
    assert await got(borrower) not in lent


async def test_who_waits_for_a_busy_server_gets_one_that_has_come_back(pool: Pool) -> None:
    upstream = pool.upstream(servers=2, max_connections=1)
    ill, busy = upstream.servers
    for _ in range(3):
        ill.checked("ill")
    await borrowed(upstream)
    waiting = Borrower()
    upstream.lend(waiting)
    assert silent(waiting)
    ill.checked("")
    ill.checked("")
    assert (await got(waiting)).server is ill
    assert busy.in_use == 1


async def test_everybody_who_waits_is_told_when_no_server_is_left(pool: Pool) -> None:
    pool.failures, pool.open_for = 1, PATIENCE
    upstream = pool.upstream(max_connections=1)
    connection = await borrowed(upstream)
    waiting = [Borrower(), Borrower()]
    for borrower in waiting:
        upstream.lend(borrower)
    failed(upstream.servers[0])
    connection.end()
    for borrower in waiting:
        assert borrower.refused is not None
        assert "no server may be asked" in borrower.refused[1]


async def test_a_connection_that_is_outdated_serves_nobody_else(pool: Pool) -> None:
    upstream = pool.upstream(max_connections=3)
    resting, lent, other = [await borrowed(upstream) for _ in range(3)]
    upstream.give_back(resting)
    upstream.servers[0].outdate(lambda connection: connection is not other)
    assert resting.sock.fileno() == -1
    resting.end()
    assert lent.sock.fileno() != -1, "it ends with its exchange"
    upstream.give_back(lent)
    assert lent.sock.fileno() == -1
    upstream.give_back(other)
    assert await borrowed(upstream) is other


async def test_a_name_that_moves_takes_its_connections_along(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those to addresses that are gone end, when nobody uses them; those to the others stay."""
    monkeypatch.setattr(addresses, "REFRESH", 0.1)
    upstream = pool.upstream(servers=0, max_connections=10)
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        now = [one, two]

        def resolve(*_: object, **__: object) -> list[object]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", each.getsockname()) for each in now]

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        server = pool.server(upstream, 80, "several.test")
        upstream.add(server)
        server.start()
        lent = [await borrowed(upstream) for _ in range(4)]
        stays = [connection for connection in lent if connection.sock.getpeername() == two.getsockname()]
        assert len(stays) == 2
        goes = [connection for connection in lent if connection not in stays]
        upstream.give_back(goes[0])
        upstream.give_back(stays[0])
        now.remove(one)
        await until(lambda: goes[0].sock.fileno() == -1)
        assert goes[1].sock.fileno() != -1
        upstream.give_back(goes[1])
        assert goes[1].sock.fileno() == -1
        assert await borrowed(upstream) is stays[0]
        for _ in range(3):
            assert (await borrowed(upstream)).sock.getpeername() == two.getsockname()
        upstream.close()


async def test_a_reload_knows_what_was_found_of_a_server(pool: Pool) -> None:
    pool.failures, pool.open_for = 1, PATIENCE
    old, new = pool.upstream().servers[0], pool.upstream().servers[0]
    failed(old)
    for _ in range(3):
        old.checked("ill")
    new.take_over(old.breaker, None)
    assert new.is_down
    assert new.health.is_healthy, "without checks nobody would ever find it well again"
    new.take_over(old.breaker, old.health)
    assert not new.health.is_healthy
