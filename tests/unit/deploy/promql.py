"""What a PromQL expression asks for, held against what the proxy exports: a name that nobody exports stays empty, and
nobody notices."""

import re
from collections.abc import Mapping

from prometheus_client.utils import floatToGoString

from mtlsproxy.telemetry.families import HistogramFamily
from mtlsproxy.telemetry.metrics import PREFIX, Metrics

FROM_PROMETHEUS = {"job", "instance"}
"""Labels that every series has from its scrape."""

_SERIES = {PREFIX + family.name: family for family in Metrics().families()}
_PARTS = {
    f"{name}_{part}": family
    for name, family in _SERIES.items()
    if isinstance(family, HistogramFamily)
    for part in ("bucket", "count", "sum")
}


def assert_exported(expr: str, recorded: Mapping[str, set[str]]) -> None:
    """Every metric, label and label value of `expr` exists. recorded: labels of the series that rules record."""
    names = set(re.findall(rf"(?<![\w:]){PREFIX}\w+", expr))
    named = set(re.findall(r"\b[a-z_]+:[\w:]+", expr))
    assert names or named, expr
    assert names <= _SERIES.keys() | _PARTS.keys(), expr
    assert {name for name in names if isinstance(_SERIES.get(name), HistogramFamily)} == set(), expr
    assert named <= recorded.keys(), expr
    assert grouped_by(expr) <= labels_of(expr, recorded), expr
    for name, selector in re.findall(rf"(?<![\w:])({PREFIX}\w+)\{{([^}}]*)\}}", expr):
        _assert_selects(name, dict(re.findall(r'(\w+)\s*=\s*"([^"]*)"', selector)))
        assert set(re.findall(r'(\w+)\s*(?:=|!=|=~|!~)\s*"', selector)) <= labels_of(name, recorded), selector


def labels_of(expr: str, recorded: Mapping[str, set[str]]) -> set[str]:
    """Every label that a series named in `expr` has."""
    found = set(FROM_PROMETHEUS)
    for name, family in (_SERIES | _PARTS).items():
        if re.search(rf"(?<![\w:]){name}(?!\w)", expr):
            found |= {*family.labels, *({"le"} if name.endswith("_bucket") else ())}
    return found.union(*(labels for name, labels in recorded.items() if name in expr))


def grouped_by(expr: str) -> set[str]:
    """The labels after by and on."""
    lists = re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expr)
    return {name.strip() for names in lists for name in names.split(",") if name.strip()}


def _assert_selects(name: str, chosen: dict[str, str]) -> None:
    """`chosen` are values that the proxy can write."""
    family = _SERIES.get(name) or _PARTS[name]
    bound = chosen.get("le")
    if bound is not None:
        assert isinstance(family, HistogramFamily)
        assert bound in {*map(floatToGoString, family.bounds), "+Inf"}, bound  # 2592000 is written 2.592e+06
    family.fit([chosen.get(label, _example(family.name, label)) for label in family.labels])  # raises


def _example(family: str, label: str) -> str:
    """A value for a label that an expression leaves open."""
    if label == "result":
        return {"handshakes_total": "ok", "crl_refresh_total": "success", "config_reloads_total": "success"}.get(
            family, "good"
        )
    return {"reason": "revoked", "enforced": "true", "kind": "server", "source": "crl"}.get(label, "")
