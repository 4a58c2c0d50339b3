"""Files of the PKI: created whole or not at all, never overwritten by accident, keys never readable by others."""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from mtlsproxy.devpki.errors import PkiError

PRIVATE = 0o600
PUBLIC = 0o644
MAX_SIZE = 16 * 1024 * 1024
"""Nothing we read (certificate, CSR, ledger, CRL of a development CA) is larger; /dev/zero and the like are."""


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file to create: its mode holds from the first moment, since the umask can only take bits away."""

    path: Path
    data: bytes
    mode: int = PUBLIC


def refuse_existing(paths: Sequence[Path]) -> None:
    """Raises PkiError for the first path that exists (a dangling symbolic link does), or that is named twice."""
    for index, path in enumerate(paths):
        if os.path.lexists(path):
            raise PkiError(f"{path}: exists already and is not overwritten; move it away or choose another name")
        if path in paths[:index]:
            raise PkiError(f"{path}: named for two different files; give each a name of its own")


def refuse_outputs(paths: Sequence[Path]) -> None:
    """As `refuse_existing`, and the folders must be there: asked before signing what then could not be written."""
    refuse_existing(paths)
    for path in paths:
        if not path.parent.is_dir():
            raise PkiError(f"{path}: {path.parent} is not a folder; make it first, or choose another name")


def create_all(files: Sequence[NewFile]) -> None:
    """Creates all of the files or, where one cannot be, none. Raises PkiError; existing files are never touched."""
    refuse_existing([file.path for file in files])
    with ExitStack() as undo:
        for file in files:
            try:
                descriptor = os.open(file.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, file.mode)
                undo.callback(file.path.unlink, missing_ok=True)
                _write_through(descriptor, file.data)
            except OSError as error:
                raise unusable(file.path, error) from error
        undo.pop_all()


def replace(path: Path, data: bytes, *, beside: Path) -> None:
    """Replaces a public file in one step: a reader sees the old or the new one, whole. Call it while `locked`.

    beside: the folder of the temporary file. CRL folders are read whole by the proxy, so ours never shows up in there.
    """
    temporary = beside / f".{path.name}.tmp"
    with ExitStack() as undo:
        try:
            temporary.unlink(missing_ok=True)  # under the lock, one that is there was left behind by a crash
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PUBLIC)
            undo.callback(temporary.unlink, missing_ok=True)
            _write_through(descriptor, data)
            temporary.replace(path)
            _sync_directory(path.parent)
        except OSError as error:
            raise unusable(path, error) from error


def read(path: Path) -> bytes:
    """The file's bytes. Raises PkiError when it cannot be read or is larger than MAX_SIZE."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SIZE + 1)
    except OSError as error:
        raise unusable(path, error) from error
    if len(data) > MAX_SIZE:
        raise PkiError(f"{path}: larger than {MAX_SIZE} bytes; this is not a file of a development PKI")
    return data


def make_directory(path: Path) -> None:
    """Makes the folder and its parents where they are missing; only its owner may write to it. Raises PkiError."""
    try:
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise unusable(path, error) from error


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """One `pki` command at a time changes a folder: two would give one CRL number to two CRLs. Waits for the other."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise unusable(directory, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def unusable(path: Path, error: OSError) -> PkiError:
    """An operating system's error in our words."""
    if isinstance(error, FileNotFoundError):
        return PkiError(f"{path}: no such file or folder; check the name, or make it first")
    if isinstance(error, PermissionError):
        return PkiError(f"{path}: permission denied; run this as the owner of the file and its folder")
    return PkiError(f"{path}: {error.strerror or error}")


def _write_through(descriptor: int, data: bytes) -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
