"""WebSockets and endless answers do not outlive the trust that they were begun with."""

import contextlib
import hashlib
import ssl
from collections.abc import Iterator

import pytest
from tests.integration.certificates import Identity
from tests.integration.clients import Connection, request
from tests.integration.harness import Tree, eventually
from tests.integration.http.peers import Listening, Peer, listening
from tests.integration.http.test_websockets import AGREES, ASKS
from tests.integration.live.conftest import Live, Run
from tests.integration.live.test_shut_out import ShutOut, each_way

from mtlsproxy.http1 import client


@pytest.fixture
def by_hand(live_config: Tree) -> Iterator[Listening]:
    with listening() as server:
        live_config["upstreams"]["recorder"]["servers"] = [{"url": server.url}]
        yield server


@pytest.fixture
def live(by_hand: Listening, run: Run, live_config: Tree) -> Live:
    return run(live_config)


@contextlib.contextmanager
def tunnel(live: Live, by_hand: Listening, who: Identity) -> Iterator[tuple[Connection, Peer]]:
    with live.connect(who) as connection:
        connection.send(request("/", *ASKS))
        peer = by_hand.accept()
        peer.answer(AGREES)
        assert connection.response().status == 101
        yield connection, peer


def passes(connection: Connection, peer: Peer) -> bool:
    connection.send(b"ping")
    peer.send(b"pong")
    return peer.exactly(4) == b"ping" and connection.exactly(4) == b"pong"


def fingerprint(who: Identity) -> str:
    return hashlib.sha256(who.der).hexdigest()


def reason_of(live: Live, connection: client.ClientConnection) -> str | None:
    """Why it was refused when it was judged last."""
    return live.proxy.call(lambda: connection._standing.visitor.verdict.reason)


def cut_off(connection: Connection) -> bool:
    """Whether it ended, in whatever way, without a further byte."""
    with contextlib.suppress(EOFError, ConnectionError, ssl.SSLEOFError):
        connection.exactly(1)
        return False
    return True


@each_way
def test_a_websocket_is_closed_at_both_ends(
    live: Live, by_hand: Listening, alice: Identity, bob: Identity, shut_out: ShutOut, reason: str
) -> None:
    with tunnel(live, by_hand, alice) as (hers, her_peer), tunnel(live, by_hand, bob) as (his, his_peer):
        assert passes(hers, her_peer)
        shut_out(live, alice)
        assert cut_off(hers)
        assert her_peer.rest() == b""
        assert passes(his, his_peer), "nobody else notices"
    refusal = next(line for line in live.proxy.rejections() if line["reason"] == reason)
    assert (refusal["status"], refusal["route"], refusal["path"]) == (101, "all", "/")


def test_a_websocket_ends_when_its_route_lets_the_client_in_no_more(
    live: Live, by_hand: Listening, alice: Identity, bob: Identity
) -> None:
    with tunnel(live, by_hand, alice) as (hers, _), tunnel(live, by_hand, bob) as (his, his_peer):
        with live.reloaded():
            live.config["routes"][0]["deny"] = [{"fingerprint_sha256": fingerprint(alice)}]
            live.write_config()
        assert cut_off(hers)
        assert passes(his, his_peer)
    assert any(line["reason"] == "denied" for line in live.proxy.rejections())


def test_who_was_shut_out_for_a_moment_before_it_stood_can_be_shut_out_of_it(
    live: Live, by_hand: Listening, alice: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list that was late, say, while the server made up its mind."""
    monkeypatch.setattr(client, "LAST_ANSWER", 3600)
    with live.connect(alice) as hers:
        hers.send(request("/", *ASKS))
        peer = by_hand.accept()
        peer.head()
        (connection,) = live.proxy.proxy.listeners["internal"].service.connections
        live.deny_in_file({"fingerprint_sha256": fingerprint(alice)})
        eventually(lambda: reason_of(live, connection) == "denied")
        live.deny_in_file()
        eventually(lambda: reason_of(live, connection) is None)
        peer.send(AGREES)
        assert hers.response().status == 101
        live.proxy.call(connection._last_answer_is_over)  # its time comes
        assert passes(hers, peer)
        live.deny_in_file({"fingerprint_sha256": fingerprint(alice)})
        assert cut_off(hers)
        assert peer.rest() == b""


def test_an_endless_answer_of_who_passes_again_ends_when_it_does_not(
    live: Live, by_hand: Listening, alice: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "LAST_ANSWER", 3600)
    event = b"data: a\n\n"
    with live.connect(alice) as hers:
        hers.send(request("/events"))
        peer = by_hand.accept()
        peer.answer(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + event)
        hers.until(event)
        (connection,) = live.proxy.proxy.listeners["internal"].service.connections
        live.deny_in_file({"fingerprint_sha256": fingerprint(alice)})
        eventually(lambda: reason_of(live, connection) == "denied")
        live.deny_in_file()
        eventually(lambda: reason_of(live, connection) is None)
        live.proxy.call(connection._last_answer_is_over)  # its time comes
        peer.send(event)
        hers.until(event)
        monkeypatch.setattr(client, "LAST_ANSWER", 0.1)
        live.deny_in_file({"fingerprint_sha256": fingerprint(alice)})
        with pytest.raises((EOFError, ConnectionError, ssl.SSLEOFError)):
            hers.until(b"never")


def test_an_endless_answer_ends_a_while_after_its_client_was_shut_out(
    live: Live, by_hand: Listening, alice: Identity, bob: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Server-sent events, say. What ends by itself within that while is whole."""
    monkeypatch.setattr(client, "LAST_ANSWER", 0.5)
    event = b"data: a\n\n"
    with live.connect(alice) as hers, live.connect(bob) as his:
        peers = {}
        for connection in (hers, his):
            connection.send(request("/events"))
            peer = peers[connection] = by_hand.accept()
            peer.answer(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + event)
            connection.until(event)
        live.deny_in_file({"fingerprint_sha256": fingerprint(alice)})
        with pytest.raises((EOFError, OSError)):
            hers.until(b"never")
        assert peers[hers].rest() == b""
        peers[his].send(event)
        his.until(event)
    assert (
        eventually(lambda: [line for line in live.proxy.rejections() if line["status"] == 200])[0]["reason"] == "denied"
    )
