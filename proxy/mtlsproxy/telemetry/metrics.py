"""Every metric of the proxy, named as the reference names it: `Metrics` is the table, one line of help each.

Labels take values from the configuration and from fixed sets only, so that no client can grow the number of series:
an unknown method is `OTHER`; a reason, result or source outside its set is a ValueError, because it is our mistake.
"""

from mtlsproxy.reasons import Reason
from mtlsproxy.telemetry.families import (
    Across,
    CounterFamily,
    Family,
    GaugeFamily,
    HistogramFamily,
    InfoFamily,
    Vocabulary,
)

PREFIX = "mtlsproxy_"

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
"""The methods of RFC 9110 §9.3 and RFC 5789: the registry's other names would let a client choose among dozens."""

_METHOD = Vocabulary(METHODS, other="OTHER")
_PROTOCOL = Vocabulary(frozenset({"HTTP/1.0", "HTTP/1.1", "HTTP/2"}), other="OTHER")
_VERSION = Vocabulary(frozenset({"TLSv1.2", "TLSv1.3", "none"}), other="none")
_REASON = Vocabulary(frozenset(Reason))
_HANDSHAKE_RESULT = Vocabulary(frozenset(Reason) | {"ok"})
_ENFORCED = Vocabulary(frozenset({"true", "false"}))
_OUTCOME = Vocabulary(frozenset({"success", "failure"}))
_CERTIFICATE_KIND = Vocabulary(frozenset({"server", "trust_anchor", "upstream_client"}))
_OCSP_RESULT = Vocabulary(frozenset({"good", "revoked", "unknown", "failure"}))
_REVOCATION_RESULT = Vocabulary(frozenset({"good", "revoked", "unknown"}))
_REVOCATION_SOURCE = Vocabulary(frozenset({"crl", "ocsp", "deny", "exempt", "none"}))

REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
HANDSHAKE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_DAY = 86400.0
REMAINING_SECONDS = (
    3600.0,
    6 * 3600.0,
    _DAY,
    3 * _DAY,
    7 * _DAY,
    14 * _DAY,
    30 * _DAY,
    60 * _DAY,
    90 * _DAY,
    180 * _DAY,
    365 * _DAY,
)

_CRL = ("truststore", "issuer", "key_id")
_SERVER = ("upstream", "server")


_ACROSS: dict[str, Across] = {
    "upstream_healthy": "min",
    "crl_next_update_timestamp_seconds": "min",
    "crl_last_success_timestamp_seconds": "max",
    "crl_entries": "max",
    "crl_refresh_total": "max",
    "certificate_not_after_timestamp_seconds": "max",
    "config_reloads_total": "one",
    "config_last_reload_success_timestamp_seconds": "one",
    "config_last_reload_successful": "one",
    "config_info": "one",
    "build_info": "one",
    "workers": "one",
    "worker_restarts_total": "one",
}
"""What is not added up over worker processes: all of them say the same of lists and files, which are fetched once."""


