"""Attacks on memory: what is left of connections, requests and configurations that are gone, and what idle ones keep.

Collections are off: a cycle through an SSLObject holds what OpenSSL has of a client's certificates, and costs a full
collection (a stall of the loop) to be found.
"""

import asyncio
import contextlib
import socket
import ssl
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.integration.attacks.alive import assert_nothing_more_than, no_collections, ours
from tests.integration.certificates import Identity, identity, issue, names
from tests.integration.clients import PATIENCE, V12, client_context, connected, request, tls
from tests.integration.conftest import Material, Start
from tests.integration.harness import RunningProxy, Tree, eventually
from tests.integration.refusals import assert_nobody_left
from tests.integration.upstream import Recorded, RecordingUpstream

CLOSING = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
TIMES = 8


@dataclass(frozen=True)
class Scene:
    proxy: RunningProxy
    upstream: RecordingUpstream
    honest: ssl.SSLContext
    nobody: ssl.SSLContext
    stranger: ssl.SSLContext
    huge: ssl.SSLContext
    denied: ssl.SSLContext
    old: ssl.SSLContext

    @property
    def port(self) -> int:
        return self.proxy.port()


Visit = Callable[[Scene], None]


def is_served(scene: Scene) -> None:
    scene.upstream.answer(CLOSING)
    with tls(scene.port, scene.honest) as client:
        assert client.get().status == 200
        assert client.get().status == 200


def is_served_by_tls_1_2(scene: Scene) -> None:
    with tls(scene.port, scene.old) as client:
        assert client.get().status == 200


def uploads_in_chunks(scene: Scene) -> None:
    scene.upstream.answer(CLOSING)
    with tls(scene.port, scene.honest) as client:
        client.send(request("/", "Transfer-Encoding: chunked", method="POST", body=b"2\r\nab\r\n0\r\nX: y\r\n\r\n"))
        assert client.response().status == 200


def is_not_allowed(scene: Scene) -> None:
    with tls(scene.port, scene.honest) as client:
        assert client.get("/forbidden").status == 403


def is_denied(scene: Scene) -> None:
    with tls(scene.port, scene.denied) as client:
        assert client.get().problem["reason"] == "denied"


def has_no_certificate(scene: Scene) -> None:
    with contextlib.suppress(OSError), tls(scene.port, scene.nobody) as client:
        client.sock.recv(1)


def is_a_stranger(scene: Scene) -> None:
    with contextlib.suppress(OSError), tls(scene.port, scene.stranger) as client:
        client.sock.recv(1)


def is_a_stranger_with_a_huge_certificate(scene: Scene) -> None:
    with contextlib.suppress(OSError), tls(scene.port, scene.huge) as client:
        client.sock.recv(1)


def leaves_within_the_handshake(scene: Scene) -> None:
    with connected(scene.port) as raw:
        raw.sendall(b"\x16\x03\x01\x02")


def sends_plain_http(scene: Scene) -> None:
    with connected(scene.port) as raw:
        raw.sendall(request())
        raw.recv(100)


def sends_rubbish_behind_the_handshake(scene: Scene) -> None:
    with contextlib.suppress(OSError), tls(scene.port, scene.honest) as client:
        assert client.get().status == 200
        socket.socket.send(client.sock, b"\x17\x03\x03\x00\x20" + bytes(32))
        client.sock.recv(1)


def sends_no_request(scene: Scene) -> None:
    with tls(scene.port, scene.honest) as client:
        client.send(b"rubbish\r\n\r\n")
        assert client.response().status == 400


def leaves_within_its_body(scene: Scene) -> None:
    with tls(scene.port, scene.honest) as client:
        client.send(request("/", "Content-Length: 10", method="POST", body=b"abc"))
        eventually(lambda: scene.proxy.series("requests_in_flight"))


def leaves_within_its_answer(scene: Scene) -> None:
    def half(_request: Recorded, connection: socket.socket) -> None:
        connection.sendall(CLOSING[:-1])

    scene.upstream.script = half
    with contextlib.suppress(OSError, EOFError), tls(scene.port, scene.honest) as client:
        client.get()


def meets_an_upstream_that_hangs_up(scene: Scene) -> None:
    scene.upstream.script = lambda _request, _connection: None
    with tls(scene.port, scene.honest) as client:
        assert client.get().status == 502


def meets_an_upstream_that_nobody_serves(scene: Scene) -> None:
    with tls(scene.port, scene.honest) as client:
        assert client.get("/nowhere").status == 503


def waits_for_its_turn_in_vain(scene: Scene) -> None:
    """One place at that upstream, taken: the second gives up."""
    with tls(scene.port, scene.honest) as first, tls(scene.port, scene.honest) as second:
        first.send(request("/narrow", "Content-Length: 1", method="POST"))
        eventually(lambda: scene.proxy.series("requests_in_flight") == {("internal",): 1})
        second.send(request("/narrow"))
        eventually(lambda: scene.proxy.series("requests_in_flight") == {("internal",): 2})


