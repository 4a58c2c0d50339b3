"""The helper process: fetches CRLs, verifies them, and writes them as index files that the proxy maps.

Parsing a million entries stalls a Python process for seconds, threads or not; here it stalls nobody. The process reads
`messages` from stdin and ends with it: it dies with its parent, however that dies.
"""

import asyncio
import ctypes
import logging
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mtlsproxy.fetch import messages
from mtlsproxy.fetch.budget import Budget
from mtlsproxy.fetch.cache import Cache, private_folder
from mtlsproxy.fetch.indexing import prune_indexes, write_indexes
from mtlsproxy.fetch.memory import give_memory_back
from mtlsproxy.fetch.messages import MAX_LINE, Report
from mtlsproxy.fetch.names import Names
from mtlsproxy.fetch.slots import FetchSlots
from mtlsproxy.hardening import harden
from mtlsproxy.revocation.crl import Crl
from mtlsproxy.revocation.errors import CrlError
from mtlsproxy.revocation.sources import LoadedCrls, SourceError, load_sources

_PRUNE_EVERY = 24 * 3600.0
_PR_SET_PDEATHSIG = 1
_NICENESS = 5  # requests come first where there are fewer cores than processes
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
log = logging.getLogger(__name__)


class Helper:
    """Serves one proxy process over its two pipes."""

    def __init__(self, folder: Path) -> None:
        """folder: state_dir. Raises CacheError."""
        self._cache = Cache(private_folder(folder) / "crls")
        self._indexes = private_folder(folder / "indexes")
        self._slots = FetchSlots()
        self._names = Names()
        self._budget = Budget()
        self._heavy = ThreadPoolExecutor(1, "index")
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._loads: set[asyncio.Task[None]] = set()
        self._subscriptions: dict[int, Any] = {}

    async def run(self, reader: asyncio.StreamReader) -> None:
        """Until the proxy closes its end."""
        loop = asyncio.get_running_loop()
        pruning = loop.create_task(self._prune())
        pruning.add_done_callback(_die_of_mistakes)
        while line := await reader.readline():
            self._handle(messages.decode(line))
        for task in (pruning, *self._tasks.values(), *self._loads):
            task.cancel()

    def _handle(self, message: dict[str, Any]) -> None:
        number = message["id"]
        match message["op"]:
            case "load":
                self._start_load(number, message["sources"])
            case "subscribe":
                self._subscribe(number, message)
            case "unsubscribe":
                if (subscription := self._subscriptions.pop(number, None)) is not None:
                    self._budget.release(subscription.url, subscription.key)
                if (task := self._tasks.pop(number, None)) is not None:
                    task.cancel()
            case "refresh":
                if (subscription := self._subscriptions.get(number)) is not None:
                    subscription.refresh()
            case other:
                raise ValueError(f"unknown message {other!r}")

    def _subscribe(self, number: int, message: dict[str, Any]) -> None:
        from mtlsproxy.fetch.subscription import Subscription  # loads aiohttp, for who needs it

        def report(report: Report) -> None:
            say(messages.event_message(number, report))

        source = messages.read_subscribe(message)
        subscription = Subscription(
            source, self._cache, self._indexes, self._slots, self._names, self._budget, self._heavy, report
        )
        task = asyncio.get_running_loop().create_task(subscription.run())
        task.add_done_callback(_die_of_mistakes)
        self._subscriptions[number] = subscription
        self._tasks[number] = task

    def _start_load(self, number: int, sources: list[str]) -> None:
        task = asyncio.get_running_loop().create_task(self._load(number, sources))
        self._loads.add(task)
        task.add_done_callback(self._loads.discard)
        task.add_done_callback(_die_of_mistakes)

    async def _load(self, number: int, sources: list[str]) -> None:
        """CRL files to index files. Rules on their issuers are the proxy's: it verifies what it maps."""
        try:
            found, paths = await asyncio.get_running_loop().run_in_executor(self._heavy, self._index_files, sources)
        except (SourceError, CrlError) as error:
            say({"op": "loaded", "id": number, "error": error.detail})
            return
        except OSError as error:
            text = f"{self._indexes}: an index cannot be written: {error.strerror}"
            say({"op": "loaded", "id": number, "error": text})
            return
        files, ignored = list(map(str, found.files)), list(map(str, found.ignored))
        say({"op": "loaded", "id": number, "indexes": paths, "files": files, "ignored": ignored})

    def _index_files(self, sources: list[str]) -> tuple[LoadedCrls, list[str]]:
        found = load_sources(sources)
        paths = [str(path) for crl in found.crls for path in write_indexes(self._indexes, _group(crl), (crl,))]
        give_memory_back(sum(crl.size for crl in found.crls))
        return LoadedCrls((), found.files, found.ignored), paths

    async def _prune(self) -> None:
        while True:
            now = datetime.now(UTC)
            try:
                self._cache.prune({subscription.key for subscription in self._subscriptions.values()}, now)
                prune_indexes(self._indexes, now)
            except OSError as error:
                log.warning("what is of no more use in %s cannot be removed: %s", self._indexes.parent, error)
            await asyncio.sleep(_PRUNE_EVERY)


def _group(crl: Crl) -> str:
    """What a newer list from the same place replaces."""
    return "file-" + Cache.key("", crl.source)


def say(message: dict[str, Any]) -> None:
    """One line to the proxy. A pipe that is full waits: the proxy is alive, and reads soon."""
    sys.stdout.buffer.write(messages.encode(message))
    sys.stdout.buffer.flush()


def _die_of_mistakes(task: "asyncio.Task[None]") -> None:
    """An error that nobody foresaw ends this process with its traceback; the proxy starts another one."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("the helper process ends: %r", error, exc_info=error)
        os._exit(1)


class _LogLines(logging.Handler):
    """Log records as messages: the proxy's log is the only one that anybody reads."""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + logging.Formatter().formatException(record.exc_info)
        say({"op": "log", "id": 0, "level": record.levelno, "logger": record.name, "message": text})


def main(folder: Path, parent: int) -> None:
    """Serve until stdin ends. parent: the process id of the proxy."""
    harden()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return  # it died before the line above
    for ignored in _IGNORED:
        signal.signal(ignored, signal.SIG_IGN)  # meant for the proxy, which ends us when it is done
    os.nice(_NICENESS)
    logging.getLogger().addHandler(_LogLines())
    try:
        asyncio.run(_serve(folder))
    except BrokenPipeError:
        os._exit(0)  # the proxy is gone; stdout must not be flushed again


async def _serve(folder: Path) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=MAX_LINE)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await Helper(folder).run(reader)
