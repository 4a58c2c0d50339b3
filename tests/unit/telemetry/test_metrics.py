"""Families count in plain integers, are named to the letter, and no client can grow them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlsproxy.reasons import Reason
from mtlsproxy.telemetry.families import Histogram
from mtlsproxy.telemetry.metrics import Metrics

REFERENCE = {
    "handshakes_total": ("counter", "listener result version"),
    "handshake_duration_seconds": ("histogram", "listener"),
    "rejections_total": ("counter", "listener route reason enforced"),
    "requests_total": ("counter", "listener route method code protocol"),
    "request_duration_seconds": ("histogram", "route"),
    "upstream_response_duration_seconds": ("histogram", "upstream"),
    "connections": ("gauge", "listener"),
    "connections_total": ("counter", "listener"),
    "requests_in_flight": ("gauge", "listener"),
    "received_bytes_total": ("counter", "listener"),
    "sent_bytes_total": ("counter", "listener"),
    "upstream_connections": ("gauge", "upstream server"),
    "upstream_healthy": ("gauge", "upstream server"),
    "upstream_failures_total": ("counter", "upstream server"),
    "upstream_retries_total": ("counter", "upstream server"),
    "crl_next_update_timestamp_seconds": ("gauge", "truststore issuer key_id"),
    "crl_last_success_timestamp_seconds": ("gauge", "truststore issuer key_id"),
    "crl_entries": ("gauge", "truststore issuer key_id"),
    "crl_refresh_total": ("counter", "truststore issuer key_id result"),
    "ocsp_requests_total": ("counter", "truststore result"),
    "revocation_decisions_total": ("counter", "truststore result source"),
    "certificate_not_after_timestamp_seconds": ("gauge", "kind subject fingerprint"),
    "client_certificate_remaining_seconds": ("histogram", "truststore"),
    "config_reloads_total": ("counter", "result"),
    "config_last_reload_success_timestamp_seconds": ("gauge", ""),
    "config_last_reload_successful": ("gauge", ""),
    "config_info": ("info", "hash"),
    "log_lines_dropped_total": ("counter", "log"),
    "build_info": ("info", "version python openssl"),
    "workers": ("gauge", ""),
    "worker_restarts_total": ("counter", ""),
}


def test_every_family_of_the_reference_is_declared_to_the_letter_and_no_other() -> None:
    found = {family.name: (family.kind, " ".join(family.labels)) for family in Metrics().families()}
    assert found == REFERENCE


def test_families_are_attributes_under_their_own_name() -> None:
    metrics = Metrics()
    assert all(getattr(metrics, family.name) is family for family in metrics.families())


def test_nothing_is_exported_before_it_is_touched() -> None:
    assert [family.name for family in Metrics().families() if family.read()] == []


def test_a_cell_is_made_once_and_counts() -> None:
    family = Metrics().handshakes_total
    cell = family.cell("internal", "ok", "TLSv1.3")
    cell.value += 1
    family.cell("internal", "ok", "TLSv1.3").value += 1
    assert family.cell("internal", "ok", "TLSv1.3") is cell
    assert family.read() == [(("internal", "ok", "TLSv1.3"), 2)]


@pytest.mark.parametrize(
    ("method", "label"), [("GET", "GET"), ("PATCH", "PATCH"), ("get", "OTHER"), ("PROPFIND", "OTHER"), ("", "OTHER")]
)
def test_a_method_is_one_of_a_fixed_set_or_other(method: str, label: str) -> None:
    family = Metrics().requests_total
    family.cell("internal", "orders", method, "200", "HTTP/1.1").value += 1
    assert [labels[2] for labels, _ in family.read()] == [label]


def test_a_client_that_makes_up_methods_and_protocols_makes_one_series() -> None:
    family = Metrics().requests_total
    for n in range(1000):
        family.cell("internal", "orders", f"M{n}", "501", f"HTTP/{n}.7").value += 1
    assert family.read() == [(("internal", "orders", "OTHER", "501", "OTHER"), 1000)]


def test_a_version_that_was_never_agreed_is_none() -> None:
    family = Metrics().handshakes_total
    family.cell("internal", "protocol_error", "unknown").value += 1
    assert family.read() == [(("internal", "protocol_error", "none"), 1)]


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_is_a_label(reason: Reason) -> None:
    metrics = Metrics()
    metrics.rejections_total.cell("internal", "", reason, "true").value += 1
    metrics.handshakes_total.cell("internal", reason, "TLSv1.2").value += 1
    assert metrics.rejections_total.read() == [(("internal", "", reason.value, "true"), 1)]


def test_labels_outside_their_fixed_set_are_our_mistake_and_refused() -> None:
    metrics = Metrics()
    with pytest.raises(ValueError, match="reason cannot be 'because'"):
        metrics.rejections_total.cell("internal", "", "because", "true")
    with pytest.raises(ValueError, match="enforced cannot be 'True'"):
        metrics.rejections_total.cell("internal", "", "revoked", "True")
    with pytest.raises(ValueError, match="source"):
        metrics.revocation_decisions_total.cell("partners", "good", "rumour")
    assert metrics.rejections_total.read() == []


@pytest.mark.parametrize("labels", [(), ("a",), ("a", "b", "c")])
def test_the_wrong_number_of_labels_is_refused(labels: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="takes the labels"):
        Metrics().upstream_healthy.cell(*labels)


def test_a_watched_gauge_is_read_at_each_scrape() -> None:
    family = Metrics().connections
    present = [object()]
    family.watch(("internal",), lambda: len(present))
    assert family.read() == [(("internal",), 1)]
    present.clear()
    assert family.read() == [(("internal",), 0)]
    family.remove("internal")
    assert family.read() == []


def test_replacing_leaves_exactly_the_new_series_and_the_watched_ones() -> None:
    family = Metrics().crl_entries
    family.watch(("a", "CN=ca", "00"), lambda: 7)
    family.set("a", "CN=old", "01", value=3)
    family.replace({("a", "CN=new", "02"): 4, ("b", "CN=new", "02"): 5})
    assert dict(family.read()) == {("a", "CN=ca", "00"): 7, ("a", "CN=new", "02"): 4, ("b", "CN=new", "02"): 5}


def test_a_replacement_with_a_wrong_label_changes_nothing() -> None:
    family = Metrics().certificate_not_after_timestamp_seconds
    family.set("server", "CN=a", "00", value=1)
    with pytest.raises(ValueError, match="kind"):
        family.replace({("server", "CN=b", "01"): 2, ("client", "CN=c", "02"): 3})
    assert family.read() == [(("server", "CN=a", "00"), 1)]


def test_info_states_one_set_of_facts() -> None:
    family = Metrics().config_info
    family.state("aa")
    family.state("bb")
    assert family.read() == [(("bb",), 1)]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(min_value=0, max_value=1e6), max_size=30),
    st.lists(st.floats(min_value=0, max_value=1e6), min_size=1, max_size=8, unique=True).map(sorted),
)
def test_a_histogram_counts_each_value_in_the_first_bucket_that_holds_it(
    values: list[float], bounds: list[float]
) -> None:
    histogram = Histogram(tuple(bounds))
    for value in values:
        histogram.observe(value)
    cumulative = [sum(histogram.counts[: n + 1]) for n in range(len(bounds))]
    assert cumulative == [sum(value <= bound for value in values) for bound in bounds]
    assert sum(histogram.counts) == len(values)
    assert histogram.sum == pytest.approx(sum(values))


def test_a_value_on_a_bound_belongs_below_it() -> None:
    histogram = Histogram((1.0, 2.0))
    histogram.observe(1.0)
    histogram.observe(2.5)
    assert histogram.counts == [1, 0, 1]


def test_a_reading_does_not_change_when_counting_goes_on() -> None:
    family = Metrics().request_duration_seconds
    histogram = family.histogram("orders")
    histogram.observe(0.5)
    before = family.read()
    histogram.observe(0.5)
    assert [sum(seen.counts) for _, seen in before] == [1]
    assert family.histogram("orders") is histogram
