"""Exit statuses when nobody takes the output: `| head` ends a command in order, a full disk is said in one line.

Python, click and rich would each make 1 of it, which here means "refused" or "--strict found something".
"""

import contextlib
import io
import os
import sys
from collections.abc import Callable
from typing import Any, TextIO

NOT_WRITTEN = 2
READER_GONE = 128 + 13
"""As a shell reports a command that SIGPIPE ended."""


class _Descriptor(io.FileIO):
    """Remembers why it could not be written, whoever handles the error."""

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.failure = error
            raise


class _Watched:
    """A text stream to where `stream` leads."""

    def __init__(self, stream: TextIO, *, line_buffering: bool) -> None:
        self._raw = _Descriptor(stream.fileno(), "wb", closefd=False)
        self.text = io.TextIOWrapper(
            io.BufferedWriter(self._raw), stream.encoding, stream.errors, line_buffering=line_buffering
        )

    @property
    def failure(self) -> OSError | None:
        return self._raw.failure

    def finish(self) -> None:
        """Write what is left. What cannot be written is dropped, so that Python's own end does not try again."""
        with contextlib.suppress(OSError):  # it is remembered
            self.text.flush()
        if self.failure is not None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._raw.fileno())
            os.close(nowhere)


def exit_status_of(command: Callable[[], object]) -> int:
    """Run a command that ends with SystemExit: its status, or what stands for it when its output did not arrive.

    sys.stdout and sys.stderr are replaced; the process is to end after this.
    """
    if sys.stdout is None or sys.stderr is None:  # closed by the caller: nothing is printed, nothing can fail
        return _status_of(command, ())
    out = _Watched(sys.stdout, line_buffering=sys.stdout.isatty())
    err = _Watched(sys.stderr, line_buffering=True)
    sys.stdout, sys.stderr = out.text, err.text
    status = _status_of(command, (out, err))
    out.finish()
    if out.failure is not None and not isinstance(out.failure, BrokenPipeError):
        with contextlib.suppress(OSError):  # then the status alone says it
            print(f"the output cannot be written: {out.failure.strerror}", file=sys.stderr)
    err.finish()
    failure = out.failure or err.failure
    if failure is None:
        return status
    return READER_GONE if isinstance(failure, BrokenPipeError) else NOT_WRITTEN


def _status_of(command: Callable[[], object], streams: tuple[_Watched, ...]) -> int:
    try:
        command()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except OSError:
        if not any(stream.failure for stream in streams):
            raise
    return 0
