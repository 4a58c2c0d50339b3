"""Large CRL files at a start, before anything else runs: read by a helper process that ends with it.

A million entries that are parsed leave a hundred megabytes to the process that did it; the index that a helper writes
is mapped, and shared by all that map it.
"""

import contextlib
import logging
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mtlsproxy.fetch import messages
from mtlsproxy.fetch.client import LOAD_WITHIN, HelperFailed, mapped, read_here
from mtlsproxy.fetch.link import helper_command, helper_environment
from mtlsproxy.revocation.sources import LoadedCrls, SourceError

_QUESTION = {"op": "load", "id": 1}


def load_at_start(folder: Path | None, who: Mapping[str, Any], sources: Sequence[str | Path]) -> LoadedCrls:
    """Every CRL of files, folders and globs. Blocks. Raises SourceError, CrlError.

    folder: as `FetchClient`'s. who: `user`, `group` and `extra_groups` of subprocess.Popen for a helper that is
    somebody else than this process still is: the folder is to be theirs.
    """
    if (lists := read_here(sources)) is not None:
        return lists
    if folder is None:
        raise SourceError("there is no folder to keep indexes of large CRLs in: set state_dir")
    try:
        started = subprocess.Popen(
            helper_command(folder), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=helper_environment(), **who,
        )  # fmt: skip
    except OSError as error:
        raise SourceError(
            f"the helper process that reads large CRL files cannot be started: {error.strerror}"
        ) from error
    with started as process, _killed_after(process, LOAD_WITHIN):
        found = _ask(process, {**_QUESTION, "sources": list(map(str, sources))})
        said = process.communicate()[1].decode("utf-8", "backslashreplace").strip()
    if found is None:
        why = said.rpartition("\n")[2] or f"it ended with status {process.returncode}"
        raise SourceError(f"the helper process that reads large CRL files into {folder} failed: {why}")
    try:
        return mapped(found)
    except HelperFailed as error:
        raise SourceError(error.detail) from error


def _ask(process: "subprocess.Popen[bytes]", question: Mapping[str, Any]) -> dict[str, Any] | None:
    """The answer; None: it ended before it gave one."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(messages.encode(dict(question)))
        process.stdin.flush()
    for line in process.stdout:
        message = messages.decode(line)
        if message["op"] == "loaded":
            return message
        logging.getLogger(message["logger"]).log(message["level"], "%s", message["message"])
    return None


@contextlib.contextmanager
def _killed_after(process: "subprocess.Popen[bytes]", seconds: float) -> Iterator[None]:
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
