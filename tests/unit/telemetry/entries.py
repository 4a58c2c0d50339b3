"""Access log entries for tests."""

from typing import Any

from mtlsproxy.telemetry.access_log import AccessEntry, connection_fragment

CONNECTION_FIELDS: dict[str, Any] = {
    "listener": "internal",
    "client_ip": "192.0.2.7",
    "client_port": 50123,
    "tls_version": "TLSv1.3",
    "cipher": "TLS_AES_256_GCM_SHA384",
    "resumed": False,
    "subject": "CN=alice,O=Example",
    "issuer": "CN=Client CA",
    "serial": "0A1B",
    "fingerprint": "ab" * 32,
    "san": ["URI:spiffe://example.org/alice", "DNS:alice.example"],
    "truststore": "partners",
    "principal": "spiffe://example.org/alice",
}
FRAGMENT = connection_fragment(**CONNECTION_FIELDS)


def entry(
    *,
    time: float = 1_900_000_000.25,
    fragment: bytes = FRAGMENT,
    method: str | None = "GET",
    host: str | None = "orders.internal",
    path: bytes | None = b"/orders/1",
    status: int | None = 200,
    reason: str | None = None,
    request_id: str | None = "r-1",
    upstream: str | None = "orders-upstream",
) -> AccessEntry:
    return (
        *(time, fragment, method, host, path, "HTTP/1.1", status, reason, "orders", upstream),
        *(12, 3456, 0.0123456, 0.001, request_id),
    )
