"""One audit log of several workers: each appends a chain of its own, and what all do alike one of them tells."""

import json
import os
import signal
import subprocess
from pathlib import Path

from tests.integration.certificates import Identity
from tests.integration.harness import COMMAND, Tree, eventually
from tests.integration.workers.conftest import WORKERS, Run


def test_every_process_writes_and_a_change_is_told_once(
    config: Tree, run: Run, tmp_path: Path, alice: Identity
) -> None:
    file = tmp_path / "audit.jsonl"
    config["logging"]["audit"] = str(file)
    config["routes"][0]["allow"] = []
    several = run()

    def of(event: str, count: int = 1) -> list[Tree]:
        def look() -> list[Tree] | None:
            lines = [json.loads(line) for line in file.read_bytes().split(b"\n")[:-1]]
            found = [line for line in lines if line["event"] == event]
            return found if len(found) >= count else None

        return eventually(look) or []

    assert {line["role"] for line in of("started", WORKERS + 1)} == {"supervisor", "worker 0", "worker 1"}
    writers = set()
    while len(writers) < WORKERS:
        with several.connect(alice) as connection:
            assert connection.get().problem["reason"] == "not_allowed"
        writers |= {line["writer"] for line in of("refused")}
    several.process.send_signal(signal.SIGHUP)
    (reload,) = of("reload")
    assert (reload["by"], reload["ok"]) == ("SIGHUP", True)
    os.kill(several.pids[0], signal.SIGKILL)
    assert len({line["writer"] for line in of("started", WORKERS + 2)}) == WORKERS + 2, "the next has its own chain"
    rotated = file.rename(tmp_path / "audit.jsonl.1")
    several.process.send_signal(signal.SIGUSR1)
    eventually(file.exists)
    assert several.stop() == 0
    verified = subprocess.run(
        [COMMAND, "audit", "--verify", rotated, file, "--format", "json"], capture_output=True, check=False
    )
    said = json.loads(verified.stdout)
    assert said["whole"], said["troubles"]
    assert sorted(one["stopped"] for one in said["writers"]) == [False, True, True, True]
