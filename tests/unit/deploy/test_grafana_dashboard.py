"""The Grafana dashboard asks for metrics and labels that exist, in queries that Prometheus can parse."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.deploy.promql import assert_exported, grouped_by, labels_of

from mtlsproxy.telemetry.metrics import PREFIX, Metrics

Tree = dict[str, Any]

BOARD: Tree = json.loads((Path(__file__).parents[3] / "deploy" / "grafana" / "mtlsproxy.json").read_text())
PANELS: list[Tree] = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
VARIABLES = {variable["name"] for variable in BOARD["templating"]["list"]}


def targets() -> Iterator[tuple[str, Tree]]:
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], target


QUERIES = [*((title, target["expr"], target["legendFormat"]) for title, target in targets())]
QUERIES += [(note["name"], note["expr"], note["titleFormat"]) for note in BOARD["annotations"]["list"]]
each_query = pytest.mark.parametrize(("title", "expr", "legend"), QUERIES)


@each_query
def test_a_query_asks_for_what_the_proxy_exports(title: str, expr: str, legend: str) -> None:
    assert_exported(expr, {})
    assert 'job=~"$job", instance=~"$instance"' in expr  # or it would show proxies that were not chosen


@each_query
def test_a_legend_names_labels_that_the_query_leaves(title: str, expr: str, legend: str) -> None:
    named = set(re.findall(r"\{\{(\w+)\}\}", legend))
    aggregated = re.search(r"\b(sum|min|max|count)\b", expr) is not None
    assert named <= (grouped_by(expr) - {"le"} if aggregated else labels_of(expr, {}))


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian: prometheus) is not installed")
def test_prometheus_parses_every_query(tmp_path: Path) -> None:
    """As rules, with Grafana's own variables filled in."""
    values = {"$__rate_interval": "1m", "$__range": "6h", "$job": ".*", "$instance": ".*"}
    rules = []
    for number, (_, expr, _) in enumerate(QUERIES):
        for name, value in values.items():
            expr = expr.replace(name, value)
        assert "$" not in expr
        rules.append({"record": f"query:{number}", "expr": expr})
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_is_shown() -> None:
    asked = " ".join(expr for _, expr, _ in QUERIES)
    assert {family.name for family in Metrics().families() if PREFIX + family.name not in asked} == set()


def test_variables_are_declared_and_nothing_names_a_data_source_of_its_own() -> None:
    """uid "${datasource}": the dashboard has to show something in a Grafana that its author has never seen."""
    text = json.dumps(BOARD)
    own = {"__rate_interval", "__range", "__all"}
    assert set(re.findall(r"\$\{?(\w+)", text)) - own <= VARIABLES
    assert set(re.findall(r'"uid": "([^"]*)"', text)) == {"mtlsproxy", "${datasource}"}


def test_panels_fill_the_grid_without_overlapping() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not taken & cells, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
