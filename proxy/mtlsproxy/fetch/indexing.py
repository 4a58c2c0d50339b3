"""Parsed lists to index files, and index files to mapped lists."""

import mmap
import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from mtlsproxy.fetch.cache import UNUSED_FOR, remove_unused, write_atomically
from mtlsproxy.revocation import indexfile
from mtlsproxy.revocation.crl import Crl
from mtlsproxy.revocation.errors import CrlError


def write_indexes(folder: Path, group: str, crls: Sequence[Crl]) -> tuple[Path, ...]:
    """One index file a list, named after its content: what is there already stays, so that all who map it share it.

    group: names what replaces one another; the files of the group's content before this one stay until the next.
    Raises CrlError for a list that no index can hold, and OSError.
    """
    stem = _stem(group, [(crl.source, crl.sha256) for crl in crls])
    paths = tuple(folder / f"{stem}-{number}.idx" for number in range(len(crls)))
    for path, crl in zip(paths, crls, strict=True):
        if not _is_whole(path):
            # What a power failure damages is found by `_is_whole` and written anew; syncing megabytes takes seconds.
            write_atomically(path, indexfile.dump(crl), durable=False)
    _keep_two(folder, group, stem)
    return paths


def find_index(folder: Path, group: str, source: str, digest: str) -> Crl | None:
    """The one list from `source` whose DER has this SHA-256, mapped, where its index was written and is whole. Changes
    nothing."""
    path = folder / f"{_stem(group, [(source, digest)])}-0.idx"
    try:
        with path.open("rb") as file:
            view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        indexfile.check_sections(view)
        found = indexfile.load(view)
    except (OSError, ValueError, CrlError):
        return None
    return found if (found.source, found.sha256) == (source, digest) else None


def _stem(group: str, contents: Sequence[tuple[str, str]]) -> str:
    """contents: source and SHA-256 of every list."""
    digest = sha256("\0".join((indexfile_name(), *(part for pair in contents for part in pair))).encode())
    return f"{group}-{digest.hexdigest()[:16]}"


def indexfile_name() -> str:
    """Files of another version of the format have other names, so that two versions can share a folder."""
    return f"{indexfile.MAGIC.decode()} {indexfile.VERSION}"


def map_index(path: Path) -> Crl:
    """The list of an index file, mapped: no entry is read. Raises CrlError and OSError."""
    with path.open("rb") as file:
        try:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:
            raise CrlError(f"{path}: an empty file is no CRL index") from error
    return indexfile.load(memoryview(mapped))


def prune_indexes(folder: Path, at: datetime) -> None:
    """Remove what nobody wrote or used again in a long time. Who has one mapped keeps it."""
    remove_unused(folder, "*.idx", at - UNUSED_FOR)


def _is_whole(path: Path) -> bool:
    """Whether the file is here and as it was written; then it counts as used now."""
    try:
        with path.open("rb") as file:
            indexfile.check_sections(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
            os.utime(file.fileno())
    except (FileNotFoundError, ValueError, CrlError):
        return False
    return True


def _keep_two(folder: Path, group: str, stem: str) -> None:
    """Of the contents of a group, this one and the one before it, which somebody may be about to open."""
    stems: dict[str, float] = {}
    for path in folder.glob(f"{group}-*.idx"):
        with suppress(FileNotFoundError):
            name = path.name[: len(stem)]
            stems[name] = max(stems.get(name, 0.0), path.stat().st_mtime)
    others = sorted((name for name in stems if name != stem), key=stems.__getitem__)
    for name in others[:-1]:
        for path in folder.glob(f"{name}-*.idx"):
            path.unlink(missing_ok=True)
