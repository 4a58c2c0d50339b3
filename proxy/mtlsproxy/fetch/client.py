"""The proxy's side of the helper process. Nothing here waits for the disk longer than it takes to map a file."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from mtlsproxy.fetch import messages
from mtlsproxy.fetch.cache import private_folder
from mtlsproxy.fetch.indexing import map_index
from mtlsproxy.fetch.link import HelperProcess, MakeLink
from mtlsproxy.fetch.messages import CrlUrl, Outcome, Report
from mtlsproxy.revocation.crl import Crl
from mtlsproxy.revocation.errors import CrlError
from mtlsproxy.revocation.sources import LoadedCrls, SourceError, load_sources

log = logging.getLogger(__name__)

SMALL = 256 * 1024
"""Octets of CRL files up to which they are parsed here, in some milliseconds: a start need not wait for a process."""

LOAD_ATTEMPTS = 2
"""A helper that was killed once deserves another try; one that dies of these very files does not."""

LOAD_WITHIN = 120.0
"""Seconds for reading files, which takes some for a million entries: a helper that hangs must not hold up reloads."""

_MAP_AGAIN = 5.0  # seconds until the server is asked again for a list whose index could not be mapped


class HelperFailed(Exception):
    """The helper process ended before it answered. `detail` is one sentence."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


@dataclass(frozen=True, slots=True)
class CrlEvent:
    """What became of a fetch, and what is in use from now on.

    crls: mapped lists, () where there is nothing. failure: "" or one of FetchFailure, Refusal, `disk`, `helper`,
    and `ended` where the list in use has: nothing newer is to be had.
    verified: whether a known issuer signed all of them; else they count only for chains that bring their CA.
    fetched_at: when the server last confirmed them. next_at: when it is asked again.
    """

    source: CrlUrl
    outcome: Outcome
    failure: str
    detail: str
    crls: tuple[Crl, ...]
    verified: bool
    fetched_at: datetime | None
    next_at: datetime


class Subscription:
    """A URL that is kept fetched. latest: the last event, None before the first."""

    def __init__(
        self, client: "FetchClient", number: int, source: CrlUrl, on_event: Callable[[CrlEvent], None]
    ) -> None:
        self._client = client
        self._number = number
        self._on_event = on_event
        self._paths: tuple[str, ...] = ()
        self._heard = asyncio.Event()
        self._closed = False
        self.source = source
        self.latest: CrlEvent | None = None

    async def first(self) -> CrlEvent | None:
        """The first event, as soon as there is one: what the disk held, or what became of the first fetch. None where
        this was closed before."""
        await self._heard.wait()
        return self.latest

    def refresh(self) -> None:
        """Ask the server now."""
        if not self._closed:
            self._client.send({"op": "refresh", "id": self._number})

    def close(self) -> None:
        """No more events."""
        self._closed = True
        self._heard.set()
        self._client.forget(self._number)

    def take(self, report: Report) -> None:
        """Called by the client."""
        crls = self.latest.crls if self.latest is not None else ()
        if report.indexes != self._paths:
            try:
                crls = tuple(map_index(Path(path)) for path in report.indexes)
            except (OSError, CrlError) as error:
                # Replaced by another process just now, or damaged: the helper writes it anew.
                detail = f"{self.source.url}: its index cannot be mapped, and what is known stays: {error}"
                report = replace(report, outcome="failed", failure="disk", detail=detail)
                asyncio.get_running_loop().call_later(_MAP_AGAIN, self.refresh)
            else:
                self._paths = report.indexes
        self._tell(
            CrlEvent(self.source, report.outcome, report.failure, report.detail, crls, report.verified,
                     report.fetched_at, report.next_at)
        )  # fmt: skip

    def helper_ended(self, why: str, next_at: datetime) -> None:
        """Called by the client. Who waits for the first event must not wait for as many helpers as it takes."""
        if self.latest is None:
            detail = f"{self.source.url}: the helper process {why}"
            self._tell(CrlEvent(self.source, "failed", "helper", detail, (), False, None, next_at))

    def _tell(self, event: CrlEvent) -> None:
        self.latest = event
        self._heard.set()
        # Not from here: what goes wrong in there is not the helper's to suffer.
        asyncio.get_running_loop().call_soon(self._deliver, event)

    def _deliver(self, event: CrlEvent) -> None:
        if not self._closed:
            self._on_event(event)


