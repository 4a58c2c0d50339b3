"""`mtlsproxy audit`: finds what it is asked for, in files, rotated ones and standard input, and says how it went."""

import gzip
import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.integration.harness import COMMAND, Tree


def audit(*arguments: object, given: bytes = b"") -> tuple[int, str, str]:
    """Exit status, output, errors."""
    done = subprocess.run([COMMAND, "audit", *map(str, arguments)], input=given, capture_output=True, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def line(**said: object) -> Tree:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"time": now, "event": "refused"} | said


ALICE = line(
    reason="not_allowed", principal="alice@example.org", subject="CN=alice,OU=sales", fingerprint="ab" * 32,
    serial="0A1B",
    san=["EMAIL:alice@example.org"], client_ip="192.0.2.7", listener="public", route="orders", method="GET",
    host="api.example", path="/orders", detail="no entry matches", request_id="r-1",
)  # fmt: skip
BOB = line(
    time=(datetime.now(UTC) - timedelta(days=2)).isoformat(), reason="revoked", principal=None, subject="CN=bob",
    fingerprint="cd" * 32, client_ip="192.0.2.8", listener="internal", route=None, detail="on the list",
)  # fmt: skip
RELOAD = line(
    event="reload", by="SIGHUP", ok=True, generation=3, changes=[{"what": "truststore a is new", "trust": True}]
)
DENIAL = line(
    event="denial_made",
    by="127.0.0.1 port 7",
    id="d1",
    denied="serial 0C, reason lost; truststore (all)",
    reason="lost",
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "audit.jsonl"
    file.write_text("".join(json.dumps(said) + "\n" for said in (BOB, ALICE, RELOAD, DENIAL)))
    return file


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ([], [BOB, ALICE, RELOAD, DENIAL]),
        (["--reason", "revoked"], [BOB]),
        (["--reason", "revoked", "--reason", "not_allowed"], [BOB, ALICE]),
        (["--identity", "ALICE@"], [ALICE]),
        (["--identity", "AB:AB:AB"], [ALICE]),
        (["--identity", "cn=bob"], [BOB]),
        (["--identity", "192.0.2."], [BOB, ALICE]),
        (["--identity", "sighup"], [RELOAD]),
        (["--identity", "0A1B"], [ALICE]),
        (["--route", "orders"], [ALICE]),
        (["--listener", "internal"], [BOB]),
        (["--event", "reload", "--event", "denial_made"], [RELOAD, DENIAL]),
        (["--since", "1h"], [ALICE, RELOAD, DENIAL]),
        (["--until", "1h"], [BOB]),
        (["--since", "2020-01-01T00:00:00Z", "--until", "2020-01-02T00:00:00+02:00"], []),
        (["--route", "orders", "--reason", "revoked"], []),
        (["--reason", "denied"], []),
    ],
)
def test_filters(file: Path, wanted: list[str], found: list[Tree]) -> None:
    status, output, _ = audit(*wanted, "--format", "json", file)
    assert [json.loads(said) for said in output.splitlines()] == found
    assert status == (0 if found else 1)


def test_a_table_for_people(file: Path) -> None:
    _, output, _ = audit(file)
    bob, alice, reload, denial = output.splitlines()
    assert "refused not_allowed" in alice
    for part in (
        "alice@example.org at 192.0.2.7",
        "public orders",
        "GET api.example/orders",
        "no entry matches",
        "r-1",
    ):
        assert part in alice
    assert "CN=bob at 192.0.2.8" in bob
    assert "SIGHUP  generation 3: truststore a is new" in reload
    assert denial.endswith("d1: serial 0C, reason lost; truststore (all)")


def test_what_a_terminal_acts_on_is_shown_as_escapes(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    file.write_text(json.dumps(line(reason="expired", subject="CN=\u202eevil\x1b[2J")) + "\n")
    assert r"CN=\u202eevil\x1b[2J" in audit(file)[1]


def test_compressed_files_and_standard_input(file: Path, tmp_path: Path) -> None:
    packed = tmp_path / "audit.jsonl.1.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    _, output, _ = audit(packed, "-", given=file.read_bytes())
    assert len(output.splitlines()) == 8


def test_the_programs_own_log_is_read_for_its_refusals(tmp_path: Path) -> None:
    file = tmp_path / "stderr.log"
    refused = ALICE | {"level": "warning", "message": "refused", "suppressed": 3}
    del refused["event"]
    file.write_text("".join(json.dumps(said) + "\n" for said in ({"time": "x", "message": "hello"}, refused)))
    status, output, errors = audit("--identity", "alice", file)
    assert (status, "and 3 more" in output, "passed over 1 line of no audit log" in errors) == (0, True, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--reason", "expird"], "did you mean expired?"),
        (["--event", "renewed"], "is not one of"),
        (["--since", "yesterday"], "neither a duration such as 2h nor a time"),
        (["--since", "2030-01-01T00:00:00"], "neither a duration"),
        (["--verify", "--reason", "expired"], "leave out the filters"),
    ],
)
def test_what_is_wrong_is_said(file: Path, arguments: list[str], words: str) -> None:
    status, _, errors = audit(*arguments, file)
    assert (status, words in errors) == (2, True), errors


def test_files_that_are_missing_cut_or_empty(file: Path, tmp_path: Path) -> None:
    assert audit(tmp_path / "none.jsonl")[0] == 2
    assert audit()[0] == 2
    cut = tmp_path / "cut.gz"
    cut.write_bytes(gzip.compress(file.read_bytes())[:-20])
    assert audit(cut)[0] == 2
    (tmp_path / "empty").touch()
    assert audit(tmp_path / "empty")[0] == 1
    assert audit("--verify", tmp_path / "empty")[0] == 2, "nothing was verified"
