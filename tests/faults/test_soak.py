"""Random faults on every kind of server, under clients of every kind: no answer is lost or mixed up, nothing leaks.

Ten seconds of it; a minute with MTLSPROXY_SOAK=60 in the environment.
"""

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.faults.conftest import Onward
from tests.faults.crowd import Client, Curling, Downloading, Getting, Talking, Uploading, Way
from tests.faults.servers import ServerProcess, application, fickle, mute_listener, nginx
from tests.integration.certificates import Identity
from tests.integration.conftest import Material
from tests.integration.harness import RunningCommand, Tree, eventually, running_command

SECONDS = float(os.environ.get("MTLSPROXY_SOAK", "10"))

GROWTH = 16 * 1024 * 1024
"""Bytes by which the proxy may grow after its first quarter: less than a KiB a request in the long form."""


class Park:
    """The servers, by the upstream that they are of; and what happens to them."""

    def __init__(self, folder: Path, onward: Onward, mute: int) -> None:
        def place(name: str) -> Path:
            (folder / name).mkdir()
            return folder / name

        plain = application("aiohttp", place("plain"))
        unix = application("aiohttp, unix", place("unix"))
        secure = application("aiohttp", place("secure"), onward.files)
        self.wild = fickle(place("wild"), "wild")
        self.ledger = folder / "wild" / "ledger"
        self.upstreams: dict[str, list[ServerProcess]] = {
            "mixed": [plain, unix, application("http.server", place("simple")), self.wild],
            "secure": [nginx(place("nginx"), mute, onward.files), secure],
            "load": [plain, secure],
            "talk": [application("websockets", place("talk")), application("websockets", place("talk-too"))],
        }
        self.servers = list(dict.fromkeys(server for each in self.upstreams.values() for server in each))
        self._random = random.Random(0)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._trouble, daemon=True)
        self.troubles = 0

    def start(self) -> None:
        for server in self.servers:
            server.start()

    def trouble(self) -> None:
        """From now on something happens to one or two of them all the time."""
        self._thread.start()

    def _trouble(self) -> None:
        victims = [server for server in self.servers if server is not self.wild]
        while not self._over.is_set():
            chosen = self._random.sample(victims, self._random.choice((1, 1, 2)))
            for server in chosen:
                if self._random.random() < 0.5:
                    server.kill()
                else:
                    server.stop()
            self.troubles += len(chosen)
            self._over.wait(self._random.choice((0.05, 0.3, 1.0)))
            for server in chosen:
                server.go_on()
                server.start()
            self._over.wait(self._random.choice((0.0, 0.1, 0.3)))

    def calm(self) -> None:
        """All run and behave."""
        self._over.set()
        self._thread.join(30)
        assert not self._thread.is_alive()
        self.wild.signal(signal.SIGUSR1)

    def end(self) -> None:
        self._over.set()
        for server in self.servers:
            server.kill()


@pytest.fixture
def park(tmp_path: Path, onward: Onward) -> Iterator[Park]:
    with mute_listener() as mute:
        park = Park(tmp_path, onward, mute)
        try:
            park.start()
            yield park
        finally:
            park.end()


@pytest.fixture
def proxy(config: Tree, park: Park, onward: Onward, tmp_path: Path) -> Iterator[RunningCommand]:
    """As a process, whose files and memory can be counted."""
    common = {"connect_timeout": "500ms", "idle_timeout": "1s", "circuit_breaker": {"failures": 3, "open_for": "300ms"}}
    check = {"path": "/health", "interval": "200ms", "timeout": "500ms"}
    config["upstreams"] = {
        name: {"servers": [{"url": server.url} for server in servers], "retries": 2, **common}
        for name, servers in park.upstreams.items()
    }
    config["upstreams"]["secure"]["health_check"] = check
    config["upstreams"]["load"]["balance"] = "least_requests"
    for name in ("secure", "load"):
        config["upstreams"][name]["tls"] = onward.settings
    timeouts = {"response": "1s", "response_body": "1s"}
    config["routes"] = [
        {"name": name, "paths": [f"/{name}"], "allow": "any", "upstream": name, "timeouts": timeouts}
        for name in park.upstreams
    ]
    with running_command(config, tmp_path) as running:
        yield running


