"""When a list is fetched next: within `refresh`, before it ends, and ever later after failures."""

from datetime import timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.revocation.build import NOW

from mtlsproxy.fetch.schedule import SOONEST, after_failure, after_success

SEEDS = st.integers(0, 10_000)


def seconds(moment):
    return (moment - NOW).total_seconds()


@given(SEEDS, st.floats(0.1, 1e7), st.one_of(st.none(), st.floats(0.1, 1e9)))
@settings(max_examples=200, deadline=None)
def test_a_success_is_followed_within_refresh_and_before_the_end(seed, refresh, left):
    ends = None if left is None else NOW + timedelta(seconds=left)
    wait = seconds(after_success(NOW, ends, refresh, Random(seed)))
    assert 0 < wait <= refresh
    if left is not None and left * 0.5 > min(SOONEST, refresh):
        assert wait < left


def test_a_list_about_to_end_is_not_fetched_without_pause():
    for seed in range(20):
        assert seconds(after_success(NOW, NOW + timedelta(seconds=1), 3600, Random(seed))) == SOONEST


def test_a_fleet_that_starts_at_once_does_not_ask_at_once():
    waits = {round(seconds(after_success(NOW, None, 3600, Random(seed)))) for seed in range(100)}
    assert len(waits) > 80
    waits = {round(seconds(after_success(NOW, NOW + timedelta(hours=1), 1e6, Random(seed)))) for seed in range(100)}
    assert len(waits) > 80


@given(SEEDS, st.integers(1, 10_000), st.floats(1, 1e6), st.floats(0.01, 60))
@settings(max_examples=200, deadline=None)
def test_a_failure_is_followed_within_refresh_however_many_there_were(seed, failures, refresh, first):
    wait = seconds(after_failure(NOW, failures, refresh, Random(seed), first))
    assert 0 < wait <= refresh


@pytest.mark.parametrize(
    ("failures", "longest"), [(1, 2), (2, 4), (3, 8), (10, 1024), (11, 2048), (12, 3600), (99, 3600)]
)
def test_each_failure_doubles_the_wait_up_to_refresh(failures, longest):
    for seed in range(20):
        wait = seconds(after_failure(NOW, failures, 3600, Random(seed)))
        assert longest * 0.75 <= wait <= longest
