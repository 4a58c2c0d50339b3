"""Lines of audit logs: read, filtered, shown, verified."""

import gzip
import json
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, cast

import click
from rich.text import Text
from rich.tree import Tree

from mtlsproxy.cli.foreign import foreign_json
from mtlsproxy.cli.report import BadInput, line, print_json, print_tree, printable, text, tree
from mtlsproxy.telemetry.audit import LONGEST_LINE
from mtlsproxy.telemetry.chain import ChainCheck, Trouble, Writer

BROKEN = 1
_GZIP = b"\x1f\x8b"
_SHOWN = 20
"""Troubles listed for people; of more, how many there are."""

Said = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """A line. said: what it says, None where it is of no audit log."""

    data: bytes
    said: dict[str, Any] | None


def records(file: Path, is_wanted: Callable[[dict[str, Any]], bool] | None = None) -> Iterator[Record]:
    """Every line that is not empty, its newline taken off. is_wanted: which JSON objects with a time to take, where it
    is not those of an audit log. Raises BadInput."""
    for data in _lines(file):
        if data:
            yield Record(data, _said(data, is_wanted or _is_audit_line))


def _lines(file: Path) -> Iterator[bytes]:
    try:
        with _opened(file) as stream:
            while data := stream.readline(4 * LONGEST_LINE):
                yield data.removesuffix(b"\n")
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInput(f"{file}: cannot be read: {reason}") from error


def _opened(file: Path) -> IO[bytes]:
    if str(file) == "-":
        return sys.stdin.buffer
    stream = file.open("rb")
    if stream.peek(2)[:2] == _GZIP:
        stream.close()
        return cast(IO[bytes], gzip.open(file, "rb"))
    return stream


