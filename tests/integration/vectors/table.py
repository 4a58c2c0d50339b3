"""What became of every vector, for the end of the test output."""

from dataclasses import dataclass, field

import pytest


@dataclass
class Row:
    name: str
    source: str
    outcome: str
    ways: list[str] = field(default_factory=list)


@dataclass
class Table:
    """title → rows, in the order in which the vectors were tried. A way is noted once it held."""

    rows: dict[str, dict[str, Row]] = field(default_factory=dict)

    def held(self, title: str, name: str, source: str, outcome: str, way: str) -> None:
        self.rows.setdefault(title, {}).setdefault(name, Row(name, source, outcome)).ways.append(way)

    def write(self, reporter: pytest.TerminalReporter) -> None:
        """Every vector's row, with -q the counts alone."""
        if not self.rows:
            return
        reporter.write_sep("=", "hostile HTTP/1 vectors that held")
        for title, rows in self.rows.items():
            counts: dict[str, int] = {}
            for row in rows.values():
                counts[row.outcome] = counts.get(row.outcome, 0) + 1
            said = ", ".join(f"{count} x {outcome}" for outcome, count in sorted(counts.items()))
            reporter.write_line(f"{title}: {len(rows)} vectors: {said}")
            if reporter.config.get_verbosity() >= 0:
                for row in rows.values():
                    reporter.write_line(f"    {row.name:72.72} {row.outcome:24} {', '.join(row.ways)}  [{row.source}]")


TABLE = pytest.StashKey[Table]()