@pytest.fixture
def scene(
    config: Tree,
    material: Material,
    upstream: RecordingUpstream,
    start: Start,
    honest: ssl.SSLContext,
    nobody: ssl.SSLContext,
    alice: Identity,
    tmp_path: Path,
) -> Scene:
    denied = material.client("denied", ("DNS:denied.clients.test",))
    config["truststores"]["partners"]["deny"] = [{"dns": "denied.clients.test"}]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nowhere = f"http://127.0.0.1:{taken.getsockname()[1]}"
    config["upstreams"]["recorder"]["circuit_breaker"] = {"failures": 100_000}  # all of them are asked for
    config["upstreams"] |= {
        "nowhere": {"servers": [{"url": nowhere}]},
        "narrow": {"servers": [{"url": upstream.url}], "max_connections": 1},
    }
    config["routes"] = [
        {"name": "forbidden", "paths": ["/forbidden"], "allow": [], "upstream": "recorder"},
        {"name": "nowhere", "paths": ["/nowhere"], "allow": "any", "upstream": "nowhere"},
        {"name": "narrow", "paths": ["/narrow"], "allow": "any", "upstream": "narrow"},
        *config["routes"],
    ]
    stranger = identity(tmp_path, issue("stranger", issue("Nobody's CA", ca=True)))
    huge = identity(tmp_path, issue("huge", issue("Nobody's CA", ca=True), sans=names(*["DNS:a"] * 20_000)))
    return Scene(
        start(config),
        upstream,
        honest,
        nobody,
        client_context(material.root, stranger),
        client_context(material.root, huge),
        client_context(material.root, denied),
        client_context(material.root, alice, V12),
    )


VISITS: list[Visit] = [
    is_served,
    is_served_by_tls_1_2,
    uploads_in_chunks,
    is_not_allowed,
    is_denied,
    has_no_certificate,
    is_a_stranger,
    is_a_stranger_with_a_huge_certificate,
    leaves_within_the_handshake,
    sends_plain_http,
    sends_rubbish_behind_the_handshake,
    sends_no_request,
    leaves_within_its_body,
    leaves_within_its_answer,
    meets_an_upstream_that_hangs_up,
    meets_an_upstream_that_nobody_serves,
    waits_for_its_turn_in_vain,
]


@pytest.mark.parametrize("visit", VISITS, ids=[visit.__name__ for visit in VISITS])
def test_of_a_client_nothing_is_left_who(scene: Scene, visit: Visit) -> None:
    """The first visit fills what is remembered of one client; further ones leave nothing behind."""
    visit(scene)
    assert_nobody_left(scene.proxy)
    with no_collections():
        before = ours()
        for _ in range(TIMES):
            visit(scene)
        assert_nothing_more_than(before)
    assert_nobody_left(scene.proxy)


def test_of_a_configuration_nothing_is_left(config: Tree, start: Start, honest: ssl.SSLContext, tmp_path: Path) -> None:
    """TLS contexts hold megabytes of trust anchors in OpenSSL: those of the past go when no connection uses them."""
    proxy = start(config)

    def reload() -> None:
        reloading = asyncio.run_coroutine_threadsafe(proxy.proxy.reloader.reload("a test"), proxy.loop)
        assert reloading.result(PATIENCE).ok
        with tls(proxy.port(), honest) as client:
            assert client.get().status == 200
        assert_nobody_left(proxy)

    reload()
    with no_collections():
        before = ours()
        for _ in range(4):
            reload()
        assert_nothing_more_than(before)


def test_an_idle_connection_does_not_keep_the_large_head_that_it_sent(
    config: Tree, upstream: RecordingUpstream, start: Start, honest: ssl.SSLContext
) -> None:
    """Admitted or not, answered or not: what a connection keeps between two requests does not grow with the first."""
    config["routes"].insert(0, {"name": "no", "paths": ["/no"], "allow": [], "upstream": "recorder"})
    upstream.answer(CLOSING)
    proxy = start(config)
    large = [f"X-{number:02}: {'a' * 640}" for number in range(98)]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(tls(proxy.port(), honest)) for _ in range(20)]
        for client in clients:
            assert client.get().status == 200
            assert client.get("/no").status == 403
        tracemalloc.start()
        try:
            small = tracemalloc.get_traced_memory()[0]
            for client in clients:
                assert client.get("/", *large).status == 200
                assert client.get("/no", *large).status == 403
            eventually(lambda: not upstream.open)
            upstream.requests.clear()
            upstream.received.clear()
            kept = (tracemalloc.get_traced_memory()[0] - small) / len(clients)
        finally:
            tracemalloc.stop()
    assert kept < 24_000, f"{kept:.0f} bytes a connection"