def _said(data: bytes, is_wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
    try:
        said = foreign_json(data)
    except ValueError:
        return None
    if not isinstance(said, dict):
        return None
    return said if is_wanted(said) and _at(said) is not None else None


def _is_audit_line(said: dict[str, Any]) -> bool:
    if "event" not in said and said.get("message") == "refused":  # the program's own log says it in other words
        said["event"] = "refused"
    return isinstance(said.get("event"), str)


def _at(said: Said) -> datetime | None:
    try:
        at = datetime.fromisoformat(said["time"])
    except (KeyError, TypeError, ValueError):
        return None
    return at if at.tzinfo is not None else None


@dataclass(frozen=True, slots=True)
class Filter:
    """All that is given must hold; of several values of one kind any."""

    identity: str | None = None
    reasons: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    listeners: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None

    @property
    def given(self) -> bool:
        return self != Filter()

    def takes(self, said: Said) -> bool:
        for key, values in (
            ("reason", self.reasons),
            ("event", self.events),
            ("route", self.routes),
            ("listener", self.listeners),
        ):
            if values and said.get(key) not in values:
                return False
        # Of a denial, `reason` is a note in words.
        if self.reasons and said["event"] != "refused":
            return False
        return self._takes_time(said) and (self.identity is None or _names(said, self.identity.casefold()))

    def _takes_time(self, said: Said) -> bool:
        at = _at(said)
        if at is None:
            return False
        return (self.since is None or at >= self.since) and (self.until is None or at <= self.until)


_WHO = ("principal", "subject", "serial", "fingerprint", "client_ip", "by", "denied")


def _names(said: Said, wanted: str) -> bool:
    values = [said.get(key) for key in _WHO]
    sans = said.get("san")
    values += sans if isinstance(sans, list) else []
    # Fingerprints are copied from tools that write colons.
    plain = wanted.replace(":", "")
    digits = plain if plain and all(character in "0123456789abcdef" for character in plain) else wanted
    return any(isinstance(value, str) and _holds(value.casefold(), wanted, digits) for value in values)


def _holds(value: str, wanted: str, digits: str) -> bool:
    return wanted in value or digits in value


# -- shown -----------------------------------------------------------------------------------------------------------


def print_record(said: Said, output_format: str) -> None:
    if output_format == "json":
        click.echo(json.dumps(said))
        return
    event = said["event"]
    kind = f"refused {said.get('reason')}" if event == "refused" else event
    if said.get("enforced") is False:
        kind += " (let pass)"
    what = _refusal(said) if event == "refused" else _change(said)
    who = _who(said)
    click.echo(printable(f"{said['time']:24}  {kind:24}  {who}  {what}"))


def _who(said: Said) -> str:
    address = said.get("client_ip")
    named = said.get("principal") or said.get("subject") or said.get("by")
    if address:
        return f"{named or 'no certificate'} at {address}"
    return str(named or said.get("writer") or "-")


def _refusal(said: Said) -> str:
    where = " ".join(str(said[key]) for key in ("listener", "route") if said.get(key))
    request = f"{said['method']} {said.get('host') or ''}{said.get('path') or ''}" if said.get("method") else ""
    ident = f"request {said['request_id']}" if said.get("request_id") else ""
    times = f"and {said['suppressed']} more" if said.get("suppressed") else ""
    return "; ".join(part for part in (where, request, str(said.get("detail") or ""), ident, times) if part)


def _change(said: Said) -> str:
    match said["event"]:
        case "reload":
            return _reload(said)
        case "denial_made" | "denial_lifted":
            return f"{said.get('id')}: {said.get('denied')}"  # its words have the reason, too
        case "crl":
            return f"truststore {said.get('truststore')}: {said.get('detail')}"
        case "started":
            return f"{said.get('role')} (process {said.get('pid')}) with {said.get('file')} {_new(said)}"
        case _:
            return ""


def _reload(said: Said) -> str:
    if not said.get("ok"):
        return f"refused, generation {said.get('generation')} stays: {'; '.join(map(str, _list(said, 'errors')))}"
    changes = [str(one.get("what")) for one in _list(said, "changes") if isinstance(one, dict)]
    return f"generation {said.get('generation')}: {'; '.join(changes) or 'nothing has changed'}"


def _list(said: Said, key: str) -> list[Any]:
    """A file may have been tampered with."""
    value = said.get(key)
    return value if isinstance(value, list) else []


def _new(said: Said) -> str:
    hashes = said.get("configuration")
    return str(hashes.get("new"))[:16] if isinstance(hashes, dict) else ""


# -- verified --------------------------------------------------------------------------------------------------------


def print_verification(files: tuple[Path, ...], output_format: str) -> int:
    """The exit status. Raises BadInput."""
    check = ChainCheck()
    for file in files:
        check.begin(str(file))
        for data in _lines(file):
            check.line(data, _said(data, _is_audit_line))
    writers, troubles = check.finish()
    if not check.lines:
        raise BadInput(f"{', '.join(map(str, files))}: no lines")
    if output_format == "json":
        print_json(_as_json(check.lines, writers, troubles))
    else:
        _print_verified(check.lines, writers, troubles)
    return BROKEN if troubles else 0


def _as_json(lines: int, writers: tuple[Writer, ...], troubles: tuple[Trouble, ...]) -> dict[str, object]:
    return {
        "whole": not troubles,
        "lines": lines,
        "writers": [
            {
                "writer": one.name,
                "role": one.role,
                "first": one.first,
                "last": one.last,
                "since": one.since,
                "until": one.until,
                "lost": one.lost,
                "stopped": one.stopped,
            }
            for one in writers
        ],
        "troubles": [{"file": one.file, "line": one.line, "detail": one.detail} for one in troubles],
    }


def _print_verified(lines: int, writers: tuple[Writer, ...], troubles: tuple[Trouble, ...]) -> None:
    head = (
        line(("not as it was written", "bold red"), f"- {len(troubles)} in {lines} lines")
        if troubles
        else line(("whole", "bold green"), f"- {lines} lines, none changed, missing or put in")
    )
    shown: list[Text | Tree] = [line((f"{one.file}:{one.line}", "bold"), one.detail) for one in troubles[:_SHOWN]]
    if len(troubles) > _SHOWN:
        shown.append(text(f"and {len(troubles) - _SHOWN} more", "dim"))
    parts: list[Text | Tree] = [head, *([tree(text("what is wrong"), shown)] if shown else [])]
    parts.append(tree(text("writers"), map(_writer, writers)))
    print_tree(*parts)


def _writer(one: Writer) -> Text:
    pieces = [f"lines {one.first} to {one.last}, {one.since} to {one.until}"]
    if not one.whole:
        pieces.append("its earlier lines are in a file that was not given")
    if one.lost:
        pieces.append(f"{one.lost} lines were lost: the disk was full or too slow")
    if not one.stopped:
        pieces.append("no last line: it runs, was killed, or lines are cut off")
    return line((one.name, "bold"), one.role or "", ", ".join(pieces))
