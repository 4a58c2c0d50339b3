"""Every limit and timeout of a listener, a route and an upstream: what just fits, what does not, and how it is said."""

import contextlib
import select
import ssl
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.integration.certificates import Identity
from tests.integration.clients import Connection, client_context, request, tls
from tests.integration.conftest import Material, Start
from tests.integration.harness import RunningProxy, Tree, eventually
from tests.integration.http.peers import OK, Listening, full_port, listening
from tests.integration.upstream import RecordingUpstream

SOON = "200ms"
"""A timeout that is meant to pass."""

LONG = "60s"
CHUNKED = "Transfer-Encoding: chunked"


class Scene:
    def __init__(self, proxy: RunningProxy, context: ssl.SSLContext) -> None:
        self.proxy = proxy
        self.connect = lambda: tls(proxy.port(), context)

    def refused(self, data: bytes) -> tuple[int, str, bool]:
        """Status, reason and whether the connection ends, of a request that is refused."""
        with self.connect() as client:
            client.send(data)
            answer = client.response()
            return answer.status, answer.problem["reason"], client.ended() if closes(answer.fields) else False


def closes(fields: list[tuple[str, str]]) -> bool:
    return ("Connection", "close") in fields


Begin = Callable[..., Scene]


@pytest.fixture
def begin(config: Tree, start: Start, material: Material) -> Begin:
    """Starts a proxy with these limits and timeouts of its listener."""

    def start_with(limits: dict[str, Any] | None = None, timeouts: dict[str, Any] | None = None) -> Scene:
        listener = config["listeners"][0]
        listener["limits"], listener["timeouts"] = limits or {}, timeouts or {}
        alice: Identity = material.client()
        return Scene(start(config), client_context(material.root, alice))

    return start_with


@pytest.fixture
def by_hand(config: Tree):  # type: ignore[no-untyped-def]
    with listening() as server:
        config["upstreams"]["recorder"]["servers"] = [{"url": server.url}]
        yield server


# -- sizes and counts --------------------------------------------------------------------------------------------------


def in_pieces(client: Connection, data: bytes, size: int) -> None:
    for at in range(0, len(data), size):
        client.send(data[at : at + size])


@pytest.mark.parametrize("size", [1_000_000, 50])
def test_limits_of_heads(begin: Begin, upstream: RecordingUpstream, size: int) -> None:
    """414 and 431 beyond each, in one piece and in many; nothing reaches the upstream. Exactly the limit passes."""
    scene = begin({"request_line": 100, "header_field": 200, "headers": 1000, "header_count": 10})
    line, host = len("GET / HTTP/1.1"), len("Host: proxy.test\r\n")
    fields = [f"X-{n}: ".ljust(200, "a") for n in range(4)]
    last = 1000 - host - 4 * 202 - 2
    cases = [
        (request("/" + "a" * (100 - line)), 200, None),
        (request("/" + "a" * (101 - line)), 414, "uri_too_long"),
        (request("/" + "a" * 5000), 414, "uri_too_long"),
        (request("/", "X: " + "a" * 197), 200, None),
        (request("/", "X: " + "a" * 198), 431, "headers_too_large"),
        (request("/", *fields, "Y: ".ljust(last - 5, "a")), 200, None),
        (request("/", *fields, "Y: ".ljust(last + 1, "a")), 431, "headers_too_large"),
        (request("/", *["X: a"] * 9), 200, None),
        (request("/", *["X: a"] * 10), 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 5000, 431, "headers_too_large"),
    ]
    for data, status, reason in cases:
        asked = len(upstream.requests)
        with scene.connect() as client:
            with contextlib.suppress(OSError):  # it may be refused before the last piece
                in_pieces(client, data, size)
            answer = client.response()
            assert answer.status == status
            if reason is not None:
                assert answer.problem["reason"] == reason
                assert closes(answer.fields)
                assert client.ended()
        assert len(upstream.requests) == asked + (status == 200)


