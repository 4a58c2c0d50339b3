"""Where log lines go: one writer thread a destination, so that no slow disk and no unread pipe stops the event loop.

Lines are handed over in batches. What finds no room in the queue, or cannot be written, is lost and counted.
"""

import contextlib
import fcntl
import logging
import os
import select
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

MAX_QUEUED_BYTES = 8 * 1024 * 1024
"""What a slow sink may hold back: a second or two of lines at full load, and a bound on memory."""

_POLL_MILLISECONDS = 1000
_NOTES = 65536  # octets of a lock file, one for a pipe: what its last line is
_WHOLE, _TORN = b"\0", b"\1"
_FILE_MODE = 0o640
# O_NONBLOCK: a FIFO without a reader is an error at start instead of a start that hangs; regular files ignore it.
_FILE_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK

_program = logging.getLogger(__name__)


class _Reopen:
    """Asks the writer thread to open its file anew."""


class _Stop:
    """Asks the writer thread to end."""


_Job = tuple[bytes, int] | threading.Event | _Reopen | _Stop


class Sink:
    """A file (opened for appending, made with mode 0640) or an inherited descriptor (stdout, stderr: never closed).

    lock: a file that several processes lock while they write to one pipe: the kernel would mix lines that are longer
    than PIPE_BUF (regular files it appends to whole). It notes who is writing: one that is killed leaves half a line.
    Raises OSError when the file cannot be opened. Make it in the process that writes: threads do not survive a fork.
    """

    def __init__(
        self, target: Path | int, name: str, max_queued_bytes: int = MAX_QUEUED_BYTES, lock: int | None = None
    ) -> None:
        self.name = name
        self._path = target if isinstance(target, Path) else None
        self._descriptor = target if isinstance(target, int) else os.open(target, _FILE_FLAGS, _FILE_MODE)
        self._lock_file = None if lock is None or stat.S_ISREG(os.fstat(self._descriptor).st_mode) else lock
        self._max_queued_bytes = max_queued_bytes
        self._queue: SimpleQueue[_Job] = SimpleQueue()
        self._lock = threading.Lock()
        self._queued_bytes = 0
        self._queued_lines = 0
        self._dropped = 0
        self._closed = False
        self._broken = False
        self._torn = False
        # A daemon: a pipe that nobody reads must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=f"log-{name}", daemon=True)
        self._thread.start()

    def submit(self, data: bytes, lines: int = 1) -> bool:
        """Queue whole lines, newline included; from any thread, never blocking. False: they were dropped."""
        with self._lock:
            if self._closed or self._queued_bytes + len(data) > self._max_queued_bytes:
                self._dropped += lines
                return False
            self._queued_bytes += len(data)
            self._queued_lines += lines
            self._queue.put((data, lines))
        return True

    def dropped(self) -> int:
        """Lines lost so far."""
        return self._dropped

    def reopen(self) -> None:
        """Let go of the file and open its name anew (log rotation), after what is queued. Descriptors stay."""
        if self._path is not None:
            self._queue.put(_Reopen())

    def flush(self, seconds: float) -> bool:
        """Wait, at most so long, until what is queued now is written or lost. Blocks: not on the event loop."""
        reached = threading.Event()
        self._queue.put(reached)
        return reached.wait(seconds)

    def close(self, seconds: float) -> bool:
        """Write what is queued, at most so long, and end. False: time ran out, and the rest was lost and counted."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._queue.put(_Stop())
        self._thread.join(seconds)
        if not self._thread.is_alive():
            return True
        with self._lock:
            self._dropped += self._queued_lines
            self._queued_lines = 0
        return False

    def _run(self) -> None:
        while True:
            job = self._queue.get()
            if isinstance(job, tuple):
                self._take(*job)
            elif isinstance(job, threading.Event):
                job.set()
            elif isinstance(job, _Reopen):
                self._open_anew()
            else:
                break
        if self._path is not None:
            os.close(self._descriptor)

    def _take(self, data: bytes, lines: int) -> None:
        lost = 0
        try:
            with self._alone():
                self._write(data)
            self._broken = False
        except OSError as error:
            lost = lines
            self._complain("cannot be written", error)
        with self._lock:
            # close() gave up on this batch and has counted it already when no lines are left.
            settled = min(lines, self._queued_lines)
            self._queued_lines -= settled
            self._queued_bytes -= len(data)
            self._dropped += min(lost, settled)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if self._lock_file is None:
            yield
            return
        fcntl.lockf(self._lock_file, fcntl.LOCK_EX)
        try:
            place = os.fstat(self._descriptor).st_ino % _NOTES
            self._torn = os.pread(self._lock_file, 1, place) == _TORN
            os.pwrite(self._lock_file, _TORN, place)
            try:
                yield
            finally:
                os.pwrite(self._lock_file, _TORN if self._torn else _WHOLE, place)
        finally:
            fcntl.lockf(self._lock_file, fcntl.LOCK_UN)

    def _write(self, data: bytes) -> None:
        # A batch that failed half-way left half a line behind: the next one starts on a line of its own.
        view = memoryview(b"\n" + data if self._torn else data)
        whole = len(view)
        try:
            while view:
                try:
                    view = view[os.write(self._descriptor, view) :]
                except BlockingIOError:
                    self._wait_until_writable()
        finally:
            if len(view) < whole:
                self._torn = bool(view)

    def _wait_until_writable(self) -> None:
        """For a descriptor that is non-blocking, by our own flag (a FIFO) or because our parent made it so."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        poll.poll(_POLL_MILLISECONDS)

    def _open_anew(self) -> None:
        assert self._path is not None
        try:
            fresh = os.open(self._path, _FILE_FLAGS, _FILE_MODE)
        except OSError as error:
            self._complain("cannot be reopened, lines go on to the old file", error)
            return
        with contextlib.suppress(OSError):  # what close reports was already reported by the writes
            os.close(self._descriptor)
        self._descriptor = fresh
        self._torn = False

    def _complain(self, what: str, error: OSError) -> None:
        # Once until a write succeeds: the complaint may itself be a line for this very sink.
        if not self._broken:
            self._broken = True
            _program.error("log %s %s: %s", self.name, what, error)
