"""What came lately is told from totals that only grow, at whatever moment it is asked for."""

import pytest
from tests.unit.admin.facts import traffic

from mtlsproxy.admin.history import EVERY, SAMPLES, Course, History


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def add(history: History, clock: Clock, requests: int, **refusals: int) -> None:
    history.add(traffic(requests={"2xx": requests}, refusals=refusals))
    clock.now += EVERY


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def history(clock: Clock) -> History:
    return History(None, clock)  # type: ignore[arg-type]


def course(history: History, requests: int, **refusals: int) -> Course:
    return history.course(traffic(requests={"2xx": requests}, refusals=refusals))


def test_rates_are_by_second_and_counts_over_the_whole_span(history: History, clock: Clock) -> None:
    add(history, clock, 0)
    add(history, clock, 100, revoked=10)
    found = course(history, 300, revoked=10, denied=20)
    assert found.requests == [10.0, 20.0]
    assert found.refused == [1.0, 2.0]
    assert found.refusals == {"revoked": [1.0, 0.0], "denied": [0.0, 2.0]}
    assert found.counts == {"revoked": 10, "denied": 20}
    assert (found.seconds, found.rate) == (2 * EVERY, 15.0)


def test_a_moment_after_a_sample_no_rate_jumps(history: History, clock: Clock) -> None:
    add(history, clock, 0)
    history.add(traffic(requests={"2xx": 100}))
    clock.now += 0.001
    assert course(history, 101).requests == [pytest.approx(10.1, rel=0.01)]


def test_before_the_first_sample_there_is_nothing_to_divide_by(history: History) -> None:
    found = course(history, 5, revoked=1)
    assert (list(found.requests), found.counts, found.rate, found.seconds) == ([], {}, 0.0, 0.0)
    history.add(traffic())
    assert course(history, 5).rate == 0.0


def test_what_is_older_than_a_quarter_of_an_hour_is_forgotten(history: History, clock: Clock) -> None:
    for number in range(SAMPLES * 2):
        add(history, clock, number * 10, revoked=number)
    found = course(history, SAMPLES * 20, revoked=SAMPLES * 2)
    assert found.seconds == pytest.approx((SAMPLES + 1) * EVERY)
    assert found.counts == {"revoked": SAMPLES + 1}
    assert set(found.requests) == {1.0}


def test_totals_that_fall_are_no_negative_traffic(history: History, clock: Clock) -> None:
    add(history, clock, 100, revoked=5)
    found = course(history, 90, revoked=4)
    assert (found.requests, found.counts) == ([0.0], {})
