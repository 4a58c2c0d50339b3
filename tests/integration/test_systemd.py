"""The process as systemd sees it: readiness, reloads, the watchdog, and sockets that it passes."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests.integration.clients import PATIENCE, client_context, tls
from tests.integration.conftest import Material
from tests.integration.harness import COMMAND, Tree, eventually, free_port

each_count = pytest.mark.parametrize("workers", [1, 2])

LAUNCH = """
import os, sys
for number, descriptor in enumerate(map(int, sys.argv[2].split(",")) if sys.argv[2] else ()):
    os.dup2(descriptor, 3 + number)
os.environ["LISTEN_PID"] = os.environ["WATCHDOG_PID"] = str(os.getpid())
os.execv(sys.argv[1], sys.argv[1:2] + sys.argv[3:])
"""
"""What systemd does between fork and exec."""


class Manager:
    """systemd's end: what it is told, and the process that it started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.errors = folder / "stderr.log"
        self.address = folder / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.address))
        self.socket.settimeout(PATIENCE)
        self.process: subprocess.Popen[bytes]

    def start(self, config: Tree, environ: dict[str, str], passed: tuple[int, ...] = ()) -> None:
        file = self.folder / "systemd.yaml"
        file.write_text(yaml.safe_dump(config))
        launch = [sys.executable, "-c", LAUNCH, str(COMMAND), ",".join(map(str, passed)), "run", str(file)]
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                launch,
                env=os.environ | {"NOTIFY_SOCKET": str(self.address)} | environ,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                pass_fds=passed,
            )

    def told(self, *, but: str = "WATCHDOG") -> dict[str, str]:
        """The next message, other than of one kind."""
        while True:
            found = dict(line.split("=", 1) for line in self.socket.recv(4096).decode().split("\n"))
            if but not in found:
                return found


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path)
    yield manager
    manager.process.kill()
    manager.process.wait(PATIENCE)
    manager.socket.close()


@pytest.fixture
def config(config: Tree) -> Tree:
    return config | {"admin": {"bind": f"127.0.0.1:{free_port()}"}}


@each_count
def test_it_is_told_of_start_reload_and_end(manager: Manager, config: Tree, workers: int) -> None:
    manager.start(config | {"workers": workers}, {})
    started = manager.told()
    assert started["READY"] == "1"
    assert "serving" in started["STATUS"]
    manager.process.send_signal(signal.SIGHUP)
    reloading = manager.told()
    assert reloading["RELOADING"] == "1"
    assert int(reloading["MONOTONIC_USEC"]) > 0
    assert manager.told()["READY"] == "1"
    manager.process.send_signal(signal.SIGTERM)
    assert manager.told()["STOPPING"] == "1"
    assert manager.process.wait(PATIENCE) == 0


@each_count
def test_the_watchdog_is_fed_until_the_process_stands_still(manager: Manager, config: Tree, workers: int) -> None:
    manager.start(config | {"workers": workers}, {"WATCHDOG_USEC": "200000"})
    assert manager.told()["READY"] == "1"
    for _ in range(5):
        assert manager.told(but="READY") == {"WATCHDOG": "1"}
    manager.process.send_signal(signal.SIGSTOP)
    manager.socket.settimeout(1)
    with contextlib.suppress(TimeoutError):
        for _ in range(100):
            manager.socket.recv(4096)
        pytest.fail("a stopped process says that it is well")
    manager.process.send_signal(signal.SIGCONT)
    manager.socket.settimeout(PATIENCE)
    assert manager.told(but="READY") == {"WATCHDOG": "1"}


@each_count
def test_it_serves_sockets_that_are_passed_by_name(
    manager: Manager, config: Tree, material: Material, workers: int
) -> None:
    """Whoever connected before it ran waited in the socket's queue."""
    config["listeners"][0]["bind"] = "fd:public"
    context = client_context(material.root, material.client())
    with socket.create_server(("127.0.0.1", 0)) as other, socket.create_server(("127.0.0.1", 0)) as passed:
        port = passed.getsockname()[1]
        early = socket.create_connection(("127.0.0.1", port), PATIENCE)
        names = {"LISTEN_FDS": "2", "LISTEN_FDNAMES": "other:public"}
        manager.start(config | {"workers": workers}, names, (other.fileno(), passed.fileno()))
        assert manager.told()["READY"] == "1"
        with early, context.wrap_socket(early, server_hostname="proxy.test") as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n")
            assert sock.recv(100).startswith(b"HTTP/1.1 200 ")
        with tls(port, context) as connection:
            assert connection.get().status == 200
        manager.process.send_signal(signal.SIGTERM)
        assert manager.process.wait(PATIENCE) == 0


@each_count
@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, "it passed none"),
        ({"LISTEN_FDS": "1", "LISTEN_FDNAMES": "admin"}, "it passed admin"),
        ({"LISTEN_FDS": "1", "LISTEN_FDNAMES": "public"}, "not a listening TCP socket"),
    ],
)
def test_a_socket_that_was_not_passed_is_an_error(
    manager: Manager, config: Tree, environ: dict[str, str], words: str, workers: int
) -> None:
    config["listeners"][0]["bind"] = "fd:public"
    with socket.socket() as silent:
        manager.start(config | {"workers": workers}, environ, (silent.fileno(),) if environ else ())
        assert manager.process.wait(PATIENCE) == 2
    said = eventually(manager.errors.read_text)
    assert "listeners[0].bind" in said
    assert words in said
