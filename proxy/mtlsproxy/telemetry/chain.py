"""Whether the lines of an audit log are all there and unchanged: see `telemetry.audit` for what chains them. Pure.

What it cannot see: lines cut off the end of a writer's, and writers gone as a whole from the end of the files. A writer
that has ended says so with its last line; where that is missing, the process was killed, still runs, or lines are gone.
"""

from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from typing import Any

REMEMBERED = 10_000
"""Lines back to which a writer's first may refer: a few of others come between its look at the file and its first."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What shows that a file is not as it was written. line: from 1."""

    file: str
    line: int
    detail: str


@dataclass(slots=True)
class Writer:
    """What was found of one process. first, last: `sequence` of its lines; lost: lines that it could not write."""

    name: str
    role: str | None
    first: int
    last: int
    since: str
    until: str
    lost: int = 0
    stopped: bool = False

    @property
    def whole(self) -> bool:
        """Whether its beginning is here; the rest is in files that were not given."""
        return self.first == 1


@dataclass(slots=True)
class _Run:
    """Lines of one writer in one file, one after another."""

    file: str
    first: int
    first_line: int
    previous: str | None
    last: int
    hash: str


class ChainCheck:
    """Fed line by line, file by file; the files may come in any order."""

    def __init__(self) -> None:
        self.lines = 0
        self._troubles: list[Trouble] = []
        self._writers: dict[str, Writer] = {}
        self._runs: dict[str, list[_Run]] = {}
        self._open: dict[str, _Run] = {}
        self._file = ""
        self._number = 0
        self._seen: OrderedDict[str, None] = OrderedDict()  # found without looking at each

    def begin(self, file: str) -> None:
        """Of the lines that come now."""
        self._file = file
        self._number = 0
        self._open = {}
        self._seen.clear()

    def line(self, data: bytes, said: dict[str, Any] | None) -> None:
        """data: without its newline. said: what it says, None where that is no JSON object."""
        self._number += 1
        if not data:
            return  # set between a line that was cut short and the next
        self.lines += 1
        if said is None or not _is_link(said):
            self._trouble("is no line of an audit log: it was changed, or cut short when the disk was full")
            return
        self._link(data, said)

    def _link(self, data: bytes, said: dict[str, Any]) -> None:
        name, sequence, previous, digest = said["writer"], said["sequence"], said["previous"], sha256(data).hexdigest()
        if sequence == 1:
            self._follows(said)
        run = self._open.get(name)
        if run is None:
            run = self._open[name] = _Run(self._file, sequence, self._number, previous, sequence, digest)
            self._runs.setdefault(name, []).append(run)
        else:
            self._compare(name, run.last, run.hash, sequence, previous)
            run.last, run.hash = max(sequence, run.last), digest
        self._seen[digest] = None
        self._seen.move_to_end(digest)
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        self._note(name, said)

    def _compare(self, name: str, last: int, digest: str, sequence: int, previous: str | None) -> None:
        if sequence == last + 1:
            if previous != digest:
                self._trouble(f"is not the one that followed line {last} of writer {name}: one of the two was changed")
        elif sequence > last + 1:
            self._trouble(f"comes after lines {last + 1} to {sequence - 1} of writer {name}, which are missing")
        else:
            self._trouble(f"is line {sequence} of writer {name}, and comes after its line {last}")

    def _follows(self, said: dict[str, Any]) -> None:
        follows = said.get("follows")
        if said["previous"] is not None:
            self._trouble("is a writer's first and refers to one before it: it was changed")
        if follows is not None and follows not in self._seen:
            self._trouble("begins where the file ended with a line that is missing")

    def _note(self, name: str, said: dict[str, Any]) -> None:
        sequence, at, lost = said["sequence"], str(said.get("time", "")), said.get("lost", 0)
        writer = self._writers.get(name)
        if writer is None:
            writer = self._writers[name] = Writer(name, None, sequence, sequence, at, at)
        writer.first, writer.last = min(writer.first, sequence), max(writer.last, sequence)
        writer.since, writer.until = min(writer.since, at), max(writer.until, at)
        writer.lost += lost if isinstance(lost, int) else 0
        writer.stopped |= said.get("event") == "stopped"
        role = said.get("role")
        if said.get("event") == "started" and isinstance(role, str):
            writer.role = role

    def finish(self) -> tuple[tuple[Writer, ...], tuple[Trouble, ...]]:
        """The writers, the first to write first, and all that is wrong, in the order of files and lines."""
        for name, runs in self._runs.items():
            runs.sort(key=lambda run: run.first)
            for before, run in pairwise(runs):
                self._file, self._number = run.file, run.first_line
                self._compare(name, before.last, before.hash, run.first, run.previous)
        writers = sorted(self._writers.values(), key=lambda writer: (writer.since, writer.name))
        return tuple(writers), tuple(sorted(self._troubles, key=lambda trouble: (trouble.file, trouble.line)))

    def _trouble(self, detail: str) -> None:
        self._troubles.append(Trouble(self._file, self._number, detail))


def _is_link(said: dict[str, Any]) -> bool:
    previous, follows = said.get("previous", 0), said.get("follows")
    return (
        isinstance(said.get("writer"), str)
        and isinstance(sequence := said.get("sequence"), int)
        and sequence > 0
        and (previous is None or isinstance(previous, str))
        and (follows is None or isinstance(follows, str))
    )
