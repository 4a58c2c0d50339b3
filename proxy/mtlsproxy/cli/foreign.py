"""JSON that somebody else wrote: lines of logs, answers of whoever listens where an admin should."""

from typing import Any

import orjson

DEEPEST = 32
"""Levels; what this program writes has fewer than ten, and Python fails on a thousand wherever it shows them."""


def foreign_json(data: bytes) -> Any:
    """As orjson reads it: no lone surrogates, which cannot be encoded. Raises ValueError, also for deep nesting."""
    said = orjson.loads(data)
    if data.count(b"[") + data.count(b"{") > DEEPEST and _is_deeper(said, DEEPEST):
        raise ValueError(f"nested more than {DEEPEST} deep")
    return said


def _is_deeper(value: object, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    return levels == 0 or any(
        _is_deeper(part, levels - 1) for part in (value.values() if isinstance(value, dict) else value)
    )
