"""Refusals can be looked up by their id with what was presented, whoever chose the id and however much was sent."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.telemetry.conftest import ManualLoop
from tests.unit.telemetry.entries import entry

from mtlsproxy.telemetry.recent import MAX_RECENT, Recent, Refusal
from mtlsproxy.telemetry.refusals import MAX_TOLD, TELL_SECONDS, RefusalLog
from mtlsproxy.telemetry.sink import Sink


def refusal(request_id: str, reason: str = "revoked") -> Refusal:
    return Refusal(entry(reason=reason, status=403, request_id=request_id), "it is on the CRL", True)


def test_a_refusal_is_found_by_its_id_with_its_chain_as_pem() -> None:
    recent = Recent()
    recent.add(refusal("one"), (b"leaf", b"issuer"))
    recent.add(refusal("two"), ())
    found = recent.find("one")
    assert found is not None
    assert (found["reason"], found["detail"]) == ("revoked", "it is on the CRL")
    begin, end = "-----BEGIN CERTIFICATE-----\n", "\n-----END CERTIFICATE-----\n"
    assert found["presented"] == f"{begin}bGVhZg=={end}{begin}aXNzdWVy{end}"
    without = recent.find("two")
    assert without is not None and without["presented"] == ""
    assert recent.find("three") is None


def test_of_two_with_one_id_the_newer_is_found() -> None:
    recent = Recent()
    recent.add(refusal("same", "revoked"), ())
    recent.add(refusal("same", "denied"), ())
    found = recent.find("same")
    assert found is not None and found["reason"] == "denied"


def test_the_oldest_refusals_go_first() -> None:
    recent = Recent()
    for number in range(MAX_RECENT + 3):
        recent.add(refusal(str(number)), (b"x",))
    assert recent.find("2") is None and recent.find("3") is not None
    assert [each["request_id"] for each in recent.newest(2)] == [str(MAX_RECENT + 2), str(MAX_RECENT + 1)]
    assert len(recent.newest()) == MAX_RECENT


def test_chains_are_bounded_together_and_the_refusals_outlive_them() -> None:
    recent = Recent(max_bytes=10)
    recent.add(refusal("old"), (b"12345",))
    recent.add(refusal("none"), ())
    recent.add(refusal("new"), (b"123456",))
    presented = {ident: (recent.find(ident) or {})["presented"] for ident in ("old", "none", "new")}
    assert presented["old"] is None and presented["none"] == "" and presented["new"]
    recent.add(refusal("huge"), (b"12345678901",))
    assert (recent.find("huge") or {})["presented"] is None
    recent.add(refusal("small"), (b"1",))
    assert (recent.find("small") or {})["presented"]


def test_a_million_bytes_a_refusal_stay_bounded_over_any_number_of_them() -> None:
    recent = Recent(max_bytes=2_000_000)
    for number in range(MAX_RECENT * 2):
        recent.add(refusal(str(number)), (b"x" * 1_000_000,) if number % 3 else ())
    kept = [each for number in range(MAX_RECENT * 2) if (each := recent.find(str(number))) and each["presented"]]
    assert len(kept) == 2


@pytest.fixture
def log(tmp_path: Path, manual_loop: ManualLoop) -> Iterator[RefusalLog]:
    sink = Sink(tmp_path / "refusals.log", "stderr")
    made = RefusalLog(sink, manual_loop, clock=manual_loop.time)
    yield made
    made.close()
    sink.close(10)


def test_a_refusal_in_the_handshake_gets_an_id_of_its_own(log: RefusalLog) -> None:
    log.record(entry(reason="expired", request_id=None), "aa", presented=(b"leaf",))
    log.record(entry(reason="expired", request_id=None), "aa")
    newer, older = [each["request_id"] for each in log.recent()]
    assert newer and older and newer != older
    found = log.find(older)
    assert found is not None and found["presented"]


def test_watchers_are_told_in_batches_of_the_newest_and_of_how_many_more(
    log: RefusalLog, manual_loop: ManualLoop
) -> None:
    events: list[dict[str, Any]] = []
    end = log.watch(events.append)
    for number in range(MAX_TOLD + 5):
        log.record(entry(reason="revoked", request_id=str(number)), "aa")
    assert events == []
    manual_loop.advance(TELL_SECONDS)
    (event,) = events
    assert (event["event"], event["more"]) == ("refusals", 5)
    assert [each["request_id"] for each in event["refusals"]] == [str(n) for n in range(MAX_TOLD + 4, 4, -1)]
    log.record(entry(reason="denied"), "bb")
    manual_loop.advance(TELL_SECONDS)
    assert [(each["more"], len(each["refusals"])) for each in events] == [(5, MAX_TOLD), (0, 1)]
    end()
    log.record(entry(reason="denied"), "bb")
    manual_loop.advance(TELL_SECONDS)
    assert len(events) == 2
