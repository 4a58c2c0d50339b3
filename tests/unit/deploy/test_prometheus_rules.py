"""The Prometheus rules fire when they should, and ask for metrics and labels that exist."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mtlsproxy.telemetry.metrics import PREFIX, Metrics

FOLDER = Path(__file__).parents[3] / "deploy" / "prometheus"
FROM_PROMETHEUS = {"job", "instance"}
LABELS = {PREFIX + family.name: set(family.labels) for family in Metrics().families()}
FAMILIES = {PREFIX + family.name: family for family in Metrics().families()}

RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((FOLDER / "mtlsproxy.rules.yaml").read_text())["groups"] for rule in group["rules"]
]
TESTS: dict[str, Any] = yaml.safe_load((FOLDER / "mtlsproxy.rules.test.yaml").read_text())

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool (Debian: prometheus) is not installed"
)
each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])


@needs_promtool
def test_every_alert_does_what_its_test_file_says() -> None:
    done = subprocess.run(
        ["promtool", "test", "rules", "mtlsproxy.rules.test.yaml"], cwd=FOLDER, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_promtool_finds_nothing_wrong_with_the_rules() -> None:
    command = ["promtool", "check", "rules", "mtlsproxy.rules.yaml"]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(RULES)} rules found" in done.stdout


@each_rule
def test_it_asks_for_metrics_and_labels_that_exist(rule: dict[str, Any]) -> None:
    """A name that nobody exports never fires, and nobody notices."""
    metrics = set(re.findall(rf"\b{PREFIX}\w+", rule["expr"]))
    assert metrics
    assert metrics <= LABELS.keys()
    known = set.union(*(LABELS[name] for name in metrics)) | FROM_PROMETHEUS
    assert _labels_named(rule["expr"]) <= known
    assert set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))) <= known


def _labels_named(expr: str) -> set[str]:
    """In selectors, and after by and on."""
    grouped = re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expr)
    return {name.strip() for names in grouped for name in names.split(",")} | {name for name, _ in _selected(expr)}


def _selected(expr: str) -> Iterator[tuple[str, str]]:
    for selector in re.findall(r"\{([^}]*)\}", expr):
        yield from re.findall(r'(\w+)\s*=\s*"([^"]*)"', selector)


@each_rule
def test_it_selects_values_that_the_proxy_writes(rule: dict[str, Any]) -> None:
    for name, selector in re.findall(rf"\b({PREFIX}\w+)\{{([^}}]*)\}}", rule["expr"]):
        family = FAMILIES[name]
        chosen = dict(re.findall(r'(\w+)\s*=\s*"([^"]*)"', selector))
        family.fit([chosen.get(label, _any_of(label)) for label in family.labels])  # raises for an unknown value


def _any_of(label: str) -> str:
    return {"result": "success", "reason": "revoked", "enforced": "true"}.get(label, "")


@each_rule
def test_the_test_file_has_a_case_that_fires_and_one_that_does_not(rule: dict[str, Any]) -> None:
    """One that does not: another moment, or another series beside the one that fires."""
    cases = [
        (test, case)
        for test in TESTS["tests"]
        for case in test["alert_rule_test"]
        if case["alertname"] == rule["alert"]
    ]
    assert any(case.get("exp_alerts") for _, case in cases)
    assert any(len(case.get("exp_alerts", ())) < len(test["input_series"]) for test, case in cases)


@each_rule
def test_it_says_what_is_wrong_where_and_how_bad(rule: dict[str, Any]) -> None:
    assert rule["alert"].startswith("Mtlsproxy")
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"].keys() == {"summary", "description"}
    assert "{{ $labels.instance }}" in rule["annotations"]["description"]


def test_operations_md_lists_every_alert() -> None:
    text = (FOLDER.parents[1] / "docs" / "operations.md").read_text()
    assert set(re.findall(r"`(Mtlsproxy\w+)`", text)) == {rule["alert"] for rule in RULES}
