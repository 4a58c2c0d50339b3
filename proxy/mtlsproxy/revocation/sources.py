"""Reading the CRL files that a configuration names. The only part of this room that touches a file."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mtlsproxy.revocation.crl import Crl, load_crls
from mtlsproxy.revocation.errors import CrlError

SUFFIXES = (".pem", ".crl", ".der")
"""What counts as a CRL in a folder; a file that is named outright, or by a glob, may be called anything."""

_WILDCARDS = frozenset("*?[")


class SourceError(Exception):
    """A source that gives no CRL. `detail` is one sentence: the source, what is wrong and how to mend it."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


@dataclass(frozen=True, slots=True)
class LoadedCrls:
    """What the sources held. files: those that were read. ignored: files of folders that have another suffix."""

    crls: tuple[Crl, ...]
    files: tuple[Path, ...]
    ignored: tuple[Path, ...]


def load_sources(sources: Iterable[str | Path]) -> LoadedCrls:
    """Every CRL of files, folders (not of those within) and globs, each file once.

    Raises SourceError for one that is absent, empty, unreadable, no CRL, or a URL.
    """
    files: dict[tuple[int, int], Path] = {}
    ignored: dict[tuple[int, int], Path] = {}
    for source in sources:
        found, passed_over = _expand(str(source))
        for path in found:
            files.setdefault(_identity(path), path)
        for path in passed_over:
            ignored.setdefault(_identity(path), path)
    crls = tuple(crl for path in files.values() for crl in _load(path))
    return LoadedCrls(crls, tuple(files.values()), tuple(path for key, path in ignored.items() if key not in files))


def _identity(path: Path) -> tuple[int, int]:
    """Which file this is, by whatever name or link."""
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise SourceError(f"{path}: there is no such file; create the CRL or correct the name") from error
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from error
    return status.st_dev, status.st_ino


def _expand(source: str) -> tuple[list[Path], list[Path]]:
    if "://" in source:
        raise SourceError(f"{source}: CRLs are read from files here; fetch it to a file and name that")
    path = Path(source)
    try:
        if path.is_dir():
            return _folder(path)
        if path.exists() or not _WILDCARDS.intersection(source):
            return [path], []
        pattern = str(path.relative_to(path.anchor))
        matches = sorted(match for match in Path(path.anchor).glob(pattern) if not match.is_dir())
    except OSError as error:
        raise SourceError(f"{source}: cannot be read: {error.strerror}") from error
    if not matches:
        raise SourceError(f"{source}: no file matches; put a CRL there or correct the pattern")
    return matches, []


def _folder(folder: Path) -> tuple[list[Path], list[Path]]:
    files = sorted(path for path in folder.iterdir() if not path.is_dir() and not path.name.startswith("."))
    found = [path for path in files if path.suffix.lower() in SUFFIXES]
    ignored = [path for path in files if path.suffix.lower() not in SUFFIXES]
    if not found:
        others = f" (ignored: {', '.join(path.name for path in ignored)})" if ignored else ""
        raise SourceError(f"{folder}: no {', '.join(SUFFIXES)} file in this folder{others}; put a CRL there")
    return found, ignored


def _load(path: Path) -> tuple[Crl, ...]:
    if not path.is_file():
        raise SourceError(f"{path}: no regular file; name a file, a folder or a glob")  # a pipe would be waited for
    try:
        return load_crls(path.read_bytes(), str(path))
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from error
    except CrlError as error:
        raise SourceError(error.detail) from error
