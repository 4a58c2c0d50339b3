"""Behind a real HAProxy in TCP mode: its headers in both versions, with what it adds to them, and its health checks."""

import contextlib
import shutil
import socket
import ssl
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.clients import PATIENCE, Connection, client_context
from tests.integration.conftest import Material, Start
from tests.integration.harness import Tree, eventually, free_port
from tests.integration.refusals import assert_nobody_left
from tests.integration.upstream import RecordingUpstream

HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")

pytestmark = pytest.mark.skipif(HAPROXY is None, reason="no haproxy command on this machine")

BALANCER, CLIENT = "127.0.0.2", "127.0.0.3"

CONFIG = """
global
    maxconn 100
defaults
    mode tcp
    timeout connect 5s
    timeout client 10s
    timeout server 10s
    unique-id-format %ci:%cp-%rt
frontend public
    bind 127.0.0.1:{front}
    default_backend proxies
backend proxies
    source {balancer}
    server one 127.0.0.1:{back} {options}
"""


@contextlib.contextmanager
def haproxy(folder: Path, back: int, options: str) -> Iterator[int]:
    """In front of the proxy at port `back`; its own port."""
    front = free_port()
    file = folder / "haproxy.cfg"
    file.write_text(textwrap.dedent(CONFIG).format(front=front, back=back, balancer=BALANCER, options=options))
    with (folder / "haproxy.log").open("wb") as log:
        process = subprocess.Popen([str(HAPROXY), "-db", "-f", file], stdout=log, stderr=log)
    try:
        eventually(lambda: process.poll() is not None or _answers(front))
        assert process.poll() is None, (folder / "haproxy.log").read_text()
        yield front
    finally:
        process.kill()
        process.wait(PATIENCE)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), PATIENCE):
        return True
    return False


@contextlib.contextmanager
def client_of(front: int, context: ssl.SSLContext) -> Iterator[tuple[Connection, int]]:
    """A client's connection through HAProxy, and its port."""
    with (
        socket.create_connection(("127.0.0.1", front), PATIENCE, (CLIENT, 0)) as raw,
        context.wrap_socket(raw, server_hostname="proxy.test") as sock,
    ):
        yield Connection(sock), sock.getsockname()[1]


@pytest.mark.parametrize(
    ("version", "options"),
    [
        ("v1", "send-proxy"),
        ("v2", "send-proxy-v2"),
        ("v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id,authority"),
    ],
)
def test_its_clients_are_seen_by_their_own_address(
    config: Tree,
    material: Material,
    upstream: RecordingUpstream,
    start: Start,
    tmp_path: Path,
    version: str,
    options: str,
) -> None:
    config["listeners"][0] |= {"proxy_protocol": version, "proxy_protocol_from": [BALANCER]}
    proxy = start(config)
    with (
        haproxy(tmp_path, proxy.port(), options) as front,
        client_of(front, client_context(material.root, material.client())) as (client, port),
    ):
        assert client.get().status == 200
        (line,) = proxy.access()
    assert (line["client_ip"], line["client_port"]) == (CLIENT, port)
    assert upstream.requests[-1].values("X-Forwarded-For") == [CLIENT]
    assert_nobody_left(proxy)


@pytest.mark.parametrize(("version", "options"), [("v1", "send-proxy"), ("v2", "send-proxy-v2")])
def test_its_health_checks_are_no_refused_clients(
    config: Tree, start: Start, tmp_path: Path, version: str, options: str
) -> None:
    """They end with a reset right behind their header."""
    config["listeners"][0] |= {"proxy_protocol": version, "proxy_protocol_from": [BALANCER]}
    config["listeners"][0]["tls"]["client_hello_timeout"] = "60s"
    proxy = start(config)
    with haproxy(tmp_path, proxy.port(), f"{options} check inter 20ms"):
        eventually(lambda: proxy.series("connections_total").get(("internal",), 0) >= 5)
    assert_nobody_left(proxy)
    assert [line for line in proxy.rejections() if line["client_ip"] == BALANCER] == []
