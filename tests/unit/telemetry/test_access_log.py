"""One JSON object a line, its fields in the documented order, whatever a client put into them."""

import asyncio
import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.telemetry.conftest import ManualLoop
from tests.unit.telemetry.entries import CONNECTION_FIELDS, entry

from mtlsproxy.telemetry.access_log import (
    FLUSH_ENTRIES,
    FLUSH_SECONDS,
    MAX_NAME,
    MAX_SAN,
    AccessLog,
    connection_fragment,
    encode_entries,
    timestamp,
)
from mtlsproxy.telemetry.sink import Sink

REFERENCE = (
    "time, listener, client_ip, client_port, tls_version, cipher, resumed, subject, issuer, serial,"
    " fingerprint, san, truststore, principal, method, host, path, protocol, status, reason, route, upstream,"
    " request_bytes, response_bytes, duration_ms, upstream_ms, request_id"
)
FIELDS = REFERENCE.split(", ")


def lines(data: bytes) -> list[dict[str, object]]:
    assert data.endswith(b"\n")
    return [json.loads(line) for line in data[:-1].split(b"\n")]


def test_a_line_has_the_fields_of_the_reference_in_their_order() -> None:
    (line,) = lines(encode_entries([entry()]))
    assert list(line) == FIELDS
    assert line == {
        **CONNECTION_FIELDS,
        "time": "2030-03-17T17:46:40.250Z",
        "method": "GET",
        "host": "orders.internal",
        "path": "/orders/1",
        "protocol": "HTTP/1.1",
        "status": 200,
        "reason": None,
        "route": "orders",
        "upstream": "orders-upstream",
        "request_bytes": 12,
        "response_bytes": 3456,
        "duration_ms": 12.345,
        "upstream_ms": 1.0,
        "request_id": "r-1",
    }


def test_a_connection_without_certificate_and_request_has_nulls() -> None:
    absent = ("tls_version", "cipher", "subject", "issuer", "serial", "fingerprint", "san", "truststore", "principal")
    fragment = connection_fragment(**{**CONNECTION_FIELDS, **dict.fromkeys(absent)})
    line_entry = (1.0, fragment, *[None] * 4, None, "no_certificate", None, None, 0, 0, None, None, None)
    (line,) = lines(encode_entries([line_entry]))
    assert list(line) == FIELDS
    assert {name for name in FIELDS if line[name] is None} == {
        *absent,
        *("method", "host", "path", "protocol", "status", "route", "upstream"),
        *("duration_ms", "upstream_ms", "request_id"),
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_900_000_000.999999, "2030-03-17T17:46:40.999Z"),
        (951_782_399.5, "2000-02-28T23:59:59.500Z"),
    ],
)
def test_time_is_rfc_3339_in_utc_with_milliseconds(seconds: float, text: str) -> None:
    assert timestamp(seconds) == text
    assert lines(encode_entries([entry(time=seconds)]))[0]["time"] == text


def test_entries_of_several_seconds_each_carry_their_own() -> None:
    found = lines(encode_entries([entry(time=t) for t in (5.5, 5.75, 7.0, 6.25)]))
    assert [str(line["time"])[17:] for line in found] == ["05.500Z", "05.750Z", "07.000Z", "06.250Z"]


def raw_controls(data: bytes) -> set[str]:
    """Characters of a log that a terminal acts on (control characters, separators, marks that reorder text)."""
    kinds = {"Cc", "Zl", "Zp"}
    reordering = {*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A)), "\u200e", "\u200f"}
    return {c for c in data.decode("utf-8") if (unicodedata.category(c) in kinds and c != "\n") or c in reordering}


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=40),
    st.text(st.characters(), max_size=20),
    st.text(st.characters(), max_size=20),
    st.lists(st.text(st.characters(), max_size=10), max_size=3),
)
def test_whatever_a_client_sends_it_is_one_valid_line(path: bytes, host: str, subject: str, san: list[str]) -> None:
    fragment = connection_fragment(**{**CONNECTION_FIELDS, "subject": subject, "san": san})
    data = encode_entries([entry(fragment=fragment, path=path, host=host), entry()])
    first, second = lines(data)
    assert list(first) == FIELDS
    assert first["path"] == path.decode("utf-8", "replace")
    assert first["host"] == host.encode("utf-8", "replace").decode("utf-8")
    assert first["san"] == [name.encode("utf-8", "replace").decode("utf-8") for name in san]
    assert second["path"] == "/orders/1"
    assert raw_controls(data) == set()


