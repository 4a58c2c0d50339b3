"""The upstreams of a configuration; those that a reload leaves unchanged keep their connections."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from mtlsproxy.config.model import Upstream as UpstreamConfig
from mtlsproxy.config.upstream import UpstreamServer
from mtlsproxy.http1.origin import Origin
from mtlsproxy.runtime.servers import server_name
from mtlsproxy.runtime.snapshot import Plan
from mtlsproxy.telemetry.metrics import Metrics
from mtlsproxy.transport.wheel import TimerWheel
from mtlsproxy.upstream.addresses import Address, Addresses
from mtlsproxy.upstream.connect import Endpoint
from mtlsproxy.upstream.pool import Lendable, PoolSettings, Server, Upstream
from mtlsproxy.upstream.secure import Resolve, SecureServer, SecureStream, UpstreamTls


@dataclass(frozen=True, slots=True)
class Pool:
    """An upstream beside the configuration that it was made of."""

    config: UpstreamConfig
    upstream: Upstream
    tls: UpstreamTls | None


class Pools:
    """All upstreams in use, by name."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wheel: TimerWheel, metrics: Metrics, resolve: Resolve) -> None:
        """resolve: fetches what is missing to judge a server's certificate."""
        self._loop = loop
        self._resolve = resolve
        self._wheel = wheel
        self._metrics = metrics
        self._pools: dict[str, Pool] = {}

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
        for name, pool in self._pools.items():
            if pool.tls is not None and name in plan.upstreams:
                pool.tls.adopt(plan.upstreams[name], plan.material.servers[name])
                for server in pool.upstream.servers:
                    server.outdate(_is_distrusted)

    def _tls(self, name: str, plan: Plan) -> UpstreamTls | None:
        if name not in plan.upstreams:
            return None
        return UpstreamTls(name, plan.upstreams[name], plan.material.servers[name], self._resolve)

    def adopt(self, pools: dict[str, Pool]) -> None:
        """From now on these; what others rest on is closed, what they have lent ends with its exchange."""
        old, self._pools = self._pools, pools
        kept = {id(pool) for pool in pools.values()}
        for name, pool in pools.items():
            if old.get(name) is not pool:
                _start(pool, old.get(name))
        for name, pool in old.items():
            if id(pool) not in kept:
                pool.upstream.retire()
                current = {s.url for s in pools[name].upstream.servers} if name in pools else set()
                for server in pool.upstream.servers:
                    if server.url not in current:
                        self._metrics.upstream_connections.remove(name, server.url)
                        self._metrics.upstream_healthy.remove(name, server.url)
        for name, pool in pools.items():
            for server in pool.upstream.servers:
                self._metrics.upstream_connections.watch((name, server.url), lambda server=server: server.open)  # type: ignore[misc]
                self._metrics.upstream_healthy.set(name, server.url, value=1)

    def close(self) -> None:
        for pool in self._pools.values():
            pool.upstream.close()

    def _make(self, name: str, settings: UpstreamConfig, tls: UpstreamTls | None) -> Pool:
        upstream = Upstream(
            self._loop,
            self._wheel,
            PoolSettings(
                name, settings.connect_timeout, settings.idle_timeout, settings.max_connections, settings.queue
            ),
            Origin,
        )
        for entry in settings.servers:
            failures = self._metrics.upstream_failures_total.cell(name, entry.url)
            retries = self._metrics.upstream_retries_total.cell(name, entry.url)
            upstream.servers.append(
                Server(upstream, entry.url, self._endpoint(entry, settings, tls), failures, retries)
            )
        return Pool(settings, upstream, tls)

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


def _is_distrusted(connection: Lendable) -> bool:
    return (
        isinstance(connection, Origin) and isinstance(connection.stream, SecureStream) and connection.stream.distrusted
    )


def _start(pool: Pool, before: Pool | None) -> None:
    """before: the same upstream in the configuration until now."""
    known: dict[str, tuple[Address, ...]] = {}
    if before is not None:
        known = {server.url: server.endpoint.addresses.known for server in before.upstream.servers}
    for server in pool.upstream.servers:
        server.start(known.get(server.url, ()))
