"""`mtlsproxy run` with two workers, as an operator runs it."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.integration.certificates import Identity
from tests.integration.clients import Connection, client_context, tls
from tests.integration.conftest import Material
from tests.integration.harness import RunningCommand, Tree, running_command

WORKERS = 2


class Several(RunningCommand):
    """The running supervisor. material: whose clients it accepts."""

    material: Material

    @property
    def pids(self) -> list[int]:
        """The workers that are ready, by number."""
        status = self.json("/api/status")
        return [worker["pid"] for worker in status["workers"] if worker["ready"]]

    @contextlib.contextmanager
    def connect(self, client: Identity) -> Iterator[Connection]:
        with tls(self.port(), client_context(self.material.root, client)) as connection:
            yield connection


Run = Callable[[], Several]


@pytest.fixture
def run(config: Tree, material: Material, tmp_path: Path) -> Iterator[Run]:
    """Starts it with `config` as it is then."""
    with contextlib.ExitStack() as stack:

        def start() -> Several:
            own = {"workers": WORKERS, "state_dir": str(tmp_path / "state")}
            command = stack.enter_context(running_command(config | own, tmp_path))
            several = Several(tmp_path, command.process, command.port(), command.admin_port)
            several.material = material
            return several

        yield start


@pytest.fixture
def several(run: Run) -> Several:
    return run()


@pytest.fixture(scope="session")
def alice(material: Material) -> Identity:
    return material.client()


@pytest.fixture(scope="session")
def bob(material: Material) -> Identity:
    return material.client("bob", ("DNS:bob.clients.test",))


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children(pid: int) -> set[int]:
    """Processes that a process has started and that still run."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                found.add(int(stat.parent.name))
    return found - {os.getpid()}
