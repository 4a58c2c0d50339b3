"""Active health checks ask over TLS, and a server that does not prove what it has to is not well."""

from tests.integration.certificates import Identity
from tests.integration.harness import Tree, eventually
from tests.integration.secure.conftest import Authority, Serve, server_context
from tests.integration.upstream import RecordingUpstream

CHECK = {"path": "/health", "interval": "100ms", "healthy": 1, "unhealthy": 1}


def test_a_server_is_well_only_with_its_certificate(
    to_tls: Tree, serve: Serve, upstream: RecordingUpstream, authority: Authority, good: Identity
) -> None:
    to_tls["upstreams"]["recorder"]["health_check"] = CHECK
    served = serve()
    eventually(lambda: upstream.requests)
    assert upstream.requests[0].line == "GET /health HTTP/1.1"
    assert served.get().status == 200
    upstream.context = server_context(authority.server("another.test"))
    eventually(lambda: served.proxy.series("upstream_healthy") == {})
    assert served.get().status == 503
    (server,) = served.proxy.proxy.pools.upstreams["recorder"].servers
    assert "another.test" in server.health.why
    upstream.context = server_context(good)
    assert eventually(lambda: served.get().status == 200)
