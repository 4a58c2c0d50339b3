"""WebSockets (RFC 6455): the handshake carries the identity, then bytes pass both ways until either side ends."""

import contextlib
import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.integration.clients import PATIENCE, Connection, Response, request
from tests.integration.harness import Tree, eventually
from tests.integration.http.conftest import Serve, Served
from tests.integration.http.peers import Listening, Peer, settled, swallow
from tests.integration.upstream import RecordingUpstream
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve

from mtlsproxy.http1.websocket import accept_of

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 §1.3
ASKS = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {KEY}")
AGREES = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %b\r\n\r\n" % ACCEPT.encode()
)

Talk = Callable[[ServerConnection], None]


def echo(connection: ServerConnection) -> None:
    for message in connection:
        connection.send(message)


@contextlib.contextmanager
def websocket_server(talk: Talk = echo, **options: Any) -> Iterator[int]:
    """The `websockets` library as the upstream; its port."""
    with serve(talk, "127.0.0.1", 0, **options) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.socket.getsockname()[1]
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def dial(served: Served, path: str = "/", **options: Any) -> Iterator[ClientConnection]:
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(socket.create_connection(("127.0.0.1", served.port), PATIENCE))
        options |= {"ssl": served.context, "sock": sock}
        yield stack.enter_context(connect(f"wss://proxy.test{path}", **options))


def towards(config: Tree, port: int) -> None:
    config["upstreams"]["recorder"]["servers"] = [{"url": f"http://127.0.0.1:{port}"}]


def test_the_rfcs_example() -> None:
    assert accept_of(KEY.encode()) == ACCEPT.encode()


# -- with the websockets library at both ends --------------------------------------------------------------------------


def test_messages_of_all_sizes_pass_both_ways_and_the_handshake_says_who_it_is(config: Tree, serve: Serve) -> None:
    seen: list[ServerConnection] = []

    def talk(connection: ServerConnection) -> None:
        seen.append(connection)
        echo(connection)

    with websocket_server(talk, max_size=None, subprotocols=["chat.v1"]) as port:
        towards(config, port)
        served = serve()
        with dial(served, "/chat?room=1", max_size=None, subprotocols=["chat.v1"]) as client:
            assert client.subprotocol == "chat.v1"
            for message in ("hello", b"", os.urandom(70_000), os.urandom(3_000_000)):
                client.send(message)
                assert client.recv() == message
            client.ping().wait()
        (peer,) = seen
        assert peer.request is not None
        assert peer.request.path == "/chat?room=1"
        assert peer.request.headers["X-Client-Verify"] == "SUCCESS"
        assert peer.request.headers["X-Client-Id"] == "alice.clients.test"
        assert peer.request.headers["X-Forwarded-Proto"] == "https"
        eventually(lambda: peer.close_code)
        assert (client.close_code, peer.close_code) == (1000, 1000)
        (line,) = served.proxy.access()
    assert (line["status"], line["reason"], line["path"]) == (101, None, "/chat")
    assert line["request_bytes"] > 3_000_000
    assert line["response_bytes"] > 3_000_000
    assert served.proxy.series("requests_total")[("internal", "all", "GET", "101", "HTTP/1.1")] == 1
    eventually(lambda: served.proxy.series("requests_in_flight") == {})
    eventually(lambda: served.proxy.series("upstream_connections") == {})


def test_a_server_that_ends_it_ends_it_for_the_client(config: Tree, serve: Serve) -> None:
    with websocket_server(lambda connection: connection.close(4001, "enough")) as port:
        towards(config, port)
        with dial(serve()) as client, pytest.raises(ConnectionClosed):
            client.recv()
        assert (client.close_code, client.close_reason) == (4001, "enough")


def test_a_server_that_declines_is_an_answer_like_any(config: Tree, serve: Serve) -> None:
    def decline(connection: ServerConnection, asked: Any) -> Any:
        return connection.respond(401, "not you\n")

    with websocket_server(process_request=decline) as port:
        towards(config, port)
        served = serve()
        with pytest.raises(InvalidStatus) as caught, dial(served):
            pass
        assert caught.value.response.status_code == 401
        assert caught.value.response.body == b"not you\n"


