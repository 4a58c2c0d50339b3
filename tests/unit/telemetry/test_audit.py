"""The audit log: lines that are chained, by several writers in one file; what a file that was tampered with shows."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.telemetry.conftest import ManualLoop
from tests.unit.telemetry.entries import entry

from mtlsproxy.telemetry.audit import LONGEST_LINE, AuditLog, hash_of, last_line
from mtlsproxy.telemetry.chain import REMEMBERED, ChainCheck, Trouble, Writer
from mtlsproxy.telemetry.refusals import RefusalLog
from mtlsproxy.telemetry.sink import Sink

Write = Callable[[], AuditLog]


class Paper:
    """What a sink is to the log; full: it takes nothing."""

    def __init__(self) -> None:
        self.data = b""
        self.full = False

    def submit(self, data: bytes, lines: int = 1) -> bool:
        if not self.full:
            self.data += data
        return not self.full

    @property
    def lines(self) -> list[bytes]:
        return self.data.split(b"\n")[:-1]


def log_on(paper: Paper, loop: asyncio.AbstractEventLoop, follows: str | None = None) -> AuditLog:
    return AuditLog(paper, loop, follows, clock=lambda: 1_900_000_000.0)  # type: ignore[arg-type]


def checked(*files: list[bytes]) -> tuple[tuple[Writer, ...], list[str]]:
    check = ChainCheck()
    for number, lines in enumerate(files):
        check.begin(f"audit.{number}")
        for line in lines:
            check.line(line, _said(line))
    writers, troubles = check.finish()
    return writers, [_words(trouble) for trouble in troubles]


def _words(trouble: Trouble) -> str:
    return f"{trouble.file}:{trouble.line} {trouble.detail}"


def _said(line: bytes) -> dict[str, Any] | None:
    try:
        said = json.loads(line)
    except ValueError:
        return None
    return said if isinstance(said, dict) else None


@pytest.fixture
def paper() -> Paper:
    return Paper()


@pytest.fixture
def lines(paper: Paper, manual_loop: ManualLoop) -> list[bytes]:
    """Of one writer: five changes, and its end."""
    log = log_on(paper, manual_loop)
    for number in range(5):
        log.note("reload", {"generation": number})
    log.close()
    return paper.lines


def test_a_line_says_when_what_whose_and_carries_the_hash_of_the_one_before(lines: list[bytes]) -> None:
    first, second = json.loads(lines[0]), json.loads(lines[1])
    assert first == {
        "time": "2030-03-17T17:46:40.000Z",
        "event": "reload",
        "writer": first["writer"],
        "sequence": 1,
        "previous": None,
        "follows": None,
        "generation": 0,
    }
    assert (second["sequence"], second["previous"]) == (2, hash_of(lines[0]))
    assert json.loads(lines[-1])["event"] == "stopped"


def test_every_refusal_is_a_line_of_its_own_though_the_refusal_log_folds(paper: Paper, manual_loop: ManualLoop) -> None:
    audit = log_on(paper, manual_loop)
    refusals = RefusalLog(None, manual_loop, audit=audit)
    for number in range(3):
        refusals.record(entry(reason="revoked", status=403, request_id=f"r-{number}"), "aa", "why", enforced=False)
    assert not paper.lines, "what is refused waits for its batch"
    manual_loop.advance(0.2)
    said = [json.loads(line) for line in paper.lines]
    assert [(line["event"], line["reason"], line["request_id"]) for line in said] == [
        ("refused", "revoked", f"r-{number}") for number in range(3)
    ]
    assert {(line["detail"], line["enforced"], line["principal"], line["path"]) for line in said} == {
        ("why", False, "spiffe://example.org/alice", "/orders/1")
    }
    assert {line["time"] for line in said} == {"2030-03-17T17:46:40.250Z"}, "when it happened, not when it was written"
    assert checked(paper.lines)[1] == []


def test_a_change_comes_after_the_refusals_before_it(paper: Paper, manual_loop: ManualLoop) -> None:
    audit = log_on(paper, manual_loop)
    audit.refused(entry(reason="expired"), "", enforced=True)
    audit.note("reload", {})
    assert [json.loads(line)["event"] for line in paper.lines] == ["refused", "reload"]


def test_lines_that_find_no_room_are_told_by_the_next_and_break_no_chain(paper: Paper, manual_loop: ManualLoop) -> None:
    audit = log_on(paper, manual_loop)
    audit.note("reload", {"generation": 1})
    paper.full = True
    audit.note("reload", {"generation": 2})
    audit.note("reload", {"generation": 3})
    paper.full = False
    audit.note("reload", {"generation": 4})
    audit.note("reload", {"generation": 5})
    assert [json.loads(line).get("lost") for line in paper.lines] == [None, 2, None]
    (writer,), troubles = checked(paper.lines)
    assert (writer.lost, troubles) == (2, [])


def test_what_a_terminal_acts_on_is_escaped(paper: Paper, manual_loop: ManualLoop) -> None:
    log_on(paper, manual_loop).note("reload", {"by": "\u202e\u009b\x7f\x1b[2J"})
    assert paper.lines[0].isascii()
    assert json.loads(paper.lines[0])["by"] == "\u202e\u009b\x7f\x1b[2J"


def test_an_untouched_file_is_whole(lines: list[bytes]) -> None:
    (writer,), troubles = checked(lines)
    assert troubles == []
    assert (writer.first, writer.last, writer.stopped, writer.whole) == (1, 6, True, True)


@pytest.mark.parametrize("number", range(5))
def test_a_changed_line_shows(lines: list[bytes], number: int) -> None:
    lines[number] = lines[number].replace(b'"generation":', b'"generation":1')
    (trouble,) = checked(lines)[1]
    assert f"audit.0:{number + 2} is not the one that followed line {number + 1}" in trouble


@pytest.mark.parametrize("number", range(1, 5))
def test_a_missing_line_shows(lines: list[bytes], number: int) -> None:
    del lines[number]
    (trouble,) = checked(lines)[1]
    assert "missing" in trouble


def test_a_line_put_in_shows(lines: list[bytes]) -> None:
    lines.insert(3, lines[2].replace(b'"generation":2', b'"generation":9'))
    assert any("comes after its line 3" in trouble for trouble in checked(lines)[1])


def test_lines_in_another_order_show(lines: list[bytes]) -> None:
    lines[2], lines[3] = lines[3], lines[2]
    assert len(checked(lines)[1]) >= 2


def test_half_a_line_shows_and_what_is_no_line_of_an_audit_log(lines: list[bytes]) -> None:
    for wrong in (lines[2][:40], b"{}", b'{"writer": 1, "sequence": "x"}', b"[]", b"\xff"):
        assert any("is no line of an audit log" in each for each in checked([*lines[:2], wrong, *lines[3:]])[1])


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_any_other_line_anywhere_shows_or_is_empty(data: bytes) -> None:
    other = data.replace(b"\n", b"")
    _, troubles = checked([other])
    assert bool(troubles) == bool(other)


def test_a_file_that_begins_in_the_middle_is_whole_as_far_as_it_goes(lines: list[bytes]) -> None:
    (writer,), troubles = checked(lines[3:])
    assert troubles == []
    assert (writer.first, writer.whole) == (4, False)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_rotated_files_are_one_chain_in_whatever_order_they_are_given(
    lines: list[bytes], order: tuple[int, ...]
) -> None:
    parts = [lines[:2], lines[2:4], lines[4:]]
    assert checked(*(parts[number] for number in order))[1] == []


def test_lines_missing_between_rotated_files_show(lines: list[bytes]) -> None:
    assert ["missing" in trouble for trouble in checked(lines[:2], lines[3:])[1]] == [True]
    assert ["comes after its line" in trouble for trouble in checked(lines, lines)[1]] == [True], "given twice"


def test_several_writers_share_a_file(paper: Paper, manual_loop: ManualLoop) -> None:
    logs = [log_on(paper, manual_loop) for _ in range(3)]
    for number in range(4):
        for log in logs:
            log.note("reload", {"generation": number})
    writers, troubles = checked(paper.lines)
    assert troubles == []
    assert [(writer.last, writer.stopped) for writer in writers] == [(4, False)] * 3
    of_one = [n for n, line in enumerate(paper.lines) if json.loads(line)["writer"] == writers[1].name]
    del (tampered := paper.lines)[of_one[2]]
    assert len(checked(tampered)[1]) == 1


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
def write(file: Path, manual_loop: ManualLoop) -> Iterator[Callable[[int], None]]:
    """A process's life: opens the file, writes so many lines, ends."""

    def live(count: int) -> None:
        sink = Sink(file, "audit")
        log = AuditLog(sink, manual_loop, last_line(file)[0])
        for number in range(count):
            log.note("reload", {"generation": number})
        log.close()
        assert sink.close(10)

    return live


