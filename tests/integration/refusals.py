"""What must be seen of every refusal: by the client, in the log, in the metrics, and at the upstream nothing."""

import hashlib

from tests.integration.certificates import Identity
from tests.integration.clients import Response
from tests.integration.harness import Observed, Tree, eventually
from tests.integration.upstream import RecordingUpstream
from tests.integration.whois import described

from mtlsproxy.reasons import Reason, status_of


def assert_fingerprint_logged(proxy: Observed, reason: Reason, der: bytes) -> Tree:
    """As assert_logged, of a certificate that cannot be read: nobody is named, but the DER's hash misleads nobody."""
    line = proxy.refusal()
    assert (line["level"], line["reason"]) == ("warning", reason)
    assert [line[key] for key in ("subject", "issuer", "serial")] == [None] * 3
    assert line["fingerprint"] == hashlib.sha256(der).hexdigest()
    return line


def assert_logged(proxy: Observed, reason: Reason, who: Identity | None, *, route: str | None = None) -> Tree:
    """One line says who was refused and why; it is returned. `who` None: nobody can be named."""
    line = proxy.refusal()
    assert (line["level"], line["listener"], line["client_ip"]) == ("warning", "internal", "127.0.0.1")
    assert line["reason"] == reason
    assert line["detail"]
    assert (line["route"], line["enforced"]) == (route, True)
    assert {key: line[key] for key in ("subject", "issuer", "serial", "fingerprint")} == described(who)
    return line


def assert_counted(proxy: Observed, reason: Reason, *, route: str = "") -> None:
    """The refusal is in rejections_total, once, and nothing else is."""
    assert proxy.series("rejections_total") == {("internal", route, reason, "true"): 1}


def assert_handshake_counted(proxy: Observed, reason: Reason, version: str) -> None:
    """The handshake is in handshakes_total, once, with its reason and the TLS version (`none`: not agreed yet)."""
    assert proxy.series("handshakes_total") == {("internal", reason, version): 1}


def assert_problem(answer: Response, reason: Reason, *, closes: bool | None = None) -> None:
    """The answer of RFC 9457 with the Proxy-Status of RFC 9209. closes: whether it says Connection: close."""
    status = status_of(reason)
    assert answer.status == status
    problem = answer.problem
    assert (problem["status"], problem["reason"]) == (status, reason)
    assert problem["type"]
    assert problem["title"]
    assert problem["request_id"] == answer.one("X-Request-Id")
    proxy_status = answer.one("Proxy-Status")
    assert proxy_status.startswith("mtlsproxy; error=")
    assert f'details="{reason}"' in proxy_status
    if closes is not None:
        assert (answer.values("Connection") == ["close"]) is closes


def assert_nothing_forwarded(upstream: RecordingUpstream) -> None:
    assert upstream.untouched, upstream.received


def assert_nobody_left(proxy: Observed) -> None:
    """Every connection is given back, also those that were refused."""
    eventually(lambda: not proxy.series("connections") and not proxy.series("requests_in_flight"))
