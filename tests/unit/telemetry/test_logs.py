"""The logs of a process, in a real one: what goes to which descriptor, and that it ends in time."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import asyncio, json, logging, os, sys
from pathlib import Path
from mtlsproxy.config.service import Logging
from mtlsproxy.telemetry.logs import LogError, Logs
from mtlsproxy.telemetry.metrics import Metrics
from tests.unit.telemetry.entries import entry

async def main(access, level):
    metrics = Metrics()
    logs = Logs(Logging.model_validate({"access": access, "level": level}, context={"folder": Path(sys.argv[4])}),
                metrics, asyncio.get_running_loop())
    logging.getLogger("mtlsproxy.x").debug("detail")
    logging.getLogger("mtlsproxy.x").info("started %s", "a\\x1b[2J\\n{")
    try:
        raise ValueError("wrong")
    except ValueError:
        logging.getLogger("mtlsproxy.x").exception("failed")
    logging.getLogger("mtlsproxy.x").error("%d lines", "no")
    for n in range(int(sys.argv[3])):
        if logs.access is not None:
            logs.access.append(entry(request_id=str(n)))
    logs.refusals.record(entry(reason="revoked", status=403, request_id="refused"), "aa")
    complete = logs.close(0.5)
    print(complete, sum(value for _, value in metrics.log_lines_dropped_total.read()), file=open(
        Path(sys.argv[4]) / "result", "w"))

try:
    asyncio.run(main(sys.argv[1], sys.argv[2]))
except LogError as error:
    sys.exit(f"LogError: {error}")
"""


def command(folder: Path, access: str, level: str = "info", count: int = 2) -> list[str]:
    return [sys.executable, "-c", PROGRAM, access, level, str(count), str(folder)]


def run(folder: Path, access: str, level: str = "info") -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(command(folder, access, level), capture_output=True, check=False, timeout=30)


def objects(data: bytes) -> list[dict[str, object]]:
    return [json.loads(line) for line in data.splitlines()]


def test_access_on_stdout_and_the_rest_on_stderr(tmp_path: Path) -> None:
    done = run(tmp_path, "stdout")
    assert [line["request_id"] for line in objects(done.stdout)] == ["0", "1"]
    found = objects(done.stderr)
    assert [(line["level"], line["message"]) for line in found] == [
        ("info", "started a\x1b[2J\n{"),
        ("error", "failed"),
        ("error", "%d lines (arguments ('no',) do not fit: %d format: a real number is required, not str)"),
        ("warning", "refused"),
    ]
    assert str(found[1]["exception"]).endswith("ValueError: wrong")
    assert found[0]["logger"] == "mtlsproxy.x"
    assert b"\x1b" not in done.stderr
    assert (tmp_path / "result").read_text() == "True 0\n"


def test_access_on_a_file_leaves_stdout_alone(tmp_path: Path) -> None:
    done = run(tmp_path, "./access.log")
    assert done.stdout == b""
    lines = objects((tmp_path / "access.log").read_bytes())
    assert [line["request_id"] for line in lines] == ["0", "1"]


def test_refusals_are_logged_even_when_access_is_off(tmp_path: Path) -> None:
    done = run(tmp_path, "off")
    assert done.stdout == b""
    assert [line["reason"] for line in objects(done.stderr) if line["message"] == "refused"] == ["revoked"]


@pytest.mark.parametrize(
    ("level", "expected"),
    [("debug", ["debug", "info", "error", "error", "warning"]), ("error", ["error", "error"])],
)
def test_the_level_decides_what_is_written(tmp_path: Path, level: str, expected: list[str]) -> None:
    done = run(tmp_path, "off", level)
    found = [line for line in objects(done.stderr) if line.get("logger") != "asyncio"]
    assert [line["level"] for line in found] == expected


def test_stdout_and_stderr_on_one_pipe_keep_their_lines_whole(tmp_path: Path) -> None:
    arguments = command(tmp_path, "stdout", count=2000)
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=30)
    found = objects(done.stdout)
    assert [line["request_id"] for line in found if "level" not in line] == [str(n) for n in range(2000)]


def test_a_file_that_cannot_be_opened_names_the_setting(tmp_path: Path) -> None:
    done = run(tmp_path, "./missing/access.log")
    assert done.returncode == 1
    assert done.stderr.startswith(b"LogError: logging.access: ")
    assert b"No such file or directory" in done.stderr


def test_a_closed_stdout_is_found_out_at_start(tmp_path: Path) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *command(tmp_path, "stdout")],
        stderr=subprocess.PIPE,
        check=False,
        timeout=30,
    )
    assert done.returncode == 1
    assert b"LogError: logging.access: standard output is closed" in done.stderr


def test_a_pipe_that_nobody_reads_does_not_keep_the_process_from_ending(tmp_path: Path) -> None:
    read, write = os.pipe()
    process = subprocess.Popen(command(tmp_path, "stdout", count=20_000), stdout=write, stderr=subprocess.DEVNULL)
    os.close(write)
    try:
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
        os.close(read)
    complete, dropped = (tmp_path / "result").read_text().split()
    assert complete == "False"
    assert 19_000 < float(dropped) <= 20_000
