"""The proxy's side of the helper process. Nothing here waits for the disk longer than it takes to map a file.

The helper is started at the first need, and again, ever later, whenever it ends; it then resumes from its disk.
"""

import asyncio
import logging
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mtlsproxy.fetch import messages
from mtlsproxy.fetch.cache import private_folder
from mtlsproxy.fetch.indexing import map_index
from mtlsproxy.fetch.messages import MAX_LINE, CrlUrl, Outcome, Report
from mtlsproxy.revocation.crl import Crl
from mtlsproxy.revocation.errors import CrlError
from mtlsproxy.revocation.sources import LoadedCrls, SourceError, load_sources

SMALL = 256 * 1024
"""Octets of CRL files up to which they are parsed here, in some milliseconds: a start need not wait for a process."""

LOAD_ATTEMPTS = 2
"""A helper that was killed once deserves another try; one that dies of these very files does not."""

LOAD_WITHIN = 120.0
"""Seconds for reading files, which takes some for a million entries: a helper that hangs must not hold up reloads."""

RESTART_AT_MOST = 30.0
"""Seconds between two starts of a helper that keeps ending."""

_MAP_AGAIN = 5.0  # seconds until the server is asked again for a list whose index could not be mapped
_STEADY = 60.0  # seconds of life after which an end counts as the first again
_END_WITHIN = 2.0  # seconds for the helper to end by itself; it keeps nothing that a kill would harm
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "LD_LIBRARY_PATH")
log = logging.getLogger(__name__)


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
    """Belongs to one event loop; `close` it. folder: state_dir, or `cache.default_folder`."""

    def __init__(self, folder: Path, *, restart_after: float = 0.5) -> None:
        """restart_after: seconds until the helper is first started again. Raises CacheError."""
        self._folder = private_folder(folder)
        self._restart_after = restart_after
        self._subscriptions: dict[int, Subscription] = {}
        self._loads: dict[int, _Load] = {}
        self._numbers = 0
        self._process: Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def helper_pid(self) -> int | None:
        """The helper's process id while it runs."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    async def load_files(self, sources: Iterable[str | Path]) -> LoadedCrls:
        """Every CRL of files, folders and globs, as `revocation.sources.load_sources`, large ones off the loop.

        Raises SourceError for what is wrong with them, and HelperFailed.
        """
        names = [str(source) for source in sources]
        if _size(names) <= SMALL:
            return load_sources(names)
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
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
        self._fail_loads("ends with the proxy")
        if self._process is not None:
            await _end(self._process)

    def send(self, message: dict[str, Any]) -> None:
        """To the helper, where it runs. Where it does not, it is started, and told all that is still wanted then."""
        if self._closing:
            return
        if self._keeper is None:
            self._keeper = asyncio.get_running_loop().create_task(self._keep())
        elif self._process is not None and self._process.stdin is not None and not self._process.stdin.is_closing():
            self._process.stdin.write(messages.encode(message))

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
            if not answered and self._process is not None and self._process.returncode is None:
                log.error("the helper process was silent for %g s about CRL files, and is ended", LOAD_WITHIN)
                self._process.kill()  # which fails this load, as any other end would
            found = await load.answer
        finally:
            del self._loads[number]
        if "error" in found:
            raise SourceError(found["error"])
        try:
            crls = tuple(map_index(Path(path)) for path in found["indexes"])
        except (OSError, CrlError) as error:
            raise HelperFailed(f"an index that was just written cannot be mapped: {error}") from error
        return LoadedCrls(crls, tuple(map(Path, found["files"])), tuple(map(Path, found["ignored"])))

    async def _keep(self) -> None:
        """Keep a helper running."""
        loop, wait = asyncio.get_running_loop(), self._restart_after
        while True:
            began = loop.time()
            why = await self._live()
            self._process = None
            if loop.time() - began > _STEADY:
                wait = self._restart_after
            log.error("the helper process that fetches and reads CRLs %s; started again in %.1f s", why, wait)
            self._fail_loads(why)
            next_at = datetime.now(UTC) + timedelta(seconds=wait)
            for subscription in self._subscriptions.values():
                subscription.helper_ended(why, next_at)
            await asyncio.sleep(wait)
            wait = min(wait * 2, RESTART_AT_MOST)

    def _fail_loads(self, why: str) -> None:
        for load in self._loads.values():
            if not load.answer.done():
                load.answer.set_exception(HelperFailed(f"the helper process that reads CRL files {why}"))

    async def _live(self) -> str:
        """One helper from start to end; how it ended."""
        try:
            process = await _start(self._folder)
        except OSError as error:
            return f"cannot be started: {error.strerror}"
        assert process.stdin is not None
        self._process = process
        wanted = [messages.subscribe_message(number, s.source) for number, s in self._subscriptions.items()]
        wanted += [load.message for load in self._loads.values()]
        process.stdin.writelines(map(messages.encode, wanted))
        async with asyncio.TaskGroup() as group:
            group.create_task(_log_errors(process))
            group.create_task(self._listen(process))
        code = await process.wait()
        return f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"

    async def _listen(self, process: Process) -> None:
        assert process.stdout is not None
        try:
            while line := await process.stdout.readline():
                self._hear(messages.decode(line))
        except (ValueError, KeyError, TypeError) as error:
            log.error("the helper process says what nobody understands, and is ended: %r", error)
            process.kill()

    def _hear(self, message: dict[str, Any]) -> None:
        match message["op"]:
            case "event":
                subscription = self._subscriptions.get(message["id"])
                if subscription is not None:  # else it was closed meanwhile
                    subscription.take(messages.read_event(message))
            case "loaded":
                load = self._loads.get(message["id"])
                if load is not None and not load.answer.done():
                    load.answer.set_result(message)
            case "log":
                logging.getLogger(message["logger"]).log(message["level"], "%s", message["message"])


@dataclass(frozen=True, slots=True)
class _Load:
    """A question to the helper, and where its answer goes."""

    message: dict[str, Any]
    answer: "asyncio.Future[dict[str, Any]]"


async def _start(folder: Path) -> Process:
    # Of the environment only what Python needs: no proxies, no secrets.
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "mtlsproxy.fetch", str(folder), str(os.getpid()),
        stdin=PIPE, stdout=PIPE, stderr=PIPE, limit=MAX_LINE, env=environment,
    )  # fmt: skip


async def _log_errors(process: Process) -> None:
    assert process.stderr is not None
    while line := await process.stderr.readline():
        log.error("helper process: %s", line.decode("utf-8", "backslashreplace").rstrip())


async def _end(process: Process) -> None:
    """Close its stdin, which asks it to end; kill it when it does not."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(_END_WITHIN):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


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
