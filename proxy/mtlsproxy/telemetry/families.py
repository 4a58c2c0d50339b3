"""Metric families as plain integers: a request adds to a slot it already holds; only a scrape walks the families.

A family owns the storage of its series and hands out the only writer of each, a Cell or a Histogram. The request path
keeps that writer and never names a label. What a scrape reads is one list of (label values, value) a family.
"""

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Labels = tuple[str, ...]


class Cell:
    """One series' number. `cell.value += 1` is the whole hot path."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0


class Histogram:
    """One series' distribution. `bounds` are upper bounds, inclusive and ascending; `counts` has one more, for +Inf."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


@dataclass(frozen=True, slots=True)
class Distribution:
    """A histogram as a scrape saw it: `counts` are per bucket, not cumulative, the last one is +Inf's."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The fixed set a label takes its values from. An unknown value becomes `other`, or is a ValueError without one."""

    values: frozenset[str]
    other: str | None = None

    def fit(self, label: str, value: str) -> str:
        if value in self.values:
            return value
        if self.other is None:
            raise ValueError(f"label {label} cannot be {value!r}: it is not in its fixed set")
        return self.other


Across = Literal["sum", "max", "min", "one"]
"""How the numbers of several worker processes become one: `one` is counted by the supervisor alone."""

Vocabularies = Mapping[str, Vocabulary]
NO_VOCABULARIES: Vocabularies = {}


class Family(ABC):
    """What all kinds share: a name without prefix, the help text, and label names in their fixed order."""

    kind = ""
    across: Across = "sum"

    def __init__(
        self,
        name: str,
        help_text: str,
        labels: Sequence[str] = (),
        vocabularies: Vocabularies = NO_VOCABULARIES,
    ) -> None:
        self.name = name
        self.help = help_text
        self.labels = tuple(labels)
        places = {label: place for place, label in enumerate(self.labels)}
        self._fixed = tuple((places[label], label, vocabulary) for label, vocabulary in vocabularies.items())

    def fit(self, values: Sequence[str]) -> Labels:
        """`values` in the order of `labels`, each held to its vocabulary. Raises ValueError: wrong number or value."""
        if len(values) != len(self.labels):
            raise ValueError(f"{self.name} takes the labels {self.labels}, not {tuple(values)}")
        fitted = list(values)
        for place, label, vocabulary in self._fixed:
            fitted[place] = vocabulary.fit(label, fitted[place])
        return tuple(fitted)

    @abstractmethod
    def read(self) -> Sequence[tuple[Labels, float | Distribution]]:
        """Every series with its present value, copied: safe to hand to another thread."""


class _ValueFamily(Family):
    """A family of single numbers: counted in cells, or read through a function at a scrape."""

    def __init__(
        self,
        name: str,
        help_text: str,
        labels: Sequence[str] = (),
        vocabularies: Vocabularies = NO_VOCABULARIES,
    ) -> None:
        super().__init__(name, help_text, labels, vocabularies)
        self._cells: dict[Labels, Cell] = {}
        self._watched: dict[Labels, Callable[[], float]] = {}

    def cell(self, *values: str) -> Cell:
        """The writer of one series, made when first asked for; the caller keeps it."""
        fitted = self.fit(values)
        cell = self._cells.get(fitted)
        if cell is None:
            cell = self._cells[fitted] = Cell()
        return cell

    def watch(self, values: Sequence[str], read: Callable[[], float]) -> None:
        """Export what `read` returns, called on the event loop at each scrape."""
        self._watched[self.fit(values)] = read

    def remove(self, *values: str) -> None:
        """Stop exporting one series; none of that name is fine."""
        fitted = self.fit(values)
        self._cells.pop(fitted, None)
        self._watched.pop(fitted, None)

    def read(self) -> Sequence[tuple[Labels, float]]:
        found: list[tuple[Labels, float]] = [(labels, cell.value) for labels, cell in self._cells.items()]
        found += [(labels, read()) for labels, read in self._watched.items()]
        return found


class CounterFamily(_ValueFamily):
    """Only ever grows. The name ends in `_total`."""

    kind = "counter"


class GaugeFamily(_ValueFamily):
    """Goes up and down."""

    kind = "gauge"

    def set(self, *values: str, value: float) -> None:
        self.cell(*values).value = value

    def replace(self, series: Mapping[Labels, float]) -> None:
        """Exactly these series from now on besides the watched ones (a new Snapshot). Cells handed out before are
        no longer exported."""
        fresh = {self.fit(values): value for values, value in series.items()}
        self._cells.clear()
        for values, value in fresh.items():
            self.set(*values, value=value)


class InfoFamily(_ValueFamily):
    """Facts as labels of one series, whose value is 1. The name ends in `_info`."""

    kind = "info"

    def state(self, *values: str) -> None:
        """These are the facts from now on, in place of those stated before."""
        fitted = self.fit(values)
        self._cells.clear()
        self.cell(*fitted).value = 1


class HistogramFamily(Family):
    """Distributions over the same bounds."""

    kind = "histogram"

    def __init__(
        self,
        name: str,
        help_text: str,
        labels: Sequence[str],
        bounds: tuple[float, ...],
        vocabularies: Vocabularies = NO_VOCABULARIES,
    ) -> None:
        super().__init__(name, help_text, labels, vocabularies)
        self.bounds = bounds
        self._histograms: dict[Labels, Histogram] = {}

    def histogram(self, *values: str) -> Histogram:
        """The writer of one series, made when first asked for; the caller keeps it."""
        fitted = self.fit(values)
        histogram = self._histograms.get(fitted)
        if histogram is None:
            histogram = self._histograms[fitted] = Histogram(self.bounds)
        return histogram

    def read(self) -> Sequence[tuple[Labels, Distribution]]:
        return [
            (labels, Distribution(each.bounds, tuple(each.counts), each.sum))
            for labels, each in self._histograms.items()
        ]
