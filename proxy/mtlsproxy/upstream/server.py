"""One server of an upstream: its connections, its counts, and whether it may be asked."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from mtlsproxy.reasons import Reason
from mtlsproxy.transport.interfaces import Counter
from mtlsproxy.transport.wheel import TimerWheel
from mtlsproxy.upstream.addresses import Address
from mtlsproxy.upstream.breaker import Breaker, State
from mtlsproxy.upstream.connect import Connecting, Endpoint
from mtlsproxy.upstream.health import Health

if TYPE_CHECKING:
    from mtlsproxy.upstream.pool import Upstream

log = logging.getLogger(__name__)


class Lendable(Protocol):
    """A connection to a server, as the pool sees it."""

    server: "Server"
    lent_before: bool
    outdated: bool
    """It is not to be lent again: another would be made otherwise now (another address, other certificates)."""
    address: Address | None
    """Where it leads to; the pool says it."""

    @property
    def is_stale(self) -> bool:
        """Whether the server has closed or spoken since it was given back. Costs a system call."""
        ...

    def rest(self, seconds: float) -> None:
        """Nobody uses it now: close when `seconds` go by, or when the server speaks or closes."""
        ...

    def close(self) -> None: ...


class Server:
    """What happened to its requests is told by whoever carried them: `answered`, `failed`."""

    __slots__ = (
        "_wheel",
        "breaker",
        "connecting",
        "connections",
        "endpoint",
        "failures",
        "health",
        "idle",
        "is_down",
        "open",
        "retries",
        "troubled",
        "turn",
        "upstream",
        "url",
        "weight",
    )

    def __init__(
        self,
        wheel: TimerWheel,
        upstream: "Upstream",
        url: str,
        endpoint: Endpoint,
        failures: Counter,
        retries: Counter,
        *,
        weight: int = 1,
        breaker: Breaker,
        health: Health,
    ) -> None:
        self._wheel = wheel
        self.upstream = upstream
        self.url = url
        self.endpoint = endpoint
        self.weight = weight
        self.breaker = breaker
        self.health = health
        self.turn = 0
        self.idle: list[Lendable] = []
        self.open = 0
        """Connections, those being made included."""
        self.connecting: set[Connecting] = set()
        self.connections: set[Lendable] = set()
        """Resting and lent."""
        self.failures = failures
        self.retries = retries
        self.troubled = False
        """Whether its last requests have failed: an answer is worth telling."""
        self.is_down = False
        """Whether it may only be asked after a look at `may_be_asked`."""
        self._look()

    @property
    def authority(self) -> str:
        """What goes into Host with `host: server`."""
        return self.endpoint.authority

    @property
    def in_use(self) -> int:
        """Connections that a request has, or is to have."""
        return self.open - len(self.idle)

    # -- whether it may be asked -----------------------------------------------------------------------------------

    @property
    def may_be_asked(self) -> bool:
        """Whether health check and circuit breaker let a request go to it now, whosever it is."""
        return self.health.is_healthy and self.breaker.allows(self._wheel.now)

    def may_be_asked_by(self, client: str | None) -> bool:
        """Whether they let a request of this client go to it now. client: its principal."""
        return self.health.is_healthy and self.breaker.allows_to(client, self._wheel.now)

    @property
    def why_not(self) -> str:
        """In words, when it may not be asked."""
        if not self.health.is_healthy:
            return f"unhealthy ({self.health.why})"
        only = self.breaker.only
        row = f"{self.breaker.row} failures in a row" + ("" if only is None else f", all of requests of {only}")
        if self.breaker.state is State.HALF_OPEN:
            return f"{row}, and one request is trying it"
        return f"{row}, tried again in {self.breaker.left(self._wheel.now):.0f}s"

    def asked(self) -> None:
        """A request goes to it although it is down."""
        now = self._wheel.now
        if self.breaker.state is not State.CLOSED and self.breaker.allows(now):
            self.breaker.trying(now)

    def take_over(self, breaker: Breaker, health: Health | None) -> None:
        """Go on from what was known of the same server before a reload. health: None where nothing would change it."""
        self.breaker.take_over(breaker)
        if health is not None:
            self.health.take_over(health)
        self._look()

    def answered(self) -> None:
        """It has answered a request, whatever the status."""
        was = self.breaker.state
        self.breaker.answered()
        if was is not self.breaker.state:
            log.info("server %s of upstream %s answers again", self.url, self.upstream.name)
        self._look()

    def failed(self, detail: str, client: str | None = None) -> None:
        """A connect failed, a connection ended without an answer, or the time ran out. detail: in words. client: the
        principal whose request was under way, if one was."""
        self.failures.value += 1
        was, only = self.breaker.state, self.breaker.only
        self.breaker.failed(self._wheel.now, client)
        opened = was is State.CLOSED or (only is not None and self.breaker.only is None)  # or: for all the others, too
        if opened and self.breaker.state is State.OPEN:
            log.warning(
                "server %s of upstream %s is left alone for %gs%s: %d failures in a row, the last: %s",
                self.url,
                self.upstream.name,
                self.breaker.open_for,
                "" if self.breaker.only is None else f" by {self.breaker.only}, whose requests alone it fails",
                self.breaker.row,
                detail,
            )
        self._look()

    def named(self, detail: str) -> str:
        """`detail` for who knows the upstream alone: says which of its servers."""
        return detail if self.endpoint.place in detail else f"{self.url}: {detail}"

    def checked(self, wrong: str) -> None:
        """An active check has ended. wrong: what with, "" when all is well."""
        changed = self.health.bad(wrong) if wrong else self.health.good()
        if changed and wrong:
            log.warning("server %s of upstream %s is unhealthy: %s", self.url, self.upstream.name, wrong)
        elif changed:
            log.info("server %s of upstream %s is healthy again", self.url, self.upstream.name)
        self._look()

    def _look(self) -> None:
        self.troubled = self.breaker.row > 0
        self.is_down = not self.health.is_healthy or self.breaker.state is not State.CLOSED

    # -- connections -----------------------------------------------------------------------------------------------

    def start(self, last_known: tuple[Address, ...] = ()) -> None:
        """Keep its addresses up to date. last_known: see `Addresses.start`."""
        self.endpoint.addresses.start(self._moved, last_known)

    def outdate(self, is_outdated: Callable[[Lendable], bool]) -> None:
        """Connections that are `is_outdated` serve no other request: resting ones end now, others after theirs."""
        for connection in [c for c in self.connections if is_outdated(c)]:
            connection.outdated = True
            if connection in self.idle:
                connection.close()

    def _moved(self, addresses: frozenset[Address]) -> None:
        self.outdate(lambda connection: connection.address not in addresses)


class Borrower(Protocol):
    """Who wants a connection. One of the two is called, once; `lent` possibly from inside `Upstream.lend`."""

    response_timeout: float
    """Seconds that it waits for a connection, at most, when all are busy."""
    tried: frozenset[Server]
    """Servers that have failed it already: it gets another one where there is one."""
    wants_fresh: bool
    """It wants a connection that nobody has used."""

    @property
    def client_key(self) -> str | None:
        """The client's principal, for client_hash."""
        ...

    def lent(self, connection: Lendable) -> None: ...

    def not_lent(self, reason: Reason, detail: str, *, again: bool) -> None:
        """again: whether another attempt could end otherwise. The server that failed is among `tried` then."""
        ...
