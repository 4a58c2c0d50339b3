"""The audit log: every refusal and every change of trust or configuration, a JSON object a line.

Lines are chained: each carries the SHA-256 of the one that its writer wrote before it, so that none can be changed,
taken out or put in without the rest showing it (`telemetry.chain` checks). Several processes append to one file, each
with a chain of its own: `writer` says whose line it is, `sequence` counts its lines from 1. The first line of a writer
carries `follows`, the hash of the line that it found last in the file. The end of a file is what nothing vouches for:
keep lines elsewhere, too, where whoever can write here must not be able to forget.
"""

import asyncio
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from stat import S_ISREG

from mtlsproxy.telemetry.access_log import (
    CONNECTION,
    TIME,
    AccessEntry,
    encode,
    escape_controls,
    request_fields,
    timestamp,
)
from mtlsproxy.telemetry.sink import Sink

FLUSH_SECONDS = 0.1
FLUSH_ENTRIES = 256
"""Refusals encoded in one go: some milliseconds of the event loop."""

LONGEST_LINE = 256 * 1024
"""Octets: the longest path, SANs and names that are logged fit, each character written as an escape."""


class AuditLog:
    """Writes to `sink`, which others may append to as well. For one event loop; `refused` only remembers."""

    def __init__(
        self,
        sink: Sink,
        loop: asyncio.AbstractEventLoop,
        follows: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """follows: see `last_line`. clock: Unix seconds."""
        self._sink = sink
        self._loop = loop
        self._clock = clock
        self._writer = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._first: dict[str, object] = {"follows": follows}
        self._sequence = 0
        self._previous: str | None = None
        self._lost = 0
        self._pending: list[tuple[AccessEntry, str, bool]] = []
        self._timer: asyncio.TimerHandle | None = None

    def refused(self, entry: AccessEntry, detail: str, *, enforced: bool) -> None:
        """One refusal, as RefusalLog.record takes it."""
        self._pending.append((entry, detail, enforced))
        if self._timer is None:
            self._timer = self._loop.call_later(FLUSH_SECONDS, self._tick)
        elif len(self._pending) >= FLUSH_ENTRIES:
            self.flush()

    def note(self, event: str, fields: Mapping[str, object]) -> None:
        """One change, handed over at once, after the refusals before it."""
        self.flush()
        self._write([(self._clock(), event, encode(fields)[1:])])

    def flush(self) -> None:
        """Hand over the refusals that are pending, without waiting for the sink."""
        pending, self._pending = self._pending, []
        if pending:
            self._write([(entry[TIME], "refused", _refusal(entry, said, held)) for entry, said, held in pending])

    def close(self) -> None:
        """The last line, which says that this is the end. The sink stays open: its owner closes it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.note("stopped", {})

    def _tick(self) -> None:
        self._timer = None
        self.flush()

    def _write(self, events: list[tuple[float, str, bytes]]) -> None:
        """(Unix seconds, event, its fields as JSON without the opening brace). All of them are written, or none."""
        lines: list[bytes] = []
        sequence, previous = self._sequence, self._previous
        for seconds, event, fields in events:
            sequence += 1
            head: dict[str, object] = {
                "time": timestamp(seconds),
                "event": event,
                "writer": self._writer,
                "sequence": sequence,
                "previous": previous,
            }
            if self._lost and not lines:
                head["lost"] = self._lost
            if sequence == 1:
                head |= self._first
            between = b"" if fields == b"}" else b","
            line = escape_controls(encode(head)[:-1] + between + fields)
            previous = hash_of(line)
            lines.append(line + b"\n")
        if self._sink.submit(b"".join(lines), len(lines)):
            self._sequence, self._previous, self._lost = sequence, previous, 0
        else:
            self._lost += len(lines)  # the chain goes on from what was written, and says how many are missing


def hash_of(line: bytes) -> str:
    """What the next line carries. line: without its newline."""
    return hashlib.sha256(line).hexdigest()


def last_line(file: Path) -> tuple[str | None, bool]:
    """The hash of the last whole line of a regular file, None where there is none; and whether half a line comes after
    it, of a writer that died or met a full disk. Raises OSError."""
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
        if not S_ISREG(os.fstat(stream.fileno()).st_mode):
            return None, False
        stream.seek(0, os.SEEK_END)
        stream.seek(max(0, stream.tell() - 2 * LONGEST_LINE))
        *lines, rest = stream.read().split(b"\n")
    return next((hash_of(line) for line in reversed(lines) if line), None), bool(rest)


def _refusal(entry: AccessEntry, detail: str, enforced: bool) -> bytes:
    after = encode({**request_fields(entry), "detail": detail, "enforced": enforced})
    return entry[CONNECTION] + b"," + after[1:]
