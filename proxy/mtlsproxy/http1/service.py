"""What all connections of a listener share: rules of the current Snapshot, limits, counters, logs."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mtlsproxy.access.decide import CompiledRoute
from mtlsproxy.access.router import NoMatch, RouteMatch, Router
from mtlsproxy.config.model import Identity
from mtlsproxy.config.networks import Networks
from mtlsproxy.http1.fields import FieldRules
from mtlsproxy.http1.request_head import HeadLimits
from mtlsproxy.telemetry.access_log import AccessLog
from mtlsproxy.telemetry.clients import Clients
from mtlsproxy.telemetry.families import Cell, Histogram
from mtlsproxy.telemetry.metrics import Metrics
from mtlsproxy.telemetry.refusals import RefusalLog
from mtlsproxy.transport.wheel import TimerWheel
from mtlsproxy.upstream.pool import Upstream
from mtlsproxy.verdict.judge import Verdict, Wanted

if TYPE_CHECKING:
    from mtlsproxy.http1.client import ClientConnection
    from mtlsproxy.http1.tunnel import Tunnel

_REMEMBERED_MATCHES = 4096
_REMEMBERED_PATH = 256
"""Paths come from clients: the cache holds this many short ones, and is cleared when it is full."""


@dataclass(slots=True, eq=False)
class Target:
    """A route as the data path uses it: where it goes and what is counted. Times in seconds."""

    route: CompiledRoute
    upstream: Upstream
    identity: Identity
    host_of_server: bool
    response_timeout: float
    body_timeout: float
    tunnel_idle: float | None
    """None: the listener's idle timeout."""
    retries: int
    duration: Histogram
    upstream_duration: Histogram
    answered: dict[tuple[str, int, bool], Cell] = field(default_factory=dict)
    """Cells of requests_total by method, status and whether it is HTTP/1.1."""


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """A Snapshot as one listener sees it; replaced whole. judge: remembers its acceptances by what was presented.

    trusted_fields: for clients in trusted_proxies, whose X-Forwarded-* are kept.
    """

    generation: int
    router: Router
    targets: Mapping[CompiledRoute, Target]
    judge: Callable[[tuple[bytes, ...]], Verdict]
    default_identity: Identity
    fields: FieldRules
    trusted_fields: FieldRules
    trusted_proxies: Networks
    matches: dict[tuple[str, bytes, str], RouteMatch] = field(default_factory=dict)

    def match(self, host: str, path: bytes, method: str) -> RouteMatch | NoMatch:
        """As Router.match; short paths that led to a route are remembered."""
        key = (host, path, method)
        found = self.matches.get(key)
        if found is not None:
            return found
        matched = self.router.match(host, path, method)
        if isinstance(matched, RouteMatch) and len(path) <= _REMEMBERED_PATH:
            if len(self.matches) >= _REMEMBERED_MATCHES:
                self.matches.clear()
            self.matches[key] = matched
        return matched


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds (configuration: listeners[].timeouts)."""

    request_headers: float
    request_body: float
    idle: float
    write: float


Resolve = Callable[[tuple[Wanted, ...], Callable[[], None]], None]
"""Fetch what a verdict wants, then call back, on the loop; also where nothing could be fetched."""


@dataclass(slots=True, eq=False)
class Service:
    """One listener, for all its connections. `rules` is replaced at a new Snapshot, the rest stays."""

    name: str
    loop: asyncio.AbstractEventLoop
    wheel: TimerWheel
    rules: Rules
    limits: HeadLimits
    body_limit: int
    timeouts: Timeouts
    metrics: Metrics
    access_log: AccessLog | None
    refusals: RefusalLog
    clients: Clients
    released: Callable[[str | None], None]
    in_flight: Cell
    resolve: Resolve
    draining: bool = False
    connections: "set[ClientConnection]" = field(default_factory=set)
    tunnels: "set[Tunnel]" = field(default_factory=set)
