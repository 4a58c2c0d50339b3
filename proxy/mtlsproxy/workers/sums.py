"""Numbers of several workers as one, living and departed: no counter ever falls because a process crashed. Pure."""

from collections.abc import Iterable, Mapping, Sequence

from mtlsproxy.telemetry.exposition import Reading
from mtlsproxy.telemetry.families import Distribution, Family, Labels
from mtlsproxy.telemetry.metrics import Metrics
from mtlsproxy.workers.numbers import Numbers, Value


class Departed:
    """What workers that are no more have counted. Their gauges went with them."""

    def __init__(self) -> None:
        self._numbers: dict[str, dict[Labels, Value]] = {}

    def add(self, metrics: Metrics, numbers: Numbers) -> None:
        """metrics: says of each family what it is."""
        for family in metrics.families():
            if family.kind in ("counter", "histogram") and family.name in numbers:
                parts = [self._numbers.get(family.name, {}), numbers[family.name]]
                self._numbers[family.name] = _combine(family, parts)

    @property
    def numbers(self) -> Numbers:
        return self._numbers


def readings(
    own: Metrics, departed: Departed, living: Iterable[Numbers], families: Sequence[Family] | None = None
) -> tuple[Reading, ...]:
    """What a scrape shows. own: the supervisor's numbers, with those that it alone counts. families: of `own`, those
    that are asked for; None: all."""
    parts = [departed.numbers, *living]
    found = []
    for family in own.families() if families is None else families:
        mine = dict(family.read())
        if family.across == "one":
            found.append(Reading(family, list(mine.items())))
        else:
            combined = _combine(family, [mine, *(part.get(family.name, {}) for part in parts)])
            found.append(Reading(family, list(combined.items())))
    return tuple(found)


def _combine(family: Family, parts: Sequence[Mapping[Labels, Value]]) -> dict[Labels, Value]:
    combined: dict[Labels, Value] = {}
    for part in parts:
        for labels, value in part.items():
            known = combined.get(labels)
            combined[labels] = value if known is None else _join(family, known, value)
    return combined


def _join(family: Family, one: Value, other: Value) -> Value:
    if isinstance(one, Distribution) or isinstance(other, Distribution):
        assert isinstance(one, Distribution)
        assert isinstance(other, Distribution)
        counts = tuple(a + b for a, b in zip(one.counts, other.counts, strict=True))
        return Distribution(one.bounds, counts, one.sum + other.sum)
    match family.across:
        case "max":
            return max(one, other)
        case "min":
            return min(one, other)
        case _:
            return one + other
