"""`mtlsproxy demo` keeps its promises: every printed line is run in a shell, and Ctrl-C leaves nothing behind."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.clients import PATIENCE
from tests.integration.harness import COMMAND, eventually

START_SECONDS = 30.0

_SCENE = re.compile(r"^# (\d+)\. (.*)\n#    shows: (.*)\n(.*)$", re.MULTILINE)


class Demo:
    """A running demo and what it has printed."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process = process
        self.folder = folder
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.append(line)

    @property
    def output(self) -> str:
        return "".join(self._lines)

    def commands(self) -> dict[str, str]:
        """Each printed command by the title above it."""
        return {title: command for _, title, _, command in _SCENE.findall(self.output)}

    def stop(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        status = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return status


@contextlib.contextmanager
def demo(folder: Path, *arguments: str) -> Iterator[Demo]:
    """A demo whose temporary folders are made in `folder`, ready for its first command."""
    command = [COMMAND, "demo", *arguments]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"TMPDIR": str(folder)},
    )
    running = Demo(process, folder)
    try:
        eventually(lambda: "Ctrl-C ends the demo" in running.output or process.poll() is not None, START_SECONDS)
        yield running
    finally:
        process.kill()
        process.wait(PATIENCE)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with demo(tmp_path_factory.mktemp("demo")) as started:
        assert started.process.poll() is None, started.output
        yield started


def shell(command: str) -> tuple[int, str]:
    """As a reader would run it, from another folder and without this environment's programs."""
    done = subprocess.run(
        ["bash", "-c", command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd="/",
        timeout=PATIENCE,
    )
    return done.returncode, done.stdout


PROMISES = {
    "accepted: alice, who may use /orders": (0, ['"X-Client-Id": "alice@example.org"', '"path": "/orders/42"'], None),
    "accepted, but not as she wishes: alice claims to be root": (0, ['"X-Client-Id": "alice@example.org"'], None),
    "refused: no certificate": (0, ['"status": 400', '"reason": "no_certificate"'], "with 400: no_certificate"),
    "refused: a server's certificate (EKU serverAuth)": (
        56,
        ["alert unsupported certificate"],
        "in the handshake: eku_mismatch  CN=web,O=Example",
    ),
    "refused: a certificate that does not say what it is for (no EKU), which OpenSSL lets through": (
        0,
        ['"status": 403', '"reason": "eku_missing"'],
        "with 403: eku_missing  CN=bare,O=Example",
    ),
    "refused: bob, whose certificate was revoked": (
        0,
        ['"status": 403', '"reason": "revoked"'],
        "with 403: revoked  CN=bob,OU=sales,O=Example  GET /orders/42",
    ),
    "refused: alice at /admin, which is for operations": (
        0,
        ['"status": 403', '"reason": "not_allowed"'],
        "with 403: not_allowed  CN=alice,OU=sales,O=Example  GET /admin",
    ),
    "why? Every check of a refused certificate": (
        1,
        ["refused eku_missing - the leaf has no extended key usage", "fix ask the CA for a certificate"],
        None,
    ),
}
"""Title → exit status, what is printed, and what the demo itself says of it."""


@pytest.mark.parametrize("title", PROMISES)
def test_a_printed_line_does_what_the_demo_says(running: Demo, title: str) -> None:
    status, words, told = PROMISES[title]
    code, output = shell(running.commands()[title])
    assert code == status, output
    for word in words:
        assert word in output
    if told is not None:
        eventually(lambda: f"refused {told}" in running.output)


def test_every_printed_line_is_tried(running: Demo) -> None:
    assert set(running.commands()) == {*PROMISES, "how often? Metrics for Prometheus"}


def test_metrics_count_what_was_refused(running: Demo) -> None:
    commands = running.commands()
    shell(commands["refused: alice at /admin, which is for operations"])
    code, output = shell(commands["how often? Metrics for Prometheus"])
    assert code == 0
    assert 'mtlsproxy_rejections_total{enforced="true",listener="demo",reason="not_allowed",route="admin"}' in output


def test_a_forged_identity_header_does_not_arrive(running: Demo) -> None:
    _, output = shell(running.commands()["accepted, but not as she wishes: alice claims to be root"])
    assert "root" not in output
    assert output.lower().count("x-client-id") == 1


def test_accepted_requests_are_told_too(running: Demo) -> None:
    shell(running.commands()["accepted: alice, who may use /orders"])
    eventually(lambda: "upstream received GET /orders/42 from alice@example.org" in running.output)


def test_the_demo_s_configuration_passes_check_strictly(running: Demo) -> None:
    (config,) = running.folder.glob("mtlsproxy-demo-*/demo.yaml")
    code, output = shell(f"{COMMAND} check --strict {config}")
    assert code == 0, output


def test_a_second_demo_finds_other_ports_and_each_signal_ends_it_cleanly(running: Demo, tmp_path: Path) -> None:
    """Whether or not 8443 and 9901 are free on this machine, the first demo has them or has others."""
    for number in (signal.SIGINT, signal.SIGTERM):
        with demo(tmp_path) as second:
            assert "https://localhost:8443," not in second.output
            code, output = shell(second.commands()["accepted: alice, who may use /orders"])
            assert code == 0, output
            assert len(list(tmp_path.iterdir())) == 1
            assert second.stop(number) == 0
            assert second.output.splitlines()[-1].startswith("stopped; ")
            assert "Traceback" not in second.output
        assert list(tmp_path.iterdir()) == []


def test_a_port_that_was_asked_for_and_is_taken_is_an_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with demo(tmp_path, "--port", str(port)) as refused:
            assert refused.process.wait(PATIENCE) == 2
            eventually(lambda: refused.output)
    assert refused.output == f"port {port} is taken: choose another with --port, or leave it out for a free one\n"
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_was_asked_for_is_used(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with demo(tmp_path, "--port", str(port)) as started:
        assert f"https://localhost:{port}/orders/42" in started.output
        assert started.stop(signal.SIGINT) == 0
