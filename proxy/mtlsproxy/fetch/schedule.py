"""When to fetch a list next. Pure: times and chance are parameters.

After a success: before `refresh` has passed, and before the list ends, so that its successor is here in time. Both are
jittered, lest every proxy of a fleet asks its CA in the same second. After a failure: soon, then ever later.
"""

from datetime import datetime, timedelta
from random import Random

SOONEST = 5.0
"""Seconds between two fetches of a list that is about to end: a CA that publishes at the last moment is met in time."""

FIRST_RETRY = 2.0
"""Seconds until the first retry: what starts beside this proxy (a container, a network) is up by then."""

_REFRESH_JITTER = (0.8, 1.0)
_BEFORE_END = (0.5, 0.9)
_BACKOFF_JITTER = (0.75, 1.0)
_MAX_DOUBLINGS = 30  # beyond, `refresh` is the ceiling anyway


def after_success(at: datetime, ends: datetime | None, refresh: float, chance: Random) -> datetime:
    """ends: the earliest nextUpdate of the lists held, later than `at`. refresh: ceiling in seconds."""
    wait = refresh * chance.uniform(*_REFRESH_JITTER)
    if ends is not None:
        left = (ends - at).total_seconds()
        # Ever shorter steps as the end comes near: most CAs publish well before it, some at the last moment.
        wait = min(wait, max(left * chance.uniform(*_BEFORE_END), min(SOONEST, refresh)))
    return at + timedelta(seconds=wait)


def after_failure(at: datetime, failures: int, refresh: float, chance: Random, first: float = FIRST_RETRY) -> datetime:
    """failures: in a row, at least 1. first: seconds until the first retry; each later one waits twice as long."""
    wait = min(refresh, first * 2 ** min(failures - 1, _MAX_DOUBLINGS))
    return at + timedelta(seconds=wait * chance.uniform(*_BACKOFF_JITTER))
