"""One timer wheel for every timeout of the process: setting a timer later costs a comparison, never an allocation.

Timeouts here are seconds long and almost never fire, so precision is traded for cost: a timer fires at the first tick
after its deadline, never before it, and at most two ticks late. A timer that moves later stays where it is and is put
into its new slot when the old one comes up (a lazy wheel): a busy keep-alive connection costs one insertion a minute.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterator

TICK = 0.1
"""Seconds between ticks: a tenth of the shortest timeout that operators sensibly set."""

AT_ONCE = 32
"""Timers that fire in one turn of the loop: of thousands that are due together, a crowd's, each costs some work."""

_LATEST = 2 * TICK
"""Seconds that a timer may be late, unless a crowd is before it."""

_NEVER = math.inf


class Timer:
    """A deadline with a callback. Times are `loop.time()` seconds."""

    __slots__ = ("_callback", "_due", "_soonest", "_wheel", "deadline")

    def __init__(self, wheel: "TimerWheel", callback: Callable[[], None]) -> None:
        self._wheel = wheel
        self._callback: Callable[[], None] | None = callback
        self._due = _NEVER
        self._soonest = _NEVER
        """Deadlines from here on are served well enough by the slot that it is in."""
        self.deadline = _NEVER

    def start(self, seconds: float) -> None:
        """(Re)start: fire `seconds` from now."""
        self.deadline = deadline = self._wheel.now + seconds
        if deadline < self._soonest:
            self._enter(deadline)

    def stop(self) -> None:
        self.deadline = _NEVER

    def close(self) -> None:
        """Stop for good and let go of the callback, so that a slot not yet due keeps nothing alive."""
        self.deadline = _NEVER
        self._callback = None

    def _enter(self, deadline: float) -> None:
        self._due = self._wheel.insert(self, deadline)
        self._soonest = self._due - _LATEST

    def come_due(self, slot_time: float, now: float) -> bool:
        """For the wheel: the slot that held this timer came up. Whether there was something to call."""
        if slot_time != self._due:
            return False  # it was inserted again, earlier, since: that slot has dealt with it
        self._due = self._soonest = _NEVER
        if self.deadline > now:
            if self.deadline != _NEVER:
                self._enter(self.deadline)
            return False
        self.deadline = _NEVER
        if self._callback is None:
            return False
        self._callback()
        return True


class TimerWheel:
    """Slots of one tick each. `now` is the time of the last tick: cheap, and at most a tick old."""

    __slots__ = ("_handle", "_loop", "_slots", "_tick", "_up", "now")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slots: dict[int, list[Timer]] = {}
        self._up: deque[tuple[float, Iterator[Timer]]] = deque()
        """Slots that have come up, with the timers that have not had their turn yet."""
        self.now = loop.time()
        self._tick = int(self.now / TICK)
        self._handle = loop.call_later(TICK, self._on_tick)

    def timer(self, callback: Callable[[], None]) -> Timer:
        return Timer(self, callback)

    def insert(self, timer: Timer, deadline: float) -> float:
        """Put `timer` into the slot after `deadline`; returns that slot's time."""
        # `now` may be a tick old: one slot more keeps a timer from firing early.
        slot = max(int(deadline / TICK) + 2, self._tick + 1)
        self._slots.setdefault(slot, []).append(timer)
        return slot * TICK

    def _on_tick(self) -> None:
        now = self.now = self._loop.time()
        self._handle = self._loop.call_later(TICK, self._on_tick)
        last = int(now / TICK)
        waiting = bool(self._up)
        while self._tick < last:
            self._tick += 1
            if timers := self._slots.pop(self._tick, None):
                self._up.append((self._tick * TICK, iter(timers)))
        if self._up and not waiting:
            self._fire()

    def _fire(self) -> None:
        """Timers whose slot has come up; no more than AT_ONCE before others have their turn."""
        left = AT_ONCE
        while self._up:
            slot_time, timers = self._up[0]
            for timer in timers:
                try:
                    left -= timer.come_due(slot_time, self.now)
                except Exception as error:  # noqa: BLE001 - one broken callback must not stop every other timeout
                    self._loop.call_exception_handler({"message": "a timeout's callback failed", "exception": error})
                if not left:
                    self._loop.call_soon(self._fire)
                    return
            self._up.popleft()

    def close(self) -> None:
        self._handle.cancel()
        self._slots.clear()
        self._up.clear()
