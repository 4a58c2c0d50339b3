"""One URL that the helper keeps fetched: its copy on disk, its index files, and when it is asked again."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from mtlsproxy.fetch.accept import Refusal, Unfit, accept, refuse_bundle
from mtlsproxy.fetch.budget import Budget
from mtlsproxy.fetch.cache import Cache, Copy
from mtlsproxy.fetch.http import Fetched, Fetcher, Validators
from mtlsproxy.fetch.indexing import map_index, write_indexes
from mtlsproxy.fetch.memory import give_memory_back
from mtlsproxy.fetch.messages import CrlUrl, Outcome, Report
from mtlsproxy.fetch.names import Names
from mtlsproxy.fetch.rules import FetchError
from mtlsproxy.fetch.schedule import after_failure, after_success
from mtlsproxy.fetch.slots import FetchSlots
from mtlsproxy.revocation.crl import Crl, load_crls
from mtlsproxy.revocation.errors import CrlError

_LOOK_AT_LOCK = 0.1  # seconds between two tries at the lock that another process holds while it fetches

chance = Random()  # noqa: S311 - spreads load, guards nothing


class Subscription:
    """Runs until cancelled. Reports every attempt."""

    def __init__(
        self, source: CrlUrl, cache: Cache, indexes: Path, slots: FetchSlots, names: Names,
        budget: Budget, heavy: Executor, report: Callable[[Report], None],
    ) -> None:  # fmt: skip
        """slots: limits fetches at a time. names: looks hosts up. budget: limits what certificates' hosts may take.
        heavy: where lists are parsed, one at a time."""
        self.key = Cache.key(source.scope, source.url)
        self._source = source
        self._cache = cache
        self._folder = indexes
        self._slots = slots
        self._names = names
        self._budget = budget
        self._size = 0
        self._heavy = heavy
        self._report = report
        self._copy: Copy | None = None
        self._crls: tuple[Crl, ...] = ()
        self._paths: tuple[Path, ...] = ()
        self._verified = False
        self._unfit = ""
        self._failures = 0
        self._wanted = asyncio.Event()

    @property
    def url(self) -> str:
        return self._source.url

    def refresh(self) -> None:
        """Ask the server now."""
        self._wanted.set()

    async def run(self) -> None:
        due = await self._restore()
        while True:
            try:
                async with asyncio.timeout(max(0.0, (due - _now()).total_seconds())):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            self._wanted.clear()
            async with self._slots.to(self._source.url, self._source.named_by):
                due = await self._attempt()

    async def _restore(self) -> datetime:
        """Use the copy of an earlier run, where it is still one that we would take; when to ask the server."""
        found = self._cache.load(self.key)
        if found is None:
            return _now()
        try:
            await self._adopt(*found)
        except (Unfit, CrlError, OSError) as error:
            failure = error.refusal if isinstance(error, Unfit) else Refusal.MALFORMED
            self._tell("refused", failure, f"the kept copy of {self._source.url} is not used: {error}", _now())
            return _now()
        assert self._copy is not None
        # A copy of the future is one of a clock that was wrong then: the server is not asked only when that comes.
        due = max(_now(), self._after_success(min(self._copy.fetched_at, _now())))
        text = f"{self._source.url}: the copy kept on disk is in use"
        if (ended := self._ended()) is not None:
            self._tell("restored", "ended", f"{text}, and ended at {ended:%Y-%m-%dT%H:%M:%SZ}", due)
        else:
            self._tell("restored", "", text, due)
        return due

    async def _attempt(self) -> datetime:
        try:
            outcome = await self._refresh()
        except FetchError as error:
            return self._failed("failed", error.failure, error.detail, retryable=error.retryable)
        except Unfit as error:
            return self._failed("refused", error.refusal, error.detail)
        except CrlError as error:
            return self._failed("refused", Refusal.MALFORMED, error.detail)
        except OSError as error:
            return self._failed(
                "failed", "disk", f"{self._source.url}: cannot be kept in {self._cache.folder}: {error}"
            )
        if (ended := self._ended()) is not None:
            text = f"{self._source.url}: the list that is served ended at {ended:%Y-%m-%dT%H:%M:%SZ}"
            return self._failed(outcome, "ended", text)
        self._failures = 0
        due = self._after_success(_now())
        self._tell(outcome, "", f"{self._source.url}: {outcome}", due)
        return due

    async def _refresh(self) -> Outcome:
        while True:
            with self._cache.lock(self.key) as held:
                if held:
                    return await self._refresh_locked()
            await asyncio.sleep(_LOOK_AT_LOCK)

    async def _refresh_locked(self) -> Outcome:
        found = self._cache.load(self.key)
        if found is not None and found[0].sha256 == self._unfit:
            found = None
        if found is not None and (self._copy is None or found[0].fetched_at > self._copy.fetched_at):
            # Another process fetched it meanwhile: one fetch serves all who share the folder.
            before = self._copy
            await self._adopt(*found)
            return "unchanged" if before is not None and before.sha256 == found[0].sha256 else "updated"
        fetcher = Fetcher(self._source.rules, self._names)
        try:
            validators = None if self._copy is None else Validators(self._copy.etag, self._copy.last_modified)
            # A damaged copy on disk is fetched whole again, though what is in use was made from it.
            answer = await fetcher.get(self._source.url, self._source.named_by, validators if found else None)
        finally:
            await fetcher.close()
        return await self._take(answer)

    async def _take(self, answer: Fetched) -> Outcome:
        tag, modified = answer.validators.etag, answer.validators.last_modified
        if answer.body is None:
            assert self._copy is not None  # only then was the request conditional
            known = self._copy
            self._copy = Copy(
                known.url, known.path, known.sha256, _now(), tag or known.etag, modified or known.last_modified
            )
            self._cache.point(self.key, self._copy)
            return "unchanged"
        data, url = answer.body, self._source.url
        before = {crl.sha256 for crl in self._crls}
        await self._use(data, lambda: self._cache.store(self.key, url, data, _now(), tag, modified))
        return "unchanged" if before == {crl.sha256 for crl in self._crls} else "updated"

    async def _adopt(self, copy: Copy, data: bytes) -> None:
        try:
            await self._use(data, lambda: copy)
        except (Unfit, CrlError):
            # By our rules, which may have changed since: the server is asked as if it were not there.
            self._unfit = copy.sha256
            raise

    async def _use(self, data: bytes, keep: Callable[[], Copy]) -> None:
        """Put the lists in `data` in use, as mapped from index files: parsed ones would take many times the memory.

        keep: called when they were accepted. Raises CrlError, Unfit and OSError; then nothing has changed.
        """

        def work() -> tuple[tuple[Path, ...], Copy, bool]:
            refuse_bundle(data, self._source.url)
            crls = load_crls(data, self._source.url)
            pending = self._source.named_by == "configuration"
            verified = accept(crls, self._crls, self._source.issuers, _now(), pending=pending)
            return write_indexes(self._folder, self.key, crls), keep(), verified

        with self._reserved(len(data)):
            paths, copy, verified = await asyncio.get_running_loop().run_in_executor(self._heavy, work)
        self._crls = tuple(map_index(path) for path in paths)
        self._paths, self._copy, self._verified = paths, copy, verified
        give_memory_back(len(data))

    @contextmanager
    def _reserved(self, size: int) -> Iterator[None]:
        """For what certificates name: what the configuration names is the operator's to judge. Raises Unfit."""
        source = self._source
        if source.named_by == "configuration":
            yield
            return
        self._budget.take(source.url, self.key, size, source.rules.max_size)
        try:
            yield
        except BaseException:
            self._budget.put_back(source.url, self.key, self._size)
            raise
        self._size = size

    def _after_success(self, at: datetime) -> datetime:
        ends = [crl.next_update for crl in self._crls if crl.next_update is not None and crl.next_update > at]
        return after_success(at, min(ends, default=None), self._source.refresh, chance)

    def _ended(self) -> datetime | None:
        """When the first of the lists in use ended, if one has."""
        now = _now()
        return min(
            (crl.next_update for crl in self._crls if crl.next_update is not None and crl.next_update <= now),
            default=None,
        )

    def _failed(self, outcome: Outcome, failure: str, detail: str, *, retryable: bool = True) -> datetime:
        self._failures += 1
        source = self._source
        if retryable:
            due = after_failure(_now(), self._failures, source.refresh, chance, source.first_retry)
        else:
            due = after_success(_now(), None, source.refresh, chance)  # waiting does not mend it, but somebody may
        self._tell(outcome, failure, detail, due)
        return due

    def _tell(self, outcome: Outcome, failure: str, detail: str, due: datetime) -> None:
        fetched_at = None if self._copy is None else self._copy.fetched_at
        paths = tuple(map(str, self._paths))
        self._report(Report(outcome, failure, detail, paths, self._verified, fetched_at, due))


def _now() -> datetime:
    return datetime.now(UTC)
