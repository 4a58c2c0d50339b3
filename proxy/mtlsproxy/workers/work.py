"""A worker process: one proxy that takes its sockets and its orders from the supervisor.

It lives no longer than the supervisor: when that is gone, it drains and ends.
"""

import asyncio
import ctypes
import logging
import os
import signal
import socket
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mtlsproxy.config.errors import ConfigErrors
from mtlsproxy.config.load import LoadedConfig, reread_config
from mtlsproxy.config.model import Config
from mtlsproxy.fetch.cache import CacheError, state_folder
from mtlsproxy.fetch.client import FetchClient, HelperFailed, read_here
from mtlsproxy.hardening import harden
from mtlsproxy.revocation.sources import LoadedCrls, SourceError
from mtlsproxy.runtime.control import Control
from mtlsproxy.runtime.material import Material, load_material
from mtlsproxy.runtime.reload import Outcome
from mtlsproxy.runtime.server import AdminHandle, Proxy, Surroundings
from mtlsproxy.runtime.sockets import BACKLOG, close_sockets
from mtlsproxy.runtime.status import Status
from mtlsproxy.telemetry.logs import LogError
from mtlsproxy.transport.loop import new_event_loop
from mtlsproxy.verdict.trust import Denial
from mtlsproxy.workers.channel import Channel, Message
from mtlsproxy.workers.numbers import SharedNumbers
from mtlsproxy.workers.relay import RemoteLink

PUBLISH_EVERY = 0.25
"""Seconds between two copies of the metrics: what a crash may lose of them."""

_PR_SET_PDEATHSIG = 1
_IGNORED = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
"""Meant for the supervisor, which passes on what they ask for. A terminal sends Ctrl-C to all of us, and
`systemctl kill` whatever it is told to send."""

_ONE_SPEAKS = ("mtlsproxy.runtime.feeds", "mtlsproxy.runtime.material")
"""Loggers of what happens to all workers alike: the first one says it."""

_SAID_FOR_ALL = ("mtlsproxy.runtime.server", "mtlsproxy.runtime.reload")
"""And of what the supervisor says."""

log = logging.getLogger(__name__)


