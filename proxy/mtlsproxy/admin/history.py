"""The last quarter of an hour of traffic, so that a page that is opened now shows what led to it."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

from aiohttp import web

from mtlsproxy.admin.source import StatusSource

EVERY = 10.0
"""Seconds between two samples."""
SAMPLES = 90
_NOW = 60.0
"""Seconds that a present rate is taken over."""

Sample = tuple[float, Mapping[str, Any]]
"""When, on a monotonic clock, and `traffic_of`'s numbers."""


@dataclass(frozen=True, slots=True)
class Course:
    """What came over `seconds`, oldest first: requests, refusals, and refusals by reason, a second in each interval.

    counts: refusals by reason, all together, where there were any. rate: requests a second over the last minute.
    """

    seconds: float
    requests: Sequence[float]
    refused: Sequence[float]
    refusals: Mapping[str, Sequence[float]]
    counts: Mapping[str, int]
    rate: float


class History:
    """Samples what a status source has counted. now: a monotonic clock, in seconds."""

    def __init__(self, source: StatusSource, now: Callable[[], float]) -> None:
        self._source = source
        self._now = now
        self._samples: deque[Sample] = deque(maxlen=SAMPLES + 1)

    async def kept(self, app: web.Application) -> AsyncIterator[None]:
        """Sample as long as `app` runs (aiohttp's cleanup context)."""
        sampling = asyncio.get_running_loop().create_task(self._sample())
        yield
        sampling.cancel()
        with suppress(asyncio.CancelledError):
            await sampling

    async def _sample(self) -> None:
        while True:
            self.add(await self._source.traffic())
            await asyncio.sleep(EVERY)

    def add(self, traffic: Mapping[str, Any]) -> None:
        self._samples.append((self._now(), traffic))

    def course(self, traffic: Mapping[str, Any]) -> Course:
        """Up to now, whose numbers are `traffic`."""
        now = self._now()
        samples = [*self._samples]
        if samples and now - samples[-1][0] < EVERY / 2 and len(samples) > 1:
            samples.pop()  # what came in a moment more or less says nothing about a rate
        samples.append((now, traffic))
        first, last = samples[0][1]["refusals"], traffic["refusals"]
        counts = {reason: growth for reason in last if (growth := max(0, last[reason] - first.get(reason, 0)))}
        return Course(
            seconds=now - samples[0][0],
            requests=_rates(samples, _answered),
            refused=_rates(samples, _refused),
            refusals={reason: _rates(samples, partial(_refused_for, reason)) for reason in counts},
            counts=counts,
            rate=_rate_of_now(samples),
        )


def _answered(traffic: Mapping[str, Any]) -> int:
    return sum(traffic["requests"].values())


def _refused(traffic: Mapping[str, Any]) -> int:
    return sum(traffic["refusals"].values())


def _refused_for(reason: str, traffic: Mapping[str, Any]) -> int:
    count: int = traffic["refusals"].get(reason, 0)
    return count


def _rates(samples: Sequence[Sample], count: Callable[[Mapping[str, Any]], int]) -> list[float]:
    return [_rate(earlier, later, count) for earlier, later in pairwise(samples)]


def _rate_of_now(samples: Sequence[Sample]) -> float:
    until = samples[-1][0]
    since = next(sample for sample in samples if until - sample[0] <= _NOW)
    return _rate(since, samples[-1], _answered)


def _rate(earlier: Sample, later: Sample, count: Callable[[Mapping[str, Any]], int]) -> float:
    """A total that fell (the last numbers of a worker that crashed are lost) is no growth."""
    seconds = later[0] - earlier[0]
    return max(0, count(later[1]) - count(earlier[1])) / seconds if seconds > 0 else 0.0