def test_a_client_that_may_not_use_the_route_gets_no_tunnel(config: Tree, serve: Serve) -> None:
    config["routes"][0]["allow"] = []
    opened: list[ServerConnection] = []
    with websocket_server(opened.append) as port:
        towards(config, port)
        with pytest.raises(InvalidStatus) as caught, dial(serve()):
            pass
    assert caught.value.response.status_code == 403
    assert opened == []


# -- played by hand ----------------------------------------------------------------------------------------------------


def opened(connection: Connection, by_hand: Listening, early: bytes = b"") -> Peer:
    """A tunnel that stands; its upstream's end."""
    connection.send(request("/", *ASKS))
    peer = by_hand.accept()
    head = peer.answer(AGREES + early)
    assert b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" in head
    assert f"\r\nSec-WebSocket-Key: {KEY}\r\n".encode() in head
    answer = connection.response()
    assert answer.status == 101
    assert (answer.one("Upgrade"), answer.one("Connection")) == ("websocket", "Upgrade")
    assert answer.one("Sec-WebSocket-Accept") == ACCEPT
    return peer


def kept(served: Served) -> int:
    """Bytes that the proxy keeps for either end."""

    def count() -> int:
        (connection,) = served.proxy.proxy.listeners["internal"].service.connections
        tunnel = connection._tunnel
        assert tunnel is not None
        return connection._stream.unsent + tunnel._upstream.unsent

    return served.proxy.call(count)


def test_what_either_side_sends_at_once_is_not_lost(by_hand: Listening, served: Served) -> None:
    """Frames behind the 101 in one packet, and frames of a client that does not wait for it."""
    with served.connect() as client:
        client.send(request("/", *ASKS) + b"ahead")
        peer = by_hand.accept()
        peer.answer(AGREES + b"early")
        assert client.response().status == 101
        assert client.exactly(5) == b"early"
        assert peer.exactly(5) == b"ahead"
        client.send(b"GET /admin HTTP/1.1\r\n\r\n")
        assert peer.until(b"\r\n\r\n") == b"GET /admin HTTP/1.1\r\n\r\n", "bytes, no request of ours"
        peer.finish()
        assert client.ended()
    assert by_hand.nobody_else()


