"""What clients may cost before anyone knows who they are, and that others keep being served meanwhile."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from tests.integration.clients import PATIENCE, V12, Connection, client_context, request, tls
from tests.integration.conftest import Material, Start
from tests.integration.harness import Observed, RunningProxy, Tree, eventually
from tests.integration.refusals import assert_nobody_left
from tests.integration.stepped import client_hello, stepped
from tests.integration.upstream import OK, RecordingUpstream

from mtlsproxy.reasons import Reason
from mtlsproxy.transport import stream


def limit(config: Tree, **limits: int) -> Tree:
    config["listeners"][0]["limits"] = limits
    return config


def handshakes(proxy: Observed, result: str) -> float:
    return sum(count for labels, count in proxy.series("handshakes_total").items() if labels[1] == result)


@contextlib.contextmanager
def crowd(port: int, count: int, says: bytes) -> Iterator[list[socket.socket]]:
    """`count` connections that say this, and nothing after it."""
    with contextlib.ExitStack() as stack:
        sockets = []
        for _ in range(count):
            raw = stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE))
            raw.sendall(says)
            sockets.append(raw)
        yield sockets


# -- handshakes --------------------------------------------------------------------------------------------------------


def test_handshakes_beyond_the_limit_wait_their_turn(config: Tree, material: Material, start: Start) -> None:
    """`max_concurrent_handshakes`: the third says nothing wrong and is not refused; it goes on when a slot is free."""
    proxy = start(limit(config, max_concurrent_handshakes=2))
    context = client_context(material.root, material.client(), V12)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(stepped(proxy.port(), context)) for _ in range(3)]
        for client in clients[:2]:
            client.raw.sendall(client.flight())
            assert client.receive()
        third = clients[2]
        third.raw.sendall(third.flight())
        eventually(lambda: proxy.series("connections") == {("internal",): 3})
        third.raw.setblocking(False)
        with pytest.raises(BlockingIOError):
            third.receive()
        third.raw.settimeout(PATIENCE)
        clients[0].raw.close()
        assert third.receive()
    assert_nobody_left(proxy)


def test_one_slot_serves_one_client_after_another(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start
) -> None:
    """A slot comes back however its handshake ended: done, refused, aborted, timed out."""
    config["listeners"][0]["tls"]["handshake_timeout"] = "200ms"
    proxy = start(limit(config, max_concurrent_handshakes=1))
    good, bad = client_context(material.root, material.client()), client_context(material.root)
    for _ in range(3):
        with contextlib.suppress(OSError), tls(proxy.port(), bad) as connection:
            connection.sock.recv(1)
        with stepped(proxy.port(), bad) as leaves:
            leaves.raw.sendall(leaves.flight())
            leaves.receive()
        with stepped(proxy.port(), bad) as silent:
            silent.raw.sendall(silent.flight())
            while silent.receive():
                pass
        with tls(proxy.port(), good) as connection:
            assert connection.get().status == 200
    assert [handshakes(proxy, r) for r in ("no_certificate", "client_aborted", "handshake_timeout", "ok")] == [3] * 4


def test_a_client_that_leaves_while_it_waits_takes_no_slot(config: Tree, material: Material, start: Start) -> None:
    """Its turn is passed on to the next."""
    proxy = start(limit(config, max_concurrent_handshakes=1))
    context = client_context(material.root, material.client())
    with stepped(proxy.port(), context) as first, contextlib.ExitStack() as stack:
        first.raw.sendall(first.flight())
        assert first.receive()
        hello = client_hello(context)
        for raw in stack.enter_context(crowd(proxy.port(), 5, hello)):
            raw.close()
        last = stack.enter_context(stepped(proxy.port(), context))
        last.raw.sendall(last.flight())
        eventually(lambda: proxy.series("connections_total") == {("internal",): 7})
        first.raw.close()
        assert last.receive()
    assert_nobody_left(proxy)


@pytest.mark.parametrize("complete", [True, False], ids=["silent after the ClientHello", "half a ClientHello"])
def test_a_flood_of_silent_handshakes_leaves_others_served(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start, complete: bool
) -> None:
    """Who is in stays in, each silent one is counted and let go, and a newcomer gets in afterwards."""
    config["listeners"][0]["tls"] |= {"handshake_timeout": "300ms", "client_hello_timeout": "300ms"}
    proxy = start(limit(config, max_concurrent_handshakes=8))
    context = client_context(material.root, material.client())
    hello = client_hello(context)
    with tls(proxy.port(), context) as inside:
        assert inside.get().status == 200
        with crowd(proxy.port(), 100, hello if complete else hello[:-1]) as silent:
            assert inside.get().status == 200
            for raw in silent:
                while raw.recv(65536):
                    pass
            assert inside.get().status == 200
        assert handshakes(proxy, Reason.HANDSHAKE_TIMEOUT) == 100
        with tls(proxy.port(), context) as newcomer:
            assert newcomer.get().status == 200
    assert_nobody_left(proxy)


def test_half_a_client_hello_takes_no_handshake_slot(config: Tree, material: Material, start: Start) -> None:
    """A newcomer is served at once beside a crowd that never finishes its ClientHello."""
    config["listeners"][0]["tls"]["client_hello_timeout"] = "20s"
    proxy = start(limit(config, max_concurrent_handshakes=1))
    context = client_context(material.root, material.client())
    with crowd(proxy.port(), 20, client_hello(context)[:-1]):
        eventually(lambda: proxy.series("connections") == {("internal",): 20})
        with tls(proxy.port(), context) as newcomer:
            assert newcomer.get().status == 200


def test_a_trickle_does_not_extend_the_time_for_a_client_hello(config: Tree, material: Material, start: Start) -> None:
    """`client_hello_timeout` runs from the accept, not from the last byte."""
    config["listeners"][0]["tls"]["client_hello_timeout"] = "300ms"
    proxy = start(config)
    hello = client_hello(client_context(material.root))
    with socket.create_connection(("127.0.0.1", proxy.port()), PATIENCE) as raw, contextlib.suppress(ConnectionError):
        for at in range(len(hello) - 1):
            raw.sendall(hello[at : at + 1])
            if handshakes(proxy, Reason.HANDSHAKE_TIMEOUT):
                break
            time.sleep(0.02)
    assert handshakes(proxy, Reason.HANDSHAKE_TIMEOUT) == 1


# -- connections -------------------------------------------------------------------------------------------------------


def test_silent_connections_at_the_limit_are_let_go_in_time(
    config: Tree, material: Material, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All places taken by connections that say nothing: a newcomer gets in once `client_hello_timeout` has passed, and
    LINGER (2 s), in which they do not close either."""
    monkeypatch.setattr(stream, "LINGER", 0.1)
    config["listeners"][0]["tls"]["client_hello_timeout"] = "300ms"
    proxy = start(limit(config, max_connections=5))
    with crowd(proxy.port(), 5, b""):
        eventually(lambda: proxy.series("connections") == {("internal",): 5})
        with tls(proxy.port(), client_context(material.root, material.client())) as newcomer:
            assert newcomer.get().status == 200


