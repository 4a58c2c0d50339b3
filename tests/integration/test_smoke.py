"""A verified client's request reaches the upstream and its answer comes back, on either event loop."""

from pathlib import Path

import pytest
from tests.integration.clients import VERSIONS, client_context, tls
from tests.integration.conftest import Material
from tests.integration.harness import LOOPS, Tree, running_command, running_proxy
from tests.integration.upstream import RecordingUpstream


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_verified_client_is_forwarded(
    config: Tree, upstream: RecordingUpstream, material: Material, tmp_path: Path, loop: str, version: str
) -> None:
    """Answer, identity headers, access log and metrics, in TLS 1.2 and 1.3."""
    alice = material.client()
    with running_proxy(config, tmp_path, loop) as proxy:
        with tls(proxy.port(), client_context(material.root, alice, VERSIONS[version])) as connection:
            assert connection.sock.version() == version
            answer = connection.get("/orders/1?q=2")
        assert (answer.status, answer.body) == (200, b"ok")
        (request,) = upstream.requests
        assert request.line == "GET /orders/1?q=2 HTTP/1.1"
        assert request.values("X-Client-Verify") == ["SUCCESS"]
        assert request.values("X-Client-Id") == ["alice.clients.test"]
        assert request.values("X-Client-Truststore") == ["partners"]
        (line,) = proxy.access()
        assert (line["subject"], line["status"], line["route"]) == ("CN=alice", 200, "all")
        assert line["tls_version"] == version
        assert proxy.series("handshakes_total") == {("internal", "ok", version): 1}
        assert proxy.series("requests_total") == {("internal", "all", "GET", "200", "HTTP/1.1"): 1}
        assert proxy.series("rejections_total") == {}


def test_the_installed_command_serves_and_ends_when_told(
    config: Tree, upstream: RecordingUpstream, material: Material, tmp_path: Path
) -> None:
    """`mtlsproxy run` answers as the embedded proxy does, and exits with status 0 at SIGTERM."""
    with running_command(config, tmp_path) as proxy:
        with tls(proxy.port(), client_context(material.root, material.client())) as connection:
            assert connection.get().status == 200
        assert proxy.access()[0]["status"] == 200
        assert proxy.stop() == 0
    assert len(upstream.requests) == 1