def memory(proxy: RunningCommand) -> int:
    """Bytes."""
    return int(Path(f"/proc/{proxy.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def files(proxy: RunningCommand) -> int:
    return len(list(Path(f"/proc/{proxy.process.pid}/fd").iterdir()))


def change(file: Path) -> None:
    """Connections may rest for a second now, or for 900 ms."""
    before = file.read_text()
    after = before.replace("idle_timeout: 1s", "idle_timeout: 900ms")
    if after == before:
        after = before.replace("idle_timeout: 900ms", "idle_timeout: 1s")
    assert after != before
    file.with_suffix(".new").write_text(after)
    file.with_suffix(".new").replace(file)


def crowd(way: Way) -> list[Client]:
    return [
        Getting(way, "get-mixed", "mixed"),
        Getting(way, "get-mixed-too", "mixed"),
        Getting(way, "get-secure", "secure"),
        Uploading(way, "upload", "mixed"),
        Downloading(way, "download", "load"),
        Talking(way, "talk", "talk"),
        Curling(way, "curl", "mixed"),
        Curling(way, "curl-secure", "secure"),
    ]


def at_rest(proxy: RunningCommand, files_then: int) -> Callable[[], bool]:
    """Whether the proxy has let go of everything."""
    gauges = ("connections", "requests_in_flight", "upstream_connections")
    return lambda: not any(proxy.series(name) for name in gauges) and files(proxy) <= files_then


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 180)
def test_soak(proxy: RunningCommand, park: Park, material: Material, alice: Identity, tmp_path: Path) -> None:
    """The configuration changes meanwhile, too: every pool is replaced by another one."""
    files_then = eventually(lambda: files(proxy))
    clients = crowd(Way(proxy.port(), material.root, alice))
    park.trouble()
    for client in clients:
        client.start()
    started = time.monotonic()
    pause = threading.Event()
    pause.wait(SECONDS / 4)
    warm = memory(proxy)
    while time.monotonic() < started + SECONDS and not any(client.account.wrong for client in clients):
        change(tmp_path / "command.yaml")
        pause.wait(1.5)
    park.calm()
    for client in clients:
        client.leave()
    said = "\n".join(
        f"{client.name}: whole {len(client.account.whole)}, refused {len(client.account.refused)},"
        f" cut {len(client.account.cut)}, over {len(client.account.over)}"
        for client in clients
    )
    print(f"{park.troubles} troubles\n{said}")

    assert [wrong for client in clients for wrong in client.account.wrong] == []
    assert all(client.account.whole or client.account.over for client in clients)
    agrees_with_the_log(proxy, clients)
    agrees_with_the_ledger(park, clients)
    all_is_well(proxy, Way(proxy.port(), material.root, alice))
    assert eventually(at_rest(proxy, files_then), 30)
    assert memory(proxy) - warm < GROWTH
    assert not [line for line in proxy.messages() if line["level"] == "error"]
    assert proxy.series("config_reloads_total").keys() == {("success",)}
    assert proxy.stop() == 0


def agrees_with_the_log(proxy: RunningCommand, clients: list[Client]) -> None:
    """Each request stands there once, with the status that its client saw, and a reason where it was not whole."""
    seen = {name: status for client in clients for name, status in client.account.seen.items()}
    asked = {name for client in clients for name in client.account.lines}
    lines = eventually(lambda: found if len(found := proxy.access()) >= len(asked) else None) or []
    logged = {line["request_id"]: line for line in lines}
    assert len(logged) == len(lines)
    assert logged.keys() == asked == seen.keys()
    assert {name: line["status"] for name, line in logged.items()} == seen
    for client in clients:
        assert not [name for name in client.account.whole if logged[name]["reason"]]
        assert not [name for name in client.account.cut if not logged[name]["reason"]]
    assert sum(proxy.series("requests_total").values()) == len(seen)


def agrees_with_the_ledger(park: Park, clients: list[Client]) -> None:
    """What the wild server has answered was answered; nothing that may be done but once was done twice."""
    done = park.ledger.read_text().splitlines()
    posts = [entry for entry in done if entry.startswith("POST")]
    assert len(posts) == len(set(posts))
    of_entry = {entry: name for client in clients for name, entry in client.account.lines.items()}
    whole = {name for client in clients for name in client.account.whole}
    late = {name for client in clients for name, status in client.account.refused.items() if status == 504}
    assert {of_entry[entry] for entry in done} <= whole | late


def all_is_well(proxy: RunningCommand, way: Way) -> None:
    """Once servers behave, all of them are asked again and everything is answered."""
    eventually(lambda: len(proxy.series("upstream_healthy")) == 10, 30)
    again = [Getting(way, "again-mixed", "mixed"), Getting(way, "again-secure", "secure")]
    for client in again:
        client.start()
    for client in again:
        eventually(lambda client=client: len(client.account.seen) >= 40, 30)  # type: ignore[misc]
        client.leave()
        assert not client.account.wrong
        assert client.account.seen == client.account.whole