def idle_in_turn(proxy: RunningProxy, clients: Sequence[Connection]) -> None:
    """One request each, a tick of the timer wheel apart: the first of them has been idle longest."""
    for client in clients:
        assert client.get().status == 200
        tick = proxy.call(lambda: proxy.proxy.wheel.now)
        eventually(lambda tick=tick: proxy.call(lambda: proxy.proxy.wheel.now) > tick)


def test_at_the_limit_the_longest_idle_connection_makes_room(config: Tree, material: Material, start: Start) -> None:
    """`max_connections`: the one whose last request is longest ago is closed, with close_notify; the others stay."""
    proxy = start(limit(config, max_connections=3))
    context = client_context(material.root, material.client())
    with contextlib.ExitStack() as stack:
        first, second, third = (stack.enter_context(tls(proxy.port(), context)) for _ in range(3))
        idle_in_turn(proxy, [second, third, first])
        newcomer = stack.enter_context(tls(proxy.port(), context))
        assert newcomer.get().status == 200
        assert second.ended()
        assert [client.get().status for client in (first, third)] == [200, 200]
    assert_nobody_left(proxy)


def test_a_newcomer_costs_one_idle_connection_only(config: Tree, material: Material, start: Start) -> None:
    """Idle clients seldom look at their connection before they use it again: that one does not answer our close
    must not cost its neighbours theirs."""
    proxy = start(limit(config, max_connections=10))
    context = client_context(material.root, material.client())
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(tls(proxy.port(), context)) for _ in range(10)]
        idle_in_turn(proxy, clients[:1])
        assert [client.get().status for client in clients[1:]] == [200] * 9
        newcomer = stack.enter_context(tls(proxy.port(), context))
        assert newcomer.get().status == 200
        assert [client.get().status for client in clients[1:]] == [200] * 9
        assert clients[0].ended()


def test_with_none_idle_a_newcomer_waits(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start
) -> None:
    """A request under way is never broken off for a newcomer, who is served when one is done."""
    release = threading.Event()

    def script(_request: object, _connection: socket.socket) -> bytes:
        release.wait(PATIENCE)
        return OK

    upstream.script = script
    proxy = start(limit(config, max_connections=2))
    context = client_context(material.root, material.client())
    with contextlib.ExitStack() as stack:
        busy = [stack.enter_context(tls(proxy.port(), context)) for _ in range(2)]
        for connection in busy:
            connection.send(request())
        eventually(lambda: proxy.series("requests_in_flight") == {("internal",): 2})
        newcomer = stack.enter_context(stepped(proxy.port(), context))
        newcomer.raw.sendall(newcomer.flight())
        for _ in range(5):  # turns of the loop in which it could have been taken
            assert proxy.series("connections_total") == {("internal",): 2}
        release.set()
        assert [connection.response().status for connection in busy] == [200, 200]
        assert newcomer.receive()
    assert proxy.series("connections_total") == {("internal",): 3}
    assert_nobody_left(proxy)


def test_an_idle_connection_is_closed_in_time(config: Tree, material: Material, start: Start) -> None:
    """`timeouts.idle`, before the first request and after one; both with close_notify."""
    config["listeners"][0]["timeouts"] = {"idle": "200ms"}
    proxy = start(config)
    context = client_context(material.root, material.client())
    with tls(proxy.port(), context) as unused, tls(proxy.port(), context) as used:
        assert used.get().status == 200
        assert unused.ended()
        assert used.ended()
    assert proxy.series("rejections_total") == {}
    assert_nobody_left(proxy)


def test_a_connection_ends_with_its_certificate(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start
) -> None:
    """After notAfter the next request on a live connection is refused as expired; one without a request is let go."""
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)
    short = material.client("short", end=ends)
    proxy = start(config)
    with tls(proxy.port(), client_context(material.root, short)) as connection:
        assert connection.get().status == 200
        eventually(lambda: datetime.now(UTC) > ends + timedelta(seconds=1))
        with contextlib.suppress(EOFError, ConnectionError):  # it may be let go just now, before it asks
            answer = connection.get()
            assert (answer.status, answer.problem["reason"]) == (403, Reason.EXPIRED)
            assert connection.ended()
    assert proxy.refusal()["reason"] == Reason.EXPIRED
    assert len(upstream.requests) == 1
