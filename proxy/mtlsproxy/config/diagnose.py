"""The model's complaints in the operator's words, at the operator's positions."""

import re
from collections.abc import Iterator, Sequence, Set
from typing import Any, get_args, get_origin

from pydantic_core import ErrorDetails
from yaml.nodes import ScalarNode

from mtlsproxy.config.base import Section
from mtlsproxy.config.document import Document, Path, printed
from mtlsproxy.config.errors import ConfigError, did_you_mean
from mtlsproxy.config.model import Config

MAX_CHOICES = 10
"""Longer enumerations (HTTP methods) are not listed in an error."""
_UNQUOTED = {"int_type": re.compile(r"-?[0-9]+"), "bool_type": re.compile("true|false")}
_WITHOUT_QUOTES = ": write it without quotes"
_WORDS = {
    "missing": "is required",
    "too_short": "needs at least one entry",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "tuple_type": "must be a list: each entry on a line of its own after a -, or [first, second]",
    "dict_type": "must be a mapping of names to settings",
    "model_type": "must be a mapping of keys to values",
    "model_attributes_type": "must be a mapping of keys to values",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
}


def diagnose(
    details: Sequence[ErrorDetails], document: Document, known: Set[str], root: type[Section] = Config
) -> list[ConfigError]:
    """One error for each place that the model refused, and none for `known` paths, which have theirs already.

    root: the model of the document, or of each of its items.
    """
    found: dict[Path, ConfigError] = {}
    for detail in details:
        path, of_key = _place(detail, document)
        # "too_short" also counts a list whose entries were all refused, which is said already.
        if detail["type"] == "too_short" and detail["input"]:
            continue
        if path not in found and printed(path) not in known:
            found[path] = document.error(path, _words(detail, path, document, root), of_key=of_key)
    return list(found.values())


def _place(detail: ErrorDetails, document: Document) -> tuple[Path, bool]:
    """pydantic's location → a path in the document; names of union members are left out."""
    path: Path = ()
    for step in detail["loc"]:
        if step == "[key]":
            return path, True
        if document.node((*path, step)) is not None:
            path = (*path, step)
    if detail["type"] == "missing":
        return (*path, detail["loc"][-1]), False
    return path, detail["type"] == "extra_forbidden"


def _words(detail: ErrorDetails, path: Path, document: Document, root: type[Section]) -> str:
    kind, value = detail["type"], detail["input"]
    context: dict[str, Any] = detail.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown key{did_you_mean(str(path[-1]), keys_at(path[:-1], root))}"
    if value is None and kind != "missing":
        return "is empty (null): write a value, or remove the key"
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        choices = [choice.strip("'\"") for choice in re.findall(r"'[^']*'|\b[0-9]+\b", str(context["expected"]))]
        allowed = f"must be {' or '.join(choices)}, not" if len(choices) <= MAX_CHOICES else "is unknown here:"
        return f"{allowed} {_shown(value)}{_WITHOUT_QUOTES if value in choices else _near(value, choices)}"
    if kind == "string_type":
        return _not_a_string(path, document)
    if kind in _WORDS:
        words = _WORDS[kind].format(**context)
        return words if kind in ("missing", "too_short") else f"{words}, not {_shown(value)}{_unquoted(kind, value)}"
    return detail["msg"]


def _unquoted(kind: str, value: object) -> str:
    """For what would have been right but for its quotes."""
    meant = _UNQUOTED.get(kind)
    return _WITHOUT_QUOTES if meant is not None and isinstance(value, str) and meant.fullmatch(value) else ""


def _near(value: object, choices: list[str]) -> str:
    hint = did_you_mean(value, choices) if isinstance(value, str) else ""
    return hint if hint.startswith(" (did") else ""


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _not_a_string(path: Path, document: Document) -> str:
    node = document.node(path)
    if isinstance(node, ScalarNode):
        return f'must be a string, and YAML reads {node.value} as something else: quote it ("{node.value}")'
    return "must be a string"


def keys_at(path: Path, root: type[Section] = Config) -> list[str]:
    """The keys that the model knows at a path of the document, [] where it knows no such place."""
    section: type[Section] | None = root
    named = False
    for step in path:
        if isinstance(step, int) or named:
            named = False
            continue
        field = section.model_fields.get(step) if section else None
        if field is None:
            return []
        section = next(_sections(field.annotation), None)
        named = get_origin(field.annotation) is dict
    return list(section.model_fields) if section else []


def _sections(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for member in get_args(annotation):
        yield from _sections(member)
