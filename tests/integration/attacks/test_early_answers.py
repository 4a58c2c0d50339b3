"""Attacks through upstreams that answer before they have read the request: what follows must not become a request."""

import http.server
import ssl
import threading
from collections.abc import Iterator

import pytest
from tests.integration.clients import request, tls
from tests.integration.conftest import Start
from tests.integration.harness import Tree, eventually

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: proxy.test\r\nX-Client-Id: admin\r\n\r\n"

Seen = list[tuple[str, str | None]]


class _Hasty(http.server.BaseHTTPRequestHandler):
    """Answers a POST without reading its body, and takes the body for the next request: a mistake often made."""

    protocol_version = "HTTP/1.1"
    seen: Seen

    def handle_expect_100(self) -> bool:
        return True

    def _answer(self, status: int) -> None:
        self.seen.append((self.path, self.headers["X-Client-Id"]))
        body = f"answer to {self.path}".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self._answer(403)

    def do_GET(self) -> None:
        self._answer(200)

    def log_message(self, format: str, *args: object) -> None:
        """Quietly."""


@pytest.fixture
def seen(config: Tree) -> Iterator[Seen]:
    """What a hasty upstream took for requests; it is put into `config`, with one connection."""
    found: Seen = []
    handler = type("Handler", (_Hasty,), {"seen": found})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        config["upstreams"]["recorder"] |= {
            "servers": [{"url": f"http://127.0.0.1:{server.server_port}"}],
            "max_connections": 1,
        }
        yield found
        server.shutdown()
        thread.join(5)


@pytest.mark.parametrize("expect", [(), ("Expect: 100-continue",)], ids=["plain", "expect"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_that_is_a_request_never_becomes_one(
    config: Tree, start: Start, seen: Seen, honest: ssl.SSLContext, hostile: ssl.SSLContext, expect: tuple[str, ...],
    framing: str,
) -> None:  # fmt: skip
    """Its sender waits for the early answer, then sends the body, while another client waits for that connection."""
    if framing == "length":
        field, body = f"Content-Length: {len(SMUGGLED)}", SMUGGLED
    else:
        field, body = "Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)
    proxy = start(config)
    with tls(proxy.port(), hostile) as attacker, tls(proxy.port(), honest) as client:
        attacker.send(request("/first", field, *expect, method="POST"))
        assert attacker.response().body == b"answer to /first"
        client.send(request("/hers"))
        attacker.send(body)
        assert client.response().body == b"answer to /hers"
        assert attacker.get("/second").body == b"answer to /second"
        assert client.get("/hers/too").body == b"answer to /hers/too"
    alice, mallory = "alice.clients.test", "mallory.clients.test"
    assert seen == [("/first", mallory), ("/hers", alice), ("/second", mallory), ("/hers/too", alice)]


def test_a_body_in_time_keeps_the_connection(config: Tree, start: Start, seen: Seen, honest: ssl.SSLContext) -> None:
    """Whole requests, whole answers: one connection to the upstream serves them all."""
    proxy = start(config)
    with tls(proxy.port(), honest) as client:
        for number in range(3):
            assert client.get(f"/{number}").status == 200
    assert len(seen) == 3
    eventually(lambda: list(proxy.series("upstream_connections").values()) == [1])
