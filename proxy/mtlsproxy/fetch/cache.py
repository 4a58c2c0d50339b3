"""Last good copies on disk, so that a restart without the CA's server still knows who is revoked.

A copy is two files: the data, named after its content, and a small JSON file that points to it and is replaced last.
So there is never a half-new copy. The folder belongs to this user alone: what lies in it is believed.
"""

import fcntl
import json
import logging
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from tempfile import mkstemp

MAX_COPIES = 1024
"""Certificates name URLs: a CA that shards its lists must not fill the disk."""

UNUSED_FOR = timedelta(days=30)
"""How long a copy that nobody asks for stays: a client that comes once a month finds it."""

_ABANDONED_AFTER = timedelta(hours=1)
_FORMAT = 1
_TRIES = 3  # at reading a copy that is being replaced
_MAX_DESCRIPTION = 16 * 1024
_DAMAGED = (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError)
log = logging.getLogger(__name__)


class CacheError(Exception):
    """The folder cannot be used. `detail` is one sentence that names it and how to mend it."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Copy:
    """A kept copy. fetched_at: when the server last said that it is current, aware UTC. sha256: of the data."""

    url: str
    path: Path
    sha256: str
    fetched_at: datetime
    etag: str | None
    last_modified: str | None


def state_folder(configured: Path | None, environ: Mapping[str, str]) -> Path | None:
    """`state_dir`; where it is null the user's cache directory (XDG Base Directory); None where there is no home."""
    if configured is not None:
        return configured
    cache = environ.get("XDG_CACHE_HOME", "")
    if Path(cache).is_absolute():
        return Path(cache) / "mtlsproxy"
    try:
        return Path.home() / ".cache" / "mtlsproxy"
    except RuntimeError:
        return None


