"""The refusal log: who was turned away and why, at warning level, whatever `logging.access` says.

A client that is refused over and over is one line and a count: repeats of one reason and fingerprint within ten seconds
of the first are folded. The most recent refusals are kept, folded ones too, for the admin's `/api/rejections`.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from mtlsproxy.telemetry.access_log import (
    CONNECTION,
    REASON,
    TIME,
    AccessEntry,
    encode,
    escape_controls,
    request_fields,
    timestamp,
)
from mtlsproxy.telemetry.sink import Sink

FOLD_SECONDS = 10.0
MAX_FOLDED_KEYS = 10_000
"""Pairs of reason and fingerprint that are remembered: a client can make up fingerprints, not memory."""
MAX_RECENT = 500
_COARSEST_TICK = 1.0
"""Windows that end within a second of each other share a timer."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refusal as it happened. detail: one sentence for the operator. enforced: False where it was let pass."""

    entry: AccessEntry
    detail: str
    enforced: bool


@dataclass(slots=True)
class _Window:
    """Ten seconds of one reason and fingerprint; `last` is the latest that was folded."""

    ends: float
    suppressed: int = 0
    last: Refusal | None = None


class RefusalLog:
    """Writes refusals to `sink` as JSON lines, or with None only remembers them. For one event loop.

    clock: monotonic seconds.
    """

    def __init__(
        self,
        sink: Sink | None,
        loop: asyncio.AbstractEventLoop,
        *,
        clock: Callable[[], float] = time.monotonic,
        max_keys: int = MAX_FOLDED_KEYS,
    ) -> None:
        self._sink = sink
        self._loop = loop
        self._clock = clock
        self._max_keys = max_keys
        self._recent: deque[Refusal] = deque(maxlen=MAX_RECENT)
        # All windows are as long as each other: the order of insertion is the order in which they end.
        self._windows: OrderedDict[tuple[str | None, str | None], _Window] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def record(self, entry: AccessEntry, fingerprint: str | None, detail: str = "", *, enforced: bool = True) -> None:
        """One refusal. `entry` as in the access log, its REASON set; `fingerprint` of the presented leaf, if any."""
        refusal = Refusal(entry, detail, enforced)
        self._recent.append(refusal)
        if self._sink is not None:
            self._fold(refusal, (entry[REASON], fingerprint))

    def recent(self) -> list[dict[str, Any]]:
        """The most recent refusals, newest first, with the fields of the refusal log."""
        return [orjson.loads(_encode(refusal, 0)) for refusal in reversed(self._recent)]

    def close(self) -> None:
        """Write the counts of the windows still open and stop the timer. The sink stays open."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._windows:
            self._finish(self._windows.popitem(last=False)[1])

    def _fold(self, refusal: Refusal, key: tuple[str | None, str | None]) -> None:
        now = self._clock()
        window = self._windows.get(key)
        if window is not None and now < window.ends:
            window.suppressed += 1
            window.last = refusal
            return
        if window is not None:
            self._finish(self._windows.pop(key))
        self._write(refusal, 0)
        self._windows[key] = _Window(now + FOLD_SECONDS)
        if len(self._windows) > self._max_keys:
            self._finish(self._windows.popitem(last=False)[1])
        if self._timer is None:
            self._timer = self._loop.call_later(FOLD_SECONDS, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self._clock()
        while self._windows:
            window = next(iter(self._windows.values()))
            if now < window.ends:
                self._timer = self._loop.call_later(max(window.ends - now, _COARSEST_TICK), self._tick)
                return
            self._finish(self._windows.popitem(last=False)[1])

    def _finish(self, window: _Window) -> None:
        if window.last is not None:
            self._write(window.last, window.suppressed)

    def _write(self, refusal: Refusal, suppressed: int) -> None:
        assert self._sink is not None
        self._sink.submit(_encode(refusal, suppressed) + b"\n")


def _encode(refusal: Refusal, suppressed: int) -> bytes:
    """`suppressed`: how many folded refusals this line stands for; 0 on the line of a single one."""
    entry = refusal.entry
    after: dict[str, object] = {**request_fields(entry), "detail": refusal.detail, "enforced": refusal.enforced}
    if suppressed:
        after["suppressed"] = suppressed
    before = f'{{"time":"{timestamp(entry[TIME])}","level":"warning","message":"refused",'.encode("ascii")
    return escape_controls(before + entry[CONNECTION] + b"," + encode(after)[1:])
