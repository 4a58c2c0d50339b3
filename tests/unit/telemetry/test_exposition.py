"""What a scrape returns is what Prometheus reads, in both formats."""

import gzip
import shutil
import subprocess

import prometheus_client.openmetrics.parser as openmetrics_parser
import prometheus_client.parser as text_parser
import pytest

from mtlsproxy.telemetry.exposition import Exposition, read, render
from mtlsproxy.telemetry.metrics import PREFIX, Metrics

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


def touched() -> Metrics:
    """Every family with a series, so that none escapes the parsers."""
    metrics = Metrics()
    fixed = {"result": "success", "reason": "revoked", "enforced": "true", "source": "crl", "kind": "server"}
    for family in metrics.families():
        values = [fixed.get(label, f"a {label}") for label in family.labels]
        if family.name == "handshakes_total":
            values[1] = "ok"
        if family.name in ("ocsp_requests_total", "revocation_decisions_total"):
            values[1] = "good"
        if family.kind == "histogram":
            family.histogram(*values).observe(0.02)
        elif family.kind == "info":
            family.state(*values)
        else:
            family.cell(*values).value = 3
    return metrics


def rendered(metrics: Metrics, accept: str = "", accept_encoding: str = "") -> Exposition:
    return render(read(metrics), accept, accept_encoding)


def samples(exposition: Exposition, accept: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    parser = openmetrics_parser if accept else text_parser
    families = parser.text_string_to_metric_families(exposition.body.decode("utf-8"))
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_every_family_is_read_back_under_its_name(accept: str) -> None:
    metrics = touched()
    names = {name for name, _ in samples(rendered(metrics, accept), accept)}
    for family in metrics.families():
        expected = {"_bucket", "_sum", "_count"} if family.kind == "histogram" else {""}
        assert {PREFIX + family.name + suffix for suffix in expected} <= names


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_counters_gauges_and_buckets_carry_their_values(accept: str) -> None:
    metrics = Metrics()
    metrics.connections.watch(("internal",), lambda: 3)
    metrics.connections_total.cell("internal").value = 4
    histogram = metrics.request_duration_seconds.histogram("orders")
    histogram.observe(0.001)
    histogram.observe(1000)
    found = samples(rendered(metrics, accept), accept)
    assert found["mtlsproxy_connections", frozenset({("listener", "internal")})] == 3
    assert found["mtlsproxy_connections_total", frozenset({("listener", "internal")})] == 4
    orders = ("route", "orders")
    assert found["mtlsproxy_request_duration_seconds_bucket", frozenset({orders, ("le", "0.001")})] == 1
    assert found["mtlsproxy_request_duration_seconds_bucket", frozenset({orders, ("le", "60.0")})] == 1
    assert found["mtlsproxy_request_duration_seconds_bucket", frozenset({orders, ("le", "+Inf")})] == 2
    assert found["mtlsproxy_request_duration_seconds_count", frozenset({orders})] == 2


def test_the_text_format_has_help_and_type_for_every_family() -> None:
    metrics = Metrics()
    lines = rendered(metrics).body.decode("utf-8").splitlines()
    for family in metrics.families():
        kind = "gauge" if family.kind == "info" else family.kind
        assert f"# TYPE {PREFIX}{family.name} {kind}" in lines
        assert f"# HELP {PREFIX}{family.name} {family.help}" in lines


def test_process_numbers_come_along() -> None:
    found = samples(rendered(Metrics()), "")
    assert found["process_resident_memory_bytes", frozenset()] > 0
    assert found["process_open_fds", frozenset()] > 0


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_label_values_cannot_break_out_of_their_line(accept: str) -> None:
    metrics = Metrics()
    subject = 'CN=a"} 1\nmtlsproxy_workers 99\\'
    metrics.certificate_not_after_timestamp_seconds.set("server", subject, "00", value=5)
    found = samples(rendered(metrics, accept), accept)
    labels = frozenset({("kind", "server"), ("subject", subject), ("fingerprint", "00")})
    assert found["mtlsproxy_certificate_not_after_timestamp_seconds", labels] == 5
    assert not any(name == "mtlsproxy_workers" for name, _ in found)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        (OPENMETRICS, "application/openmetrics-text; version=1.0.0"),
    ],
)
def test_the_scraper_chooses_the_format(accept: str, content_type: str) -> None:
    assert rendered(Metrics(), accept).content_type.startswith(content_type)


def test_gzip_only_for_those_who_take_it() -> None:
    metrics = Metrics()
    metrics.workers.set(value=1)
    packed, plain = rendered(metrics, "", "deflate, gzip;q=0.5"), rendered(metrics, "", "identity")
    assert (packed.encoding, plain.encoding) == ("gzip", None)
    assert b"mtlsproxy_workers 1.0\n" in gzip.decompress(packed.body)
    assert b"mtlsproxy_workers 1.0\n" in plain.body


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian: prometheus) is not installed")
def test_promtool_has_nothing_to_object() -> None:
    body = rendered(touched()).body
    done = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, check=False, timeout=30)
    assert (done.returncode, done.stderr + done.stdout) == (0, b"")
