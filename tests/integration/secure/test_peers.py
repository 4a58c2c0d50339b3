"""Servers of other makes: nginx with client verification, openssl s_server, aiohttp."""

import asyncio
import contextlib
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from tests.integration.certificates import Identity, anchor_file, identity, issue
from tests.integration.clients import PATIENCE, tls
from tests.integration.harness import Tree, eventually, free_port
from tests.integration.http.peers import nginx
from tests.integration.secure.conftest import Serve, server_context

from mtlsproxy.x509.policy import CLIENT_AUTH


def put(to_tls: Tree, port: int) -> None:
    to_tls["upstreams"]["recorder"]["servers"] = [{"url": f"https://127.0.0.1:{port}"}]


@pytest.fixture
def own(to_tls: Tree, tmp_path: Path) -> Path:
    """The proxy has a certificate of its own; the anchors of its CA."""
    ca = issue("Proxies CA", ca=True)
    mine = identity(tmp_path, issue("this proxy", ca, eku=[CLIENT_AUTH]))
    to_tls["upstreams"]["recorder"]["tls"] |= {"certificate": str(mine.certificate), "private_key": str(mine.key)}
    return anchor_file(tmp_path, ca)


@pytest.mark.parametrize("versions", ["TLSv1.2", "TLSv1.3"])
def test_nginx_verifies_the_proxy_and_is_verified(
    serve: Serve, to_tls: Tree, tmp_path: Path, good: Identity, own: Path, versions: str
) -> None:
    port = free_port()
    with nginx(
        tmp_path,
        f"server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {good.certificate}; ssl_certificate_key {good.key};"
        f"ssl_client_certificate {own}; ssl_verify_client on; ssl_protocols {versions};"
        "location / { default_type text/plain;"
        "return 200 $ssl_client_s_dn,$ssl_server_name,$ssl_protocol,$ssl_alpn_protocol; } }",
    ):
        put(to_tls, port)
        served = serve()
        for _ in range(3):  # on one connection, whose tickets came late
            answer = served.get()
            assert (answer.status, answer.body.decode()) == (200, f"CN=this proxy,upstream.test,{versions},http/1.1")
        assert sum(served.proxy.series("upstream_connections").values()) == 1


def test_openssl_is_verified(serve: Serve, to_tls: Tree, good: Identity, tmp_path: Path) -> None:
    """s_server's own page, which tells the handshake."""
    port = free_port()
    with (tmp_path / "s_server.log").open("wb") as log:
        process = subprocess.Popen(
            ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", good.certificate, "-key", good.key,
             "-www"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        eventually(lambda: b"ACCEPT" in (tmp_path / "s_server.log").read_bytes())
        put(to_tls, port)
        answer = serve().get()
        assert answer.status == 200
        assert "TLSv1.3" in answer.body.decode()
    finally:
        process.kill()
        process.wait(PATIENCE)


@contextlib.contextmanager
def echoing_aiohttp(good: Identity) -> Iterator[int]:
    """A server that answers with the body that it is sent: its port."""
    loop = asyncio.new_event_loop()
    port = free_port()

    async def echo(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        return web.Response(body=body or b"nothing", headers={"X-Secure": str(request.secure)})

    async def up() -> web.AppRunner:
        application = web.Application(client_max_size=64 * 1024 * 1024)
        application.router.add_route("*", "/{path:.*}", echo)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=server_context(good)).start()
        return runner

    runner = loop.run_until_complete(up())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield port
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(PATIENCE)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
        loop.close()


def test_large_bodies_pass_both_ways_through_aiohttp(serve: Serve, to_tls: Tree, good: Identity) -> None:
    """Eight megabytes, many times what any buffer on the way holds."""
    body = bytes(range(256)) * (32 * 1024)
    with echoing_aiohttp(good) as port:
        put(to_tls, port)
        served = serve()
        with tls(served.proxy.port(), served.client) as connection:
            head = b"POST / HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: %d\r\n\r\n" % len(body)
            connection.send_ahead(head + body)
            answer = connection.response()
            assert connection.all_sent
    assert answer.one("X-Secure") == "True"
    assert answer.body == body
