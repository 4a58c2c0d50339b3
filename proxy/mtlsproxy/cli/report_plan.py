"""How a replay's result looks."""

from collections.abc import Sequence

from rich.text import Text
from rich.tree import Tree

from mtlsproxy.cli.replay import Change, Replay, Weight
from mtlsproxy.cli.report import counted, line, print_json, print_tree, text, tree

_STYLES = {"loses": "bold red", "gains": "bold yellow", "moves": "cyan"}


def print_plan(replay: Replay, notes: Sequence[str], output_format: str) -> None:
    """notes: on what no log can tell."""
    changes = sorted(
        replay.changes.items(), key=lambda each: (list(_STYLES).index(each[0].kind), -each[1].count, each[0].identity)
    )
    if output_format == "json":
        print_json(_as_json(replay, changes, notes))
        return
    parts: list[Tree | Text] = [_change(change, weight) for change, weight in changes]
    parts.append(_summary(replay, changes))
    if replay.cannot_tell:
        shown = (line(f"{counted(count, 'line')}:", why) for why, count in replay.cannot_tell.most_common())
        parts.append(tree(text("what the log cannot tell"), shown))
    if notes:
        parts.append(tree(text("what else has changed"), map(text, notes)))
    print_tree(*parts)


def _change(change: Change, weight: Weight) -> Tree:
    often = counted(weight.count, "request") if weight.count else ""
    head = line((change.kind, _STYLES[change.kind]), (change.identity, "bold"), (often, "dim"))
    rows = [
        line(("who", "dim"), f"{change.subject}, of {change.issuer}, by truststore {' or '.join(change.truststores)}"),
        line(("where", "dim"), f"listener {change.listener}," if change.listener else "", _routes(change)),
    ]
    if change.reason is not None:
        when = "would be" if change.kind == "loses" else "was"
        rows.append(
            line(("why", "dim"), f"{when} refused with {change.reason}", f"- {change.detail}" * bool(change.detail))
        )
    rows.append(line(("last", "dim"), f"{weight.last} {weight.example}"))
    return tree(head, rows)


def _routes(change: Change) -> str:
    if change.before == change.after:
        return f"route {change.before or '(none)'}"
    return f"route {change.before or '(none)'} before, {change.after or '(none)'} after"


def _summary(replay: Replay, changes: Sequence[tuple[Change, Weight]]) -> Text:
    who = {kind: {change.identity for change, _ in changes if change.kind == kind} for kind in _STYLES}
    clients = counted(len(replay.callers), "client")
    words = f"{replay.replayed} of {counted(replay.lines, 'line')} replayed, of {clients}:"
    if not who["loses"] and not who["gains"]:
        return line((words, ""), ("nobody gains or loses access", "bold green"))
    return line(words, (f"access lost by {len(who['loses'])}, gained by {len(who['gains'])}", "bold red"))


def _as_json(replay: Replay, changes: Sequence[tuple[Change, Weight]], notes: Sequence[str]) -> dict[str, object]:
    return {
        "lines": replay.lines,
        "replayed": replay.replayed,
        "clients": len(replay.callers),
        "changes": [
            {
                "kind": change.kind,
                "identity": change.identity,
                "subject": change.subject,
                "issuer": change.issuer,
                "truststores": list(change.truststores),
                "listener": change.listener,
                "route_before": change.before,
                "route_after": change.after,
                "reason": change.reason,
                "detail": change.detail,
                "requests": weight.count,
                "last": weight.last,
                "example": weight.example,
            }
            for change, weight in changes
        ],
        "cannot_tell": [{"why": why, "lines": count} for why, count in replay.cannot_tell.most_common()],
        "notes": list(notes),
    }
