"""Fifty reloads under load: no request is lost, none is served by half of one configuration and half of another."""

import contextlib
import os
import signal
import threading
from pathlib import Path
from typing import Any

import yaml
from tests.integration.certificates import Identity
from tests.integration.clients import client_context, tls
from tests.integration.conftest import Material
from tests.integration.harness import Tree, eventually, running_command
from tests.integration.live.conftest import replace, resident_bytes
from tests.integration.upstream import RecordingUpstream

RELOADS = 50
WARM = 10
"""Reloads after which memory is measured for the first time."""

CLIENTS = 6
PACE = 0.008
"""Seconds between two requests of a client: together some five hundred a second."""

A_CONNECTION = 100
"""Requests on each connection."""

GROWTH = 6 << 20


def variants(config: Tree, upstream: RecordingUpstream) -> tuple[Tree, Tree]:
    """Two configurations that differ in all that a request is served by, and agree on who may come in."""
    base = config | {
        "identities": {
            "one": {"forms": ["fields"], "prefix": "X-One-", "principal": ["dns"]},
            "two": {"forms": ["fields"], "prefix": "X-Two-", "principal": ["common_name"]},
        }
    }

    def variant(name: str, host: str) -> Tree:
        listener = base["listeners"][0] | {"client_auth": {"truststores": [name]}}
        return base | {
            "listeners": [listener],
            "truststores": {name: base["truststores"]["partners"]},
            "routes": [{"name": name, "allow": "any", "upstream": name, "identity": name}],
            "upstreams": {name: {"servers": [{"url": upstream.url}], "host": host}},
        }

    return variant("one", "preserve"), variant("two", "server")


class Crowd:
    """Clients that ask on and on, on connections old and new."""

    def __init__(self, port: int, context: Any) -> None:
        self.answered = 0
        self.failures: list[str] = []
        self._port = port
        self._context = context
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(CLIENTS)]

    @contextlib.contextmanager
    def at_work(self) -> Any:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(20)

    def _ask(self) -> None:
        while not self._stop.is_set():
            try:
                with tls(self._port, self._context) as connection:
                    for _ in range(A_CONNECTION):
                        answer = connection.get("/", "X-One-Id: forged", "X-Two-Id: forged")
                        self.answered += 1
                        if answer.status != 200:
                            self.failures.append(f"{answer.status} {answer.body!r}")
                        if self._stop.wait(PACE):
                            return
            except (OSError, EOFError) as error:
                self.failures.append(repr(error))


def generation_of(fields: list[tuple[str, str]], port: int) -> str:
    """Which of the two served the request; what is neither is returned as it is."""
    said = {name: value for name, value in fields if name.startswith(("X-One-", "X-Two-")) or name == "Host"}
    one = {"Host": "proxy.test", "X-One-Id": "alice.clients.test", "X-One-Truststore": "one"}
    two = {"Host": f"127.0.0.1:{port}", "X-Two-Id": "alice", "X-Two-Truststore": "two"}
    for name, other, expected in (("one", "X-Two-", one), ("two", "X-One-", two)):
        if expected.items() <= said.items() and not any(key.startswith(other) for key in said):
            return name
    return repr(said)


def test_no_request_is_lost_and_none_mixed_while_the_configuration_changes_fifty_times(
    live_config: Tree, material: Material, upstream: RecordingUpstream, alice: Identity, tmp_path: Path
) -> None:
    one, two = variants(live_config, upstream)
    with running_command(one, tmp_path) as proxy:
        # As running_command has completed it: its addresses are the command's own.
        started = yaml.safe_load((tmp_path / "command.yaml").read_text())
        bind = {"admin": started["admin"]}
        texts = []
        for variant in (two, one):
            listener = variant["listeners"][0] | {"bind": started["listeners"][0]["bind"]}
            texts.append(yaml.safe_dump(variant | bind | {"listeners": [listener]}, sort_keys=False).encode())
        crowd = Crowd(proxy.port(), client_context(material.root, alice))
        memory = []
        with crowd.at_work():
            for number in range(RELOADS):
                before = proxy.series("config_reloads_total").get(("success",), 0)
                replace(tmp_path / "command.yaml", texts[number % 2])
                os.kill(proxy.process.pid, signal.SIGHUP)
                eventually(lambda before=before: proxy.series("config_reloads_total").get(("success",), 0) > before)
                if number + 1 in (WARM, RELOADS):
                    memory.append(resident_bytes(proxy.process.pid))
        assert crowd.failures == []
        assert proxy.series("config_reloads_total").keys() == {("success",)}
        served = [generation_of(recorded.fields, upstream.port) for recorded in upstream.requests]
        assert set(served) == {"one", "two"}
        assert len(served) == crowd.answered > 10 * RELOADS
        assert memory[1] - memory[0] < GROWTH
        assert proxy.stop() == 0
