"""Real proxies for tests: in this process on a thread and a loop of their own, or as the installed command.

Everything listens on 127.0.0.1, in this process on ports that the kernel chooses. Nothing sleeps for a fixed time:
what is awaited is polled, up to PATIENCE.
"""

import asyncio
import contextlib
import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import uvloop
import yaml
from prometheus_client.parser import text_string_to_metric_families
from tests.integration.clients import PATIENCE

from mtlsproxy.admin.server import AdminServer, start_admin
from mtlsproxy.config.load import load_config
from mtlsproxy.runtime.material import load_material
from mtlsproxy.runtime.server import AdminHandle, Proxy
from mtlsproxy.telemetry import logs
from mtlsproxy.telemetry.metrics import Metrics

T = TypeVar("T")
Tree = dict[str, Any]

LOOPS: Mapping[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.new_event_loop,
}

LABELS = {family.name: family.labels for family in Metrics().families()}

COMMAND = Path(sys.executable).with_name("mtlsproxy")


def eventually(look: Callable[[], T], seconds: float = PATIENCE) -> T:
    """The first true value that `look` returns."""
    ends = time.monotonic() + seconds
    while not (value := look()):
        assert time.monotonic() < ends, f"still {value!r} after {seconds} seconds"
        time.sleep(0.01)
    return value


_given: set[int] = set()
_RANGE = range(12_000, 32_000)
"""Below the ports that kernels hand out by themselves, so that no client's port takes one."""


def free_port() -> int:
    """Never the same twice, and of a part of the range that no other test process (pytest-xdist) uses."""
    place = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 10
    mine = _RANGE[place * 2_000 : (place + 1) * 2_000]
    while True:
        port = random.choice(mine)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port


class Observed:
    """What an operator sees of a proxy: metrics over HTTP, and its log lines."""

    def __init__(self, folder: Path) -> None:
        self.access_file = folder / "access.log"
        self.error_file = folder / "stderr.log"
        self.admin_port = 0

    def admin(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}{path}", timeout=PATIENCE) as answer:
            body: bytes = answer.read()
            return body

    def json(self, path: str) -> Tree:
        found: Tree = json.loads(self.admin(path))
        return found

    def post(self, path: str, said: object, token: str) -> Tree:
        """The answer to a call that changes something."""
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        url = f"http://127.0.0.1:{self.admin_port}{path}"
        request = urllib.request.Request(url, json.dumps(said).encode(), headers, method="POST")
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            found: Tree = json.loads(answer.read())
            return found

    def series(self, name: str) -> dict[tuple[str, ...], float]:
        """The non-zero series of `mtlsproxy_name`: label values, in the order of interfaces.md, to the value."""
        order = LABELS[name.removesuffix("_count").removesuffix("_sum")]
        name = f"mtlsproxy_{name}"
        found = text_string_to_metric_families(self.admin("/metrics").decode())
        return {
            tuple(sample.labels[label] for label in order): sample.value
            for family in found
            for sample in family.samples
            if sample.name == name and sample.value
        }

    def rejections(self) -> list[Tree]:
        """From the admin's API: newest first, folded ones too."""
        found: list[Tree] = json.loads(self.admin("/api/rejections"))["rejections"]
        return found

    def messages(self) -> list[Tree]:
        """Every complete line of the program's log."""
        return _json_lines(self.error_file)

    def refusals(self) -> list[Tree]:
        return [line for line in self.messages() if line["message"] == "refused"]

    def refusal(self) -> Tree:
        """The one refusal that was logged."""
        (line,) = eventually(self.refusals)
        return line

    def access(self, count: int = 1) -> list[Tree]:
        """The access log, once it has `count` lines."""
        return eventually(lambda: lines if len(lines := _json_lines(self.access_file)) >= count else None) or []


def _json_lines(file: Path) -> list[Tree]:
    data = file.read_bytes() if file.exists() else b""
    return [json.loads(line) for line in data.split(b"\n")[:-1]]


class RunningProxy(Observed):
    """A proxy in this process. `problems`: exceptions that reached its event loop; there must be none."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.problems: list[Tree] = []
        self.proxy: Proxy
        self.loop: asyncio.AbstractEventLoop

    def port(self, listener: str = "internal") -> int:
        return self.proxy.listeners[listener].addresses[0][1]

    def call(self, function: Callable[[], T]) -> T:
        """The result of `function`, run on the proxy's loop."""

        async def run() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(PATIENCE)


@contextlib.contextmanager
def running_proxy(config: Tree, folder: Path, loop: str = "uvloop") -> Iterator[RunningProxy]:
    """A proxy that serves `config`; relative file names are relative to `folder`."""
    running = RunningProxy(folder)
    file = folder / "proxy.yaml"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    material = load_material(load_config(file, os.environ), datetime.now(UTC))
    ready, stop = threading.Event(), asyncio.Event()
    failure: list[BaseException] = []

    async def admin(*arguments: Any) -> AdminHandle:
        server: AdminServer = await start_admin(arguments[0].admin, *arguments[1:])
        running.admin_port = server.addresses[0].port
        return server

    async def serve() -> None:
        running.loop = asyncio.get_running_loop()
        running.loop.set_exception_handler(lambda _, context: running.problems.append(context))
        running.proxy = Proxy(material, admin)
        # Standard error is pytest's: the lines go to a file of this proxy's instead.
        with patch.object(logs, "_STDERR", running.error_file):
            await running.proxy.start()
        ready.set()
        await stop.wait()
        await running.proxy.stop()

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
                runner.run(serve())
        except BaseException as error:  # noqa: BLE001 - reported by the thread that waits
            failure.append(error)
        ready.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait(PATIENCE)
    try:
        if not failure:
            yield running
    finally:
        if thread.is_alive():
            running.loop.call_soon_threadsafe(stop.set)
            thread.join(PATIENCE)
    if failure:
        raise failure[0]
    assert not thread.is_alive(), "the proxy did not stop"
    assert running.problems == []


class RunningCommand(Observed):
    """`mtlsproxy run` as a process of its own."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes], port: int, admin_port: int) -> None:
        super().__init__(folder)
        self.process = process
        self._port = port
        self.admin_port = admin_port

    def port(self, listener: str = "internal") -> int:
        return self._port

    def stop(self) -> int:
        """Ask it to end as an init system does; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


def _limit_files(files: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))


@contextlib.contextmanager
def running_command(config: Tree, folder: Path, files: int | None = None) -> Iterator[RunningCommand]:
    """The installed command with `config`, once it is ready. One listener; it gets a free port.

    files: how many descriptors it may have, at most.
    """
    port, admin_port = free_port(), free_port()
    config = config | {"admin": config.get("admin", {}) | {"bind": f"127.0.0.1:{admin_port}"}}
    config["listeners"] = [config["listeners"][0] | {"bind": f"127.0.0.1:{port}"}]
    file = folder / "command.yaml"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    with (folder / "stderr.log").open("wb") as errors:
        process = subprocess.Popen(
            [COMMAND, "run", file],
            stdout=subprocess.DEVNULL,
            stderr=errors,
            preexec_fn=None if files is None else lambda: _limit_files(files),
        )
    running = RunningCommand(folder, process, port, admin_port)
    try:
        eventually(lambda: process.poll() is not None or _is_ready(running), 3 * PATIENCE)
        assert process.poll() is None, running.error_file.read_text()
        yield running
    finally:
        process.kill()
        process.wait(PATIENCE)


def _is_ready(running: RunningCommand) -> bool:
    try:
        running.admin("/readyz")
    except OSError:
        return False
    return True
