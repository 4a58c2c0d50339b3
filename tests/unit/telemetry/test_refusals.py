"""Every refusal is logged or counted in a line that is, and one client cannot flood the log or the memory."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.telemetry.conftest import ManualLoop
from tests.unit.telemetry.entries import entry
from tests.unit.telemetry.test_access_log import FIELDS

from mtlsproxy.telemetry.refusals import FOLD_SECONDS, MAX_RECENT, RefusalLog
from mtlsproxy.telemetry.sink import Sink


class Harness:
    """A refusal log that writes to a file, on a loop whose time the test moves."""

    def __init__(self, path: Path, loop: ManualLoop, max_keys: int = 100) -> None:
        self.path = path
        self.loop = loop
        self.sink = Sink(path, "stderr")
        self.log = RefusalLog(self.sink, loop, clock=loop.time, max_keys=max_keys)

    def refuse(self, fingerprint: str | None, reason: str = "revoked", request_id: str = "r") -> None:
        self.log.record(entry(reason=reason, status=403, request_id=request_id), fingerprint, "it is on the CRL")

    def lines(self) -> list[dict[str, object]]:
        assert self.sink.flush(10)
        return [json.loads(line) for line in self.path.read_bytes().splitlines()]

    def brief(self) -> list[tuple[object, object]]:
        return [(line["request_id"], line.get("suppressed", 0)) for line in self.lines()]


@pytest.fixture
def harness(tmp_path: Path, manual_loop: ManualLoop) -> Iterator[Harness]:
    made = Harness(tmp_path / "refusals.log", manual_loop)
    yield made
    made.sink.close(10)


def test_a_refusal_is_a_warning_with_the_fields_of_the_access_log(harness: Harness) -> None:
    harness.refuse("aa")
    (line,) = harness.lines()
    assert [name for name in line if name in FIELDS] == FIELDS
    assert (line["level"], line["reason"], line["detail"]) == ("warning", "revoked", "it is on the CRL")
    assert line["enforced"] is True
    assert "suppressed" not in line


def test_what_shadow_mode_let_pass_says_so(harness: Harness) -> None:
    harness.log.record(entry(reason="not_allowed", status=200), "aa", enforced=False)
    (line,) = harness.lines()
    assert (line["enforced"], line["status"], line["reason"]) == (False, 200, "not_allowed")


def test_repeats_are_folded_and_counted_when_their_ten_seconds_end(harness: Harness) -> None:
    for n in range(5):
        harness.refuse("aa", request_id=str(n))
    harness.loop.advance(FOLD_SECONDS - 0.5)
    assert harness.brief() == [("0", 0)]
    harness.loop.advance(1)
    assert harness.brief() == [("0", 0), ("4", 4)]
    harness.refuse("aa", request_id="later")
    assert harness.brief() == [("0", 0), ("4", 4), ("later", 0)]


def test_a_single_refusal_gets_no_second_line(harness: Harness) -> None:
    harness.refuse("aa")
    harness.loop.advance(FOLD_SECONDS + 1)
    harness.log.close()
    assert harness.brief() == [("r", 0)]


def test_a_repeat_after_the_window_reports_the_folded_ones_first_even_if_the_timer_is_late(harness: Harness) -> None:
    harness.refuse("aa", request_id="0")
    harness.refuse("aa", request_id="1")
    harness.loop.now += FOLD_SECONDS + 5
    harness.refuse("aa", request_id="2")
    assert harness.brief() == [("0", 0), ("1", 1), ("2", 0)]


def test_another_reason_or_another_certificate_is_not_folded(harness: Harness) -> None:
    for reason in ("revoked", "expired"):
        for fingerprint in ("aa", "bb", None):
            harness.refuse(fingerprint, reason, request_id=f"{reason} {fingerprint}")
            harness.refuse(fingerprint, reason, request_id="folded")
    assert [request_id for request_id, _ in harness.brief()] == [
        f"{reason} {fingerprint}" for reason in ("revoked", "expired") for fingerprint in ("aa", "bb", None)
    ]


def test_another_listener_or_another_upstream_is_not_folded(harness: Harness) -> None:
    """Two load balancers that are set up wrongly, two services that are down: the second is told, too."""
    places = [("public", None), ("internal", None), ("public", "orders"), ("public", "reports")]
    for listener, upstream in places:
        for request_id in (f"{listener} {upstream}", "folded"):
            refused = entry(reason="upstream_error", status=502, request_id=request_id, upstream=upstream)
            harness.log.record(refused, "aa", listener=listener)
    assert [request_id for request_id, _ in harness.brief()] == [f"{one} {other}" for one, other in places]


def test_windows_that_begin_apart_end_apart(harness: Harness) -> None:
    harness.refuse("aa", request_id="a0")
    harness.refuse("aa", request_id="a1")
    harness.loop.advance(5)
    harness.refuse("bb", request_id="b0")
    harness.refuse("bb", request_id="b1")
    harness.loop.advance(5.5)
    assert harness.brief() == [("a0", 0), ("b0", 0), ("a1", 1)]
    harness.loop.advance(5.5)
    assert harness.brief() == [("a0", 0), ("b0", 0), ("a1", 1), ("b1", 1)]


def test_made_up_fingerprints_do_not_grow_memory_and_lose_no_count(tmp_path: Path, manual_loop: ManualLoop) -> None:
    harness = Harness(tmp_path / "refusals.log", manual_loop, max_keys=10)
    for n in range(50):
        harness.refuse(f"{n:02}", request_id=f"{n} first")
        harness.refuse(f"{n:02}", request_id=f"{n} folded")
    assert len(harness.log._windows) == 10
    harness.log.close()
    brief = harness.brief()
    assert sum(suppressed or 1 for _, suppressed in brief) == 100
    harness.sink.close(10)


def test_closing_writes_the_counts_that_are_open(harness: Harness) -> None:
    harness.refuse("aa", request_id="0")
    harness.refuse("aa", request_id="1")
    harness.log.close()
    harness.loop.advance(FOLD_SECONDS * 2)
    assert harness.brief() == [("0", 0), ("1", 1)]


def test_the_most_recent_are_remembered_newest_first_folded_ones_too(harness: Harness) -> None:
    for n in range(MAX_RECENT + 3):
        harness.refuse("aa", request_id=str(n))
    recent = harness.log.recent()
    assert [each["request_id"] for each in recent] == [str(n) for n in range(MAX_RECENT + 2, 2, -1)]
    assert [name for name in recent[0] if name in FIELDS] == FIELDS


def test_without_a_sink_refusals_are_still_remembered(manual_loop: ManualLoop) -> None:
    """`logging.level: error` silences warnings, not the admin page."""
    log = RefusalLog(None, manual_loop, clock=manual_loop.time)
    log.record(entry(reason="expired"), "aa")
    log.close()
    assert [each["reason"] for each in log.recent()] == ["expired"]
