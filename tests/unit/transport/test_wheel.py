"""Timers fire once, never early, at most two ticks late, and a moved one at its new time alone.

The loop here is a clock that a test turns: the wheel asks for the time and for a call in one tick, and nothing else.
"""

import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlsproxy.transport.wheel import AT_ONCE, TICK, Timer, TimerWheel


class Handle:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """A loop whose time passes by `pass_`, in steps as uneven as a busy loop's."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.problems: list[dict[str, Any]] = []
        self._next: tuple[float, Callable[[], None], Handle] | None = None
        self.soon: list[Callable[[], None]] = []
        self.turns = True
        """Whether turns of the loop come by themselves."""

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Handle:
        handle = Handle()
        self._next = (self.now + seconds, callback, handle)
        return handle

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def turn(self) -> None:
        """One turn of the loop, in which no time passes."""
        soon, self.soon = self.soon, []
        for callback in soon:
            callback()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.problems.append(context)

    def pass_(self, seconds: float) -> None:
        end = self.now + seconds
        while self._next is not None and self._next[0] <= end:
            when, callback, handle = self._next
            self._next = None
            self.now = max(self.now, when)
            if not handle.cancelled:
                callback()
            while self.soon and self.turns:
                self.turn()
        self.now = end

    def stall(self, seconds: float) -> None:
        """The loop is busy: time passes, and what is due is called late."""
        self.now += seconds
        self.pass_(0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def wheel(clock: Clock) -> TimerWheel:
    return TimerWheel(clock)  # type: ignore[arg-type]


class Fired:
    """A timer and when it fired."""

    def __init__(self, clock: Clock, wheel: TimerWheel) -> None:
        self.at: list[float] = []
        self.timer: Timer = wheel.timer(lambda: self.at.append(clock.now))


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.1, 0.25, 1.0, 75.0])
def test_fires_once_after_its_deadline_and_at_most_two_ticks_late(
    clock: Clock, wheel: TimerWheel, seconds: float
) -> None:
    fired = Fired(clock, wheel)
    clock.pass_(0.03)
    began = clock.now
    fired.timer.start(seconds)
    clock.pass_(seconds + 10)
    (at,) = fired.at
    # `now` may be a tick old when the timer is started, so a deadline counts from the last tick.
    assert began + seconds - TICK <= at <= began + seconds + 3 * TICK


def test_a_timer_that_moves_later_fires_at_its_new_time_alone(clock: Clock, wheel: TimerWheel) -> None:
    """The lazy wheel: it stays in its old slot, which only moves it on."""
    fired = Fired(clock, wheel)
    fired.timer.start(1)
    for _ in range(20):
        clock.pass_(0.5)
        fired.timer.start(1)
    assert fired.at == []
    clock.pass_(2)
    assert len(fired.at) == 1


def test_a_timer_that_moves_earlier_fires_at_its_new_time_alone(clock: Clock, wheel: TimerWheel) -> None:
    fired = Fired(clock, wheel)
    fired.timer.start(60)
    fired.timer.start(1)
    clock.pass_(2)
    assert len(fired.at) == 1
    clock.pass_(100)
    assert len(fired.at) == 1


def test_earlier_and_later_again(clock: Clock, wheel: TimerWheel) -> None:
    """Put into an early slot and then meant for a late one: the early slot must not fire it."""
    fired = Fired(clock, wheel)
    fired.timer.start(60)
    fired.timer.start(1)
    fired.timer.start(30)
    clock.pass_(29)
    assert fired.at == []
    clock.pass_(3)
    assert len(fired.at) == 1
    clock.pass_(100)
    assert len(fired.at) == 1


@pytest.mark.parametrize("end", [Timer.stop, Timer.close], ids=["stop", "close"])
def test_a_stopped_timer_does_not_fire(clock: Clock, wheel: TimerWheel, end: Callable[[Timer], None]) -> None:
    fired = Fired(clock, wheel)
    fired.timer.start(1)
    end(fired.timer)
    clock.pass_(10)
    assert fired.at == []


def test_a_stopped_timer_can_be_started_again(clock: Clock, wheel: TimerWheel) -> None:
    """Before its old slot came up, and after."""
    fired = Fired(clock, wheel)
    for wait in (0.2, 5):
        fired.timer.start(1)
        fired.timer.stop()
        clock.pass_(wait)
        fired.timer.start(2)
        clock.pass_(1.5)
        assert fired.at == []
        clock.pass_(1)
        assert len(fired.at) == 1
        fired.at.clear()


def test_a_closed_timer_lets_go_of_its_callback(wheel: TimerWheel) -> None:
    """Its slot may be an hour away, and what it would call must not live as long."""

    class Owner:
        def act(self) -> None: ...

    owner = Owner()
    gone = weakref.ref(owner)
    timer = wheel.timer(owner.act)
    timer.start(3600)
    timer.close()
    del owner
    assert gone() is None


def test_a_callback_may_start_its_own_timer_again(clock: Clock, wheel: TimerWheel) -> None:
    """Every tick at most: a zero timeout must not make the wheel spin."""
    count = 0

    def again() -> None:
        nonlocal count
        count += 1
        timer.start(0)

    timer = wheel.timer(again)
    timer.start(0)
    clock.pass_(10 * TICK)
    assert 2 <= count <= 10


def test_a_callback_may_stop_another_that_is_due_in_the_same_slot(clock: Clock, wheel: TimerWheel) -> None:
    second = Fired(clock, wheel)
    first = wheel.timer(second.timer.close)
    first.start(1)
    second.timer.start(1)
    clock.pass_(5)
    assert second.at == []


def test_a_callback_that_fails_stops_no_other(clock: Clock, wheel: TimerWheel) -> None:
    """It is reported to the loop."""

    def fail() -> None:
        raise ValueError("broken")

    wheel.timer(fail).start(1)
    fired = Fired(clock, wheel)
    fired.timer.start(1)
    clock.pass_(5)
    assert len(fired.at) == 1
    (problem,) = clock.problems
    assert isinstance(problem["exception"], ValueError)


def test_after_a_stall_everything_due_fires(clock: Clock, wheel: TimerWheel) -> None:
    """A loop that was busy for longer than the timers: no slot is skipped."""
    fired = [Fired(clock, wheel) for _ in range(30)]
    for number, one in enumerate(fired):
        one.timer.start(number / 7)
    clock.stall(100)
    clock.pass_(1)
    assert [len(one.at) for one in fired] == [1] * 30


def test_a_closed_wheel_fires_nothing(clock: Clock, wheel: TimerWheel) -> None:
    fired = Fired(clock, wheel)
    fired.timer.start(1)
    wheel.close()
    clock.pass_(10)
    assert fired.at == []


Steps = st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["start", "stop", "wait"]), st.floats(0, 3)), max_size=60)


@given(Steps)
@settings(max_examples=200, deadline=None)
def test_any_sequence_agrees_with_a_plain_model(steps: list[tuple[int, str, float]]) -> None:
    """Five timers, started, stopped and waited for at random: each fires exactly when a naive reading says, within
    the wheel's precision, and never when it was stopped or moved."""
    clock = Clock()
    wheel = TimerWheel(clock)  # type: ignore[arg-type]
    deadlines: dict[int, float] = {}

    def fire(number: int) -> None:
        deadline = deadlines.pop(number)
        assert deadline - TICK <= clock.now <= deadline + 3 * TICK

    timers = [wheel.timer(lambda number=number: fire(number)) for number in range(5)]  # type: ignore[misc]
    for number, action, seconds in steps:
        if action == "start":
            timers[number].start(seconds)
            deadlines[number] = clock.now + seconds
        elif action == "stop":
            timers[number].stop()
            deadlines.pop(number, None)
        else:
            clock.pass_(seconds)
    clock.pass_(10)
    assert clock.problems == []
    assert deadlines == {}


