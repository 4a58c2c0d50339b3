"""Many series come down to a few numbers, and none is left out."""

import orjson

from mtlsproxy.reasons import Reason
from mtlsproxy.telemetry.metrics import Metrics
from mtlsproxy.telemetry.traffic import counted, traffic_of


def test_what_was_counted_is_summed_over_listeners_and_routes() -> None:
    metrics = Metrics()
    for listener, code, value in (("a", "200", 3), ("b", "204", 2), ("a", "403", 1)):
        metrics.requests_total.cell(listener, "r", "GET", code, "HTTP/1.1").value = value
    metrics.rejections_total.cell("a", "", Reason.REVOKED, "true").value = 2
    metrics.rejections_total.cell("b", "r", "revoked", "true").value = 3
    metrics.rejections_total.cell("b", "r", "denied", "true").value = 7
    metrics.rejections_total.cell("b", "r", "not_allowed", "false").value = 4
    metrics.rejections_total.cell("b", "q", "not_allowed", "true").value = 0
    metrics.connections.watch(("a",), lambda: 5)
    metrics.connections.watch(("b",), lambda: 6)
    metrics.requests_in_flight.cell("a").value = 1
    found = traffic_of({family.name: family.read() for family in counted(metrics)})
    assert (
        orjson.loads(orjson.dumps(found))
        == found
        == {
            "requests": {"2xx": 5, "4xx": 1},
            "refusals": {"denied": 7, "revoked": 5},
            "let_pass": {"not_allowed": 4},
            "connections": 11,
            "in_flight": 1,
        }
    )


def test_before_anything_is_counted_there_is_nothing() -> None:
    assert traffic_of({}) == {"requests": {}, "refusals": {}, "let_pass": {}, "connections": 0, "in_flight": 0}
