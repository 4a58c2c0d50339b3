"""Enough checks in a row, and no fewer, change what a server counts as."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mtlsproxy.upstream.health import Health


def test_a_server_is_healthy_until_checks_say_otherwise() -> None:
    health = Health(healthy=2, unhealthy=3)
    assert health.is_healthy
    assert [health.bad("503") for _ in range(4)] == [False, False, True, False]
    assert (health.is_healthy, health.why) == (False, "503")
    assert [health.good() for _ in range(3)] == [False, True, False]
    assert health.is_healthy


def test_they_have_to_come_in_a_row() -> None:
    health = Health(healthy=2, unhealthy=2)
    for _ in range(5):
        assert not health.bad("")
        assert not health.good()
    assert health.is_healthy


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.lists(st.booleans(), max_size=40))
def test_it_is_what_the_last_long_enough_row_said(healthy: int, unhealthy: int, checks: list[bool]) -> None:
    health = Health(healthy, unhealthy)
    expected, row, last = True, 0, True
    for good in checks:
        row = row + 1 if good == last else 1
        last = good
        if row >= (healthy if good else unhealthy):
            expected = good
        was = health.is_healthy
        changed = health.good() if good else health.bad("")
        assert health.is_healthy is expected
        assert changed is (was is not expected)


def test_a_reload_takes_over_what_was_found() -> None:
    old = Health(2, 3)
    for _ in range(3):
        old.bad("closed")
    old.good()
    new = Health(2, 3)
    new.take_over(old)
    assert (new.is_healthy, new.why) == (False, "closed")
    assert new.good()
