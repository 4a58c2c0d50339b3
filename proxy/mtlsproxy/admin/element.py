"""Documents as trees of elements, which the server writes as HTML and the page's script builds with the DOM.

Text is text in both: neither what a certificate says nor what a client sends is ever parsed as markup.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Any, TypeAlias

_SVG = frozenset({"svg", "path"})
_VOID = frozenset({"input"})
TAGS = _SVG | frozenset(
    {
        "a", "button", "caption", "code", "dd", "div", "dl", "dt", "footer", "h1", "h2", "h3", "header", "input",
        "label", "li", "main", "nav", "p", "section", "span", "strong", "table", "tbody", "td", "th", "thead", "time",
        "tr", "ul",
    }
)  # fmt: skip
ATTRIBUTES = frozenset(
    {
        "aria-hidden", "aria-label", "aria-labelledby", "aria-live", "aria-pressed", "class", "colspan", "d",
        "data-copy", "data-label", "data-live", "datetime", "height", "hidden", "href", "id", "open",
        "preserveAspectRatio", "role", "scope", "tabindex", "title", "type", "viewBox", "width",
    }
)  # fmt: skip
"""None of these makes a browser run or load anything, but for `href`, which is ours to write."""


@dataclass(frozen=True, slots=True)
class Element:
    """attributes: by name; a value of "" is a bare one."""

    tag: str
    attributes: dict[str, str]
    children: "tuple[Node, ...]"


Node: TypeAlias = Element | str


def el(tag: str, *children: Node | None, **attributes: str | None) -> Element:
    """`class_` and `data_copy` stand for class and data-copy; None leaves a child or an attribute out.

    Raises ValueError for what is not in TAGS and ATTRIBUTES, and for links to elsewhere.
    """
    named = {_name(key): value for key, value in attributes.items() if value is not None}
    if tag not in TAGS or not ATTRIBUTES.issuperset(named):
        raise ValueError(f"the page has no <{tag} {' '.join(named)}>")
    if not named.get("href", "/").startswith(("/", "#")):
        raise ValueError(f"the page does not link to {named['href']!r}")
    return Element(tag, named, tuple(child for child in children if child is not None and child != ""))


def _name(key: str) -> str:
    return key if key in ("viewBox", "preserveAspectRatio") else key.rstrip("_").replace("_", "-")


def to_html(node: Node) -> str:
    return "".join(_pieces(node))


def _pieces(node: Node) -> Iterator[str]:
    if isinstance(node, str):
        yield escape(node, quote=False)
        return
    attributes = "".join(f' {name}="{escape(value)}"' for name, value in node.attributes.items())
    yield f"<{node.tag}{attributes}>"
    if node.tag in _VOID:
        return
    for child in node.children:
        yield from _pieces(child)
    yield f"</{node.tag}>"


def to_json(node: Node) -> Any:
    """Text as a string, an element as [tag, attributes, child…]."""
    if isinstance(node, str):
        return node
    return [node.tag, node.attributes, *map(to_json, node.children)]
