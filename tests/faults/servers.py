"""Upstreams as processes that a test starts, ends, stops and starts again at the same place."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.faults.application import NOTHING
from tests.integration.certificates import Identity
from tests.integration.clients import PATIENCE
from tests.integration.harness import eventually, free_port

APPLICATION = Path(__file__).with_name("application.py")
FICKLE = Path(__file__).with_name("fickle.py")

TlsFiles = tuple[Identity, Path]
"""A server's certificate, and the anchors of its clients."""


class ServerProcess:
    """One upstream server. `url` stays the same however often it is started."""

    def __init__(self, command: Sequence[str | Path], url: str, where: int | Path, errors: Path) -> None:
        self.url = url
        self._command = command
        self._where = where
        self._errors = errors
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Unless it runs: until it accepts connections."""
        if self._process is not None:
            return
        if isinstance(self._where, Path):
            self._where.unlink(missing_ok=True)  # one that was killed leaves it behind
        with self._errors.open("ab") as errors:
            process = self._process = subprocess.Popen(self._command, stdout=errors, stderr=errors)
        eventually(lambda: process.poll() is not None or self._accepts())
        assert process.poll() is None, self._errors.read_text()

    def _accepts(self) -> bool:
        family = socket.AF_UNIX if isinstance(self._where, Path) else socket.AF_INET
        with socket.socket(family) as sock:
            where = str(self._where) if isinstance(self._where, Path) else ("127.0.0.1", self._where)
            return sock.connect_ex(where) == 0

    def kill(self) -> None:
        """SIGKILL, and wait until the kernel has closed what it had open. Also of one that is stopped."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(PATIENCE)

    def stop(self) -> None:
        """SIGSTOP: its kernel goes on accepting and taking bytes, and nothing comes back."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def go_on(self) -> None:
        """SIGCONT."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)


def application(kind: str, folder: Path, tls: TlsFiles | None = None) -> ServerProcess:
    """kind: aiohttp, http.server, websockets, or "aiohttp, unix"; see application.py."""
    name, _, unix = kind.partition(", ")
    where: int | Path = folder / "app.sock" if unix else free_port()
    files = (tls[0].certificate, tls[0].key, tls[1]) if tls else ()
    url = f"unix:{where}" if unix else f"{'https' if tls else 'http'}://127.0.0.1:{where}"
    command = [sys.executable, APPLICATION, name, str(where), *files]
    return ServerProcess(command, url, where, folder / f"{name}.log")


def fickle(folder: Path, character: str) -> ServerProcess:
    """See fickle.py. Its ledger is `folder`/ledger."""
    port = free_port()
    command = [sys.executable, FICKLE, str(port), character, folder / "ledger"]
    return ServerProcess(command, f"http://127.0.0.1:{port}", port, folder / "fickle.log")


def nginx(folder: Path, mute: int, tls: TlsFiles | None = None) -> ServerProcess:
    """As application.py, so far as nginx can: it never says what it was sent. mute: the port of one
    that takes requests and never answers."""
    port = free_port()
    (folder / "begin").write_bytes(b"begun" * 200_000)
    folder.chmod(0o755)  # its worker may be nobody
    paths = " ".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    secured = ""
    if tls is not None:
        server, anchors = tls
        secured = (
            f"ssl_certificate {server.certificate}; ssl_certificate_key {server.key};"
            f"ssl_client_certificate {anchors}; ssl_verify_client on;"
        )
    configuration = folder / "nginx.conf"
    configuration.write_text(
        f"daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;"
        f"events {{}} http {{ access_log off; {paths} keepalive_timeout 75s; keepalive_requests 100000;"
        f"server {{ listen 127.0.0.1:{port} {'ssl' if tls else ''}; {secured} root {folder}; default_type text/plain;"
        f"location = /wait {{ proxy_pass http://127.0.0.1:{mute}; }}"
        "location = /begin { limit_rate 1k; }"
        f'location / {{ return 200 "$request_method $request_uri 0 {NOTHING}"; }} }} }}'
    )
    command = ["nginx", "-p", folder, "-c", configuration]
    return ServerProcess(command, f"{'https' if tls else 'http'}://127.0.0.1:{port}", port, folder / "stderr-nginx.log")


@contextlib.contextmanager
def mute_listener():  # type: ignore[no-untyped-def]
    """A port at which connections are taken and nothing is said."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as sock:
        yield sock.getsockname()[1]
