"""The Prometheus rules fire when they should, and ask for metrics and labels that exist."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.deploy.promql import assert_exported, grouped_by, labels_of

FOLDER = Path(__file__).parents[3] / "deploy" / "prometheus"
TEST_FILES = ["mtlsproxy.rules.test.yaml", "mtlsproxy.service.test.yaml"]

RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((FOLDER / "mtlsproxy.rules.yaml").read_text())["groups"] for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]
RECORDED = {rule["record"]: grouped_by(rule["expr"]) - {"le"} for rule in RULES if "record" in rule}
TESTS: list[dict[str, Any]] = [
    test for name in TEST_FILES for test in yaml.safe_load((FOLDER / name).read_text())["tests"]
]

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool (Debian: prometheus) is not installed"
)
each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert", rule.get("record")))
each_alert = pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])


@needs_promtool
@pytest.mark.parametrize("name", TEST_FILES)
def test_every_rule_does_what_its_test_file_says(name: str) -> None:
    done = subprocess.run(["promtool", "test", "rules", name], cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_promtool_finds_nothing_wrong_with_the_rules() -> None:
    command = ["promtool", "check", "rules", "mtlsproxy.rules.yaml"]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(RULES)} rules found" in done.stdout


@each_rule
def test_it_asks_for_metrics_labels_and_values_that_exist(rule: dict[str, Any]) -> None:
    assert_exported(rule["expr"], RECORDED)
    known = labels_of(rule["expr"], RECORDED)
    assert set(re.findall(r"\$labels\.(\w+)", str(rule.get("annotations", "")))) <= known


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_series_is_named_after_its_labels(name: str) -> None:
    """level:metric:operations, as Prometheus recommends; the level is what it is grouped by."""
    assert set(name.split(":")[0].split("_")) == RECORDED[name]


def test_every_recorded_series_is_asked_for_by_a_test_or_an_alert() -> None:
    asked = str([alert["expr"] for alert in ALERTS]) + str([test.get("promql_expr_test") for test in TESTS])
    assert {name for name in RECORDED if name not in asked} == set()


@each_alert
def test_the_test_file_has_a_case_that_fires_and_one_that_does_not(rule: dict[str, Any]) -> None:
    """One that does not: another moment, or another series beside the one that fires."""
    cases = [
        (test, case) for test in TESTS for case in test.get("alert_rule_test", ()) if case["alertname"] == rule["alert"]
    ]
    assert any(case.get("exp_alerts") for _, case in cases)
    assert any(len(case.get("exp_alerts", ())) < len(test["input_series"]) for test, case in cases)


@each_alert
def test_it_says_what_is_wrong_where_and_how_bad(rule: dict[str, Any]) -> None:
    assert rule["alert"].startswith("Mtlsproxy")
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"].keys() == {"summary", "description"}
    where = "job" if ":mtlsproxy_" in rule["expr"] else "instance"  # what is recorded is of all instances together
    assert f"{{{{ $labels.{where} }}}}" in rule["annotations"]["description"]


def test_operations_md_lists_every_alert() -> None:
    text = (FOLDER.parents[1] / "docs" / "operations.md").read_text()
    assert set(re.findall(r"`(Mtlsproxy\w+)`", text)) == {rule["alert"] for rule in ALERTS}
