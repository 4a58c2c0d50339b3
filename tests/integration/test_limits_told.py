"""What an operator is told of every limit and timeout: one reason, in the access log, the warning and the metrics."""

import contextlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.integration.clients import Connection, client_context, request, tls
from tests.integration.conftest import Material, Start
from tests.integration.harness import RunningProxy, Tree, eventually
from tests.integration.http.peers import OK, Listening, Peer, listening
from tests.integration.stepped import client_hello, stepped

SOON = "200ms"

Act = Callable[["Scene"], None]


@dataclass(frozen=True)
class Scene:
    proxy: RunningProxy
    context: ssl.SSLContext
    upstream: Listening

    def connect(self) -> contextlib.AbstractContextManager[Connection]:
        return tls(self.proxy.port(), self.context)

    def asked(self, data: bytes) -> None:
        """A client sends this, and reads what it is answered."""
        with self.connect() as client, contextlib.suppress(OSError, EOFError):
            client.send(data)
            client.response()


@dataclass(frozen=True)
class Case:
    """act: goes beyond the limit. status: in the log and requests_total; None where nobody had asked for anything."""

    act: Act
    reason: str
    status: int | None
    listener: dict[str, Any] = field(default_factory=dict)
    route: dict[str, Any] = field(default_factory=dict)
    upstream: dict[str, Any] = field(default_factory=dict)
    says: str = ""
    """In the detail."""
    routed: bool = False
    """Whether it had come as far as its route."""
    method: str = "GET"


def sends(data: bytes) -> Act:
    return lambda scene: scene.asked(data)


def meets(play: Callable[[Peer], object]) -> Act:
    """A request, and what the upstream does about it."""

    def act(scene: Scene) -> None:
        with scene.connect() as client:
            client.send(request())
            peer = scene.upstream.accept()
            peer.head()
            play(peer)
            with contextlib.suppress(OSError, EOFError):
                client.response()

    return act


def does_not_read(scene: Scene) -> None:
    with scene.connect() as client:
        client.send(request())
        peer = scene.upstream.accept()
        peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        with pytest.raises(OSError):
            for _ in range(1001):
                peer.send(b"x" * 100_000)


def is_one_too_many_at_the_upstream(scene: Scene) -> None:
    """One is served, one waits."""
    with scene.connect() as one, scene.connect() as two:
        one.send(request("/1"))
        peer = scene.upstream.accept()
        peer.head()
        two.send(request("/2"))
        eventually(lambda: scene.proxy.series("requests_in_flight").get(("internal",)) == 2)
        scene.asked(request("/3"))
        peer.send(OK)
        assert one.response().status == 200
        peer.answer()
        assert two.response().status == 200


def waits_too_long_for_the_upstream(scene: Scene) -> None:
    with scene.connect() as one:
        one.send(request("/1", "Content-Length: 1", method="POST"))  # whose time does not run yet
        peer = scene.upstream.accept()
        peer.head()
        scene.asked(request("/2"))
        one.send(b"x")
        peer.exactly(1)
        peer.send(OK)
        assert one.response().status == 200


def says_half_a_client_hello(scene: Scene) -> None:
    with stepped(scene.proxy.port(), scene.context) as client:
        client.raw.sendall(client_hello(scene.context)[:-1])
        assert client.raw.recv(1) == b""


def shakes_hands_half_way(scene: Scene) -> None:
    with stepped(scene.proxy.port(), scene.context) as client:
        client.raw.sendall(client.flight())
        while client.receive():
            pass


LIMITS = {"request_line": 100, "header_field": 200, "headers": 1000, "header_count": 10, "body": 1000}
CHUNKS = b"3e8\r\n" + b"x" * 1000 + b"\r\n1\r\nx\r\n"
UP_TO_HERE = {"limits": LIMITS}
WAIT = {"max_connections": 1, "queue": 1}

