"""What the admin server asks of whoever runs the proxy."""

from collections.abc import Mapping
from typing import Any, Protocol


class StatusSource(Protocol):
    """Facts about the running proxy. All three are called on the event loop and must answer at once."""

    def status(self) -> Mapping[str, Any]:
        """What `/api/status` shows: nested dicts and lists of strings, numbers, booleans, datetimes or None."""

    def readiness(self, listener: str | None) -> tuple[bool, list[str]]:
        """Whether the proxy, or one listener, can serve; and if not, why. KeyError: there is no such listener."""

    def rejections(self) -> list[dict[str, Any]]:
        """The most recent refusals, as `RefusalLog.recent` returns them."""
