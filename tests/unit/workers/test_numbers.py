"""Metrics of several workers: shared whole, summed truly, and never falling."""

import os

import pytest

from mtlsproxy.telemetry.families import Distribution
from mtlsproxy.telemetry.metrics import Metrics
from mtlsproxy.workers import numbers
from mtlsproxy.workers.numbers import SharedNumbers, Value, make_memory
from mtlsproxy.workers.sums import Departed, readings

REQUEST = ("internal", "all", "GET", "200", "HTTP/1.1")


def counted(requests: int, seconds: float = 0.0) -> Metrics:
    metrics = Metrics()
    metrics.requests_total.cell(*REQUEST).value = requests
    metrics.connections.set("internal", value=requests)
    metrics.upstream_healthy.set("orders", "http://a", value=float(requests > 1))
    metrics.crl_entries.set("partners", "CN=CA", "", value=7)
    metrics.config_reloads_total.cell("success").value = requests
    metrics.request_duration_seconds.histogram("all").observe(seconds)
    return metrics


def shared(metrics: Metrics) -> SharedNumbers:
    memory = make_memory()
    ours = os.dup(memory)
    SharedNumbers(memory).write(metrics)
    return SharedNumbers(ours)


def summed(*living: Metrics, departed: Departed | None = None) -> dict[str, dict[tuple[str, ...], Value]]:
    found = readings(Metrics(), departed or Departed(), [shared(metrics).read() for metrics in living])
    return {reading.family.name: dict(reading.series) for reading in found}


def test_what_one_writes_the_other_reads() -> None:
    found = shared(counted(3, 0.002)).read()
    assert found["requests_total"] == {REQUEST: 3}
    distribution = found["request_duration_seconds"][("all",)]
    assert isinstance(distribution, Distribution)
    assert (sum(distribution.counts), distribution.sum) == (1, 0.002)


def test_each_family_is_combined_as_it_must_be() -> None:
    found = summed(counted(1, 0.5), counted(2, 0.25))
    assert found["requests_total"] == {REQUEST: 3}
    assert found["connections"] == {("internal",): 3}
    assert found["upstream_healthy"] == {("orders", "http://a"): 0}, "down for one is not up"
    assert found["crl_entries"] == {("partners", "CN=CA", ""): 7}, "one list, seen by both"
    assert found["config_reloads_total"] == {}, "the supervisor's own"
    distribution = found["request_duration_seconds"][("all",)]
    assert isinstance(distribution, Distribution)
    assert (sum(distribution.counts), distribution.sum) == (2, 0.75)


def test_counters_of_the_departed_stay_and_their_gauges_go() -> None:
    departed = Departed()
    for requests in (5, 6):
        departed.add(Metrics(), shared(counted(requests)).read())
    found = summed(counted(1), departed=departed)
    assert found["requests_total"] == {REQUEST: 12}
    assert found["connections"] == {("internal",): 1}


def test_a_copy_that_was_not_finished_is_not_read() -> None:
    """A crash in the middle of a write: the last whole copy counts."""
    memory = make_memory()
    ours, others = os.dup(memory), os.dup(memory)
    writer, reader, fresh = SharedNumbers(memory), SharedNumbers(ours), SharedNumbers(others)
    assert reader.read() == {}
    writer.write(counted(1))
    writer.write(counted(2))
    assert reader.read()["requests_total"] == {REQUEST: 2}
    start = numbers.HALF * (writer._turn % 2)
    reader._memory[start + 40 : start + 44] = b"torn"
    assert reader.read()["requests_total"] == {REQUEST: 2}, "what was read once does not fall"
    assert fresh.read()["requests_total"] == {REQUEST: 1}


def test_too_many_series_are_said_and_leave_the_last_copy(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    memory = make_memory()
    ours = os.dup(memory)
    writer, reader = SharedNumbers(memory), SharedNumbers(ours)
    writer.write(counted(1))
    monkeypatch.setattr(numbers, "HALF", 64)
    writer.write(counted(2))
    monkeypatch.undo()
    assert reader.read()["requests_total"] == {REQUEST: 1}
    assert "too many series" in caplog.text
