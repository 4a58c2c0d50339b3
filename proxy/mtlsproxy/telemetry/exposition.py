"""Metrics as Prometheus reads them. Importing this costs 100 ms of prometheus_client: only the admin server does.

A scrape is two steps: `read` copies the numbers on the event loop, `render` turns them into text in any thread.
"""

import gzip
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from mtlsproxy.telemetry.families import Distribution, Family, Labels
from mtlsproxy.telemetry.metrics import PREFIX, Metrics


@dataclass(frozen=True, slots=True)
class Reading:
    """One family and the values its series had."""

    family: Family
    series: Sequence[tuple[Labels, float | Distribution]]


@dataclass(frozen=True, slots=True)
class Exposition:
    """A rendered scrape: `encoding` is "gzip" or None."""

    content_type: str
    encoding: str | None
    body: bytes


def read(metrics: Metrics) -> tuple[Reading, ...]:
    """Copy every value. Call it on the event loop, which is the only writer."""
    return tuple(Reading(family, family.read()) for family in metrics.families())


class ReadingsCollector(Collector):
    """The custom collector that prometheus_client's encoders ask."""

    def __init__(self, readings: Sequence[Reading], *, openmetrics: bool) -> None:
        self._readings = readings
        self._openmetrics = openmetrics

    def collect(self) -> Iterator[Metric]:
        clashing = {f"{each.family.name}_total" for each in self._readings if each.family.kind == "gauge"}
        for reading in self._readings:
            unknown = self._openmetrics and reading.family.name in clashing
            yield _metric(reading, "unknown" if unknown else reading.family.kind)
        # /proc is where the standard process_* numbers come from; elsewhere it yields none.
        yield from _process_metrics()


def render(readings: Sequence[Reading], accept: str, accept_encoding: str) -> Exposition:
    """Encode for a scraper's Accept and Accept-Encoding headers ("" where it sent none)."""
    encoder, content_type = choose_encoder(accept)
    openmetrics = content_type.startswith("application/openmetrics-text")
    body = encoder(ReadingsCollector(readings, openmetrics=openmetrics))
    if gzip_accepted(accept_encoding):
        return Exposition(content_type, "gzip", gzip.compress(body, compresslevel=5))
    return Exposition(content_type, None, body)


def _process_metrics() -> Iterable[Metric]:
    return ProcessCollector(registry=None).collect()


def _metric(reading: Reading, kind: str) -> Metric:
    """NOTE: OpenMetrics has no room for a gauge `connections` beside a counter `connections_total`, since a counter's
    family lacks the suffix there; such a counter goes out as `unknown`, with the same sample name."""
    family = reading.family
    name = PREFIX + family.name
    suffix = {"counter": "_total", "info": "_info"}.get(kind, "")
    metric = Metric(name.removesuffix(suffix), family.help, kind)
    for values, value in reading.series:
        labels = dict(zip(family.labels, values, strict=True))
        if isinstance(value, Distribution):
            _add_histogram(metric, labels, value)
        else:
            metric.add_sample(name, labels, value)
    return metric


def _add_histogram(metric: Metric, labels: dict[str, str], value: Distribution) -> None:
    bounds = [*map(floatToGoString, value.bounds), "+Inf"]
    running = list(accumulate(value.counts))
    for bound, count in zip(bounds, running, strict=True):
        metric.add_sample(f"{metric.name}_bucket", {**labels, "le": bound}, count)
    metric.add_sample(f"{metric.name}_count", labels, running[-1])
    metric.add_sample(f"{metric.name}_sum", labels, value.sum)
