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
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mtlsproxy.config.errors import ConfigErrors
from mtlsproxy.config.load import LoadedConfig, reread_config
from mtlsproxy.config.model import Config
from mtlsproxy.fetch.client import FetchClient
from mtlsproxy.runtime.control import Control
from mtlsproxy.runtime.material import load_material
from mtlsproxy.runtime.privileges import harden
from mtlsproxy.runtime.server import AdminHandle, Proxy, Surroundings
from mtlsproxy.runtime.sockets import close_sockets
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
_IGNORED = (signal.SIGINT, signal.SIGHUP)
"""Meant for the supervisor, which passes on what they ask for; a terminal sends Ctrl-C to all of us."""

_ONE_SPEAKS = ("mtlsproxy.runtime.feeds", "mtlsproxy.runtime.material")
"""Loggers of what happens to all workers alike: the first one says it."""

for _quiet in ("mtlsproxy.runtime.server", "mtlsproxy.runtime.reload"):
    logging.getLogger(_quiet).setLevel(logging.CRITICAL)  # what they say the supervisor says for all

log = logging.getLogger(__name__)


class Work:
    """The worker's side of its channel."""

    def __init__(self, sock: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._started: asyncio.Future[tuple[Message, list[int]]] = self._loop.create_future()
        self._stop = asyncio.Event()
        self._draining = False
        self._channel = Channel(self._loop, sock, self._hear, self._orphaned)
        self._sockets: dict[str, socket.socket] = {}
        self._link: RemoteLink | None = None
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
            make_fetch_client=lambda folder: FetchClient(folder, self._make_link),
            secret=bytes.fromhex(order["secret"]),
            watches=False,
            processes=order["processes"],
            lock=lock,
            role=f"worker {order['number']}",
            audits_reloads=False,
            audits_lists=order["number"] == 0,
        )
        try:
            material = load_material(self._read_config(Path(order["file"])), datetime.now(UTC))
            self._proxy = Proxy(material, self._no_admin, surroundings)
            await self._proxy.start()
        except (ConfigErrors, LogError) as error:
            self._channel.send({"op": "failed", "errors": str(error).splitlines()})
            return 2
        self._loop.add_signal_handler(signal.SIGTERM, self._ask_to_stop)
        self._channel.send({"op": "ready"})
        publishing = self._loop.create_task(self._publish())
        await self._stop.wait()
        self._draining = True
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

    def _make_link(self, folder: Path, client: Any) -> RemoteLink:
        self._link = RemoteLink(self._channel.send, folder, client)
        return self._link

    # -- what the supervisor says ----------------------------------------------------------------------------------

    def _orphaned(self) -> None:
        if not self._started.done():
            os._exit(1)
        log.error("the supervisor is gone: this worker drains and ends")
        self._stop.set()

    def _ask_to_stop(self) -> None:
        if self._draining:
            self._proxy.hurry()
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
            case "stop":
                self._ask_to_stop()
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
                outcome = await self._proxy.reloader.reload("the supervisor")
                return {"errors": outcome.errors}
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

    async def _deny(self, message: Message) -> Message:
        """All that are in force; new: the one that was added, whose connections end first."""
        proxy = self._proxy
        proxy.denials.replace(tuple(map(Denial.model_validate_json, message["denials"])))
        ended = 0
        if message["new"] is not None:
            ended = Control(proxy).end_connections(Denial.model_validate_json(message["new"]))
        await proxy.judge_all_again()
        return {"ended": ended}


def main(channel: int, parent: int) -> None:
    """Serve until told to stop. parent: the supervisor's process id."""
    harden()
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
