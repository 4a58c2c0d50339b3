"""A section of the page and its table, which becomes a list of cards where there is little room."""

from collections.abc import Sequence
from datetime import datetime

from mtlsproxy.admin.element import Element, Node, el
from mtlsproxy.admin.view.words import ago, instant, utc


def section(name: str, heading: str, *content: Node | None, hint: str = "") -> Element:
    """name: by which links reach it."""
    return el(
        "section",
        el("h2", heading, id=f"{name}-heading"),
        el("p", hint, class_="hint") if hint else None,
        *content,
        id=name,
        aria_labelledby=f"{name}-heading",
    )


def table(caption: str, columns: Sequence[str], rows: Sequence[Element], nothing: str) -> Element:
    """rows: of `row`, made with the same columns. nothing: what is said where there are none.

    The roles are those that the elements have by themselves, and lose in some browsers where they are shown as cards.
    """
    if not rows:
        return el("p", nothing, class_="nothing")
    heads = [el("th", column, scope="col", role="columnheader") for column in columns]
    return el(
        "table",
        el("caption", caption),
        el("thead", el("tr", *heads, role="row"), role="rowgroup"),
        el("tbody", *rows, role="rowgroup"),
        role="table",
    )


def row(ident: str, columns: Sequence[str], *cells: Node | Sequence[Node | None]) -> Element:
    """ident: of what the row is about: the page's script keeps rows by it. The first cell names the row."""
    made = []
    for place, (column, cell) in enumerate(zip(columns, cells, strict=True)):
        content = (cell,) if isinstance(cell, Element | str) else tuple(cell)
        if place == 0:
            made.append(el("th", *content, scope="row", role="rowheader", data_label=column))
        else:
            made.append(el("td", *content, role="cell", data_label=column))
    return el("tr", *made, id=ident, role="row")


def badge(kind: str, words: str) -> Element:
    """kind: good, soon or bad; the words say it too, for who sees no colours."""
    return el("span", words, class_=f"badge {kind}")


def when(value: datetime | str, now: datetime) -> Element:
    """How long ago, and exactly when for who asks."""
    return el("time", ago(value, now), datetime=instant(value).isoformat(), title=utc(value))


def minor(*words: Node | None) -> Element:
    """A second line, of less weight."""
    return el("div", *words, class_="minor")