def test_a_writer_that_is_taken_out_whole_shows_by_what_follows_it(file: Path, write: Callable[[int], None]) -> None:
    for _ in range(3):
        write(2)
    lines = file.read_bytes().split(b"\n")[:-1]
    assert len(lines) == 9
    assert checked(lines)[1] == []
    (trouble,) = checked(lines[:3] + lines[6:])[1]
    assert trouble == "audit.0:4 begins where the file ended with a line that is missing"


def test_the_last_line_of_a_file(file: Path) -> None:
    file.write_bytes(b"")
    assert last_line(file) == (None, False)
    file.write_bytes(b"one\ntwo\n")
    assert last_line(file) == (hash_of(b"two"), False)
    file.write_bytes(b"one\n\nha")
    assert last_line(file) == (hash_of(b"one"), True)
    long = b"x" * (LONGEST_LINE - 1)
    file.write_bytes(b"first\n" + b"y\n" * LONGEST_LINE + long + b"\n")
    assert last_line(file) == (hash_of(long), False)


def test_a_writer_may_follow_any_of_the_lines_that_are_remembered_and_no_older_one() -> None:
    def line(writer: str, follows: str | None) -> bytes:
        said = {"writer": writer, "sequence": 1, "previous": None, "follows": follows}
        return orjson.dumps({"time": "2030-01-01T00:00:00Z", "event": "started", **said})

    for others, whole in ((REMEMBERED - 1, True), (REMEMBERED, False)):
        check = ChainCheck()
        check.begin("a")
        lines = [line(f"w{number}", None) for number in range(others + 1)]
        for data in (*lines, line("last", hash_of(lines[0]))):
            check.line(data, orjson.loads(data))
        assert (check.finish()[1] == ()) == whole