def test_a_line_cannot_be_forged_nor_a_terminal_driven() -> None:
    path = b'/a"}\r\n{"time":"forged\x00\x1b[2J\x7f' + "\x9b\u2028\u202e".encode()
    data = encode_entries([entry(path=path)])
    assert data.count(b"\n") == 1
    assert raw_controls(data) == set()
    assert lines(data)[0]["path"] == path.decode("utf-8")


def test_names_that_a_client_made_endless_are_cut() -> None:
    san = ["DNS:" + "z" * 1000] * 50
    fields = {**CONNECTION_FIELDS, "subject": "x" * 100_000, "issuer": "y" * MAX_NAME, "san": san}
    line = json.loads(b"{" + connection_fragment(**fields) + b"}")
    assert line["subject"] == "x" * MAX_NAME + "…"
    assert line["issuer"] == "y" * MAX_NAME
    assert line["san"] == [*san[: MAX_SAN // 1004], "…"]


def written(path: Path) -> list[object]:
    return [line["request_id"] for line in lines(path.read_bytes())] if path.stat().st_size else []


def test_lines_are_written_in_batches_by_the_timer(tmp_path: Path, manual_loop: ManualLoop) -> None:
    path = tmp_path / "access.log"
    sink = Sink(path, "access")
    log = AccessLog(sink, manual_loop)
    log.append(entry(request_id="a"))
    log.append(entry(request_id="b"))
    manual_loop.advance(FLUSH_SECONDS / 2)
    assert sink.flush(10)
    assert written(path) == []
    manual_loop.advance(FLUSH_SECONDS)
    assert sink.flush(10)
    assert written(path) == ["a", "b"]
    log.append(entry(request_id="c"))
    manual_loop.advance(FLUSH_SECONDS * 1.5)
    assert sink.close(10)
    assert written(path) == ["a", "b", "c"]


def test_a_full_batch_does_not_wait_for_the_timer(tmp_path: Path, manual_loop: ManualLoop) -> None:
    path = tmp_path / "access.log"
    sink = Sink(path, "access")
    log = AccessLog(sink, manual_loop)
    for n in range(FLUSH_ENTRIES + 1):
        log.append(entry(request_id=str(n)))
    assert sink.flush(10)
    assert written(path) == [str(n) for n in range(FLUSH_ENTRIES)]
    log.close()
    assert sink.close(10)
    assert written(path) == [str(n) for n in range(FLUSH_ENTRIES + 1)]


def test_dropped_lines_are_counted_one_by_one(tmp_path: Path, manual_loop: ManualLoop) -> None:
    sink = Sink(tmp_path / "access.log", "access", max_queued_bytes=10)
    log = AccessLog(sink, manual_loop)
    for _ in range(7):
        log.append(entry())
    log.close()
    assert sink.close(10)
    assert sink.dropped() == 7


async def test_on_a_running_loop_the_timer_fires_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    sink = Sink(path, "access")
    log = AccessLog(sink, asyncio.get_running_loop())
    log.append(entry(request_id="a"))
    await asyncio.sleep(FLUSH_SECONDS * 2)
    assert await asyncio.to_thread(sink.flush, 10)
    assert written(path) == ["a"]
    assert await asyncio.to_thread(sink.close, 10)
