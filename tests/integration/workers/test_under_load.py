"""Under load a crash costs what was in flight, and a reload, a rotation or a stop costs nothing."""

import json
import os
import select
import signal
import subprocess
import threading
from pathlib import Path

import pytest
import yaml
from tests.integration.certificates import Identity
from tests.integration.clients import PATIENCE, client_context
from tests.integration.conftest import Material
from tests.integration.harness import Tree, eventually
from tests.integration.live.conftest import replace
from tests.integration.upstream import RecordingUpstream
from tests.integration.workers.conftest import WORKERS, Run, Several, children, runs
from tests.integration.workers.load import load

CLIENTS = 6
MORE = 100
"""Answers until the next blow."""


def more(answers: list[int]) -> None:
    wanted = len(answers) + MORE
    eventually(lambda: len(answers) >= wanted, 3 * PATIENCE)


def counted(several: Several) -> float:
    return sum(several.series("requests_total").values())


def test_a_killed_worker_takes_with_it_only_what_it_had_in_flight(
    several: Several, material: Material, alice: Identity
) -> None:
    """Nobody is refused a connection, each client loses at most one request a crash, and no counter falls."""
    kills = 3
    with load(several, client_context(material.root, alice), CLIENTS) as running:
        before = 0.0
        for kill in range(kills):
            more(running.answers)
            pids = several.pids
            os.kill(pids[kill % len(pids)], signal.SIGKILL)
            for _ in range(20):
                now = counted(several)
                assert now >= before
                before = now
            eventually(lambda pids=pids: len(several.pids) == WORKERS and several.pids != pids)  # type: ignore[misc]
        more(running.answers)
    assert set(running.answers) == {200}
    assert all(len(losses) <= kills for losses in running.lost.values()), running.lost
    assert not any("refused" in loss for loss in running.losses), running.losses
    eventually(lambda: several.series("requests_in_flight") == {})
    # What was counted between the last copy of a killed worker and its end is lost with it.
    assert counted(several) <= len(running.answers) + len(running.losses)
    assert several.series("worker_restarts_total") == {(): kills}


def test_twenty_reloads_and_rotations_lose_no_request_and_no_line(
    config: Tree, run: Run, material: Material, alice: Identity, tmp_path: Path
) -> None:
    several = run()
    file = tmp_path / "command.yaml"
    whole = yaml.safe_load(file.read_text())
    logs = [several.access_file]
    with load(several, client_context(material.root, alice), CLIENTS, "/" + "a" * 2000) as running:
        for number in range(20):
            wanted = len(running.answers) + 10
            whole["listeners"][0]["limits"] = {"max_connections": 1000 + number}
            replace(file, yaml.safe_dump(whole).encode())
            several.process.send_signal(signal.SIGHUP)
            logs.append(several.access_file.rename(tmp_path / f"rotated.{number}"))
            several.process.send_signal(signal.SIGUSR1)
            eventually(several.access_file.exists)
            eventually(lambda wanted=wanted: len(running.answers) >= wanted)  # type: ignore[misc]
    assert running.losses == []
    assert set(running.answers) == {200}
    assert several.series("config_reloads_total")[("success",)] >= 1
    assert ("failure",) not in several.series("config_reloads_total")
    assert several.stop() == 0
    lines = [json.loads(line) for log in logs for line in log.read_bytes().splitlines()]
    assert len(lines) == len(running.answers)


def test_a_stop_under_load_answers_all_that_it_was_asked(
    config: Tree, run: Run, material: Material, alice: Identity
) -> None:
    """Also when the init system tells every process by itself, as systemd does unless told otherwise."""
    config["shutdown"] = {"delay": "1s", "drain": "20s"}
    several = run()
    with load(several, client_context(material.root, alice), CLIENTS) as running:
        more(running.answers)
        for pid in (*several.pids, several.process.pid):
            os.kill(pid, signal.SIGTERM)
        assert several.process.wait(3 * PATIENCE) == 0
        running.ended.set()
    assert set(running.answers) == {200}
    assert all("refused" in loss or "reset" in loss for loss in running.losses), "once nobody listens any more"


def test_a_slow_answer_outlives_a_stop_that_reaches_every_process(
    config: Tree, run: Run, alice: Identity, upstream: RecordingUpstream
) -> None:
    """A worker that is told twice, by the init system and by its supervisor, still drains."""
    released = threading.Event()

    def answer_late(*_: object) -> bytes:
        released.wait(2 * PATIENCE)
        return b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate"

    upstream.script = answer_late
    config["shutdown"] = {"drain": "60s"}
    several = run()
    pids = several.pids
    with several.connect(alice) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n")
        eventually(lambda: upstream.requests)
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        eventually(lambda: sum(map(runs, pids)) == 1)
        (serving,) = filter(runs, pids)
        several.process.send_signal(signal.SIGTERM)
        eventually(lambda: any("draining" in line["message"] for line in several.messages()))
        eventually(lambda: children(several.process.pid) == {serving})
        several.json("/api/status")  # its answer comes after what the worker was told before
        assert not select.select([client.sock], [], [], 0.2)[0], "it was not cut off"
        released.set()
        assert client.response().body == b"late"
    assert several.process.wait(PATIENCE) == 0


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_meant_for_the_supervisor_harms_no_worker(
    several: Several, alice: Identity, number: signal.Signals
) -> None:
    """`systemctl kill` and a terminal send theirs to every process."""
    pids = several.pids
    for pid in pids:
        os.kill(pid, number)
    for _ in range(10):
        with several.connect(alice) as connection:
            assert connection.get().status == 200
    assert several.pids == pids


def test_lines_in_a_pipe_are_never_mixed(
    config: Tree, material: Material, alice: Identity, run: Run, tmp_path: Path
) -> None:
    """Lines longer than the kernel writes at once (PIPE_BUF), from two workers, through a pipe that is often full."""
    fifo = tmp_path / "access.fifo"
    os.mkfifo(fifo)
    config["logging"] = {"access": str(fifo)}
    with (tmp_path / "read").open("wb") as read, subprocess.Popen(["cat", fifo], stdout=read) as cat:
        several = run()
        with load(several, client_context(material.root, alice), CLIENTS, "/" + "a" * 6000) as running:
            more(running.answers)
            more(running.answers)
        assert several.stop() == 0
        cat.wait(PATIENCE)
    lines = [json.loads(line) for line in (tmp_path / "read").read_bytes().splitlines()]
    assert len(lines) == len(running.answers)
    assert {len(line["path"]) for line in lines} == {6001}
