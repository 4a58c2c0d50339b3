"""All that was counted, in a dozen numbers: what the status page shows at a glance and its sparklines are made of."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mtlsproxy.telemetry.families import Distribution, Family, Labels
from mtlsproxy.telemetry.metrics import Metrics

Series = Sequence[tuple[Labels, float | Distribution]]


def counted(metrics: Metrics) -> tuple[Family, ...]:
    """The families that `traffic_of` reads."""
    return (
        metrics.requests_total,
        metrics.rejections_total,
        metrics.connections,
        metrics.requests_in_flight,
    )


def traffic_of(series: Mapping[str, Series]) -> dict[str, Any]:
    """series: of each family of `counted`, by its name; of one process, or the sums of several.

    `requests`: answered, by class of status (`2xx`); `refusals` and `let_pass` (what shadow mode let pass) by reason;
    `connections` and `in_flight` are of now, the others only grow.
    """
    requests: Counter[str] = Counter()
    refusals: Counter[str] = Counter()
    let_pass: Counter[str] = Counter()
    for (_, _, _, code, _), value in _numbers(series, "requests_total"):
        requests[f"{code[:1]}xx"] += value
    for (_, _, reason, enforced), value in _numbers(series, "rejections_total"):
        (refusals if enforced == "true" else let_pass)[str(reason)] += value  # a Reason is no plain key
    return {
        "requests": dict(sorted(requests.items())),
        "refusals": dict(refusals.most_common()),
        "let_pass": dict(let_pass.most_common()),
        "connections": sum(value for _, value in _numbers(series, "connections")),
        "in_flight": sum(value for _, value in _numbers(series, "requests_in_flight")),
    }


def _numbers(series: Mapping[str, Series], name: str) -> list[tuple[Labels, int]]:
    found = series.get(name, ())
    return [(labels, int(value)) for labels, value in found if not isinstance(value, Distribution) and value]