def test_a_side_that_does_not_read_holds_the_other_back(by_hand: Listening, served: Served) -> None:
    """Neither end is kept in memory for the other; all arrives in the end."""
    size = 24 * 1024 * 1024
    with served.connect() as client:
        peer = opened(client, by_hand)
        for sender, reader in ((peer.send, client), (client.send, peer)):
            data = os.urandom(1024) * (size // 1024)
            thread = threading.Thread(target=sender, args=(data,))
            thread.start()
            assert settled(lambda: kept(served)) < 1024 * 1024
            assert swallow(reader, size) == hashlib.sha256(data).hexdigest()
            thread.join()


def test_silence_ends_it(config: Tree, by_hand: Listening, serve: Serve) -> None:
    config["listeners"][0]["timeouts"] = {"idle": "300ms"}
    served = serve()
    with served.connect() as client:
        peer = opened(client, by_hand)
        for _ in range(5):  # longer than the timeout in all, but never silent for so long
            peer.send(b"a")
            client.exactly(1)
            threading.Event().wait(0.1)
        assert client.ended()
        assert peer.rest() == b""
    (line,) = served.proxy.access()
    assert (line["status"], line["reason"]) == (101, None)


def test_a_route_may_have_more_patience_than_its_listener(config: Tree, by_hand: Listening, serve: Serve) -> None:
    config["listeners"][0]["timeouts"] = {"idle": "200ms"}
    config["routes"][0]["timeouts"] = {"tunnel_idle": "1h"}
    served = serve()
    with served.connect() as client:
        peer = opened(client, by_hand)
        threading.Event().wait(0.8)
        peer.send(b"still here")
        assert client.exactly(10) == b"still here"


def test_an_upstream_that_breaks_off_is_not_taken_for_one_that_ends(by_hand: Listening, served: Served) -> None:
    with served.connect() as client:
        opened(client, by_hand).reset()
        with pytest.raises((EOFError, OSError)):
            client.exactly(1)
    (line,) = served.proxy.access()
    assert (line["status"], line["reason"]) == (101, "upstream_error")


def test_a_client_that_breaks_off_ends_it_for_the_upstream(by_hand: Listening, served: Served) -> None:
    with served.connect() as client:
        peer = opened(client, by_hand)
        client.sock.shutdown(2)
    assert peer.rest() == b""
    eventually(lambda: served.proxy.series("connections") == {})
    eventually(lambda: served.proxy.series("upstream_connections") == {})


# -- handshakes that are none ------------------------------------------------------------------------------------------

BAD_ASKS = {
    "no key": ASKS[:3],
    "two keys": (*ASKS, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="),
    "a key of other length": (*ASKS[:3], "Sec-WebSocket-Key: AAAA"),
    "a body": (*ASKS, "Content-Length: 5"),
    "a chunked body": (*ASKS, "Transfer-Encoding: chunked"),
    "h2c": ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"),
    "h2c beside it": (*ASKS, "Upgrade: h2c"),
    "h2c in capitals and not listed": ("Upgrade: H2C",),
}


@pytest.mark.parametrize("lines", BAD_ASKS.values(), ids=BAD_ASKS.keys())
def test_a_wrong_request_for_it_is_refused(served: Served, upstream: RecordingUpstream, lines: tuple[str, ...]) -> None:
    with served.connect() as client:
        client.send(request("/", *lines))
        answer = client.response()
        assert (answer.status, answer.problem["reason"]) == (400, "bad_request")
        assert client.ended()
    assert upstream.requests == []


@pytest.mark.parametrize(
    "lines",
    [ASKS[1:], ("Connection: Upgrade", "Upgrade: spdy/3.1"), ("Connection: Upgrade", "Upgrade: TLS/1.0")],
    ids=["not listed in Connection", "SPDY", "TLS"],
)
def test_other_upgrades_are_ignored(served: Served, upstream: RecordingUpstream, lines: tuple[str, ...]) -> None:
    """RFC 9110 §7.8 allows it; the upstream sees a plain request."""
    with served.connect() as client:
        assert client.get("/", *lines).status == 200
        assert client.get("/").status == 200
    assert [asked.values("Upgrade") + asked.values("Connection") for asked in upstream.requests] == [[], []]


BAD_ANSWERS = {
    "no Upgrade": AGREES.replace(b"Upgrade: websocket\r\n", b""),
    "another protocol": AGREES.replace(b"websocket\r\n", b"h2c\r\n"),
    "no Connection": AGREES.replace(b"Connection: Upgrade\r\n", b""),
    "no accept": AGREES.replace(b"Sec-WebSocket-Accept", b"Sec-WebSocket-Other"),
    "another's accept": AGREES.replace(ACCEPT.encode(), b"A" * 27 + b"="),
    "two accepts": AGREES.replace(b"\r\n\r\n", f"\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n".encode()),
}


@pytest.mark.parametrize("answer", BAD_ANSWERS.values(), ids=BAD_ANSWERS.keys())
def test_an_upstream_that_agrees_to_something_else_gets_no_tunnel(
    by_hand: Listening, served: Served, answer: bytes
) -> None:
    with served.connect() as client:
        client.send(request("/", *ASKS))
        peer = by_hand.accept()
        peer.answer(answer + b"HTTP/1.1 200 OK\r\n\r\n")
        found: Response = client.response()
        assert (found.status, found.problem["reason"]) == (502, "upstream_error")
        assert peer.rest() == b""


def test_101_unasked_is_an_error(by_hand: Listening, served: Served) -> None:
    with served.connect() as client:
        client.send(request("/"))
        by_hand.accept().answer(AGREES)
        assert client.response().status == 502
