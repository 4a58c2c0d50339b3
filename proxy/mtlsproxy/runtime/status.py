"""What the admin listener shows of the running proxy."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import mtlsproxy
from mtlsproxy.revocation.combined import CombinedCrl
from mtlsproxy.runtime.control import Control
from mtlsproxy.runtime.feeds import Feeds
from mtlsproxy.runtime.lasting import ends_of, lists_of, missing_from, tries_of
from mtlsproxy.runtime.reload import Outcome
from mtlsproxy.telemetry.clients import MAX_CLIENTS, as_dicts, merged
from mtlsproxy.telemetry.refusals import MAX_RECENT, OnEvent
from mtlsproxy.telemetry.traffic import counted, traffic_of
from mtlsproxy.tls import native
from mtlsproxy.verdict.trust import Trust

if TYPE_CHECKING:
    from mtlsproxy.fetch.ocsp_client import OcspClient
    from mtlsproxy.runtime.server import Proxy
    from mtlsproxy.telemetry.exposition import Reading


class Status:
    """The admin's `StatusSource`. control: what it may change."""

    def __init__(self, proxy: "Proxy") -> None:
        self._proxy = proxy
        self.control = Control(proxy)
        self._started = datetime.now(UTC)

    async def readings(self) -> "Sequence[Reading]":
        from mtlsproxy.telemetry.exposition import read  # loads prometheus_client, for whoever is scraped

        return read(self._proxy.metrics)

    async def rejections(self, limit: int = MAX_RECENT) -> list[dict[str, Any]]:
        return self._proxy.logs.refusals.recent(limit)

    async def rejection(self, request_id: str) -> dict[str, Any] | None:
        return self._proxy.logs.refusals.find(request_id)

    async def clients(self, limit: int = MAX_CLIENTS) -> list[dict[str, Any]]:
        known = self._proxy.clients.latest(limit)
        # Ten thousand take longer than a request may wait.
        return merged([await asyncio.to_thread(as_dicts, known, time.time())])

    async def traffic(self) -> dict[str, Any]:
        return traffic_of({family.name: family.read() for family in counted(self._proxy.metrics)})

    async def watch(self, on_event: OnEvent) -> Callable[[], None]:
        return self._proxy.logs.refusals.watch(on_event)

    async def readiness(self, listener: str | None) -> tuple[bool, list[str]]:
        """KeyError: there is no such listener."""
        proxy = self._proxy
        if listener is not None and listener not in proxy.listeners:
            raise KeyError(listener)
        why = []
        if not proxy.serving:
            why.append("starting: nothing listens yet")
        if proxy.draining:
            why.append("draining: the proxy is about to stop")
        now = datetime.now(UTC)
        names = [listener] if listener is not None else list(proxy.listeners)
        closed = {name: self._why_closed(name, now) for name in names}
        # One listener that can serve keeps the process in rotation; the others say so when they are asked by name.
        if closed and all(closed.values()):
            why += [f"listener {name}: {reason}" for name, reason in closed.items()]
        return not why, why

    async def revocation(self, listener: str | None) -> list[dict[str, Any]]:
        """KeyError: there is no such listener."""
        proxy, now = self._proxy, datetime.now(UTC)
        listeners = proxy.listeners.values() if listener is None else [proxy.listeners[listener]]
        names = dict.fromkeys(name for each in listeners for name in each.config.client_auth.truststores)
        trusts = proxy.snapshot.material.trusts
        return [end for name in names for end in ends_of(trusts[name], now)]

    def _why_closed(self, name: str, now: datetime) -> str:
        """Why no truststore of the listener could accept anybody; "" when one could."""
        trusts = self._proxy.snapshot.material.trusts
        reasons = [why_useless(trusts[t], now) for t in self._proxy.listeners[name].config.client_auth.truststores]
        return "" if not all(reasons) else "; ".join(reasons)

    async def status(self) -> Mapping[str, Any]:
        proxy, now = self._proxy, datetime.now(UTC)
        material = proxy.snapshot.material
        return {
            "version": mtlsproxy.__version__,
            "started": self._started,
            "draining": proxy.draining,
            "configuration": {
                "file": material.loaded.document.file,
                "sha256": material.loaded.sha256,
                "generation": proxy.snapshot.generation,
                "last_reload": _outcome(proxy.reloader.last),
                "warnings": [str(warning) for warning in material.warnings],
            },
            "native_services_missing": native.unavailable_because(),
            "listeners": [
                {
                    "name": name,
                    "addresses": [f"{host}:{port}" for host, port in listener.addresses],
                    "connections": listener.acceptor.connections,
                    "requests_in_flight": listener.service.in_flight.value,
                    "certificates": [
                        {"subject": c.leaf.subject, "not_after": c.leaf.not_after} for c in material.credentials[name]
                    ],
                    "truststores": list(listener.config.client_auth.truststores),
                }
                for name, listener in proxy.listeners.items()
            ],
            "truststores": [_truststore(trust, proxy.feeds, now) for name, trust in material.trusts.items()],
            "upstreams": [
                {
                    "name": upstream.name,
                    "servers": [
                        {
                            "url": s.url,
                            "usable": s.may_be_asked,
                            "why_not": None if s.may_be_asked else s.why_not,
                            "connections": s.open,
                            "idle": len(s.idle),
                            "failures": s.failures.value,
                        }
                        for s in upstream.servers
                    ],
                    "tls": self._upstream_tls(upstream.name, now),
                }
                for upstream in proxy.pools.upstreams.values()
            ],
        }

    def _upstream_tls(self, upstream: str, now: datetime) -> dict[str, Any] | None:
        """What its servers are judged by, and what they are shown; None without TLS."""
        material = self._proxy.snapshot.material
        trust, own = material.servers.get(upstream), material.client_credentials.get(upstream)
        if trust is None:
            return None
        judged_by = _truststore(trust, self._proxy.feeds, now)
        return {
            **{key: value for key, value in judged_by.items() if key not in ("name", "deny")},
            "certificate": None if own is None else {"subject": own.leaf.subject, "not_after": own.leaf.not_after},
        }


