"""What the admin server asks of whoever runs the proxy."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from mtlsproxy.config.model import DenyEntry
from mtlsproxy.runtime.control import Denied
from mtlsproxy.runtime.reload import Outcome
from mtlsproxy.runtime.token import Token
from mtlsproxy.telemetry.clients import MAX_CLIENTS
from mtlsproxy.telemetry.refusals import MAX_RECENT, OnEvent
from mtlsproxy.verdict.trust import Denial

if TYPE_CHECKING:
    from mtlsproxy.telemetry.exposition import Reading


class Controls(Protocol):
    """What may be changed; `mtlsproxy.runtime.control.Control` is one, and says what its methods raise."""

    @property
    def token(self) -> Token | None: ...

    @property
    def truststores(self) -> tuple[str, ...]: ...

    def denials(self) -> tuple[Denial, ...]: ...

    async def reload(self, by: str) -> Outcome: ...

    async def deny(self, entry: DenyEntry, truststore: str | None, by: str) -> Denied: ...

    async def lift(self, ident: str, by: str) -> Denial | None: ...


class StatusSource(Protocol):
    """Facts about the running proxy; of one process, or of several workers, which are asked."""

    @property
    def control(self) -> Controls: ...

    async def readings(self) -> "Sequence[Reading]":
        """Every metric as it is now."""

    async def status(self) -> Mapping[str, Any]:
        """What `/api/status` shows: nested dicts and lists of strings, numbers, booleans, datetimes or None."""

    async def readiness(self, listener: str | None) -> tuple[bool, list[str]]:
        """Whether the proxy, or one listener, can serve; and if not, why. KeyError: there is no such listener."""

    async def revocation(self, listener: str | None) -> list[dict[str, Any]]:
        """How long the CRLs of each CA that a listener trusts still last; None: any. KeyError: there is no such one."""

    async def rejections(self, limit: int = MAX_RECENT) -> list[dict[str, Any]]:
        """The most recent refusals, as `RefusalLog.recent` returns them."""

    async def rejection(self, request_id: str) -> dict[str, Any] | None:
        """One of them with what was presented, as `RefusalLog.find` returns it."""

    async def clients(self, limit: int = MAX_CLIENTS) -> list[dict[str, Any]]:
        """Who was accepted, the latest first, as `Clients.latest` returns them."""

    async def traffic(self) -> dict[str, Any]:
        """What has been counted since the start, see `telemetry.traffic`."""

    async def watch(self, on_event: OnEvent) -> Callable[[], None]:
        """Have `on_event` called with each event (a JSON object) on this loop, see `RefusalLog.watch`; what ends it."""
