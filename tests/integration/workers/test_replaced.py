"""Workers that hang, lag behind or cannot start are replaced, and nobody is served by what is no longer in force."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
from tests.integration.certificates import Identity
from tests.integration.clients import client_context, tls
from tests.integration.conftest import Material
from tests.integration.harness import Tree
from tests.integration.workers.conftest import runs
from tests.integration.workers.embedded import Embedded, embedded, until

from mtlsproxy.workers import crew

TRIES = 12


async def statuses(running: Embedded, material: Material, client: Identity, tries: int = TRIES) -> set[int]:
    """Answers to new connections."""

    def ask() -> set[int]:
        found = set()
        for _ in range(tries):
            with tls(running.port, client_context(material.root, client)) as connection:
                found.add(connection.get().status)
        return found

    return await asyncio.to_thread(ask)


async def test_a_worker_that_hangs_is_killed_and_replaced_and_keeps_nobody_waiting(
    config: Tree, material: Material, alice: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with embedded(config, tmp_path) as running:
        hanging, other = running.workers
        os.kill(hanging.process.pid, signal.SIGSTOP)
        began = time.monotonic()
        await asyncio.to_thread(running.json, "/api/status")
        assert time.monotonic() - began < 5 * crew.ANSWER_WITHIN, "whatever does not answer is left out"
        monkeypatch.setattr(crew, "PING_EVERY", 0.3)
        await until(lambda: hanging not in running.supervisor.crew.workers)
        assert not runs(hanging.process.pid)
        assert await statuses(running, material, alice) == {200}, "those in its queue wait for its successor"
        await until(lambda: len(running.workers) == 2)
        assert other in running.workers
        assert any("has not answered for" in line["message"] for line in running.messages())


async def test_a_worker_that_starts_during_a_reload_serves_by_what_it_put_in_force(
    config: Tree, material: Material, alice: Identity, tmp_path: Path
) -> None:
    """It was told what to serve before; when the others have moved on, it must not stay behind."""
    async with embedded(config, tmp_path) as running:
        killed = running.workers[0]
        os.kill(killed.process.pid, signal.SIGKILL)
        await until(lambda: running.supervisor.crew.workers[0].number == 0
                    and running.supervisor.crew.workers[0] is not killed)  # fmt: skip
        starting = running.supervisor.crew.workers[0]
        assert not starting.ready
        config["routes"][0]["allow"] = []
        running.write(config)
        assert (await running.supervisor.reloader.reload("a test")).ok
        await until(lambda: len(running.workers) == 2 and starting not in running.workers)
        assert await statuses(running, material, alice, 2 * TRIES) == {403}


async def test_a_configuration_that_one_worker_refuses_is_in_force_at_none(
    config: Tree, material: Material, alice: Identity, tmp_path: Path
) -> None:
    """A file that changed after the others had read it."""
    deny = tmp_path / "deny.yaml"
    deny.write_text("[]")
    config["truststores"]["partners"]["deny_file"] = str(deny)
    async with embedded(config, tmp_path) as running:
        first, second = running.workers
        os.kill(second.process.pid, signal.SIGSTOP)
        allowed, config["routes"][0]["allow"] = config["routes"][0]["allow"], []
        config["listeners"].append(config["listeners"][0] | {"name": "second"})
        config["routes"][0]["listeners"] = ["internal", "second"]
        running.write(config)
        reloading = asyncio.get_running_loop().create_task(running.supervisor.reloader.reload("a test"))
        await until(lambda: second._questions._open and not first._questions._open)
        deny.write_text("no list")
        os.kill(second.process.pid, signal.SIGCONT)
        outcome = await reloading
        assert not outcome.ok
        assert "a worker refuses it" in outcome.errors[0]
        assert await statuses(running, material, alice) == {200}
        assert running.workers == [first, second]
        deny.write_text("[]")
        assert (await running.supervisor.reloader.reload("a test")).ok, "the new address is free for another try"
        assert await statuses(running, material, alice) == {403}
        config["routes"][0]["allow"] = allowed


async def test_a_worker_that_does_not_reload_in_time_is_replaced(
    config: Tree, material: Material, alice: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtlsproxy.workers.supervisor.RELOAD_WITHIN", 2.0)
    async with embedded(config, tmp_path) as running:
        first, second = running.workers
        os.kill(second.process.pid, signal.SIGSTOP)
        config["routes"][0]["allow"] = []
        running.write(config)
        assert (await running.supervisor.reloader.reload("a test")).ok
        await until(lambda: len(running.workers) == 2 and second not in running.workers)
        assert first in running.workers
        assert await statuses(running, material, alice) == {403}
        assert any("new configuration" in line["message"] for line in running.messages())


async def test_a_worker_that_cannot_start_is_tried_ever_later_while_the_others_serve(
    config: Tree, material: Material, alice: Identity, tmp_path: Path
) -> None:
    key = tmp_path / "server.key"
    key.write_bytes(material.server_key.read_bytes())
    key.chmod(0o600)
    config["listeners"][0]["tls"]["certificates"][0]["private_key"] = str(key)
    async with embedded(config, tmp_path) as running:
        first, second = running.workers
        whole = key.read_bytes()
        key.write_bytes(b"no key")
        os.kill(first.process.pid, signal.SIGKILL)
        await until(lambda: running.supervisor.crew.restarts >= 3)
        assert running.workers == [second]
        assert await statuses(running, material, alice) == {200}, "whatever queue the kernel puts them into"
        assert (await asyncio.to_thread(running.admin, "/readyz")).startswith(b"{")
        ends = [line["message"] for line in running.messages() if "started again" in line["message"]]
        assert "private_key" in ends[1], ends
        assert [line.rpartition(" in ")[2] for line in ends[:3]] == ["0.1 s", "0.2 s", "0.4 s"]
        key.write_bytes(whole)
        await until(lambda: len(running.workers) == 2)
        assert await statuses(running, material, alice) == {200}
