"""What a feed needs of those around it: the proxy's `Feeds`, or whoever asks once (`offline`)."""

from collections.abc import Callable
from typing import Protocol

from mtlsproxy.fetch.client import CrlEvent
from mtlsproxy.fetch.messages import CrlUrl


class Subscribed(Protocol):
    """A URL that somebody was told to fetch. latest: the last event, None before the first."""

    @property
    def latest(self) -> CrlEvent | None: ...

    async def first(self) -> CrlEvent | None:
        """The first event, as soon as there is one; None where this was closed before."""

    def refresh(self) -> None:
        """Ask now, where asking more than once is meant."""

    def close(self) -> None:
        """No more events."""


class Subscriber(Protocol):
    def subscribe(self, source: CrlUrl, on_event: Callable[[CrlEvent], None]) -> Subscribed: ...


class Hub(Protocol):
    """Where feeds get their lists, and what they tell of them."""

    def client(self) -> Subscriber:
        """Raises fetch.cache.CacheError."""

    def on_crl(self, truststore: str, event: CrlEvent) -> None: ...

    def on_passed_over(self, truststore: str, detail: str) -> None:
        """What a list names and may not be asked for, said once."""

    def count_ocsp(self, truststore: str, result: str) -> None: ...

    def changed(self) -> None: ...
