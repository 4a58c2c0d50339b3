"""Denials made through the API: in force at once, and in a file before they are answered, so that no restart forgets.

Several proxies of one user may share the file (state_dir null): each change is made to what the file holds by then,
under a lock, so that none takes out what another one put in.
"""

import asyncio
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Literal

import pydantic

from mtlsproxy.config.base import Many, Section
from mtlsproxy.fetch.cache import CacheError, private_folder, readable_folder, write_atomically
from mtlsproxy.verdict.trust import Denial

FILE = "denials.json"

MAX_DENIALS = 1000
"""Made through the API. Each change compiles them all anew, on the event loop; more belong into a deny_file."""

_MAX_FILE_SIZE = 16 << 20  # of MAX_DENIALS with the longest texts that the API takes, and more
_MEND = "put back a good copy of it; or move it away, start, and deny anew whoever it held"


class DenialsError(Exception):
    """The file of denials cannot be read or written; `detail` is one sentence."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class TooManyDenials(Exception):
    """There are MAX_DENIALS already."""


class _File(Section):
    version: Literal[1]
    denials: Many[Denial]


def read_denials(folder: Path, at: datetime) -> tuple[Denial, ...] | None:
    """Those that still count; None where there is no file. Raises DenialsError: they must not be forgotten."""
    file = folder / FILE
    try:
        with file.open("rb") as stream:
            data = stream.read(_MAX_FILE_SIZE + 1)
        readable_folder(folder)
    except FileNotFoundError:
        return None
    except CacheError as error:
        raise DenialsError(f"the folder of the denials made through the API, {error.detail}") from error
    except OSError as error:
        raise DenialsError(
            f"cannot read {file}, which holds the denials made through the API: {error.strerror}"
        ) from error
    try:
        stored = _File.model_validate_json(data)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        words = f"{where}: {first['msg']}" if where else first["msg"]
        raise DenialsError(
            f"{file}, which holds the denials made through the API, is damaged ({words}): {_MEND}"
        ) from error
    return tuple(denial for denial in stored.denials if denial.is_active(at))


def write_denials(folder: Path, denials: Iterable[Denial]) -> None:
    """Replace the file whole, and have the disk confirm it. Raises OSError."""
    data = _File(version=1, denials=tuple(denials)).model_dump_json(indent=1, exclude_none=True).encode() + b"\n"
    write_atomically(folder / FILE, (data,))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Against other processes with the same folder, which is made when it is missing. Raises OSError, CacheError."""
    private_folder(folder)
    descriptor = os.open(folder / f".{FILE}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class Denials:
    """The denials in force. `publish` is called on the event loop whenever `current` has changed."""

    def __init__(self, folder: Path | None, known: tuple[Denial, ...], publish: Callable[[], None]) -> None:
        self.current = known
        self._folder = folder
        self._publish = publish
        self._busy = asyncio.Lock()
        self._unsaved: dict[str, Denial] = {}

    def active(self, at: datetime) -> tuple[Denial, ...]:
        return tuple(denial for denial in self.current if denial.is_active(at))

    def find(self, ident: str, at: datetime) -> Denial | None:
        return next((denial for denial in self.active(at) if denial.id == ident), None)

    def enforce(self, denial: Denial) -> None:
        """In force when this returns; `save` puts it on disk. Raises TooManyDenials with nothing changed."""
        if len(self.active(denial.created)) >= MAX_DENIALS:
            raise TooManyDenials
        self._unsaved[denial.id] = denial
        self._put_in_force((*self.current, denial))

    def replace(self, denials: tuple[Denial, ...]) -> None:
        """In force when this returns: what another process, which keeps the file, says is in force."""
        if denials != self.current:
            self._put_in_force(denials)

    async def save(self, at: datetime) -> None:
        """All that is in force is on disk when this returns. Raises DenialsError: it is in force all the same."""
        async with self._busy:
            if self._unsaved:
                await self._save(at, frozenset())

    async def lift(self, ident: str, at: datetime) -> Denial | None:
        """Off the disk first, then no longer in force. None: there is none of this id.

        Raises DenialsError with it still in force.
        """
        async with self._busy:
            found = self.find(ident, at)
            if found is not None:
                await self._save(at, frozenset({ident}))
            return found

    async def _save(self, at: datetime, without: frozenset[str]) -> None:
        added = tuple(self._unsaved.values())
        saved = await asyncio.to_thread(self._change_file, self.current, added, without, at)
        for denial in added:
            del self._unsaved[denial.id]
        in_force = (*saved, *self._unsaved.values())  # others came meanwhile, and wait for their turn
        if in_force != self.current:
            self._put_in_force(in_force)

    def _change_file(
        self, in_force: tuple[Denial, ...], added: tuple[Denial, ...], without: frozenset[str], at: datetime
    ) -> tuple[Denial, ...]:
        """What the file holds from now on. in_force: what it is made of where somebody has removed it."""
        if self._folder is None:
            raise DenialsError("there is no folder to keep denials in: set state_dir")
        try:
            with _locked(self._folder):
                stored = read_denials(self._folder, at)
                known = {denial.id: denial for denial in (*(in_force if stored is None else stored), *added)}
                kept = tuple(denial for denial in known.values() if denial.id not in without and denial.is_active(at))
                write_denials(self._folder, kept)
        except OSError as error:
            raise DenialsError(f"cannot write {self._folder / FILE}: {error.strerror}") from error
        except CacheError as error:
            raise DenialsError(f"cannot write {self._folder / FILE}: {error.detail}") from error
        return kept

    def _put_in_force(self, denials: tuple[Denial, ...]) -> None:
        self.current = denials
        self._publish()