def test_the_limit_of_bodies(begin: Begin, upstream: RecordingUpstream) -> None:
    """By length it is refused before anything is forwarded; in chunks once it is passed: the upstream sees no end."""
    scene = begin({"body": 1000})
    with scene.connect() as client:
        client.send(request("/", "Content-Length: 1000", method="POST", body=b"x" * 1000))
        assert client.response().status == 200
        client.send(request("/", CHUNKED, method="POST", body=b"3e8\r\n" + b"x" * 1000 + b"\r\n0\r\n\r\n"))
        assert client.response().status == 200
    assert scene.refused(request("/", "Content-Length: 1001", method="POST")) == (413, "body_too_large", True)
    assert scene.refused(request("/", "Content-Length: 1001", "Expect: 100-continue", method="POST"))[0] == 413
    with scene.connect() as client:
        client.send(request("/", CHUNKED, method="POST", body=b"1f4\r\n" + b"x" * 500 + b"\r\n"))
        client.send(b"1f5\r\n" + b"x" * 501 + b"\r\n0\r\n\r\n")
        assert client.response().problem["reason"] == "body_too_large"
        assert client.ended()
    assert len(upstream.requests) == 2, "no third one was ever whole"


def test_no_limit_of_bodies_is_no_limit(begin: Begin, upstream: RecordingUpstream) -> None:
    scene = begin({"body": 0})
    with scene.connect() as client:
        client.send(request("/", "Content-Length: 3000000", method="POST", body=b"x" * 3_000_000))
        assert client.response().status == 200
    assert len(upstream.requests[0].body) == 3_000_000


# -- times of the listener ---------------------------------------------------------------------------------------------


def test_slow_headers(begin: Begin, upstream: RecordingUpstream) -> None:
    """request_headers counts from a request's first byte to the end of its head, however it drips; later ones too."""
    scene = begin(timeouts={"request_headers": SOON, "idle": LONG})
    for before in (b"", request()):
        with scene.connect() as client:
            if before:
                client.send(before)
                assert client.response().status == 200
                time.sleep(0.4)  # between requests the time does not run
            with contextlib.suppress(OSError):
                for byte in request("/", "X: " + "a" * 100):
                    client.send(bytes([byte]))
                    if select.select([client.sock], [], [], 0.02)[0]:
                        break
            answer = client.response()
            assert (answer.status, answer.problem["reason"]) == (408, "request_timeout")
            assert client.ended()
    assert len(upstream.requests) == 1


def test_slow_bodies(begin: Begin, upstream: RecordingUpstream) -> None:
    """request_body counts between two reads: a body that keeps coming may take its time, one that stops may not."""
    scene = begin(timeouts={"request_body": "300ms"})
    with scene.connect() as client:
        client.send(request("/", "Content-Length: 10", method="POST"))
        for _ in range(10):
            time.sleep(0.06)
            client.send(b"x")
        assert client.response().status == 200
    with scene.connect() as client:
        client.send(request("/", "Content-Length: 10", method="POST", body=b"xxxxx"))
        answer = client.response()
        assert (answer.status, answer.problem["reason"]) == (408, "request_timeout")
        assert client.ended()
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("before", [b"", request(), b"\r\n"], ids=["nothing sent", "after a request", "a line end"])
def test_idle_connections_are_closed(begin: Begin, before: bytes) -> None:
    """Properly (close_notify) and without an answer: there was no request."""
    scene = begin(timeouts={"idle": SOON, "request_headers": SOON if before != b"\r\n" else LONG})
    with scene.connect() as client:
        client.send(before)
        if before.startswith(b"GET"):
            assert client.response().status == 200
        assert client.ended()


def test_a_connection_that_is_used_is_not_idle(begin: Begin) -> None:
    scene = begin(timeouts={"idle": "400ms"})
    with scene.connect() as client:
        for _ in range(8):
            assert client.get().status == 200
            time.sleep(0.1)


def test_a_long_wait_for_the_upstream_is_not_idle(begin: Begin, by_hand: Listening) -> None:
    """Neither idle, nor request_headers, nor request_body, nor write run meanwhile."""
    scene = begin(timeouts=dict.fromkeys(("idle", "request_headers", "request_body", "write"), "200ms"))
    with scene.connect() as client:
        client.send(request("/", "Content-Length: 2", method="POST", body=b"ab"))
        peer = by_hand.accept()
        peer.head()
        time.sleep(0.6)
        peer.send(OK)
        assert client.response().status == 200


