"""The parent of all workers: binds, starts them, passes on what is asked of them, and serves the admin for all."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from mtlsproxy.config.errors import ConfigErrors
from mtlsproxy.config.load import LoadedConfig, load_config
from mtlsproxy.config.model import Config
from mtlsproxy.fetch.cache import state_folder
from mtlsproxy.fetch.client import FetchClient, HelperFailed, read_here
from mtlsproxy.revocation.sources import LoadedCrls, SourceError
from mtlsproxy.runtime.auditing import Auditing
from mtlsproxy.runtime.denials import Denials
from mtlsproxy.runtime.descriptors import make_room
from mtlsproxy.runtime.gauges import show_build
from mtlsproxy.runtime.material import Material
from mtlsproxy.runtime.reload import Reloader
from mtlsproxy.runtime.server import AdminHandle, settle_down
from mtlsproxy.runtime.snapshot import Plan, make_plan
from mtlsproxy.runtime.sockets import bind_for_workers, close_sockets
from mtlsproxy.runtime.systemd import Notifier
from mtlsproxy.telemetry.logs import Logs
from mtlsproxy.telemetry.metrics import Metrics
from mtlsproxy.tls import native
from mtlsproxy.tls.tickets import SECRET_SIZE
from mtlsproxy.verdict.trust import Denial
from mtlsproxy.workers.channel import Message
from mtlsproxy.workers.crew import Crew, Worker
from mtlsproxy.workers.orders import DENY_WITHIN, RELOAD_WITHIN
from mtlsproxy.workers.overview import Overview
from mtlsproxy.workers.relay import LocalLink, Relay

_LOG_FLUSH = 5.0
"""Seconds for the last log lines at the end."""

_END_WITHIN = 5.0
"""Seconds that workers have besides `shutdown.delay` and `shutdown.drain`."""

StartAdmin = Callable[[Config, Overview], Awaitable[AdminHandle]]

log = logging.getLogger(__name__)


class Supervisor:
    """Of one configuration with several workers. `start`, then `run_until_stopped`."""

    watches = True

    def __init__(self, material: Material, start_admin: StartAdmin, count: int, notifier: Notifier) -> None:
        """count: of workers."""
        self._notifier = notifier
        self.loop = asyncio.get_running_loop()
        self.metrics = Metrics()
        self.material = material
        self.generation = 1
        self.ticket_secret = os.urandom(SECRET_SIZE)
        self.serving = False
        self.draining = False
        self.started = datetime.now(UTC)
        self.reloader = Reloader(self)
        self.logs: Logs
        self.audit: Auditing
        self._first = material
        self._start_admin = start_admin
        self._admin: AdminHandle | None = None
        self._stopping = asyncio.Event()
        self._at_once = asyncio.Event()
        self._folder = state_folder(material.loaded.config.state_dir, os.environ)
        self.denials = Denials(self._folder, material.denials, self._denials_changed)
        self._sockets: dict[str, list[socket.socket]] = {}
        """By listener and worker. Kept open here: a crashed worker's queue waits for the next one."""
        self._relay = Relay()
        self._fetch: FetchClient | None = None
        self._lock = os.memfd_create("mtlsproxy-log-lock", os.MFD_CLOEXEC)
        self._overview = Overview(self)
        self.crew = Crew(
            count,
            self.metrics,
            self._start_worker,
            self._on_ready,
            self._on_message,
            self._on_gone,
            self._cover,
        )
        self._covering: dict[int, Worker] = {}
        """Who takes connections from the queue of a worker that is not there, by that one's number."""

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self.material.loaded.config

    @property
    def first_config(self) -> Config:
        return self._first.loaded.config

    @property
    def addresses(self) -> dict[str, tuple[str, int]]:
        """Where each listener accepts."""
        return {name: sockets[0].getsockname()[:2] for name, sockets in self._sockets.items()}

    # -- start -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Raises ConfigErrors, LogError or what `start_admin` raises, with nothing listening."""
        loaded = self.material.loaded
        lacking = make_room(loaded.config, self.crew.count)  # workers inherit it
        names = [listener.name for listener in loaded.config.listeners]
        self._sockets = bind_for_workers(loaded, names, self.crew.count)
        try:
            settle_down(loaded)
            make_plan(self.material, self.ticket_secret)
            self.logs = Logs(
                loaded.config.logging.model_copy(update={"access": "off"}), self.metrics, self.loop, self._lock
            )
            self.audit = Auditing(self.logs.audit, "supervisor")
            self.audit.started(self.material)
        except BaseException:
            self._close_sockets()
            raise
        show_build(self.metrics)
        self.metrics.config_info.state(loaded.sha256)
        try:
            self._admin = await self._start_admin(loaded.config, self._overview)
            if failures := await self.crew.launch():
                raise ConfigErrors([loaded.error("workers", line) for line in failures])
        except BaseException:
            self._close_sockets()
            await self._relay.close()
            if self._admin is not None:
                await self._admin.close()
            self.logs.close(_LOG_FLUSH)
            raise
        self.serving = True
        self._cover()
        self._announce(lacking)
        self.reloader.start()
        self.notify()

    def _announce(self, lacking: str) -> None:
        if lacking:
            log.warning("each worker: %s", lacking)
        for warning in self.material.warnings:
            log.warning("%s", warning)
        missing = native.unavailable_because()
        if missing is not None:
            log.warning("acceptable CA names are not advertised: %s", missing)
        for name, (host, port) in self.addresses.items():
            log.info("listener %s accepts on %s:%d, with %d workers", name, host, port, self.crew.count)

    def _start_worker(self, worker: Worker, memory: int) -> None:
        self._relay.join(worker.party, lambda why, at: _tell_of_end(worker, why, at))
        names = list(self._sockets)
        order = {
            "op": "start",
            "file": self.material.loaded.document.file,
            "config": self.material.loaded.data.decode("latin-1"),
            "secret": self.ticket_secret.hex(),
            "processes": self.crew.count,
            "number": worker.number,
            "listeners": names,
        }
        listening = [self._sockets[name][worker.number].fileno() for name in names]
        worker.send(order, [memory, self._lock, *listening])

    # -- what workers say ------------------------------------------------------------------------------------------

    def _on_ready(self, worker: Worker) -> None:
        # What was denied while it read its files is not among them.
        worker.send({"op": "denials", "id": 0, "denials": _written(self.denials.current), "new": None})
        self._overview.worker_ready(worker)

    def _on_message(self, worker: Worker, message: Message) -> None:
        if message["op"] == "kill_helper":
            self._relay.kill()
        elif message["op"] == "chain":
            for other in self.crew.ready:
                if other is not worker:
                    other.send(message)
        elif message["op"] == "event":
            self._overview.heard(message["event"])
        elif message["op"] == "fetch":
            self._relay.take(
                worker.party,
                Path(message["folder"]),
                message["message"],
                lambda answer: worker.send({"op": "fetched", "message": answer}),
            )

    def _on_gone(self, worker: Worker) -> None:
        self._relay.leave(worker.party)

    def _cover(self) -> None:
        """The kernel goes on to queue connections for a worker that is not there: another one takes them meanwhile."""
        accepting = self.crew.accepting
        missing = set(range(self.crew.count)) - {worker.number for worker in accepting}
        for number, worker in list(self._covering.items()):
            if number not in missing or worker not in accepting:
                del self._covering[number]
                worker.send({"op": "uncover", "number": number})
        if not accepting or not self.serving or self.draining:
            return
        names = list(self._sockets)
        for number in missing - self._covering.keys():
            worker = self._covering[number] = accepting[number % len(accepting)]
            queues = [self._sockets[name][number].fileno() for name in names]
            worker.send({"op": "cover", "number": number, "listeners": names}, queues)

    def _uncover(self) -> None:
        for number, worker in self._covering.items():
            worker.send({"op": "uncover", "number": number})
        self._covering.clear()

    # -- change ----------------------------------------------------------------------------------------------------

    def read_config(self, file: Path) -> LoadedConfig:
        return load_config(file, os.environ)

    async def load_lists(self, sources: Sequence[str | Path]) -> LoadedCrls:
        """Raises SourceError, CrlError."""
        if (lists := read_here(sources)) is not None:
            return lists
        if self._folder is None:
            raise SourceError("there is no folder to keep indexes of large CRLs in: set state_dir")
        if self._fetch is None:
            self._fetch = FetchClient(self._folder, lambda folder, hearer: LocalLink(self._relay, folder, hearer))
        try:
            return await self._fetch.load_files(sources)
        except HelperFailed as error:
            raise SourceError(error.detail) from error

    def reloading(self) -> None:
        self._notifier.reloading()

    def notify(self) -> None:
        count = self.crew.count
        self._notifier.ready(f"serving with {count} workers, configuration {self.material.loaded.sha256[:12]}")

    def refresh(self) -> None:
        self.crew.tell_all({"op": "refresh"})

    async def adopt(self, plan: Plan) -> None:
        """Every worker reads the files anew, and puts them in force once all of them can. Raises ConfigErrors with
        what was in force still there, at all."""
        loaded = plan.material.loaded
        binds = {listener.name: listener.bind for listener in self.config.listeners}
        listeners = {listener.name: listener for listener in loaded.config.listeners}
        fresh = [name for name, listener in listeners.items() if binds.get(name) != listener.bind]
        sockets = bind_for_workers(loaded, fresh, self.crew.count)
        numbers = range(self.crew.count)
        descriptors = [[sockets[name][number].fileno() for name in fresh] for number in numbers]
        asked = self.crew.ready
        order = {"op": "reload", "listeners": fresh, "config": loaded.data.decode("latin-1")}
        answers = await self.crew.ask_each(asked, order, descriptors, RELOAD_WITHIN)
        errors = list(dict.fromkeys(line for answer in answers.values() for line in answer["errors"]))
        decision = {"op": "decide", "adopt": not errors}
        decided = await self.crew.ask_each(asked, decision, seconds=RELOAD_WITHIN)
        if errors:
            close_sockets(sock for group in sockets.values() for sock in group)
            raise ConfigErrors([loaded.error("workers", f"a worker refuses it: {line}") for line in errors])
        for name in [name for name in self._sockets if name in fresh or name not in listeners]:
            close_sockets(self._sockets.pop(name))
        self._sockets |= sockets
        self._uncover()
        self._cover()
        self.material = plan.material.with_denials(self.denials.current)
        self.generation += 1
        self.metrics.config_info.state(loaded.sha256)
        for worker in self.crew.workers:
            if worker not in decided or decided[worker]["errors"]:
                # It hangs, or has started meanwhile with what was in force before: nobody may be served by that.
                worker.kill("has not put the new configuration in force")

    def _denials_changed(self) -> None:
        self.material = self.material.with_denials(self.denials.current)

    async def tell_denials(self, new: Denial | None) -> int:
        """Have every worker enforce what is denied now; how many connections the new one has ended."""
        order = {
            "op": "denials",
            "denials": _written(self.denials.current),
            "new": None if new is None else new.model_dump_json(exclude_none=True),
        }
        answers = await self.crew.ask_each(self.crew.ready, order, seconds=DENY_WITHIN)
        return sum(answer["ended"] for answer in answers.values())

    # -- run and stop ----------------------------------------------------------------------------------------------

    async def run_until_stopped(self) -> None:
        """Until a signal asks for it."""
        await self._stopping.wait()
        await self.stop()

    def heed_signals(self) -> None:
        """As runtime.server.Proxy.heed_signals."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, self._ask_to_stop)
        self.loop.add_signal_handler(signal.SIGUSR1, self._reopen_logs)
        self.loop.add_signal_handler(signal.SIGHUP, self.reloader.reload_soon)

    def _ask_to_stop(self) -> None:
        if self._stopping.is_set():
            log.warning("asked to stop again: what is in flight is cut off")
            self._at_once.set()
            self.crew.tell_all({"op": "hurry"})
        self._stopping.set()

    async def stop(self) -> None:
        """Readiness fails first; the workers then do as a single process would."""
        self.draining = True
        self._notifier.stopping()
        await self.reloader.stop()
        shutdown = self.config.shutdown
        log.info("stopping: draining for at most %gs", shutdown.drain)
        ending = self.loop.create_task(self.crew.stop(shutdown.delay + shutdown.drain + _END_WITHIN))
        if shutdown.delay:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._at_once.wait(), shutdown.delay)
        self._close_sockets()  # else who connects now would wait in a queue that nobody serves
        await ending
        if self._fetch is not None:
            await self._fetch.close()
        await self._relay.close()
        if self._admin is not None:
            await self._admin.close()
        os.close(self._lock)
        self._notifier.close()
        log.info("stopped")
        self.logs.close(_LOG_FLUSH)

    def _reopen_logs(self) -> None:
        if not self.serving:
            return
        self.logs.reopen()
        self.crew.tell_all({"op": "reopen"})

    def _close_sockets(self) -> None:
        close_sockets(sock for sockets in self._sockets.values() for sock in sockets)
        self._sockets.clear()


def _tell_of_end(worker: Worker, why: str, next_at: datetime) -> None:
    worker.send({"op": "helper_ended", "why": why, "next_at": next_at.isoformat()})


def _written(denials: tuple[Denial, ...]) -> list[str]:
    return [denial.model_dump_json(exclude_none=True) for denial in denials]
