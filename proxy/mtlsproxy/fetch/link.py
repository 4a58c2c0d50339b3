"""The helper process from outside: kept running, spoken to, listened to.

It is started at the first need, and again, ever later, whenever it ends; it then resumes from its disk.
"""

import asyncio
import logging
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from mtlsproxy.fetch import messages
from mtlsproxy.fetch.messages import MAX_LINE

RESTART_AT_MOST = 30.0
"""Seconds between two starts of a helper that keeps ending."""

_STEADY = 60.0  # seconds of life after which an end counts as the first again
_END_WITHIN = 2.0  # seconds for the helper to end by itself; it keeps nothing that a kill would harm
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "LD_LIBRARY_PATH")
log = logging.getLogger(__name__)

Message = dict[str, Any]


class Hearer(Protocol):
    """Who speaks with a helper. All is called on the loop."""

    def hear(self, message: Message) -> None:
        """One message of the helper's (fetch.messages). May raise ValueError, KeyError, TypeError: it is then ended."""

    def helper_ended(self, why: str, next_at: datetime) -> None:
        """What was asked and is not answered will not be; a helper started at `next_at` is told `wanted` anew."""

    def wanted(self) -> Iterable[Message]:
        """All that a new helper has to be told."""


class Link(Protocol):
    """The way to a helper: a process of one's own, or another process that shares its."""

    @property
    def helper_pid(self) -> int | None:
        """While it runs and is known."""

    def send(self, message: Message) -> None:
        """To the helper, where it runs. Where it does not, it is started, and told all that is wanted then."""

    def kill(self) -> None:
        """It hangs: have it ended, and another one started."""

    async def close(self) -> None:
        """End the helper, or what is wanted of it here."""


MakeLink = Callable[[Path, Hearer], Link]
"""Of the folder to keep lists in, made already."""


class HelperProcess:
    """A helper of one's own. Belongs to one event loop."""

    def __init__(self, folder: Path, hearer: Hearer, *, restart_after: float = 0.5) -> None:
        """restart_after: seconds until the helper is first started again."""
        self._folder = folder
        self._hearer = hearer
        self._restart_after = restart_after
        self._process: Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def helper_pid(self) -> int | None:
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    def send(self, message: Message) -> None:
        if self._closing:
            return
        if self._keeper is None:
            self._keeper = asyncio.get_running_loop().create_task(self._keep())
        elif self._process is not None and self._process.stdin is not None and not self._process.stdin.is_closing():
            self._process.stdin.write(messages.encode(message))

    def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def close(self) -> None:
        self._closing = True
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
        if self._process is not None:
            await _end(self._process)

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
            self._hearer.helper_ended(why, datetime.now(UTC) + timedelta(seconds=wait))
            await asyncio.sleep(wait)
            wait = min(wait * 2, RESTART_AT_MOST)

    async def _live(self) -> str:
        """One helper from start to end; how it ended."""
        try:
            process = await _start(self._folder)
        except OSError as error:
            return f"cannot be started: {error.strerror}"
        assert process.stdin is not None
        self._process = process
        process.stdin.writelines(map(messages.encode, self._hearer.wanted()))
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

    def _hear(self, message: Message) -> None:
        if message["op"] == "log":
            logging.getLogger(message["logger"]).log(message["level"], "%s", message["message"])
        else:
            self._hearer.hear(message)


def helper_command(folder: Path) -> list[str]:
    return [sys.executable, "-P", "-m", "mtlsproxy.fetch", str(folder), str(os.getpid())]


def helper_environment() -> dict[str, str]:
    """Of ours only what Python needs: no proxies, no secrets."""
    return {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}


async def _start(folder: Path) -> Process:
    return await asyncio.create_subprocess_exec(
        *helper_command(folder), stdin=PIPE, stdout=PIPE, stderr=PIPE, limit=MAX_LINE, env=helper_environment()
    )


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