class FetchClient:
    """Belongs to one event loop; `close` it. folder: state_dir."""

    def __init__(self, folder: Path, make_link: MakeLink = HelperProcess) -> None:
        """Raises CacheError."""
        self._subscriptions: dict[int, Subscription] = {}
        self._loads: dict[int, _Load] = {}
        self._numbers = 0
        self._closing = False
        self._link = make_link(private_folder(folder), self)

    @property
    def helper_pid(self) -> int | None:
        """The helper's process id while it runs."""
        return self._link.helper_pid

    async def load_files(self, sources: Iterable[str | Path]) -> LoadedCrls:
        """Every CRL of files, folders and globs, as `revocation.sources.load_sources`, large ones off the loop.

        Raises SourceError for what is wrong with them, and HelperFailed.
        """
        names = [str(source) for source in sources]
        if (lists := read_here(names)) is not None:
            return lists
        for _ in range(LOAD_ATTEMPTS):
            try:
                return await self._load(names)
            except HelperFailed as error:
                failed = error
                if self._closing:
                    break
        raise failed

    def subscribe(self, source: CrlUrl, on_event: Callable[[CrlEvent], None]) -> Subscription:
        """Keep a URL fetched. `on_event` is called on the loop, after every attempt."""
        subscription = Subscription(self, self._next_number(), source, on_event)
        self._subscriptions[self._numbers] = subscription
        self.send(messages.subscribe_message(self._numbers, source))
        return subscription

    async def close(self) -> None:
        """End the helper."""
        self._closing = True
        for subscription in list(self._subscriptions.values()):
            subscription.close()
        self._fail_loads("ends with the proxy")
        await self._link.close()

    def send(self, message: dict[str, Any]) -> None:
        """Called by subscriptions."""
        self._link.send(message)

    def forget(self, number: int) -> None:
        """Called by subscriptions."""
        if self._subscriptions.pop(number, None) is not None:
            self.send({"op": "unsubscribe", "id": number})

    def _next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    async def _load(self, names: list[str]) -> LoadedCrls:
        number = self._next_number()
        message = {"op": "load", "id": number, "sources": names}
        load = _Load(message, asyncio.get_running_loop().create_future())
        self._loads[number] = load
        self.send(message)
        try:
            answered, _ = await asyncio.wait([load.answer], timeout=LOAD_WITHIN)
            if not answered:
                log.error("the helper process was silent for %g s about CRL files, and is ended", LOAD_WITHIN)
                self._link.kill()  # which fails this load, as any other end would
            found = await load.answer
        finally:
            del self._loads[number]
        return mapped(found)

    def _fail_loads(self, why: str) -> None:
        for load in self._loads.values():
            if not load.answer.done():
                load.answer.set_exception(HelperFailed(f"the helper process that reads CRL files {why}"))

    # -- what the link says ----------------------------------------------------------------------------------------

    def helper_ended(self, why: str, next_at: datetime) -> None:
        self._fail_loads(why)
        for subscription in self._subscriptions.values():
            subscription.helper_ended(why, next_at)

    def wanted(self) -> list[dict[str, Any]]:
        subscribed = [messages.subscribe_message(number, s.source) for number, s in self._subscriptions.items()]
        return subscribed + [load.message for load in self._loads.values()]

    def hear(self, message: dict[str, Any]) -> None:
        match message["op"]:
            case "event":
                subscription = self._subscriptions.get(message["id"])
                if subscription is not None:  # else it was closed meanwhile
                    subscription.take(messages.read_event(message))
            case "loaded":
                load = self._loads.get(message["id"])
                if load is not None and not load.answer.done():
                    load.answer.set_result(message)


@dataclass(frozen=True, slots=True)
class _Load:
    """A question to the helper, and where its answer goes."""

    message: dict[str, Any]
    answer: "asyncio.Future[dict[str, Any]]"


def mapped(answer: Mapping[str, Any]) -> LoadedCrls:
    """What a helper has `loaded`. Raises SourceError, HelperFailed."""
    if "error" in answer:
        raise SourceError(answer["error"])
    try:
        crls = tuple(map_index(Path(path)) for path in answer["indexes"])
    except (OSError, CrlError) as error:
        raise HelperFailed(f"an index that was just written cannot be mapped: {error}") from error
    return LoadedCrls(crls, tuple(map(Path, answer["files"])), tuple(map(Path, answer["ignored"])))


def read_here(sources: Iterable[str | Path]) -> LoadedCrls | None:
    """The CRLs of small files, read in this process; None: they are better left to a helper.

    Raises SourceError, CrlError.
    """
    names = [str(source) for source in sources]
    return load_sources(names) if _size(names) <= SMALL else None


def _size(sources: Iterable[str]) -> int:
    """Octets of all that the sources name, as far as it can be seen."""
    files: list[str] = []
    for source in sources:
        path = Path(source)
        if path.is_dir():
            files += map(str, path.iterdir())
        else:
            files += [source] if path.exists() else map(str, Path(path.anchor).glob(str(path.relative_to(path.anchor))))
    return sum(Path(file).stat().st_size for file in files if Path(file).is_file())
