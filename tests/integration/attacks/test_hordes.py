"""Attacks by number: thousands that are idle, slow to send or slow to read cost little memory, and others are served.

The proxy is a process of its own: what it keeps is what the kernel says. How late others are is measured by
tests/bench/under_attack.py, with ten thousand.
"""

import contextlib
import os
import resource
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.integration.clients import Connection, connected, request, tls
from tests.integration.harness import RunningCommand, Tree, eventually, running_command
from tests.integration.refusals import assert_nobody_left
from tests.integration.stepped import client_hello
from tests.integration.upstream import RecordingUpstream

KIB = 1024
ANSWER = 8 * 1024 * KIB


@pytest.fixture
def many_files() -> Iterator[None]:
    """As many as this machine allows, here and in the proxy."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def command(many_files: None, config: Tree, tmp_path: Path) -> Iterator[RunningCommand]:
    config["listeners"][0]["timeouts"] = dict.fromkeys(("request_headers", "request_body", "idle", "write"), "60s")
    config["listeners"][0]["tls"] |= {"client_hello_timeout": "60s", "handshake_timeout": "60s"}
    config["upstreams"]["recorder"]["max_connections"] = 2000
    with running_command(config, tmp_path) as running:
        yield running


def resident(command: RunningCommand) -> int:
    pages = int(Path(f"/proc/{command.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


Attack = Callable[[Connection], None]


def says_nothing(_: Connection) -> None:
    """Idle."""


def sends_half_a_head(client: Connection) -> None:
    client.send(request()[:-1])


def sends_half_a_body(client: Connection) -> None:
    client.send(request("/", "Content-Length: 10", method="POST", body=b"half"))


def reads_nothing(client: Connection) -> None:
    client.send(request("/large"))


HORDES: dict[str, tuple[Attack, int, int]] = {
    "idle": (says_nothing, 1500, 48 * KIB),
    "slow heads": (sends_half_a_head, 500, 64 * KIB),
    "slow bodies": (sends_half_a_body, 150, 128 * KIB),
    "slow readers": (reads_nothing, 30, 1024 * KIB),
}
"""What each does, how many they are, and bytes that each may cost."""


@pytest.mark.parametrize("name", HORDES)
def test_a_horde_inside_costs_little_and_others_are_served(
    command: RunningCommand,
    upstream: RecordingUpstream,
    honest: ssl.SSLContext,
    hostile: ssl.SSLContext,
    name: str,
) -> None:
    attack, count, each = HORDES[name]

    def answer(asked: object, sock: socket.socket) -> bytes:
        large = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % ANSWER + bytes(ANSWER)
        return large if "/large" in asked.line else b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"  # type: ignore[attr-defined]

    upstream.script = answer
    with tls(command.port(), honest) as client:
        for _ in range(100):  # what every connection needs once is there before it is measured
            assert client.get().status == 200
        before = resident(command)
        with contextlib.ExitStack() as stack:
            for _ in range(count):
                attacker = stack.enter_context(tls(command.port(), hostile))
                attack(attacker)
            eventually(lambda: command.series("connections") == {("internal",): count + 1})
            for _ in range(50):
                assert client.get().status == 200
            with tls(command.port(), honest) as newcomer:
                assert newcomer.get().status == 200
            cost = (resident(command) - before) / count
        assert cost < each, f"{cost / KIB:.1f} KiB each"
    assert_nobody_left(command)


def test_a_horde_that_only_begins_to_shake_hands_costs_less(
    command: RunningCommand, honest: ssl.SSLContext, nobody: ssl.SSLContext
) -> None:
    """Beyond max_concurrent_handshakes nothing of TLS is made for a client that waits."""
    count, hello = 2000, client_hello(nobody)
    with tls(command.port(), honest) as client, contextlib.ExitStack() as stack:
        for _ in range(100):
            assert client.get().status == 200
        before = resident(command)
        for _ in range(count):
            stack.enter_context(connected(command.port())).sendall(hello)
        eventually(lambda: command.series("connections_total").get(("internal",), 0) > count)
        for _ in range(50):
            assert client.get().status == 200
        with tls(command.port(), honest) as newcomer:
            assert newcomer.get().status == 200
        cost = (resident(command) - before) / count
        assert cost < 24 * KIB, f"{cost / KIB:.1f} KiB each"
    assert_nobody_left(command)
