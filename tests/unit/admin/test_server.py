"""The admin server over real sockets: what it shows, to whom, and what it says when it does not."""

import asyncio
import gzip
import json
import socket
import subprocess
import sys
from typing import Any

import aiohttp
import prometheus_client.openmetrics.parser as openmetrics_parser
import prometheus_client.parser as text_parser
import pytest
from tests.unit.admin.site import Site, problem, serve
from tests.unit.admin.source import Source

from mtlsproxy.admin.server import AdminError, start_admin
from mtlsproxy.config.service import Admin


@pytest.mark.parametrize(
    ("accept", "parser"),
    [("text/plain", text_parser), ("application/openmetrics-text;version=1.0.0", openmetrics_parser)],
)
async def test_metrics_are_served_in_the_format_asked_for(site: Site, accept: str, parser: Any) -> None:
    site.metrics.workers.set(value=2)
    response, body = await site.get("/metrics", Accept=accept)
    assert response.status == 200
    assert response.headers["Content-Type"].startswith(accept.partition(";")[0])
    found = {s.name: s.value for family in parser.text_string_to_metric_families(body.decode()) for s in family.samples}
    assert found["mtlsproxy_workers"] == 2
    assert found["process_resident_memory_bytes"] > 0


async def test_metrics_are_compressed_on_request(site: Site) -> None:
    response, body = await site.get("/metrics", Accept_Encoding="gzip")
    assert response.headers["Content-Encoding"] == "gzip"
    assert b"# TYPE mtlsproxy_workers gauge" in gzip.decompress(body)


async def test_health_says_that_the_process_is_up(site: Site) -> None:
    site.source.reasons = ["draining"]
    response, body = await site.get("/healthz")
    assert (response.status, json.loads(body)) == (200, {"status": "up"})


async def test_readiness_is_503_with_the_reasons(site: Site) -> None:
    response, body = await site.get("/readyz")
    lasting = [{"truststore": "partners", "issuer": "CN=CA", "state": "fresh", "seconds_left": 60}]
    assert (response.status, json.loads(body)) == (200, {"ready": True, "reasons": [], "revocation": lasting})
    site.source.reasons = ["draining", "listener internal: no usable CRL"]
    response, body = await site.get("/readyz")
    assert response.status == 503
    assert response.content_type == "application/json"
    reasons = ["draining", "listener internal: no usable CRL"]
    assert json.loads(body) == {"ready": False, "reasons": reasons, "revocation": lasting}


async def test_readiness_of_one_listener_and_of_one_that_is_not_there(site: Site) -> None:
    response, _ = await site.get("/readyz?listener=internal")
    assert response.status == 200
    for name in ("external", ""):
        response, body = await site.get(f"/readyz?listener={name}")
        assert response.status == 404
        assert problem(response, body) == f"there is no listener {name}"


async def test_status_and_rejections_are_json(site: Site) -> None:
    response, body = await site.get("/api/status")
    assert (response.status, response.content_type) == (200, "application/json")
    assert json.loads(body)["started"] == "2030-01-01T00:00:00+00:00"
    response, body = await site.get("/api/rejections")
    assert json.loads(body) == {"rejections": site.source.refused}


async def test_the_status_page_is_html_and_escapes_what_clients_chose(site: Site) -> None:
    site.source.reasons = ["<b>drain & stop</b>"]
    response, body = await site.get("/")
    page = body.decode()
    assert (response.status, response.content_type) == (200, "text/html")
    assert "mtlsproxy is not ready" in page
    assert "&lt;b&gt;drain &amp; stop&lt;/b&gt;" in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page


async def test_the_page_names_the_admin_as_its_reader_calls_it(site: Site) -> None:
    _, body = await site.get("/", Host=f"localhost:{site.port}")
    assert f"mtlsproxy explain --request-id r1 --admin http://localhost:{site.port}<" in body.decode()


async def test_the_page_is_made_once_for_many_who_look(site: Site) -> None:
    """However many look, the proxy is asked once a second at most."""
    answers = await asyncio.gather(*(site.get("/page.json") for _ in range(20)))
    assert {response.status for response, _ in answers} == {200}
    assert site.source.asked["rejections"] <= 2
    assert json.loads(answers[0][1])["title"] == "mtlsproxy: ready"


async def test_one_refusal_is_found_by_its_id_with_what_was_presented(site: Site) -> None:
    _, body = await site.get("/api/rejections/r1")
    assert json.loads(body) == site.source.refused[0] | {"presented": "PEM"}
    response, body = await site.get("/api/rejections/unknown")
    assert response.status == 404
    assert problem(response, body).startswith("no refusal of the id unknown is known")


async def test_clients_are_json(site: Site) -> None:
    site.source.known = [{"identity": "alice", "fingerprint": "ab"}]
    _, body = await site.get("/api/clients")
    assert json.loads(body) == {"clients": site.source.known}


@pytest.mark.parametrize("path", ["/", "/metrics", "/readyz", "/api/status", "/missing"])
async def test_every_answer_keeps_browsers_from_doing_more_with_it(site: Site, path: str) -> None:
    response, _ = await site.get(path, Origin="http://evil.example")
    assert response.headers["Content-Security-Policy"].startswith("default-src 'none';")
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Server"] == "mtlsproxy"
    assert not [name for name in response.headers if name.lower().startswith("access-control-")]


