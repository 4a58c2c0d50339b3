"""All logs of a process, opened together: access lines, refusals, the audit log, and the program's own messages as JSON
on stderr."""

import asyncio
import logging
import os
import sys
import time
from pathlib import Path

from mtlsproxy.config.service import Logging
from mtlsproxy.telemetry.access_log import AccessLog, encode, escape_controls, timestamp
from mtlsproxy.telemetry.audit import AuditLog, last_line
from mtlsproxy.telemetry.metrics import Metrics
from mtlsproxy.telemetry.refusals import RefusalLog
from mtlsproxy.telemetry.sink import Sink

_STDOUT = 1
_STDERR = 2


class LogError(Exception):
    """A log cannot be opened; says which setting named it."""


class JsonLinesHandler(logging.Handler):
    """The standard library's records as one JSON object a line: time, level, logger, message, exception."""

    def __init__(self, sink: Sink) -> None:
        super().__init__()
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        line: dict[str, object] = {
            "time": timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        if record.exc_info:
            line["exception"] = logging.Formatter().formatException(record.exc_info)
        self._sink.submit(escape_controls(encode(line)) + b"\n")


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError) as error:
        # A message that does not fit its arguments must not take down what it reports on.
        return f"{record.msg} (arguments {record.args!r} do not fit: {error})"


class Logs:
    """The logs that `settings` asks for. `access` is None when it is off, `audit` when there is none; `refusals` is
    always there, and like the program's own messages it is written unless `level` is above warning.

    Installs itself as the root logger's only handler; `close` puts back what was there. Raises LogError. Belongs to one
    event loop and one process: after a fork, open anew.
    """

    def __init__(
        self, settings: Logging, metrics: Metrics, loop: asyncio.AbstractEventLoop, lock: int | None = None
    ) -> None:
        """lock: see Sink."""
        _require_open(settings)
        shared = settings.access == "stderr" or (settings.access == "stdout" and _same_file(_STDOUT, _STDERR))
        access = None if shared else _open_access(settings, lock)
        audit, follows = _open_audit(settings, lock)
        self._stderr = Sink(_STDERR, "stderr", lock=lock)
        self._sinks = tuple(sink for sink in (access, audit, self._stderr) if sink is not None)
        if shared:
            access = self._stderr
        for sink in self._sinks:
            metrics.log_lines_dropped_total.watch((sink.name,), sink.dropped)
        self.access = None if access is None else AccessLog(access, loop)
        level = logging.getLevelNamesMapping()[settings.level.upper()]
        self.audit = None if audit is None else AuditLog(audit, loop, follows)
        self.refusals = RefusalLog(self._stderr if level <= logging.WARNING else None, loop, audit=self.audit)
        self._handler = JsonLinesHandler(self._stderr)
        root = logging.getLogger()
        self._before = (root.handlers[:], root.level)
        root.handlers[:] = [self._handler]
        root.setLevel(level)

    def reopen(self) -> None:
        """Open log files anew under their names (SIGUSR1, after rotation)."""
        for sink in self._sinks:
            sink.reopen()

    def close(self, seconds: float) -> bool:
        """Write what is pending, waiting at most so long in all. False: some lines were lost (and counted). Blocks."""
        ends = time.monotonic() + seconds
        if self.access is not None:
            self.access.close()
        self.refusals.close()
        if self.audit is not None:
            self.audit.close()
        root = logging.getLogger()
        root.handlers[:], level = self._before
        root.setLevel(level)
        # Each sink is closed, also after one that ran out of time.
        complete = [sink.close(max(0.0, ends - time.monotonic())) for sink in self._sinks]
        return all(complete)


def _open_access(settings: Logging, lock: int | None) -> Sink | None:
    if settings.access == "off":
        return None
    try:
        return Sink(settings.access if isinstance(settings.access, Path) else _STDOUT, "access", lock=lock)
    except OSError as error:
        raise LogError(f"logging.access: {settings.access} cannot be opened: {error.strerror}") from error


def _open_audit(settings: Logging, lock: int | None) -> tuple[Sink | None, str | None]:
    """And the hash of the line that is last in it."""
    file = settings.audit
    if file is None:
        return None, None
    try:
        sink = Sink(file, "audit", lock=lock)
        follows, torn = last_line(file)
    except OSError as error:
        raise LogError(f"logging.audit: {file} cannot be opened: {error.strerror}") from error
    if torn:
        sink.submit(b"\n")  # what comes now must not be taken for the rest of it
    return sink, follows


def _require_open(settings: Logging) -> None:
    """Raises LogError where a standard stream was closed when Python started: its number is something else by now."""
    if sys.__stderr__ is None:
        raise LogError("logging: standard error is closed")
    if settings.access == "stdout" and sys.__stdout__ is None:
        raise LogError("logging.access: standard output is closed")


def _same_file(one: int, other: int) -> bool:
    """Whether two descriptors reach one file or pipe (`2>&1`): two threads writing there would mix their lines."""
    first, second = os.fstat(one), os.fstat(other)
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)