def private_folder(folder: Path) -> Path:
    """`folder`, made with mode 0700 where it is missing. Raises CacheError when others could write to it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise CacheError(f"{folder}: cannot be made: {error.strerror}; correct state_dir") from error
    if status.st_uid != os.geteuid():
        raise CacheError(f"{folder}: belongs to another user: give state_dir a folder of this one")
    if stat.S_IMODE(status.st_mode) & (stat.S_IWGRP | stat.S_IWOTH):
        raise CacheError(f"{folder}: others can write to it: chmod go-w {folder}")
    return folder


def copy_key(scope: str, url: str) -> str:
    """The name of a copy: the same URL may be judged by other rules in another scope."""
    return sha256(f"{scope}\0{url}".encode()).hexdigest()[:32]


def readable_folder(folder: Path) -> Path:
    """`folder` as somebody else's, to be read alone: nothing is made, and it may be missing. Raises CacheError when
    others could write to it, whoever it belongs to."""
    try:
        mode = folder.stat().st_mode
    except FileNotFoundError:
        return folder
    except OSError as error:
        raise CacheError(f"{folder}: cannot be read: {error.strerror}") from error
    if not stat.S_ISDIR(mode):
        raise CacheError(f"{folder}: is no folder; correct state_dir")
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise CacheError(f"{folder}: others can write to it: chmod go-w {folder}")
    return folder


def read_copy(folder: Path, key: str) -> tuple[Copy, bytes] | None:
    """The copy of `key` and its data; None where there is none. Changes nothing and takes no lock: a copy is replaced
    whole. Raises CacheError for one that was damaged or cannot be read."""
    pointer = folder / f"{key}.json"
    for _ in range(_TRIES):
        try:
            copy = _described(folder, key, _read(pointer, _MAX_DESCRIPTION))
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise CacheError(f"{pointer}: this kept copy cannot be read: {error.strerror}") from error
        except _DAMAGED as error:
            raise CacheError(f"{pointer}: this kept copy is damaged and is not used: {error}") from error
        try:
            data = copy.path.read_bytes()
        except FileNotFoundError:
            continue  # replaced twice since the pointer was read
        except OSError as error:
            raise CacheError(f"{copy.path}: this kept copy cannot be read: {error.strerror}") from error
        if sha256(data).hexdigest() != copy.sha256:
            raise CacheError(f"{copy.path}: this kept copy is damaged and is not used: its digest differs")
        return copy, data
    return None


def write_atomically(path: Path, pieces: Iterable[bytes | memoryview], *, durable: bool = True) -> None:
    """Make or replace `path`, mode 0600: whoever opens it finds the old content or the new.

    durable: also after the machine's power failed; else it may then be damaged, and must be checked before use.
    """
    descriptor, name = mkstemp(prefix=".tmp-", dir=path.parent)  # O_EXCL, 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    if durable:
        _sync_folder(path.parent)


def remove_unused(folder: Path, pattern: str, before: datetime) -> None:
    """Remove files that were last written or touched before an aware time."""
    for path in folder.glob(pattern):
        if 0.0 < _modified(path) < before.timestamp():
            path.unlink(missing_ok=True)


class Cache:
    """Copies by key. Several processes may share a folder: change a copy only while holding its lock."""

    def __init__(self, folder: Path, limit: int = MAX_COPIES) -> None:
        """Raises CacheError."""
        self.folder = private_folder(folder)
        self._limit = limit

    key = staticmethod(copy_key)

    @contextmanager
    def lock(self, key: str) -> Iterator[bool]:
        """Whether this process holds the lock of `key`: False, at once, while another does."""
        descriptor = os.open(self.folder / f"{key}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            yield False
            return
        try:
            yield True
        finally:
            os.close(descriptor)  # and with it the lock

    def load(self, key: str) -> tuple[Copy, bytes] | None:
        """The copy and its data; None where there is none, or where it was damaged (which is logged)."""
        try:
            return read_copy(self.folder, key)
        except CacheError as error:
            log.warning("%s", error.detail)
            return None

    def store(self, key: str, url: str, data: bytes, at: datetime, etag: str | None, last_modified: str | None) -> Copy:
        """Keep `data`, and the copy before it until the next one comes: somebody may be about to open that."""
        digest = sha256(data).hexdigest()
        before = self._known_digest(key)
        copy = Copy(url, self.folder / f"{key}-{digest[:16]}.crl", digest, at, etag, last_modified)
        write_atomically(copy.path, (data,))
        self.point(key, copy)
        self._remove_older(key, {digest[:16], before})
        return copy

    def point(self, key: str, copy: Copy) -> None:
        """Write what is known of a copy whose data is here already (after a 304)."""
        described = {
            "format": _FORMAT,
            "url": copy.url,
            "sha256": copy.sha256,
            "fetched_at": copy.fetched_at.isoformat(),
            "etag": copy.etag,
            "last_modified": copy.last_modified,
        }
        write_atomically(self.folder / f"{key}.json", (json.dumps(described, indent=1).encode(),))

    def prune(self, in_use: Collection[str], at: datetime) -> int:
        """Remove copies outside of `in_use` that nobody asked for in a long time, or that are too many; how many."""
        pointers = sorted(self.folder.glob("*.json"), key=_modified)
        unused = [path for path in pointers if path.stem not in in_use]
        surplus = len(pointers) - self._limit
        removed = 0
        for number, pointer in enumerate(unused):
            if number < surplus or _modified(pointer) < (at - UNUSED_FOR).timestamp():
                removed += self._remove(pointer.stem)
        remove_unused(self.folder, ".tmp-*", at - _ABANDONED_AFTER)
        return removed

    def _remove(self, key: str) -> bool:
        with self.lock(key) as held:
            if not held:
                return False
            # The pointer first: without it the rest is nothing.
            for path in (self.folder / f"{key}.json", *self.folder.glob(f"{key}-*"), self.folder / f"{key}.lock"):
                path.unlink(missing_ok=True)
        return True

    def _known_digest(self, key: str) -> str:
        try:
            return _described(self.folder, key, _read(self.folder / f"{key}.json", _MAX_DESCRIPTION)).sha256[:16]
        except _DAMAGED:
            return ""  # nothing known, or damaged: nothing to keep

    def _remove_older(self, key: str, keep: Collection[str]) -> None:
        for path in self.folder.glob(f"{key}-*.crl"):
            if path.name[len(key) + 1 :][:16] not in keep:
                path.unlink(missing_ok=True)


def _described(folder: Path, key: str, data: bytes) -> Copy:
    known = json.loads(data)
    if known["format"] != _FORMAT:
        raise ValueError(f"it has the format {known['format']!r}")
    fetched_at = datetime.fromisoformat(known["fetched_at"]).astimezone(UTC)
    digest = str(known["sha256"])
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise ValueError("its digest is none")
    path = folder / f"{key}-{digest[:16]}.crl"
    return Copy(str(known["url"]), path, digest, fetched_at, _text(known["etag"]), _text(known["last_modified"]))


def _text(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError("a validator is no text")
    return value


def _read(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"it is larger than {limit} octets")
    return data


def _modified(path: Path) -> float:
    with suppress(FileNotFoundError):  # removed by another process meanwhile
        return path.stat().st_mtime
    return 0.0


def _sync_folder(folder: Path) -> None:
    """A rename is on disk only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