@pytest.mark.parametrize(
    "path", ["/", "/page.json", "/metrics", "/healthz", "/readyz", "/api/status", "/api/rejections", "/api/clients"]
)
async def test_head_answers_like_get_without_the_body(site: Site, path: str) -> None:
    head, body = await site.get(path, method="HEAD")
    get, _ = await site.get(path)
    assert (head.status, body) == (get.status, b"")
    assert head.headers["Content-Type"] == get.headers["Content-Type"]


async def test_unknown_pages_and_methods_are_problems(site: Site) -> None:
    response, body = await site.get("/missing")
    assert response.status == 404
    assert problem(response, body)
    for method in ("POST", "DELETE", "OPTIONS"):
        response, body = await site.get("/api/status", method=method)
        assert response.status == 405
        assert problem(response, body)
        assert response.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/readyz", "/api/status", "/missing"])
@pytest.mark.parametrize("which", ["addresses", "metrics_addresses"])
async def test_a_rebound_name_is_refused_everywhere(site: Site, path: str, which: str) -> None:
    port = getattr(site.server, which)[0].port
    response, body = await site.get(path, port=port, Host=f"evil.example:{port}")
    assert response.status == 403
    assert "admin.allowed_hosts" in problem(response, body)


@pytest.mark.parametrize("host", ["localhost", "localhost:9901", "127.0.0.1", "LocalHost.:1"])
async def test_known_names_are_served(site: Site, host: str) -> None:
    response, _ = await site.get("/api/status", Host=host)
    assert response.status == 200


async def raw(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_health_checks_without_host_are_answered_and_nothing_else(site: Site) -> None:
    assert (await raw(site.port, b"GET /readyz HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.0 200 ")
    assert (await raw(site.port, b"GET /api/status HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.0 403 ")


async def test_a_second_host_header_does_not_slip_through(site: Site) -> None:
    request = b"GET /api/status HTTP/1.0\r\nHost: evil.example\r\nHost: localhost\r\n\r\n"
    assert (await raw(site.port, request)).split()[1] in (b"400", b"403")


async def test_the_metrics_site_shows_metrics_and_health_alone(site: Site) -> None:
    port = site.server.metrics_addresses[0].port
    for path in ("/metrics", "/healthz", "/readyz", "/readyz?listener=internal"):
        response, _ = await site.get(path, port=port)
        assert response.status == 200
    for path in (
        *("/", "/page.json", "/api/status", "/api/rejections", "/api/rejections/x", "/api/clients", "/api/events"),
        *("/missing", "//api/status", "/metrics/../api/status"),
    ):
        response, body = await site.get(path, port=port)
        assert response.status == 404
        assert problem(response, body)


async def test_where_others_can_reach_it_without_a_token_only_metrics_and_health_are_shown(open_site: Site) -> None:
    for path in ("/metrics", "/healthz", "/readyz"):
        response, _ = await open_site.get(path)
        assert response.status == 200
    for path in ("/", "/page.json", "/api/status", "/api/rejections", "/api/clients", "/api/events", "/missing"):
        response, body = await open_site.get(path)
        assert response.status == 403
        assert "not a loopback address" in problem(response, body)


async def test_a_port_that_is_taken_names_the_setting_and_leaves_nothing_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as probe:
        port, free = taken.getsockname()[1], probe.getsockname()[1]
        probe.close()
        with pytest.raises(AdminError, match=rf"^admin\.bind: 127\.0\.0\.1:{port}: Address already in use$"):
            await start_admin(Admin.model_validate({"bind": f"127.0.0.1:{port}"}), Source())
        both = Admin.model_validate({"bind": f"127.0.0.1:{free}", "metrics_bind": f"127.0.0.1:{port}"})
        with pytest.raises(AdminError, match=rf"^admin\.metrics_bind: 127\.0\.0\.1:{port}: "):
            await start_admin(both, Source())
        socket.create_server(("127.0.0.1", free)).close()


async def test_an_address_that_is_not_ours_names_the_setting() -> None:
    with pytest.raises(AdminError, match=r"^admin\.bind: 192\.0\.2\.1:0: Cannot assign requested address$"):
        await start_admin(Admin.model_validate({"bind": "192.0.2.1:0"}), Source())


async def test_a_socket_of_systemd_is_refused_in_words() -> None:
    with pytest.raises(AdminError, match=r"^admin\.bind: fd:admin: "):
        await start_admin(Admin.model_validate({"bind": "fd:admin"}), Source())


async def test_localhost_is_bound_on_loopback_and_shows_everything() -> None:
    async for site in serve(Admin.model_validate({"bind": "localhost:0"})):
        assert {address.host for address in site.server.addresses} <= {"127.0.0.1", "::1"}
        async with site.client.get(f"http://{site.server.addresses[0]}/api/status") as response:
            assert response.status == 200


async def test_after_close_nobody_listens(site: Site) -> None:
    await site.get("/healthz")
    await site.server.close()
    with pytest.raises(aiohttp.ClientConnectionError):
        await site.get("/healthz")


def test_importing_the_admin_does_not_import_aiohttp() -> None:
    code = (
        "import sys, mtlsproxy.admin.server; sys.exit('aiohttp' in sys.modules or 'prometheus_client' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 0
