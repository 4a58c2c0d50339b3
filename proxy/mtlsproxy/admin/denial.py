"""The body of `POST /api/deny` → an entry, or everything that is wrong with it. Pure."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from pydantic import ValidationError

from mtlsproxy.config.errors import did_you_mean
from mtlsproxy.config.model import DenyEntry

WHO = ("fingerprint_sha256", "spki_sha256", "issuer", "serial")
_OPTIONAL = ("expires", "reason", "truststore")
_ONE_OF_THEM = "name the certificate by exactly one of fingerprint_sha256, spki_sha256, or issuer and serial together"

MAX_TEXT = 1024
"""Characters of each value: all denials together are one file, read whole at a start."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """detail: one sentence. pointer: where in the body (RFC 6901), as a URI fragment."""

    detail: str
    pointer: str


class BadDenial(Exception):
    """Everything that is wrong with a body."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__("; ".join(mistake.detail for mistake in mistakes))
        self.mistakes = mistakes


@dataclass(frozen=True, slots=True)
class AskedDenial:
    """truststore: None for all."""

    entry: DenyEntry
    truststore: str | None


def read_denial(body: bytes, truststores: Collection[str], at: datetime) -> AskedDenial:
    """truststores: the names that there are. Raises BadDenial."""
    said, mistakes = _object(body)
    mistakes += [
        Mistake(f"unknown key {key}{did_you_mean(key, (*WHO, *_OPTIONAL))}", _pointer(key))
        for key in said
        if key not in WHO and key not in _OPTIONAL
    ]
    # In answers these three are null where they are absent, so they may be sent back like that.
    said = {key: value for key, value in said.items() if value is not None or key not in _OPTIONAL}
    mistakes += _who(said)
    mistakes += [
        Mistake(f"{key}: longer than {MAX_TEXT} characters", _pointer(key))
        for key, value in said.items()
        if isinstance(value, str) and len(value) > MAX_TEXT
    ]
    mistakes += _truststore(said.get("truststore"), truststores)
    entry, wrong = _entry({key: value for key, value in said.items() if key in DenyEntry.model_fields})
    mistakes += wrong
    if entry is not None and entry.expires is not None and entry.expires <= at:
        mistakes.append(Mistake(f"expires: {said['expires']} has passed", "#/expires"))
    if mistakes or entry is None:
        raise BadDenial(mistakes)
    return AskedDenial(entry, said.get("truststore"))


def _object(body: bytes) -> tuple[dict[str, Any], list[Mistake]]:
    twice: list[Mistake] = []

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        twice.extend(Mistake(f"{key} is written twice", _pointer(key)) for key in set(keys) if keys.count(key) > 1)
        return dict(pairs)

    try:
        orjson.loads(body)  # stricter than json (depth, surrogates, numbers), which alone tells of duplicates
        said = json.loads(body, object_pairs_hook=members)
    except ValueError as error:
        raise BadDenial([Mistake(f"the body is not JSON: {error}", "#")]) from None
    except RecursionError:
        raise BadDenial([Mistake("the body is nested too deeply", "#")]) from None
    if not isinstance(said, dict):
        raise BadDenial([Mistake("the body must be a JSON object", "#")])
    return said, twice


def _who(said: dict[str, Any]) -> list[Mistake]:
    given = {key for key in WHO if key in said}
    if given in ({"fingerprint_sha256"}, {"spki_sha256"}, {"issuer", "serial"}):
        return []
    if given in ({"issuer"}, {"serial"}):
        (there,) = given
        (missing,) = {"issuer", "serial"} - given
        return [Mistake(f"{there} needs {missing} beside it: {_ONE_OF_THEM}", _pointer(there))]
    return [Mistake(_ONE_OF_THEM, "#")]


def _truststore(name: object, known: Collection[str]) -> list[Mistake]:
    if name is None or (isinstance(name, str) and name in known):
        return []
    words = f"there is no truststore {name}{did_you_mean(name, known)}" if isinstance(name, str) else "must be a string"
    return [Mistake(f"truststore: {words}", "#/truststore")]


def _entry(said: dict[str, Any]) -> tuple[DenyEntry | None, list[Mistake]]:
    if not said.keys() & set(WHO):
        said = said | {"serial": "0"}  # that nobody is named is said already: judge the rest
    try:
        return DenyEntry.model_validate(said), []
    except ValidationError as error:
        details = error.errors(include_url=False)
    return None, [Mistake(f"{_field(each)}: {_why(each)}", _pointer(_field(each))) for each in details]


def _field(detail: Any) -> str:
    return str(detail["loc"][0])


def _why(detail: Any) -> str:
    if detail["type"] == "value_error":
        return str(detail["ctx"]["error"])
    return "must be a string"


def _pointer(key: str) -> str:
    return "#/" + key.replace("~", "~0").replace("/", "~1")
