"""The check of expressions finds each mistake that it is there for."""

import pytest
from tests.unit.deploy.promql import assert_exported

RECORDED = {"job_route:mtlsproxy_requests:rate5m": {"job", "route"}}

GOOD = [
    'sum by (job, route) (rate(mtlsproxy_requests_total{code=~"5..", method="GET"}[5m]))',
    'sum by (truststore, le) (rate(mtlsproxy_client_certificate_remaining_seconds_bucket{le="604800.0"}[5m]))',
    'job_route:mtlsproxy_requests:rate5m{route="orders"} > 1',
    'mtlsproxy_ocsp_requests_total{truststore="partners"}',
]

BAD = {
    "a metric that nobody exports": "mtlsproxy_request_total",
    "a series that no rule records": "job_route:mtlsproxy_requests:rate1m",
    "no metric at all": "time() > 3",
    "a histogram without its part": "mtlsproxy_handshake_duration_seconds",
    "a counter with a histogram's part": "mtlsproxy_requests_total_bucket",
    "a label in a selector": 'mtlsproxy_requests_total{status="200"}',
    "a label in a selector by expression": 'mtlsproxy_requests_total{status=~"2.."}',
    "a label of another metric": 'mtlsproxy_requests_total{upstream="orders"}',
    "a label after by": "sum by (service) (mtlsproxy_requests_total)",
    "a value outside its set": 'mtlsproxy_rejections_total{reason="expirred"}',
    "a bucket that is none": 'mtlsproxy_client_certificate_remaining_seconds_bucket{le="604801.0"}',
    "a bucket that is written otherwise": 'mtlsproxy_client_certificate_remaining_seconds_bucket{le="2592000.0"}',
    "a label that a recorded series has lost": "sum by (method) (job_route:mtlsproxy_requests:rate5m)",
}


@pytest.mark.parametrize("expr", GOOD)
def test_what_exists_passes(expr: str) -> None:
    assert_exported(expr, RECORDED)


@pytest.mark.parametrize("expr", BAD.values(), ids=BAD)
def test_it_finds(expr: str) -> None:
    with pytest.raises((AssertionError, ValueError)):
        assert_exported(expr, RECORDED)
