"""The upstreams of a configuration; those that a reload leaves unchanged keep their connections."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random

from mtlsproxy.config.model import Upstream as UpstreamConfig
from mtlsproxy.config.upstream import UpstreamServer
from mtlsproxy.http1.health_check import CheckSettings, HealthCheck
from mtlsproxy.http1.origin import Origin
from mtlsproxy.runtime.servers import server_name
from mtlsproxy.runtime.snapshot import Plan
from mtlsproxy.telemetry.metrics import Metrics
from mtlsproxy.transport.wheel import TimerWheel
from mtlsproxy.upstream.addresses import Addresses
from mtlsproxy.upstream.balance import Balance, balance_of
from mtlsproxy.upstream.breaker import Breaker
from mtlsproxy.upstream.connect import Endpoint
from mtlsproxy.upstream.health import Health
from mtlsproxy.upstream.pool import PoolSettings, Upstream
from mtlsproxy.upstream.secure import Resolve, SecureServer, SecureStream, UpstreamTls
from mtlsproxy.upstream.server import Lendable, Server


@dataclass(frozen=True, slots=True)
class Pool:
    """An upstream beside the configuration that it was made of."""

    config: UpstreamConfig
    upstream: Upstream
    tls: UpstreamTls | None
    checks: tuple[HealthCheck, ...]

    def start(self, before: "Pool | None") -> None:
        """before: the same upstream in the configuration until now. What was known of its servers still holds."""
        known = {server.url: server for server in before.upstream.servers} if before is not None else {}
        for server in self.upstream.servers:
            old = known.get(server.url)
            if old is None:
                server.start()
            else:
                # Without checks nobody would ever call it healthy again.
                server.take_over(old.breaker, old.health if self.checks else None)
                server.start(old.endpoint.addresses.known)
        for check in self.checks:
            check.start()

    def retire(self) -> None:
        """Of no more use to new requests."""
        self._stop_checks()
        self.upstream.retire()

    def close(self) -> None:
        """The process ends."""
        self._stop_checks()
        self.upstream.close()

    def _stop_checks(self) -> None:
        for check in self.checks:
            check.stop()


class Pools:
    """All upstreams in use, by name."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wheel: TimerWheel, metrics: Metrics, resolve: Resolve) -> None:
        """resolve: fetches what is missing to judge a server's certificate."""
        self._loop = loop
        self._resolve = resolve
        self._wheel = wheel
        self._metrics = metrics
        self._pools: dict[str, Pool] = {}
        self._leaving: list[tuple[str, Pool]] = []
        """Replaced, with requests that still wait or may be repeated: whom they trust is known here alone."""

    @property
    def upstreams(self) -> Mapping[str, Upstream]:
        return {name: pool.upstream for name, pool in self._pools.items()}

    def prepare(self, plan: Plan) -> dict[str, Pool]:
        """The pools that `plan` needs: known ones where nothing changed. Nothing is in use before `adopt`."""
        pools = {}
        for name, settings in plan.material.loaded.config.upstreams.items():
            known = self._pools.get(name)
            if known is None or known.config != settings:
                known = self._make(name, settings, self._tls(name, plan))
            pools[name] = known
        return pools

    def trust(self, plan: Plan) -> None:
        """Judge servers by what `plan` says of them from now on; a connection to one that no longer passes, or made
        with another certificate of ours, serves no other request."""
        self._leaving = [(name, pool) for name, pool in self._leaving if pool.upstream.is_used]
        for name, pool in [*self._pools.items(), *self._leaving]:
            if pool.tls is not None and name in plan.upstreams:
                pool.tls.adopt(plan.upstreams[name], plan.material.servers[name])
                for server in pool.upstream.servers:
                    server.outdate(_is_distrusted)

    def adopt(self, pools: dict[str, Pool]) -> None:
        """From now on these; what others rest on is closed, what they have lent ends with its exchange."""
        old, self._pools = self._pools, pools
        for name, pool in pools.items():
            if old.get(name) is not pool:
                pool.start(old.get(name))
                self._show(name, pool)
        current = set(_series(pools))
        for name, pool in old.items():
            if pools.get(name) is not pool:
                pool.retire()
                self._leaving.append((name, pool))
        for name, url in _series(old):
            if (name, url) not in current:
                self._metrics.upstream_connections.remove(name, url)
                self._metrics.upstream_healthy.remove(name, url)

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()

    def _show(self, name: str, pool: Pool) -> None:
        for server in pool.upstream.servers:
            labels = (name, server.url)
            self._metrics.upstream_connections.watch(labels, lambda server=server: server.open)  # type: ignore[misc]
            self._metrics.upstream_healthy.watch(labels, lambda server=server: int(server.may_be_asked))  # type: ignore[misc]

    # -- making ----------------------------------------------------------------------------------------------------

    def _tls(self, name: str, plan: Plan) -> UpstreamTls | None:
        if name not in plan.upstreams:
            return None
        return UpstreamTls(name, plan.upstreams[name], plan.material.servers[name], self._resolve)

    def _make(self, name: str, settings: UpstreamConfig, tls: UpstreamTls | None) -> Pool:
        pool_settings = PoolSettings(
            name, settings.connect_timeout, settings.idle_timeout, settings.max_connections, settings.queue
        )
        balance: Balance[Server] = balance_of(settings.balance, Random())  # noqa: S311 - a spread, not a secret
        upstream = Upstream(self._loop, self._wheel, pool_settings, balance, Origin)
        for entry in settings.servers:
            upstream.add(self._server(upstream, entry, settings, tls))
        return Pool(settings, upstream, tls, tuple(self._checks(upstream, settings)))

    def _server(
        self, upstream: Upstream, entry: UpstreamServer, settings: UpstreamConfig, tls: UpstreamTls | None
    ) -> Server:
        return Server(
            self._wheel,
            upstream,
            entry.url,
            self._endpoint(entry, settings, tls),
            self._metrics.upstream_failures_total.cell(upstream.name, entry.url),
            self._metrics.upstream_retries_total.cell(upstream.name, entry.url),
            weight=entry.weight,
            breaker=Breaker(settings.circuit_breaker.failures, settings.circuit_breaker.open_for),
            health=Health(settings.health_check.healthy, settings.health_check.unhealthy),
        )

    def _endpoint(self, entry: UpstreamServer, settings: UpstreamConfig, tls: UpstreamTls | None) -> Endpoint:
        path = entry.socket_path
        if path is not None:
            return Endpoint(entry.url, entry.authority, Addresses.of_socket(self._loop, self._wheel, path))
        addresses = Addresses(self._loop, self._wheel, entry.host, entry.port)
        secure = None
        if entry.scheme == "https":
            # Never plain bytes to an https server: the model demands `tls` for it.
            assert tls is not None
            secure = SecureServer(tls, entry.url, server_name(settings, entry))
        return Endpoint(f"{entry.host}:{entry.port}", entry.authority, addresses, secure)

    def _checks(self, upstream: Upstream, settings: UpstreamConfig) -> Iterator[HealthCheck]:
        wanted = settings.health_check
        if wanted.path is not None:
            check = CheckSettings(wanted.path, wanted.interval, wanted.timeout)
            for server in upstream.servers:
                yield HealthCheck(self._loop, self._wheel, server, check)


def _series(pools: Mapping[str, Pool]) -> list[tuple[str, str]]:
    """Labels of the metrics about servers."""
    return [(name, server.url) for name, pool in pools.items() for server in pool.upstream.servers]


def _is_distrusted(connection: Lendable) -> bool:
    return (
        isinstance(connection, Origin) and isinstance(connection.stream, SecureStream) and connection.stream.distrusted
    )
