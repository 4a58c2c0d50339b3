"""Servers of other makers that take client certificates, and what `mtlsproxy probe` says of them."""

import contextlib
import json
import shutil
import socket
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import certifi
import pytest
from click.testing import CliRunner
from tests.integration.certificates import Identity, anchor_file, identity, issue
from tests.integration.clients import PATIENCE
from tests.integration.harness import Tree, eventually, free_port
from tests.integration.secure.conftest import host_names
from tests.unit.x509.build import Issued

from mtlsproxy.cli import cli
from mtlsproxy.x509.certificate import Certificate, load_pem_certificates
from mtlsproxy.x509.policy import SERVER_AUTH

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
OPENSSL = shutil.which("openssl")

NAME = "probed.test"
DIGICERT = ("DigiCert Assured ID Root G2", "DigiCert Assured ID Root G3")


@dataclass(frozen=True)
class Answer:
    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Tree:
        found: Tree = json.loads(self.stdout)
        return found

    def checks(self) -> dict[str, str]:
        return {check["name"]: check["result"] for check in self.json["checks"]}


def probe(port: int, *arguments: object, host: str = "127.0.0.1", text: bool = False) -> Answer:
    """As an operator types it; under the name that the certificates of these tests have, and with JSON."""
    typed = [f"{host}:{port}", "--server-name", NAME, "--timeout", "2", *map(str, arguments)]
    typed += [] if text else ["--format", "json"]
    result = CliRunner().invoke(cli, ["probe", *typed], prog_name="mtlsproxy")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return Answer(result.exit_code, result.stdout, result.stderr)


@dataclass(frozen=True)
class World:
    """A CA of servers and one of clients. acceptable: a file with the latter and the two public roots."""

    folder: Path
    server_ca: Issued
    client_ca: Issued
    servers: Path
    acceptable: Path
    names: list[str]

    def server(self, *names: str, **what: object) -> Identity:
        issued = issue("a server", self.server_ca, sans=host_names(*(names or (NAME,))), eku=[SERVER_AUTH], **what)
        return identity(self.folder, issued)

    def client(self, **what: object) -> Identity:
        return identity(self.folder, issue("alice", self.client_ca, **what))


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("probed")
    server_ca, client_ca = issue("Server CA", ca=True), issue("Client CA", ca=True)
    roots = [root for root in public_roots() if any(f"CN={name}," in root.subject for name in DIGICERT)]
    assert len(roots) == len(DIGICERT)
    acceptable = anchor_file(folder, client_ca, *(root.der for root in roots))
    names = ["CN=Client CA", *(root.subject for root in roots)]
    return World(folder, server_ca, client_ca, anchor_file(folder, server_ca), acceptable, names)


def public_roots() -> tuple[Certificate, ...]:
    return load_pem_certificates(Path(certifi.where()).read_bytes())


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), PATIENCE):
        return True
    return False


@contextlib.contextmanager
def running(arguments: list[object], port: int, log: Path) -> Iterator[None]:
    """A server as a process of its own, once it listens."""
    with log.open("wb") as errors:
        process = subprocess.Popen([*map(str, arguments)], stdin=subprocess.PIPE, stdout=errors, stderr=errors)
    try:
        eventually(lambda: process.poll() is not None or listens(port))
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.kill()
        process.communicate()


NGINX_CONFIG = """
daemon off;
worker_processes 1;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_protocols {protocols};
        {settings}
        location / {{ return 200 "hello"; }}
    }}
}}
"""

StartNginx = Callable[..., int]


@pytest.fixture
def nginx(tmp_path: Path, world: World) -> Iterator[StartNginx]:
    """Starts nginx with these settings of its server; its port."""
    if NGINX is None:
        pytest.skip("no nginx command on this machine")
    with contextlib.ExitStack() as stack:

        def start(settings: str, protocols: str = "TLSv1.2 TLSv1.3", server: Identity | None = None) -> int:
            port, server = free_port(), server or world.server()
            file = tmp_path / "nginx.conf"
            config = textwrap.dedent(NGINX_CONFIG).format(
                folder=tmp_path, port=port, certificate=server.certificate, key=server.key, protocols=protocols,
                settings=settings,
            )  # fmt: skip
            file.write_text(config)
            log = tmp_path / "nginx.out"
            stack.enter_context(running([NGINX, "-p", tmp_path, "-e", tmp_path / "e.log", "-c", file], port, log))
            return port

        yield start


StartOpenssl = Callable[..., int]


@pytest.fixture
def s_server(tmp_path: Path, world: World) -> Iterator[StartOpenssl]:
    """Starts `openssl s_server` with these options; its port. It prints what it is sent, and answers nothing."""
    if OPENSSL is None:
        pytest.skip("no openssl command on this machine")
    with contextlib.ExitStack() as stack:

        def start(*options: object) -> int:
            port, server = free_port(), world.server()
            base = [
                OPENSSL,
                "s_server",
                "-accept",
                f"127.0.0.1:{port}",
                "-cert",
                server.certificate,
                "-key",
                server.key,
            ]
            stack.enter_context(running([*base, *options], port, tmp_path / "s_server.log"))
            return port

        yield start
