"""How the results of policy tests, and remarks on a configuration, look."""

from collections.abc import Sequence

from rich.text import Text
from rich.tree import Tree

from mtlsproxy.access.lint import Remark
from mtlsproxy.cli.expectations import Outcome
from mtlsproxy.cli.report import line, print_json, print_tree, text, tree
from mtlsproxy.cli.site import Site


def print_results(outcomes: Sequence[Outcome], site: Site, remarks: Sequence[Remark], output_format: str) -> None:
    if output_format == "json":
        print_json(_as_json(outcomes, site, remarks))
        return
    parts: list[Tree | Text] = [_outcome(outcome) for outcome in outcomes]
    if outcomes:
        failed = sum(1 for outcome in outcomes if outcome.wrong)
        words = f"{failed} of {len(outcomes)} are not as expected" if failed else f"all {len(outcomes)} as expected"
        parts.append(text(words, "bold red" if failed else "bold green"))
    if remarks:
        shown = (line((site.loaded.locate(one.path), "dim"), (one.kind, "yellow"), one.detail) for one in remarks)
        parts.append(tree(text("remarks on the configuration"), shown))
    elif not outcomes:
        parts.append(text("nothing to remark on the configuration", "bold green"))
    print_tree(*parts)


def _outcome(outcome: Outcome) -> Tree:
    answer = outcome.answer
    became = "allow" if answer.allowed else f"deny {answer.reason}"
    shadow = f" (shadow mode: {answer.reason})" if answer.allowed and answer.reason is not None else ""
    where = f"on {answer.listener}" + (f" by route {answer.route}" if answer.route else "")
    mark = ("FAIL", "bold red") if outcome.wrong else ("ok  ", "green")
    head = line(mark, (outcome.title, "bold" if outcome.wrong else ""), (f"- {became}{shadow} {where}", "dim"))
    return tree(head, [line((outcome.where, "dim"), outcome.wrong)] if outcome.wrong else [])


def _as_json(outcomes: Sequence[Outcome], site: Site, remarks: Sequence[Remark]) -> dict[str, object]:
    return {
        "ok": not any(outcome.wrong for outcome in outcomes),
        "configuration": site.loaded.document.file,
        "tests": [
            {
                "name": outcome.title,
                "where": outcome.where,
                "ok": not outcome.wrong,
                "wrong": outcome.wrong or None,
                "expected": outcome.test.expect,
                "allowed": outcome.answer.allowed,
                "reason": outcome.answer.reason,
                "enforced": outcome.answer.enforced,
                "detail": outcome.answer.detail,
                "listener": outcome.answer.listener,
                "route": outcome.answer.route,
            }
            for outcome in outcomes
        ],
        "remarks": [
            {"kind": one.kind, "where": site.loaded.locate(one.path), "path": one.path, "detail": one.detail}
            for one in remarks
        ],
    }
