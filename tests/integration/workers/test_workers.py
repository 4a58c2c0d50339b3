"""Several workers are one proxy: what is counted, denied, reloaded and refused at one holds at all."""

import json
import os
import signal
import urllib.error
import urllib.request
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from tests.integration.certificates import Identity
from tests.integration.clients import PATIENCE
from tests.integration.harness import Tree, eventually
from tests.integration.upstream import RecordingUpstream
from tests.integration.workers.conftest import WORKERS, Run, Several, children, runs

MANY = 40
"""Connections: that all of them meet one of two workers happens once in 10^12 runs."""


def test_all_workers_serve_and_are_counted_as_one(several: Several, alice: Identity) -> None:
    with ExitStack() as stack:
        connections = [stack.enter_context(several.connect(alice)) for _ in range(MANY)]
        assert {connection.get().status for connection in connections} == {200}
        assert several.series("connections") == {("internal",): MANY}
        assert several.series("workers") == {(): WORKERS}
        status = several.json("/api/status")
        assert status["listeners"][0]["connections"] == MANY
        assert len({worker["pid"] for worker in status["workers"]}) == WORKERS
    assert several.series("requests_total") == {("internal", "all", "GET", "200", "HTTP/1.1"): MANY}
    assert several.series("handshakes_total") == {("internal", "ok", "TLSv1.3"): MANY}
    assert several.series("request_duration_seconds_count") == {("all",): MANY}
    assert several.series("upstream_healthy") == {
        ("recorder", several.json("/api/status")["upstreams"][0]["servers"][0]["url"]): 1
    }