def _outcome(last: Outcome | None) -> dict[str, Any] | None:
    return None if last is None else {"at": last.at, "ok": last.ok, "errors": list(last.errors)}


def why_useless(trust: Trust, now: datetime) -> str:
    """Why a truststore could accept nobody at all now; "" when it could accept someone."""
    anchors = trust.truststore.anchors
    if all(anchor.not_after < now or anchor.not_before > now for anchor in anchors):
        return f"no trust anchor of {trust.name} is valid now"
    # OCSP and distribution points are asked when a client comes: only then they can be known to fail. One CA that let
    # its list end must not turn away the clients of all others.
    if trust.revocation.mode != "hard_fail" or trust.ocsp is not None or trust.points is not None:
        return ""
    lists = _lists_for_all(trust)
    if not lists:
        return f"no CRL of {trust.name} is here yet, and its mode is hard_fail"
    ends = [combined.in_force(now).next_update for combined in lists]
    if any(end is not None and now - end < trust.revocation.grace for end in ends):
        return ""
    return f"every CRL of {trust.name} has ended, and its mode is hard_fail"


def _lists_for_all(trust: Trust) -> tuple[CombinedCrl, ...]:
    """Lists of which one at least must be fresh. Of a whole chain, one certificate is its trust anchor's own issue; of
    a leaf alone nobody knows who issued it before it comes."""
    if trust.revocation.scope == "leaf":
        return trust.crls.lists
    return tuple(found for anchor in trust.truststore.anchors for found in trust.crls.signed_by(anchor).lists)


def _truststore(trust: Trust, feeds: Feeds, now: datetime) -> dict[str, Any]:
    return {
        "name": trust.name,
        "trust_anchors": [
            {"subject": a.subject, "not_after": a.not_after, "fingerprint_sha256": a.fingerprint_sha256}
            for a in trust.truststore.anchors
        ],
        "revocation": trust.revocation.mode,
        "crls": lists_of(trust, now),
        "crls_missing": missing_from(trust),
        "crl_urls": tries_of(feeds.asked(trust.name)),
        "crls_pending": sum(map(len, trust.crls.pending.values())),
        "ocsp": _ocsp(feeds.ocsp(trust.name)),
        "deny": trust.deny.counts._asdict(),
    }


def _ocsp(client: "OcspClient | None") -> dict[str, Any] | None:
    """How many certificates something is known of, and when responders last answered and last failed."""
    if client is None:
        return None
    failure = client.last_failure
    return {
        "certificates": client.known,
        "last_answer": client.last_answer,
        "last_failure": None if failure is None else {"at": failure.at, "detail": failure.detail},
    }