class Work:
    """The worker's side of its channel."""

    def __init__(self, sock: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._started: asyncio.Future[tuple[Message, list[int]]] = self._loop.create_future()
        self._stop = asyncio.Event()
        self._channel = Channel(self._loop, sock, self._hear, self._orphaned)
        self._sockets: dict[str, socket.socket] = {}
        self._covered: dict[int, list[tuple[str, socket.socket]]] = {}
        """Queues of workers that are not there, by their number and listener."""
        self._link: RemoteLink | None = None
        self._client: FetchClient | None = None
        self._reloading: _Reload | None = None
        self._config = b""
        """The file as the supervisor has read it: all serve by the same words, however often it changes."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._end_watching: Callable[[], None] | None = None
        self._proxy: Proxy
        self._status: Status
        self._numbers: SharedNumbers

    async def run(self) -> int:
        """The exit status."""
        order, descriptors = await self._started
        memory, lock, *listening = descriptors
        self._config = order["config"].encode("latin-1")
        self._numbers = SharedNumbers(memory)
        self._take_sockets(order["listeners"], listening)
        if order["number"]:
            for name in _ONE_SPEAKS:
                logging.getLogger(name).setLevel(logging.ERROR)
        surroundings = Surroundings(
            bind=self._bind,
            read_config=self._read_config,
            make_fetch_client=self._fetch_client,
            agree=self._agree,
            share_chain=self._share_chain,
            secret=bytes.fromhex(order["secret"]),
            watches=False,
            processes=order["processes"],
            lock=lock,
            role=f"worker {order['number']}",
            audits_reloads=False,
            audits_lists=order["number"] == 0,
        )
        try:
            material = await asyncio.to_thread(self._load, Path(order["file"]))
            self._proxy = Proxy(material, self._no_admin, surroundings)
            await self._proxy.start()
        except (ConfigErrors, LogError) as error:
            self._channel.send({"op": "failed", "errors": str(error).splitlines()})
            return 2
        self._loop.add_signal_handler(signal.SIGTERM, self._leave)
        self._channel.send({"op": "ready"})
        publishing = self._loop.create_task(self._publish())
        await self._stop.wait()
        await self._proxy.stop()
        publishing.cancel()
        self._numbers.write(self._proxy.metrics)
        return 0

    async def _publish(self) -> None:
        while True:
            self._numbers.write(self._proxy.metrics)
            await asyncio.sleep(PUBLISH_EVERY)

    # -- surroundings ----------------------------------------------------------------------------------------------

    async def _no_admin(self, config: Config, status: Status) -> AdminHandle | None:
        self._status = status
        return None

    def _take_sockets(self, names: list[str], descriptors: list[int]) -> None:
        close_sockets(self._sockets.values())
        self._sockets = {
            name: socket.socket(fileno=descriptor) for name, descriptor in zip(names, descriptors, strict=True)
        }
        for sock in self._sockets.values():
            sock.setblocking(False)

    def _bind(self, loaded: LoadedConfig, names: Iterable[str]) -> dict[str, socket.socket]:
        wanted = list(names)
        if missing := [name for name in wanted if name not in self._sockets]:
            raise ConfigErrors([loaded.error("listeners", f"the supervisor passed no socket for {missing[0]}")])
        return {name: self._sockets.pop(name) for name in wanted}

    def _read_config(self, file: Path) -> LoadedConfig:
        return reread_config(file, self._config, os.environ)

    def _load(self, file: Path) -> Material:
        """In a thread: the loop goes on to answer. Raises ConfigErrors."""
        loaded = self._read_config(file)
        folder = state_folder(loaded.config.state_dir, os.environ)

        def load_lists(sources: Sequence[str | Path]) -> LoadedCrls:
            reading = self._load_lists(folder, sources)
            return asyncio.run_coroutine_threadsafe(reading, self._loop).result()

        return load_material(loaded, datetime.now(UTC), load=load_lists)

    async def _load_lists(self, folder: Path | None, sources: Sequence[str | Path]) -> LoadedCrls:
        """Large ones are read once for all workers, which share their memory. Raises SourceError, CrlError."""
        if (lists := read_here(sources)) is not None:
            return lists
        if folder is None:
            raise SourceError("there is no folder to keep indexes of large CRLs in: set state_dir")
        try:
            return await self._fetch_client(folder).load_files(sources)
        except (HelperFailed, CacheError) as error:
            raise SourceError(error.detail) from error

    def _fetch_client(self, folder: Path) -> FetchClient:
        """One for all that is read and fetched here. Raises CacheError."""
        if self._client is None:
            self._client = FetchClient(folder, self._make_link)
        return self._client

    def _make_link(self, folder: Path, client: Any) -> RemoteLink:
        self._link = RemoteLink(self._channel.send, folder, client)
        return self._link

    def _share_chain(self, listener: str, chain: tuple[bytes, ...]) -> None:
        self._channel.send({"op": "chain", "listener": listener, "chain": [b64encode(each).decode() for each in chain]})

    def _cover(self, number: int, names: list[str], descriptors: list[int]) -> None:
        """Take connections from the queues of a worker that is not there, too."""
        queues = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        self._covered[number] = list(zip(names, queues, strict=True))
        for name, queue in self._covered[number]:
            if self._stop.is_set() or name not in self._proxy.listeners:
                queue.close()
                continue
            queue.setblocking(False)
            queue.listen(BACKLOG)  # its own worker may have died before it could
            self._proxy.listeners[name].acceptor.listen(queue)

    def _uncover(self, number: int) -> None:
        for name, queue in self._covered.pop(number, ()):
            if name in self._proxy.listeners:
                self._proxy.listeners[name].acceptor.leave(queue)

    # -- what the supervisor says ----------------------------------------------------------------------------------

    def _orphaned(self) -> None:
        if not self._started.done():
            os._exit(1)
        log.error("the supervisor is gone: this worker drains and ends")
        self._stop.set()

    def _leave(self) -> None:
        """Somebody wants this very process to end."""
        self._channel.send({"op": "leaving"})
        self._stop.set()

    def _hear(self, message: Message, descriptors: list[int]) -> None:
        match message["op"]:
            case "start":
                self._started.set_result((message, descriptors))
            case "fetched":
                if self._link is not None:
                    self._link.take(message["message"])
            case "helper_ended":
                if self._link is not None:
                    self._link.helper_ended(message["why"], datetime.fromisoformat(message["next_at"]))
            case "ping":
                self._channel.send({"op": "pong"})
            case "stop":
                # Once more than SIGTERM, perhaps: an init system may send that to every process of ours.
                self._stop.set()
            case _:
                self._obey(message, descriptors)

    def _obey(self, message: Message, descriptors: list[int]) -> None:
        """Orders and questions to one that serves."""
        match message["op"]:
            case "chain":
                if (listener := self._proxy.listeners.get(message["listener"])) is not None:
                    listener.learn(tuple(map(b64decode, message["chain"])))
            case "hurry":
                self._stop.set()
                self._proxy.hurry()
            case "cover":
                self._cover(message["number"], message["listeners"], descriptors)
            case "uncover":
                self._uncover(message["number"])
            case "refresh":
                self._proxy.refresh()
            case "reopen":
                self._proxy.logs.reopen()
            case "unwatch":
                if self._end_watching is not None:
                    self._end_watching()
                    self._end_watching = None
            case _:
                if message["op"] == "reload":
                    self._take_sockets(message["listeners"], descriptors)
                    self._config = message["config"].encode("latin-1")
                    self._reloading = _Reload(self._loop)
                task = self._loop.create_task(self._answer(message))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _answer(self, message: Message) -> None:
        answer: Message = {"errors": ["it failed by a mistake of ours: see the log"]}
        try:
            answer = await self._answer_to(message)
        finally:
            self._channel.send({"op": "answer", "id": message["id"], **answer})

    async def _answer_to(self, message: Message) -> Message:
        match message["op"]:
            case "reload":
                return {"errors": await self._prepare()}
            case "decide":
                return {"errors": await self._decide(message["adopt"])}
            case "denials":
                return await self._deny(message)
            case "readings":
                self._numbers.write(self._proxy.metrics)
                return {}
            case "status":
                return {"status": await self._status.status()}
            case "rejections":
                return {"rejections": await self._status.rejections(message["limit"])}
            case "rejection":
                return {"rejection": await self._status.rejection(message["request_id"])}
            case "clients":
                return {"clients": await self._status.clients(message["limit"])}
            case "watch":
                if self._end_watching is None:
                    self._end_watching = await self._status.watch(self._tell)
                return {}
            case "revocation":
                return {"ends": await self._status.revocation(message["listener"])}
            case "readiness":
                return {"readiness": await self._status.readiness(message["listener"])}
            case other:
                raise ValueError(f"unknown order {other!r}")

    def _tell(self, event: Message) -> None:
        self._channel.send({"op": "event", "event": event})

    async def _prepare(self) -> tuple[str, ...]:
        """Read everything anew, and wait at `_agree` with what has come of it; what is wrong with it, a line each."""
        assert self._reloading is not None
        reload = self._reloading
        reload.task = self._loop.create_task(self._proxy.reloader.reload("the supervisor"))
        either: list[asyncio.Future[Any]] = [reload.task, reload.ready]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return reload.task.result().errors if reload.task.done() else ()

    async def _agree(self) -> None:
        assert self._reloading is not None
        self._reloading.ready.set_result(None)
        if not await self._reloading.adopt:
            raise ConfigErrors([self._proxy.material.loaded.error("workers", "another worker refuses it")])

    async def _decide(self, adopt: bool) -> tuple[str, ...]:
        """All workers can, or not all: put it in force, or forget it."""
        assert self._reloading is not None
        reload = self._reloading
        reload.adopt.set_result(adopt)
        assert reload.task is not None
        outcome = await reload.task
        if not outcome.ok:
            self._take_sockets([], [])  # their addresses must be free for the next try
        return outcome.errors

    async def _deny(self, message: Message) -> Message:
        """All that are in force; new: the one that was added, whose connections end first."""
        proxy = self._proxy
        proxy.denials.replace(tuple(map(Denial.model_validate_json, message["denials"])))
        ended = 0
        if message["new"] is not None:
            ended = Control(proxy).end_connections(Denial.model_validate_json(message["new"]))
        await proxy.judge_all_again()
        return {"ended": ended}


class _Reload:
    """One that is under way. ready: all is read. adopt: whether it is to be put in force."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.task: asyncio.Task[Outcome] | None = None
        self.ready: asyncio.Future[None] = loop.create_future()
        self.adopt: asyncio.Future[bool] = loop.create_future()


def main(channel: int, parent: int) -> None:
    """Serve until told to stop. parent: the supervisor's process id."""
    harden()
    for name in _SAID_FOR_ALL:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    for ignored in _IGNORED:
        signal.signal(ignored, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        return  # it died before the line above
    sock = socket.socket(fileno=channel)

    async def work() -> int:
        return await Work(sock).run()

    with asyncio.Runner(loop_factory=new_event_loop()) as runner:
        sys.exit(runner.run(work()))
