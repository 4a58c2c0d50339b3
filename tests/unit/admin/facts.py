"""What a status source says of a proxy that has seen something of everything."""

from datetime import UTC, datetime, timedelta
from typing import Any

from mtlsproxy.admin.history import History
from mtlsproxy.admin.view.facts import Facts

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
HOSTILE = "<script>alert(1)</script>\u202e\x07&\"'"

Tree = dict[str, Any]


def crl(state: str = "fresh", seconds_left: int = 3600, **what: Any) -> Tree:
    return {
        "issuer": "CN=CA",
        "source": "/etc/crl.pem",
        "number": 7,
        "this_update": NOW - timedelta(days=1),
        "next_update": NOW + timedelta(seconds=seconds_left),
        "entries": 1234,
        "state": state,
        "seconds_left": seconds_left,
        "delta": None,
        **what,
    }


def store(name: str = "partners", **what: Any) -> Tree:
    return {
        "name": name,
        "trust_anchors": [{"subject": "CN=Root", "not_after": NOW + timedelta(days=900), "fingerprint_sha256": "ab"}],
        "revocation": "hard_fail",
        "crls": [crl()],
        "crl_urls": [],
        "crls_missing": [],
        "crls_pending": 0,
        "ocsp": None,
        "deny": {"configured": 0, "file": 0, "api": 0},
        **what,
    }


def status(**what: Any) -> Tree:
    return {
        "version": "1",
        "started": NOW - timedelta(hours=5),
        "draining": False,
        "configuration": {
            "file": "/etc/mtlsproxy.yaml",
            "sha256": "ab" * 32,
            "generation": 4,
            "last_reload": None,
            "warnings": [],
        },
        "native_services_missing": None,
        "listeners": [
            {
                "name": "internal",
                "addresses": ["127.0.0.1:8443"],
                "connections": 3,
                "certificates": [{"subject": "CN=proxy", "not_after": NOW + timedelta(days=2)}],
                "truststores": ["partners"],
            }
        ],
        "truststores": [store()],
        "upstreams": [
            {
                "name": "orders",
                "servers": [server("http://127.0.0.1:1"), server("http://127.0.0.1:2", "its breaker is open")],
                "tls": None,
            }
        ],
        **what,
    }


def server(url: str, why_not: str | None = None) -> Tree:
    return {"url": url, "usable": why_not is None, "why_not": why_not, "connections": 1, "idle": 1, "failures": 0}


def refusal(number: int = 1, **what: Any) -> Tree:
    return {
        "time": f"2030-01-01T11:59:{number % 60:02d}.000Z",
        "listener": "internal",
        "client_ip": "192.0.2.7",
        "subject": "CN=alice",
        "issuer": "CN=CA",
        "fingerprint": "ab" * 32,
        "principal": "alice@example.org",
        "method": "GET",
        "path": "/orders",
        "status": 403,
        "reason": "revoked",
        "route": "orders",
        "request_id": f"r{number}",
        "detail": "it is on the CRL",
        "enforced": True,
        **what,
    }


def client(name: str = "alice", **what: Any) -> Tree:
    return {
        "identity": f"{name}@example.org",
        "subject": f"CN={name}",
        "issuer": "CN=CA",
        "serial": "0A",
        "fingerprint": name,
        "truststore": "partners",
        "not_after": "2030-02-01T00:00:00.000Z",
        "first_seen": "2030-01-01T11:00:00.000Z",
        "last_seen": "2030-01-01T11:58:00.000Z",
        "connections": 3,
        "open": 0,
        "routes": ["orders"],
        "more_routes": False,
        **what,
    }


def traffic(**what: Any) -> Tree:
    return {"requests": {}, "refusals": {}, "let_pass": {}, "connections": 0, "in_flight": 0, **what}


def facts(**what: Any) -> Facts:
    counted = what.pop("traffic", traffic(requests={"2xx": 1000, "4xx": 2}, refusals={"revoked": 2}))
    known: Tree = {
        "now": NOW,
        "url": "http://127.0.0.1:9901",
        "ready": True,
        "reasons": [],
        "status": status(),
        "rejections": [refusal()],
        "clients": [client()],
        "more_clients": False,
        "traffic": counted,
        "course": History(None, lambda: 0.0).course(counted),  # type: ignore[arg-type]
    }
    return Facts(**(known | what))
