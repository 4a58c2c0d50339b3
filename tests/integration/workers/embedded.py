"""A supervisor in this process, whose inside a test can reach; its workers are processes of their own."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml
from tests.integration.clients import PATIENCE
from tests.integration.harness import Observed, Tree

from mtlsproxy.admin.server import AdminServer, start_admin
from mtlsproxy.config.load import load_config
from mtlsproxy.runtime.server import AdminHandle
from mtlsproxy.runtime.start import load_for_start
from mtlsproxy.runtime.systemd import Notifier
from mtlsproxy.telemetry import logs
from mtlsproxy.workers.crew import Worker
from mtlsproxy.workers.supervisor import Supervisor


@dataclass
class Embedded(Observed):
    supervisor: Supervisor
    file: Path

    def __post_init__(self) -> None:
        super().__init__(self.file.parent)

    @property
    def port(self) -> int:
        return self.supervisor.addresses["internal"][1]

    @property
    def workers(self) -> list[Worker]:
        return self.supervisor.crew.ready

    def write(self, config: Tree) -> None:
        self.file.write_text(yaml.safe_dump(config, sort_keys=False))


@contextlib.asynccontextmanager
async def embedded(config: Tree, folder: Path, count: int = 2) -> AsyncIterator[Embedded]:
    """Serving `config`, of which files are not looked at: a test reloads when it wants to."""
    file = folder / "embedded.yaml"
    config = config | {"state_dir": str(folder / "state"), "workers": count}
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    found: list[AdminServer] = []

    async def admin(*arguments: Any) -> AdminHandle:
        found.append(await start_admin(arguments[0].admin, *arguments[1:]))
        return found[0]

    material = load_for_start(load_config(file, os.environ), datetime.now(UTC))
    supervisor = Supervisor(material, admin, count, Notifier({}, 0))
    supervisor.watches = False  # type: ignore[misc]
    running = Embedded(supervisor, file)
    with patch.object(logs, "_STDERR", running.error_file):
        await supervisor.start()
    running.admin_port = found[0].addresses[0].port
    try:
        yield running
    finally:
        await supervisor.stop()


async def until(look: Callable[[], object], seconds: float = 3 * PATIENCE) -> None:
    """Return when `look` is true; it is asked on the loop."""
    ends = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < ends, "not in time"
        await asyncio.sleep(0.01)
