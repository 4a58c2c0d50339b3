"""The refusal log: who was turned away and why, at warning level, whatever `logging.access` says.

A client that is refused over and over is one line and a count: repeats of one reason and fingerprint, at the same
listener and upstream, within ten seconds of the first are folded. The most recent refusals are kept, folded ones too,
for the admin's `/api/rejections`, and those who watch are told of them a few times a second.
"""

import asyncio
import os
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

from mtlsproxy.telemetry.access_log import REASON, REQUEST_ID, UPSTREAM, AccessEntry
from mtlsproxy.telemetry.audit import AuditLog
from mtlsproxy.telemetry.recent import MAX_RECENT, Recent, Refusal, as_dict, as_json
from mtlsproxy.telemetry.sink import Sink

__all__ = ["MAX_RECENT", "Refusal", "RefusalLog"]

FOLD_SECONDS = 10.0
MAX_FOLDED_KEYS = 10_000
"""Windows that are remembered: a client can make up fingerprints, not memory."""
MAX_TOLD = 20
"""Refusals in one event: of a flood, watchers are shown the newest and told how many there were."""
TELL_SECONDS = 0.25
_COARSEST_TICK = 1.0
"""Windows that end within a second of each other share a timer."""


OnEvent = Callable[[dict[str, Any]], None]
"""Takes a JSON object whose `event` says what it is."""


_Key = tuple[str | None, str | None, str, str | None]
"""Reason, fingerprint, listener and upstream: another server's trouble is not to hide behind the first one's."""


@dataclass(slots=True)
class _Window:
    """Ten seconds of what is alike; `last` is the latest that was folded."""

    ends: float
    suppressed: int = 0
    last: Refusal | None = None


class RefusalLog:
    """Writes refusals to `sink` as JSON lines, or with None only remembers them. For one event loop.

    clock: monotonic seconds. audit: is told of each, folded or not.
    """

    def __init__(
        self,
        sink: Sink | None,
        loop: asyncio.AbstractEventLoop,
        *,
        clock: Callable[[], float] = time.monotonic,
        max_keys: int = MAX_FOLDED_KEYS,
        audit: AuditLog | None = None,
    ) -> None:
        self._sink = sink
        self._audit = audit
        self._loop = loop
        self._clock = clock
        self._max_keys = max_keys
        self._recent = Recent()
        self._watchers: dict[object, OnEvent] = {}
        self._untold: deque[Refusal] = deque(maxlen=MAX_TOLD)
        self._untold_count = 0
        self._telling: asyncio.TimerHandle | None = None
        self._id_prefix = os.urandom(8).hex()
        self._ids = count(1)
        # All windows are as long as each other: the order of insertion is the order in which they end.
        self._windows: OrderedDict[_Key, _Window] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def record(
        self,
        entry: AccessEntry,
        fingerprint: str | None,
        detail: str = "",
        *,
        enforced: bool = True,
        presented: tuple[bytes, ...] = (),
        listener: str = "",
    ) -> None:
        """One refusal. `entry` as in the access log, its REASON set; one without a request gets an id of its own.

        fingerprint: of the presented leaf, if any. presented: what the client sent, DER, leaf first.
        listener: its name.
        """
        if entry[REQUEST_ID] is None:
            entry = (*entry[:REQUEST_ID], f"{self._id_prefix}h{next(self._ids):x}")
        refusal = Refusal(entry, detail, enforced)
        self._recent.add(refusal, presented)
        if self._watchers:
            self._tell_soon(refusal)
        if self._audit is not None:
            self._audit.refused(entry, detail, enforced=enforced)
        if self._sink is not None:
            self._fold(refusal, (entry[REASON], fingerprint, listener, entry[UPSTREAM]))

    def recent(self, limit: int = MAX_RECENT) -> list[dict[str, Any]]:
        """The most recent refusals, newest first, with the fields of the refusal log."""
        return self._recent.newest(limit)

    def find(self, request_id: str) -> dict[str, Any] | None:
        """The most recent refusal of this id with what was presented, see Recent.find."""
        return self._recent.find(request_id)

    def watch(self, on_event: OnEvent) -> Callable[[], None]:
        """Have `on_event` told of refusals, the newest of a quarter of a second at once; returns what ends it.

        The event is `refusals`: `refusals`, newest first, and `more`, how many there were besides.
        """
        key = object()
        self._watchers[key] = on_event

        def end() -> None:
            self._watchers.pop(key, None)

        return end

    def close(self) -> None:
        """Write the counts of the windows still open and stop the timer. The sink stays open."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        while self._windows:
            self._finish(self._windows.popitem(last=False)[1])

    def _tell_soon(self, refusal: Refusal) -> None:
        self._untold.append(refusal)
        self._untold_count += 1
        if self._telling is None:
            self._telling = self._loop.call_later(TELL_SECONDS, self._tell)

    def _tell(self) -> None:
        self._telling = None
        refusals = [as_dict(refusal) for refusal in reversed(self._untold)]
        event = {"event": "refusals", "refusals": refusals, "more": self._untold_count - len(refusals)}
        self._untold.clear()
        self._untold_count = 0
        for on_event in list(self._watchers.values()):
            on_event(event)

    def _fold(self, refusal: Refusal, key: _Key) -> None:
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
        self._sink.submit(as_json(refusal, suppressed) + b"\n")