class Metrics:
    """All families, as attributes. Names here lack the prefix `mtlsproxy_`."""

    def __init__(self) -> None:
        self._declare_connections()
        self._declare_requests()
        self._declare_upstreams()
        self._declare_trust()
        self._declare_process()
        for family in self.families():
            family.across = _ACROSS.get(family.name, "sum")

    def families(self) -> tuple[Family, ...]:
        """Every family in the order of declaration."""
        return tuple(value for value in vars(self).values() if isinstance(value, Family))

    def _declare_connections(self) -> None:
        self.handshakes_total = CounterFamily(
            "handshakes_total",
            "TLS handshakes, counted when they succeed or fail; result is ok or the reason of the failure.",
            ("listener", "result", "version"),
            {"result": _HANDSHAKE_RESULT, "version": _VERSION},
        )
        self.handshake_duration_seconds = HistogramFamily(
            "handshake_duration_seconds",
            "Seconds from the complete ClientHello to the end of the handshake, successful or not.",
            ("listener",),
            HANDSHAKE_SECONDS,
        )
        self.connections = GaugeFamily("connections", "Client connections that are open now.", ("listener",))
        self.connections_total = CounterFamily(
            "connections_total", "Client connections accepted, before any handshake.", ("listener",)
        )
        self.received_bytes_total = CounterFamily(
            "received_bytes_total", "Bytes received from clients, as they came over the network.", ("listener",)
        )
        self.sent_bytes_total = CounterFamily(
            "sent_bytes_total", "Bytes sent to clients, as they went over the network.", ("listener",)
        )

    def _declare_requests(self) -> None:
        self.rejections_total = CounterFamily(
            "rejections_total",
            "Refusals, in the handshake or after it; enforced is false where shadow mode let the request pass.",
            ("listener", "route", "reason", "enforced"),
            {"reason": _REASON, "enforced": _ENFORCED},
        )
        self.requests_total = CounterFamily(
            "requests_total",
            "Requests answered, by the proxy or by an upstream, counted when the answer ends.",
            ("listener", "route", "method", "code", "protocol"),
            {"method": _METHOD, "protocol": _PROTOCOL},
        )
        self.request_duration_seconds = HistogramFamily(
            "request_duration_seconds",
            "Seconds from the first byte of a request to the end of its answer.",
            ("route",),
            REQUEST_SECONDS,
        )
        self.requests_in_flight = GaugeFamily(
            "requests_in_flight", "Requests begun whose answer has not ended.", ("listener",)
        )

    def _declare_upstreams(self) -> None:
        self.upstream_response_duration_seconds = HistogramFamily(
            "upstream_response_duration_seconds",
            "Seconds from sending a request to an upstream to the end of its answer's headers.",
            ("upstream",),
            REQUEST_SECONDS,
        )
        self.upstream_connections = GaugeFamily(
            "upstream_connections", "Connections to an upstream server, in use or pooled.", _SERVER
        )
        self.upstream_healthy = GaugeFamily(
            "upstream_healthy", "1 while health check and circuit breaker let a server be used, else 0.", _SERVER
        )
        self.upstream_failures_total = CounterFamily(
            "upstream_failures_total",
            "Failed attempts at a server: connect, timeout, or a connection that ended without an answer.",
            _SERVER,
        )
        self.upstream_retries_total = CounterFamily(
            "upstream_retries_total", "Attempts after the first of a request, by the server they went to.", _SERVER
        )

    def _declare_trust(self) -> None:
        self.crl_next_update_timestamp_seconds = GaugeFamily(
            "crl_next_update_timestamp_seconds", "nextUpdate of the CRL in use, in Unix seconds.", _CRL
        )
        self.crl_last_success_timestamp_seconds = GaugeFamily(
            "crl_last_success_timestamp_seconds", "When a CRL was last loaded and verified, in Unix seconds.", _CRL
        )
        self.crl_entries = GaugeFamily("crl_entries", "Revoked certificates that the CRL in use lists.", _CRL)
        self.crl_refresh_total = CounterFamily(
            "crl_refresh_total",
            "Attempts to load a CRL, at start and later; issuer and key_id are empty where none could be read.",
            (*_CRL, "result"),
            {"result": _OUTCOME},
        )
        self.ocsp_requests_total = CounterFamily(
            "ocsp_requests_total",
            "OCSP requests sent, counted when they are answered or given up.",
            ("truststore", "result"),
            {"result": _OCSP_RESULT},
        )
        self.revocation_decisions_total = CounterFamily(
            "revocation_decisions_total",
            "Revocation judgements on clients; source is what decided.",
            ("truststore", "result", "source"),
            {"result": _REVOCATION_RESULT, "source": _REVOCATION_SOURCE},
        )
        self.certificate_not_after_timestamp_seconds = GaugeFamily(
            "certificate_not_after_timestamp_seconds",
            "notAfter of the certificates that the configuration names, in Unix seconds.",
            ("kind", "subject", "fingerprint"),
            {"kind": _CERTIFICATE_KIND},
        )
        self.client_certificate_remaining_seconds = HistogramFamily(
            "client_certificate_remaining_seconds",
            "Seconds until notAfter of the client certificates accepted, observed once a handshake.",
            ("truststore",),
            REMAINING_SECONDS,
        )

    def _declare_process(self) -> None:
        self.config_reloads_total = CounterFamily(
            "config_reloads_total", "Reloads of the configuration.", ("result",), {"result": _OUTCOME}
        )
        self.config_last_reload_success_timestamp_seconds = GaugeFamily(
            "config_last_reload_success_timestamp_seconds",
            "When the configuration in use was loaded, in Unix seconds.",
        )
        self.config_last_reload_successful = GaugeFamily(
            "config_last_reload_successful",
            "1, or 0 where the last reload was refused: then files and what is in force differ.",
        )
        self.config_info = InfoFamily("config_info", "The configuration in use, by its hash.", ("hash",))
        self.log_lines_dropped_total = CounterFamily(
            "log_lines_dropped_total", "Log lines lost because their sink was slow, full or broken.", ("log",)
        )
        self.build_info = InfoFamily("build_info", "Versions of the running program.", ("version", "python", "openssl"))
        self.workers = GaugeFamily("workers", "Worker processes that run.")
        self.worker_restarts_total = CounterFamily(
            "worker_restarts_total", "Worker processes started again after they ended unasked."
        )
