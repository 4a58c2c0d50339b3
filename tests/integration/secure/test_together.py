"""TLS to upstreams together with what else goes over their connections: health checks, tunnels, the breaker."""

import ssl

from tests.integration.clients import tls
from tests.integration.harness import Tree, eventually
from tests.integration.secure.conftest import Authority, Serve, server_context
from tests.integration.upstream import RecordingUpstream, recording_upstream


def test_a_health_check_verifies_the_server_too(
    serve: Serve, to_tls: Tree, authority: Authority, upstream: RecordingUpstream
) -> None:
    """One that is not trusted is asked nothing, neither by checks nor by requests."""
    with recording_upstream() as bad:
        bad.context = server_context(authority.server("other.test"))
        to_tls["upstreams"]["recorder"] |= {
            "servers": [{"url": bad.url}, {"url": upstream.url}],
            "health_check": {"path": "/healthz", "interval": "100ms", "healthy": 1, "unhealthy": 1},
        }
        served = serve()
        eventually(lambda: served.proxy.series("upstream_healthy") == {("recorder", upstream.url): 1})
        for _ in range(4):
            assert served.get().status == 200
        assert not any(bad.received)
        eventually(lambda: any(r.line.startswith("GET /healthz ") for r in upstream.requests))


def test_a_server_that_is_never_trusted_opens_the_breaker(
    serve: Serve, to_tls: Tree, authority: Authority, upstream: RecordingUpstream
) -> None:
    upstream.context = server_context(authority.server("other.test"))
    to_tls["upstreams"]["recorder"]["circuit_breaker"] = {"failures": 2, "open_for": "60s"}
    served = serve()
    assert [served.get().status for _ in range(3)] == [502, 502, 503]
    assert len(upstream.tls) + len(upstream.tls_failures) == 2
    assert "is for other.test" in served.said("is left alone for")


def test_a_websocket_passes_both_ways(serve: Serve, upstream: RecordingUpstream) -> None:
    def echo(_: object, connection: object) -> None:
        assert isinstance(connection, ssl.SSLSocket)
        connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )
        while data := connection.recv(65536):
            connection.sendall(data.upper())

    upstream.script = echo
    served = serve()
    with tls(served.proxy.port(), served.client) as connection:
        connection.send(
            b"GET /chat HTTP/1.1\r\nHost: proxy.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        assert connection.response().status == 101
        for words in (b"hello", b"x" * 100_000):
            connection.send(words)
            assert connection.exactly(len(words)) == words.upper()
