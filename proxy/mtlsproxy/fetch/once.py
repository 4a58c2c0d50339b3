"""A CRL URL looked at once: the copy that a proxy keeps of it, and, where that is wished and due, what the server says.

By the rules of `subscription`, but nothing is written: the folder may be a running proxy's, and stays its own.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from mtlsproxy.fetch.accept import Unfit, accept
from mtlsproxy.fetch.cache import CacheError, Copy, copy_key, read_copy, readable_folder
from mtlsproxy.fetch.client import CrlEvent
from mtlsproxy.fetch.indexing import find_index
from mtlsproxy.fetch.messages import CrlUrl, Outcome
from mtlsproxy.fetch.rules import FetchError, FetchFailure
from mtlsproxy.fetch.slots import FetchSlots
from mtlsproxy.revocation.crl import Crl, load_crls
from mtlsproxy.revocation.errors import CrlError

State = Literal["kept", "fetched", "not_asked", "not_allowed", "failed"]

_OUTCOMES: dict[State, Outcome] = {"kept": "restored", "fetched": "updated"}


@dataclass(frozen=True, slots=True)
class Found:
    """What a proxy that starts now would know of a URL.

    state: kept, the copy on disk is in use; fetched, the server gave or confirmed it just now; not_asked, not_allowed,
    failed: nothing is in use. detail: one sentence that says why, and of a kept copy why there is none newer; else "".
    verified: whether known issuers signed all of `crls`. fetched_at: when the server last confirmed them, aware UTC.
    """

    source: CrlUrl
    state: State
    detail: str
    crls: tuple[Crl, ...] = ()
    verified: bool = False
    fetched_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Kept:
    """A copy on disk that counts."""

    copy: Copy
    found: Found

    def is_due(self, now: datetime) -> bool:
        """Whether a proxy would have asked again by now, had it run since."""
        ends = [crl.next_update for crl in self.found.crls if crl.next_update is not None]
        return now >= min([self.copy.fetched_at + timedelta(seconds=self.found.source.refresh), *ends])


class Lookup:
    """In the place of a `client.Subscription` that is heard of once. found: None until then."""

    def __init__(self, source: CrlUrl, looking: "asyncio.Task[Found]", on_event: Callable[[CrlEvent], None]) -> None:
        self.source = source
        self.latest: CrlEvent | None = None
        self.found: Found | None = None
        self._on_event = on_event
        self._looking = looking

    async def first(self) -> CrlEvent | None:
        found = await asyncio.shield(self._looking)  # who stops waiting must not stop it: others may wait as well
        if self.found is None:
            self.found = found
            outcome = _OUTCOMES.get(found.state, "failed")
            self.latest = CrlEvent(
                self.source, outcome, "", found.detail, found.crls, found.verified, found.fetched_at, _now()
            )
            self._on_event(self.latest)
        return self.latest

    def refresh(self) -> None:
        """Once is what was asked for."""

    def close(self) -> None:
        self._looking.cancel()


async def look(source: CrlUrl, folder: Path | None, slots: FetchSlots, *, ask: bool) -> Found:
    """folder: the proxy's state_dir, None where there is none. slots: limits fetches at a time. ask: whether the server
    may be asked, where a proxy would: there is no copy that counts, or it is due."""
    kept, why = await asyncio.to_thread(_kept, source, folder)
    if kept is not None and not (ask and kept.is_due(_now())):
        return kept.found
    if not ask:
        return _not_asked(source, why)
    async with slots.to(source.url, source.named_by):
        return await _asked(source, kept)


def _kept(source: CrlUrl, folder: Path | None) -> tuple[_Kept | None, str]:
    """The copy on disk, or why none counts."""
    if folder is None:
        return None, "there is no folder that copies are kept in: set state_dir"
    key, lists = copy_key(source.scope, source.url), folder / "crls"
    try:
        readable_folder(folder)
        found = read_copy(readable_folder(lists), key)
        if found is None:
            return None, f"no copy of it is kept in {lists}"
        copy, data = found
        # A million entries are parsed in seconds, and mapped at once where the proxy has done the work already.
        indexed = find_index(readable_folder(folder / "indexes"), key, source.url, copy.sha256)
        crls = (indexed,) if indexed is not None else load_crls(data, source.url)
        verified = _accepted(crls, source, ())
    except CacheError as error:
        return None, error.detail
    except (Unfit, CrlError) as error:
        return None, f"the kept copy is not used: {error}"
    return _Kept(copy, Found(source, "kept", "", crls, verified, copy.fetched_at)), ""


def _accepted(crls: tuple[Crl, ...], source: CrlUrl, known: tuple[Crl, ...]) -> bool:
    """As the helper judges what comes: whether known issuers signed all. Raises Unfit."""
    return accept(crls, known, source.issuers, _now(), pending=source.named_by == "configuration")


def _not_asked(source: CrlUrl, why: str) -> Found:
    try:
        parts = urlsplit(source.url)
        forbidden = source.rules.why_not_url(parts.scheme, parts.hostname or "", source.named_by)
    except ValueError as error:
        forbidden = f"it is no URL: {error}"
    if forbidden:
        return Found(source, "not_allowed", f"{why}; not fetched: {forbidden}")
    return Found(source, "not_asked", why)


async def _asked(source: CrlUrl, kept: _Kept | None) -> Found:
    from mtlsproxy.fetch.http import Fetcher, Validators  # loads aiohttp: only who asks pays

    known = kept.found.crls if kept is not None else ()
    validators = Validators(kept.copy.etag, kept.copy.last_modified) if kept is not None else None
    try:
        fetcher = Fetcher(source.rules)
        try:
            answer = await fetcher.get(source.url, source.named_by, validators)
        finally:
            await fetcher.close()
        if answer.body is None:
            assert kept is not None  # only then was the request conditional
            return replace(kept.found, state="fetched", fetched_at=_now())
        crls = await asyncio.to_thread(load_crls, answer.body, source.url)
        verified = _accepted(crls, source, known)
    except FetchError as error:
        state: State = "not_allowed" if error.failure is FetchFailure.NOT_ALLOWED else "failed"
        return _without_answer(source, kept, state, error.detail)
    except (Unfit, CrlError) as error:
        return _without_answer(source, kept, "failed", f"{source.url}: what came is not used: {error}")
    return Found(source, "fetched", "", crls, verified, _now())


def _without_answer(source: CrlUrl, kept: _Kept | None, state: State, detail: str) -> Found:
    """A known list stays in use when there is no new one."""
    return Found(source, state, detail) if kept is None else replace(kept.found, detail=f"no newer one: {detail}")


def _now() -> datetime:
    return datetime.now(UTC)