def test_a_client_that_does_not_read_is_let_go(begin: Begin, by_hand: Listening) -> None:
    """write: no progress for so long ends the connection, and the upstream's with it."""
    scene = begin(timeouts={"write": SOON})
    with scene.connect() as client:
        client.send(request())
        peer = by_hand.accept()
        peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        with pytest.raises(OSError):
            for _ in range(1000):
                peer.send(b"x" * 100_000)
            peer.send(b"x" * 100_000)
        (line,) = scene.proxy.access()
        assert (line["status"], line["reason"]) == (200, "request_timeout")
    eventually(lambda: not scene.proxy.series("upstream_connections"))


# -- times of routes and upstreams -------------------------------------------------------------------------------------


def test_an_upstream_that_does_not_answer(config: Tree, begin: Begin, by_hand: Listening) -> None:
    """timeouts.response: 504; the connection to the client lives on."""
    config["routes"][0]["timeouts"] = {"response": SOON}
    scene = begin()
    with scene.connect() as client:
        client.send(request())
        peer = by_hand.accept()
        peer.head()
        answer = client.response()
        assert (answer.status, answer.problem["reason"]) == (504, "upstream_timeout")
        assert peer.rest() == b""
        client.send(request())
        by_hand.accept().answer()
        assert client.response().status == 200


def test_the_upstreams_time_begins_when_the_request_is_sent(config: Tree, begin: Begin, by_hand: Listening) -> None:
    """A client that sends slowly is not the upstream's fault."""
    config["routes"][0]["timeouts"] = {"response": SOON}
    scene = begin(timeouts={"request_body": LONG})
    with scene.connect() as client:
        client.send(request("/", "Content-Length: 4", method="POST", body=b"ab"))
        peer = by_hand.accept()
        peer.head()
        time.sleep(0.6)
        client.send(b"cd")
        assert peer.exactly(4) == b"abcd"
        peer.send(OK)
        assert client.response().status == 200


def test_a_route_may_have_more_patience_than_another(config: Tree, begin: Begin, by_hand: Listening) -> None:
    config["routes"].insert(
        0, config["routes"][0] | {"name": "slow", "paths": ["/slow"], "timeouts": {"response": LONG}}
    )
    config["routes"][1]["timeouts"] = {"response": SOON}
    scene = begin()
    with scene.connect() as client:
        client.send(request("/slow"))
        peer = by_hand.accept()
        peer.head()
        time.sleep(0.6)
        peer.send(OK)
        assert client.response().status == 200
        client.send(request("/quick"))
        peer.head()
        assert client.response().status == 504


def test_pooled_connections_rest_only_so_long(config: Tree, begin: Begin, by_hand: Listening) -> None:
    config["upstreams"]["recorder"]["idle_timeout"] = SOON
    scene = begin()
    with scene.connect() as client:
        client.send(request())
        peer = by_hand.accept()
        peer.answer()
        assert client.response().status == 200
        assert peer.rest() == b""
        client.send(request())
        by_hand.accept().answer()
        assert client.response().status == 200


def test_connect_timeout(config: Tree, begin: Begin) -> None:
    """504: nobody takes the connection, and nobody refuses it."""
    with full_port() as port:
        config["upstreams"]["recorder"] = {
            "servers": [{"url": f"http://127.0.0.1:{port}"}], "connect_timeout": SOON,
        }  # fmt: skip
        assert begin().refused(request())[:2] == (504, "upstream_timeout")


def test_max_connections_and_queue(config: Tree, begin: Begin, by_hand: Listening) -> None:
    """One is served, one waits, one is refused with 503; who waits too long is told so as well."""
    config["upstreams"]["recorder"] |= {"max_connections": 1, "queue": 1}
    config["routes"].insert(
        0, config["routes"][0] | {"name": "hasty", "paths": ["/hasty"], "timeouts": {"response": SOON}}
    )
    scene = begin()
    with scene.connect() as one, scene.connect() as two, scene.connect() as three:
        one.send(request("/1"))
        peer = by_hand.accept()
        peer.head()
        two.send(request("/hasty"))
        answer = two.response()
        assert (answer.status, answer.problem["reason"]) == (503, "upstream_unavailable")
        two.send(request("/2"))
        eventually(lambda: scene.proxy.series("requests_in_flight").get(("internal",)) == 2)
        answer = three.get("/3")
        assert (answer.status, answer.problem["reason"]) == (503, "upstream_unavailable")
        peer.send(OK)
        assert one.response().status == 200
        assert peer.answer().startswith(b"GET /2 ")
        assert two.response().status == 200
        assert by_hand.nobody_else()
