"""Who was turned away and why, and how often for which reason."""

import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from mtlsproxy.admin.element import Element, Node, el
from mtlsproxy.admin.view.facts import Facts, Tree
from mtlsproxy.admin.view.section import badge, minor, row, section, table, when
from mtlsproxy.admin.view.spark import spark
from mtlsproxy.admin.view.words import length, many, number, plain

SHOWN = 40
_BY_REASON = ("Reason", "Course", "Lately", "Since the start")
_COLUMNS = ("Who", "Why", "What", "When", "Explain")


@dataclass(frozen=True, slots=True)
class Repeated:
    """Refusals of one client for one reason at one place; `newest` stands for all. ident: of who, why and where."""

    ident: str
    newest: Tree
    count: int


def repeated(rejections: Sequence[Tree]) -> list[Repeated]:
    """rejections: newest first, and so is the answer."""
    found: dict[str, list[Tree]] = {}
    for each in rejections:
        who = each.get("fingerprint") or each.get("client_ip")
        key = repr((who, each.get("reason"), each.get("listener"), each.get("route"), each.get("enforced")))
        found.setdefault(hashlib.sha256(key.encode("utf-8")).hexdigest()[:16], []).append(each)
    return [Repeated(ident, those[0], len(those)) for ident, those in found.items()]


def explain_line(request_id: str, url: str) -> str:
    """For a shell. The id is the proxy's or one that a client chose of letters, digits, `.`, `_` and `-`."""
    ident = f"--request-id={request_id}" if request_id.startswith("-") else f"--request-id {shlex.quote(request_id)}"
    return f"mtlsproxy explain {ident} --admin {shlex.quote(url)}"


def refusals_section(facts: Facts) -> Element:
    groups = repeated(facts.rejections)
    rows = [_row(facts, group) for group in groups[:SHOWN]]
    count = many(len(facts.rejections), "refusal")
    left_out = f" {number(len(groups) - SHOWN)} more clients and reasons are not shown." if len(groups) > SHOWN else ""
    hint = f"The latest {count}, those of one client for one reason together.{left_out}" if facts.rejections else ""
    content = table("Recent refusals, newest first", _COLUMNS, rows, "Nobody was refused since the start.")
    return section("refusals", "Recent refusals", content, hint=hint)


def _row(facts: Facts, group: Repeated) -> Element:
    each = group.newest
    times = minor(f"{number(group.count)} times") if group.count > 1 else None
    line = explain_line(str(each["request_id"]), facts.url)
    return row(
        f"refusal-{group.ident}",
        _COLUMNS,
        _who(each),
        [el("code", plain(each["reason"]), class_="reason"), _enforced(each), minor(plain(each.get("detail") or ""))],
        _what(each),
        [when(each["time"], facts.now), times],
        el(
            "div",
            el("code", line, class_="line", tabindex="0", role="region", aria_label="command that explains it"),
            el("button", "Copy", type="button", class_="live", data_copy=line, title="Copy the command"),
            class_="command",
        ),
    )


def _who(each: Tree) -> Sequence[Node | None]:
    name = each.get("principal") or each.get("subject") or "no certificate"
    subject, issuer = each.get("subject"), each.get("issuer")
    return (
        plain(name),
        minor(plain(subject)) if subject and subject != name else None,
        minor(f"issued by {plain(issuer)}") if issuer else None,
        minor(f"from {plain(each.get('client_ip'))}"),
    )


def _enforced(each: Tree) -> Node | None:
    return None if each.get("enforced", True) else badge("soon", "let pass (shadow)")


def _what(each: Tree) -> Sequence[Node | None]:
    place = [f"listener {each.get('listener')}", *([f"route {each['route']}"] if each.get("route") else [])]
    status, method = each.get("status"), each.get("method")
    answered = None if status is None else minor(f"answered {status}")
    if method:
        return (
            el("span", f"{plain(method)} {plain(each.get('path'))}", class_="path"),
            minor(", ".join(place)),
            answered,
        )
    return "a request" if status else "the handshake", minor(", ".join(place)), answered


def reasons_section(facts: Facts) -> Element:
    course, totals = facts.course, facts.traffic["refusals"]
    span = length(timedelta(seconds=max(course.seconds, 1)))
    order = sorted(totals, key=lambda reason: (-course.counts.get(reason, 0), -totals[reason], reason))
    rows = [
        row(
            f"reason-{reason}",
            _BY_REASON,
            el("code", reason, class_="reason"),
            spark(course.refusals.get(reason, ()), f"{reason} over the last {span}", "refused"),
            number(course.counts.get(reason, 0)),
            number(totals[reason]),
        )
        for reason in order
    ]
    shadow = facts.traffic["let_pass"]
    let_pass = ", ".join(f"{reason} {number(count)}" for reason, count in shadow.items())
    note = el("p", f"Let pass in shadow mode: {let_pass}.", class_="hint") if let_pass else None
    content = table("Refusals by reason", _BY_REASON, rows, "None since the start.")
    return section("reasons", "Refusals by reason", content, note, hint=f"Lately: the last {span}." if rows else "")
