"""The JSON Schema of the configuration (draft 2020-12), for editors. Made from the model on demand, never at start."""

import ast
import importlib
import inspect
import itertools
from typing import Any

from pydantic import BaseModel

from mtlsproxy.config.base import Section
from mtlsproxy.config.model import Config

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """The schema of what an author writes: durations and sizes in their notations, `off` also as false."""
    schema = Config.model_json_schema(mode="validation")
    definitions: dict[str, dict[str, Any]] = schema["$defs"]
    for section in _all_sections(Section):
        place = schema if section is Config else definitions.get(section.__name__)
        if place is not None:
            _finish(place, section)
    return {"$schema": DIALECT, "title": "mtlsproxy configuration", **{k: v for k, v in schema.items() if k != "title"}}


def _all_sections(base: type[BaseModel]) -> list[type[BaseModel]]:
    return [each for direct in base.__subclasses__() for each in (direct, *_all_sections(direct))]


def _finish(schema: dict[str, Any], section: type[BaseModel]) -> None:
    """Field docstrings as descriptions; no titles that repeat keys; no `default: null` where null is refused."""
    described = {key: text for base in reversed(section.__mro__) for key, text in _docstrings(base).items()}
    schema.pop("title", None)
    for key, member in schema.get("properties", {}).items():
        member.pop("title", None)
        if key in described:
            member["description"] = described[key]
        if member.get("default", ...) is None and {"type": "null"} not in member.get("anyOf", []):
            del member["default"]


def _docstrings(section: type) -> dict[str, str]:
    """Field → the string that follows it. Read from the source: pydantic would do so at every start."""
    if not (issubclass(section, Section) and section is not Section):
        return {}
    tree = ast.parse(inspect.getsource(importlib.import_module(section.__module__)))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == section.__name__)
    return {
        field.target.id: " ".join(inspect.cleandoc(note.value.value).split())
        for field, note in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(note, ast.Expr) and isinstance(note.value, ast.Constant) and isinstance(note.value.value, str)
    }