CASES = {
    "request_line": Case(
        sends(request("/" + "a" * 100)), "uri_too_long", 414, UP_TO_HERE, says="(limits.request_line)",
    ),
    "header_field": Case(
        sends(request("/", "X: " + "a" * 198)), "headers_too_large", 431, UP_TO_HERE, says="(limits.header_field)",
    ),
    "headers": Case(
        sends(request("/", *["X: " + "a" * 190] * 6)), "headers_too_large", 431, UP_TO_HERE, says="(limits.headers)",
    ),
    "header_count": Case(
        sends(request("/", *["X: a"] * 10)), "headers_too_large", 431, UP_TO_HERE, says="(limits.header_count)",
    ),
    "body, by its length": Case(
        sends(request("/", "Content-Length: 1001", method="POST")), "body_too_large", 413, UP_TO_HERE, routed=True,
        method="POST", says="(limits.body)",
    ),
    "body, in chunks": Case(
        sends(request("/", "Transfer-Encoding: chunked", method="POST", body=CHUNKS)), "body_too_large", 413,
        UP_TO_HERE, routed=True, method="POST", says="(limits.body)",
    ),
    "client_hello_timeout": Case(
        says_half_a_client_hello, "handshake_timeout", None, {"tls": {"client_hello_timeout": SOON}},
        says="ClientHello was not complete",
    ),
    "handshake_timeout": Case(
        shakes_hands_half_way, "handshake_timeout", None, {"tls": {"handshake_timeout": SOON}},
        says="handshake was not complete",
    ),
    "request_headers": Case(
        sends(b"GET / HTTP/1.1\r\n"), "request_timeout", 408,
        {"timeouts": {"request_headers": SOON}}, says="0.2s (timeouts.request_headers)",
    ),
    "request_body": Case(
        sends(request("/", "Content-Length: 10", method="POST", body=b"x")), "request_timeout", 408,
        {"timeouts": {"request_body": SOON}}, routed=True, method="POST", says="0.2s (timeouts.request_body)",
    ),
    "write": Case(
        does_not_read, "request_timeout", 200, {"timeouts": {"write": SOON}}, routed=True, says="0.2s (timeouts.write)",
    ),
    "response": Case(
        meets(lambda peer: peer.rest()), "upstream_timeout", 504, route={"timeouts": {"response": SOON}}, routed=True,
        says="did not answer in time: 0.2s (timeouts.response)",
    ),
    "response_body": Case(
        meets(lambda peer: (peer.send(OK[:-1]), peer.rest())), "upstream_timeout", 200,
        route={"timeouts": {"response_body": SOON}}, routed=True,
        says="stopped within its answer for 0.2s (timeouts.response_body)",
    ),
    "queue": Case(
        is_one_too_many_at_the_upstream, "upstream_unavailable", 503, upstream=WAIT, routed=True, says="(queue)",
    ),
    "max_connections": Case(
        waits_too_long_for_the_upstream, "upstream_unavailable", 503, route={"timeouts": {"response": SOON}},
        upstream=WAIT, routed=True, says="(max_connections)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_is_beyond_it_is_told(config: Tree, material: Material, start: Start, name: str) -> None:
    case = CASES[name]
    listener = config["listeners"][0]
    listener["tls"] |= case.listener.get("tls", {})
    listener |= {key: value for key, value in case.listener.items() if key != "tls"}
    config["routes"][0] |= case.route
    with listening() as server:
        config["upstreams"]["recorder"] |= {"servers": [{"url": server.url}], **case.upstream}
        proxy = start(config)
        case.act(Scene(proxy, client_context(material.root, material.client()), server))
        route = "all" if case.routed else ""
        line = proxy.refusal()
        assert (line["level"], line["reason"], line["status"]) == ("warning", case.reason, case.status)
        assert line["route"] == (route or None)
        assert case.says in line["detail"]
        if case.reason == "upstream_timeout":
            assert line["detail"].startswith(f"{server.url}: "), "which of the upstream's servers"
        assert proxy.series("rejections_total") == {("internal", route, case.reason, "true"): 1}
        answered = {key: count for key, count in proxy.series("requests_total").items() if key[3] != "200"}
        if case.status is None:
            assert proxy.series("handshakes_total") == {("internal", case.reason, "none"): 1}
            assert answered == {}
            return
        (logged,) = [line for line in proxy.access() if line["reason"]]
        assert (logged["reason"], logged["status"]) == (case.reason, case.status)
        if case.status != 200:
            ((key, count),) = answered.items()
            assert (key[:2], key[3], count) == (("internal", route), str(case.status), 1)