# -- crowds ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def crowd(clock: Clock, wheel: TimerWheel) -> list[Fired]:
    """All due, and the first of them have had their turn."""
    fired = [Fired(clock, wheel) for _ in range(3 * AT_ONCE)]
    for one in fired:
        one.timer.start(1.0)
    clock.turns = False
    clock.pass_(1.0 + 2.5 * TICK)
    return fired


def test_of_a_crowd_only_some_fire_in_one_turn_of_the_loop(clock: Clock, crowd: list[Fired]) -> None:
    """Others have their turn in between; all of them fire, once."""
    counts = [sum(len(one.at) for one in crowd)]
    while clock.soon:
        clock.turn()
        counts.append(sum(len(one.at) for one in crowd))
    assert counts[:3] == [AT_ONCE, 2 * AT_ONCE, 3 * AT_ONCE]
    clock.pass_(10.0)
    assert all(len(one.at) == 1 for one in crowd)


def test_who_waits_for_its_turn_can_still_be_stopped_or_moved(clock: Clock, crowd: list[Fired]) -> None:
    *_, closed, stopped, moved = crowd
    closed.timer.close()
    stopped.timer.stop()
    moved.timer.start(1.0)
    clock.turns = True
    clock.turn()
    clock.turn()
    assert (closed.at, stopped.at, moved.at) == ([], [], [])
    clock.pass_(5.0)
    assert (closed.at, stopped.at, len(moved.at)) == ([], [], 1)


def test_ticks_that_come_up_meanwhile_wait_behind_the_crowd(
    clock: Clock, wheel: TimerWheel, crowd: list[Fired]
) -> None:
    later = Fired(clock, wheel)
    later.timer.start(0.0)
    clock.pass_(3 * TICK)
    assert later.at == []
    assert len(clock.soon) == 1
    clock.turns = True
    clock.pass_(TICK)
    while clock.soon:
        clock.turn()
    assert len(later.at) == 1
    assert all(len(one.at) == 1 for one in crowd)


def test_a_wheel_that_is_closed_fires_no_more(clock: Clock, wheel: TimerWheel, crowd: list[Fired]) -> None:
    wheel.close()
    clock.turn()
    assert sum(len(one.at) for one in crowd) == AT_ONCE
