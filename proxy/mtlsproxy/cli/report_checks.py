"""How a check of a verification looks, whoever asked for it."""

from rich.tree import Tree

from mtlsproxy.cli.report import line, tree
from mtlsproxy.x509.evidence import Check, Result

_STYLES = {Result.PASS: "green", Result.FAIL: "bold red", Result.SKIPPED: "dim"}


def check_tree(check: Check, width: int) -> Tree:
    """What was seen, the rule and the mend. width: of the longest name beside it."""
    style = _STYLES[check.result]
    name = check.name.ljust(width)
    if check.result is Result.SKIPPED:
        return tree(line((f"{check.result:7}", style), (name, style), (check.seen or check.rule, style)))
    label = line((f"{check.result:7}", style), (name, "bold" if check.result is Result.FAIL else ""), check.seen)
    children = [line(("rule", "dim"), check.rule)]
    if check.result is Result.FAIL:
        children.append(line(("fix", "yellow"), check.fix))
    return tree(label, children)