def test_refusals_of_all_are_shown_together(several: Several, material: object) -> None:
    with ExitStack() as stack:
        for _ in range(MANY // 4):
            connection = stack.enter_context(several.connect(several.material.dev_client("stranger")))
            with pytest.raises((OSError, EOFError)):
                connection.get()
    found = eventually(lambda: lines if len(lines := several.rejections()) == MANY // 4 else None)
    assert found is not None
    assert {line["reason"] for line in found} == {"untrusted_issuer"}
    assert [line["time"] for line in found] == sorted((line["time"] for line in found), reverse=True)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_ends_is_replaced_and_what_it_counted_stays(
    several: Several, alice: Identity, number: signal.Signals
) -> None:
    with ExitStack() as stack:
        for _ in range(MANY):
            assert stack.enter_context(several.connect(alice)).get().status == 200
        eventually(lambda: sum(several.series("requests_total").values()) == MANY)
    before = several.pids
    os.kill(before[0], number)
    eventually(lambda: not runs(before[0]))
    for _ in range(MANY):  # those in the queue of the missing one wait for its successor
        with several.connect(alice) as connection:
            assert connection.get().status == 200
            assert sum(several.series("requests_total").values()) >= MANY, "no counter ever falls"
    eventually(lambda: len(several.pids) == WORKERS)
    assert before[0] not in several.pids
    assert before[1] in several.pids
    assert several.series("worker_restarts_total") == {(): 1}
    assert sum(several.series("requests_total").values()) == 2 * MANY
    assert any("worker 0" in line["message"] and "started again" in line["message"] for line in several.messages())


def test_a_stopped_supervisor_leaves_nothing_behind(several: Several) -> None:
    pids = several.pids
    assert several.stop() == 0
    assert not any(runs(pid) for pid in pids)


def test_workers_end_with_a_supervisor_that_is_killed(several: Several, alice: Identity) -> None:
    """Connections get their drain; nobody new is let in by processes that nobody can reach."""
    pids = several.pids
    several.process.kill()
    several.process.wait(PATIENCE)
    eventually(lambda: not any(runs(pid) for pid in pids))


def test_a_reload_reaches_all_and_a_broken_one_none(config: Tree, run: Run, alice: Identity, tmp_path: Path) -> None:
    several = run()
    file = tmp_path / "command.yaml"
    whole = yaml.safe_load(file.read_text())
    with ExitStack() as stack:
        connections = [stack.enter_context(several.connect(alice)) for _ in range(MANY)]
        whole["routes"][0]["allow"] = []
        file.write_text(yaml.safe_dump(whole))
        several.process.send_signal(signal.SIGHUP)
        eventually(lambda: several.series("config_reloads_total").get(("success",)))
        assert {connection.get().status for connection in connections} == {403}
        whole["routes"][0]["allow"] = "any"
        file.write_text(yaml.safe_dump(whole | {"unknown": 1}))
        eventually(lambda: several.series("config_reloads_total").get(("failure",)))
        assert {connection.get().status for connection in connections} == {403}
        file.write_text(yaml.safe_dump(whole))
        eventually(lambda: several.series("config_reloads_total").get(("success",)) == 2)
        assert {connection.get().status for connection in connections} == {200}
    assert len(several.pids) == WORKERS


def test_a_listener_that_comes_with_a_reload_is_served_by_all(
    config: Tree, run: Run, alice: Identity, tmp_path: Path
) -> None:
    several = run()
    file = tmp_path / "command.yaml"
    whole = yaml.safe_load(file.read_text())
    whole["listeners"].append(whole["listeners"][0] | {"name": "second", "bind": "127.0.0.1:0"})
    whole["routes"][0]["listeners"] = ["internal", "second"]
    file.write_text(yaml.safe_dump(whole))
    eventually(lambda: several.series("config_reloads_total").get(("success",)))
    listeners = {each["name"]: each for each in several.json("/api/status")["listeners"]}
    several._port = int(listeners["second"]["addresses"][0].rpartition(":")[2])
    with ExitStack() as stack:
        connections = [stack.enter_context(several.connect(alice)) for _ in range(MANY)]
        assert {connection.get().status for connection in connections} == {200}


def test_what_is_denied_is_denied_at_all_and_by_their_successors(
    config: Tree, run: Run, alice: Identity, bob: Identity, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("workers-tests-token-0123456789\n")
    token.chmod(0o600)
    config["admin"] = {"token_file": str(token)}
    several = run()
    with ExitStack() as stack:
        hers = [stack.enter_context(several.connect(alice)) for _ in range(MANY // 2)]
        his = [stack.enter_context(several.connect(bob)) for _ in range(MANY // 2)]
        assert {connection.get().status for connection in (*hers, *his)} == {200}
        entry = {"issuer": alice.leaf.issuer.rfc4514_string(), "serial": f"{alice.leaf.serial_number:x}"}
        answer = several.post("/api/deny", entry, token.read_text().strip())
        assert answer["connections_ended"] == MANY // 2
        assert "warning" not in answer
        mistyped = several.post("/api/deny", entry | {"issuer": "CN=Nobody"}, token.read_text().strip())
        assert "CN=Nobody is no loaded CA's name" in mistyped["warning"]
        assert all(connection.ended() for connection in hers)
        assert {connection.get().status for connection in his} == {200}
    for pid in several.pids:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: several.series("worker_restarts_total").get(()) == WORKERS and len(several.pids) == WORKERS)
    for _ in range(MANY // 4):
        with several.connect(alice) as connection:
            assert connection.get().problem["reason"] == "denied"


def test_every_line_of_the_access_log_is_whole(config: Tree, run: Run, alice: Identity, tmp_path: Path) -> None:
    config["logging"] = {"access": str(tmp_path / "access.log")}
    several = run()
    with ExitStack() as stack:
        connections = [stack.enter_context(several.connect(alice)) for _ in range(MANY)]
        for _ in range(10):
            for connection in connections:
                connection.get("/" + "a" * 300)
    assert len(several.access(10 * MANY)) == 10 * MANY
    several.access_file.rename(tmp_path / "rotated.log")
    several.process.send_signal(signal.SIGUSR1)
    eventually(lambda: several.access_file.exists())


def test_processes_of_it_are_a_supervisor_and_its_workers(several: Several, upstream: RecordingUpstream) -> None:
    eventually(lambda: children(several.process.pid) == set(several.pids))


def test_a_refusal_is_found_by_its_id_and_a_client_is_one_wherever_it_met_them(
    several: Several, alice: Identity
) -> None:
    with ExitStack() as stack:
        for _ in range(MANY):
            assert stack.enter_context(several.connect(alice)).get("/").status == 200
        (known,) = several.json("/api/clients")["clients"]
        assert (known["identity"], known["open"], known["connections"]) == ("alice.clients.test", MANY, MANY)
        assert known["routes"] == ["all"]
        refused = [stack.enter_context(several.connect(alice)).get("/%00") for _ in range(6)]
    for answer in refused:
        ident = answer.problem["request_id"]
        assert several.json(f"/api/rejections/{ident}")["request_id"] == ident
    with pytest.raises(urllib.error.HTTPError, match="404"):
        several.json("/api/rejections/nobody")


def test_who_watches_is_told_of_refusals_at_any_worker_and_at_the_one_that_takes_a_place(several: Several) -> None:
    def refuse() -> None:
        with pytest.raises((OSError, EOFError)), several.connect(several.material.dev_client("stranger")) as connection:
            connection.get()

    told: Counter[str] = Counter()
    with urllib.request.urlopen(f"http://127.0.0.1:{several.admin_port}/api/events", timeout=PATIENCE) as answer:

        def listen(count: int) -> None:
            while told["refusals"] < count:
                line = answer.readline().decode()
                if line.startswith("data: ") and "refusals" in (event := json.loads(line[6:])) and "more" in event:
                    told["refusals"] += len(event["refusals"]) + event["more"]

        while not answer.readline().startswith(b"event: traffic"):
            pass
        for _ in range(MANY // 4):
            refuse()
        listen(MANY // 4)
        before = several.pids
        os.kill(before[0], signal.SIGKILL)
        eventually(lambda: len(several.pids) == WORKERS and before[0] not in several.pids)
        for _ in range(MANY // 4):
            refuse()
        listen(MANY // 2)
    assert told["refusals"] == MANY // 2
