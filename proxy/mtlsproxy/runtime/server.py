"""The process: everything is loaded and bound before anything listens; signals; drain."""

import asyncio
import contextlib
import dataclasses
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from mtlsproxy.config.errors import ConfigErrors
from mtlsproxy.config.load import LoadedConfig, load_config
from mtlsproxy.config.model import Config
from mtlsproxy.fetch.cache import CacheError, state_folder
from mtlsproxy.fetch.client import CrlEvent, FetchClient
from mtlsproxy.revocation.sources import LoadedCrls
from mtlsproxy.runtime.auditing import Auditing
from mtlsproxy.runtime.denials import Denials
from mtlsproxy.runtime.descriptors import make_room
from mtlsproxy.runtime.feeds import Feeds
from mtlsproxy.runtime.gauges import show_build, show_material
from mtlsproxy.runtime.judging import Judge
from mtlsproxy.runtime.listener import ListenerRuntime, ShareChain
from mtlsproxy.runtime.material import Material
from mtlsproxy.runtime.pools import Pools
from mtlsproxy.runtime.privileges import PrivilegeError, become, unreadable
from mtlsproxy.runtime.reload import Reloader
from mtlsproxy.runtime.retired import Retired
from mtlsproxy.runtime.snapshot import Plan, Snapshot, make_plan, make_snapshot
from mtlsproxy.runtime.sockets import BACKLOG, bind_listeners, close_sockets
from mtlsproxy.runtime.status import Status
from mtlsproxy.runtime.systemd import Notifier
from mtlsproxy.runtime.watched import watched_paths
from mtlsproxy.telemetry.clients import Clients
from mtlsproxy.telemetry.logs import Logs
from mtlsproxy.telemetry.metrics import Metrics
from mtlsproxy.tls import native
from mtlsproxy.tls.tickets import SECRET_SIZE
from mtlsproxy.transport.wheel import TimerWheel

_LOG_FLUSH = 5.0
"""Seconds for the last log lines at the end."""

log = logging.getLogger(__name__)


class AdminHandle(Protocol):
    async def close(self) -> None: ...


StartAdmin = Callable[[Config, Status], Awaitable[AdminHandle | None]]
"""Starts the admin listener, which is above this room; a worker has none of its own."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is another's where several processes serve together; as it stands, for one that is alone.

    bind: a bound socket for each of some listeners, all or none (ConfigErrors). read_config: of a file, in a thread
    (ConfigErrors). agree: returns when the others can put the same in force, too (else ConfigErrors). watches: whether
    files are looked at, and not only reloaded when somebody says so. share_chain: tells the others of a client's chain,
    whose session may be resumed there. processes: among which a listener's limits are divided.
    """

    bind: Callable[[LoadedConfig, Iterable[str]], dict[str, socket.socket]] = bind_listeners
    agree: Callable[[], Awaitable[None]] = lambda: _nobody_to_ask()
    read_config: Callable[[Path], LoadedConfig] = lambda file: load_config(file, os.environ)
    make_fetch_client: Callable[[Path], FetchClient] = FetchClient
    secret: bytes = field(default_factory=lambda: os.urandom(SECRET_SIZE))
    watches: bool = True
    share_chain: ShareChain = lambda listener, chain: None
    processes: int = 1
    notifier: Notifier = field(default_factory=lambda: Notifier({}, 0))
    lock: int | None = None
    """A descriptor to lock while lines are written to a pipe that others write to as well."""
    role: str = "proxy"
    """Of this process, in the audit log."""
    audits_reloads: bool = True
    audits_lists: bool = True
    """Whether reloads and fetched lists, which all processes see alike, are this one's to tell the audit log."""


async def _nobody_to_ask() -> None: ...


class Proxy:
    """One process. `start`, then `run_until_stopped`, or `stop` when embedded."""

    def __init__(self, material: Material, start_admin: StartAdmin, surroundings: Surroundings | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        self._first = material
        self.surroundings = surroundings or Surroundings()
        self._start_admin = start_admin
        self._admin: AdminHandle | None = None
        self._stopping = asyncio.Event()
        self._at_once = asyncio.Event()
        self.metrics = Metrics()
        self.clients = Clients()
        self.wheel = TimerWheel(self.loop)
        self.serving = False
        self.draining = False
        self.listeners: dict[str, ListenerRuntime] = {}
        self._retired = Retired()
        """Gone from the configuration, with answers that may still be under way."""
        self.snapshot: Snapshot
        self.logs: Logs
        self.audit: Auditing
        self.reloader = Reloader(self)
        folder = state_folder(material.loaded.config.state_dir, os.environ)
        self.denials = Denials(folder, material.denials, self._denied)
        self.feeds = Feeds(folder, self.metrics, self._fetched, self.surroundings.make_fetch_client, self._tell_list)
        self.pools = Pools(self.loop, self.wheel, self.metrics, self.feeds.resolve)
        self._judging: set[asyncio.Task[None]] = set()
        self.ticket_secret = self.surroundings.secret

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self.snapshot.material.loaded.config

    @property
    def first_config(self) -> Config:
        """The configuration at start, of which some parts stay in force until the end."""
        return self._first.loaded.config

    @property
    def material(self) -> Material:
        """What is in force."""
        return self.snapshot.material

    @property
    def generation(self) -> int:
        return self.snapshot.generation

    @property
    def watches(self) -> bool:
        return self.surroundings.watches

    def read_config(self, file: Path) -> LoadedConfig:
        return self.surroundings.read_config(file)

    async def load_lists(self, sources: Sequence[str | Path]) -> LoadedCrls:
        return await self.feeds.load_files(sources)

    def refresh(self) -> None:
        self.feeds.refresh()

    def reloading(self) -> None:
        self.surroundings.notifier.reloading()

    def notify(self) -> None:
        self.surroundings.notifier.ready(f"serving, configuration {self.material.loaded.sha256[:12]}")

    # -- start -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Raises ConfigErrors, LogError or what `start_admin` raises, with nothing listening."""
        loaded = self._first.loaded
        lacking = make_room(loaded.config, self.surroundings.processes)
        sockets = self.surroundings.bind(loaded, [listener.name for listener in loaded.config.listeners])
        try:
            settle_down(loaded)
            plan = make_plan(self._first, self.ticket_secret)
            self._check_feeds(plan)
            self.logs = Logs(loaded.config.logging, self.metrics, self.loop, self.surroundings.lock)
            here = self.surroundings
            self.audit = Auditing(self.logs.audit, here.role, reloads=here.audits_reloads, lists=here.audits_lists)
            self.audit.started(self._first)
        except BaseException:
            close_sockets(sockets.values())
            raise
        self.pools.adopt(self.pools.prepare(plan))
        self.snapshot = make_snapshot(plan, 1, self.pools.upstreams, self.metrics)
        for listener in loaded.config.listeners:
            self.listeners[listener.name] = self._listener(listener.name)
        show_build(self.metrics)
        self.metrics.workers.set(value=1)
        show_material(self.metrics, self._first, time.time())
        try:
            # Before the listeners: an admin address that is taken must leave nothing half-started.
            self._admin = await self._start_admin(loaded.config, Status(self))
        except BaseException:
            close_sockets(sockets.values())
            self.logs.close(_LOG_FLUSH)
            raise
        self.feeds.adopt(self._first)
        await self.feeds.first()
        self.serving = True
        if self.feeds.sources:
            self._fetched()
        for name, sock in sockets.items():
            sock.listen(BACKLOG)
            self.listeners[name].listen(sock)
        self._announce(lacking)
        self.reloader.start()
        self.notify()
        gc.collect()
        gc.freeze()  # what is here now stays: full collections need not look at it
        gc.set_threshold(50_000, 20, 100)

    def _listener(self, name: str) -> ListenerRuntime:
        config = next(listener for listener in self.config.listeners if listener.name == name)
        return ListenerRuntime(
            self.loop,
            self.wheel,
            config,
            self.snapshot.listeners[name],
            self.metrics,
            self.logs.access,
            self.logs.refusals,
            self.clients,
            self.feeds.resolve,
            self.surroundings.share_chain,
            self.surroundings.processes,
        )

    def _announce(self, lacking: str) -> None:
        if lacking:
            log.warning("%s", lacking)
        for warning in self.snapshot.material.warnings:
            log.warning("%s", warning)
        missing = native.unavailable_because()
        if missing is not None:
            log.warning("acceptable CA names are not advertised: %s", missing)
        for name, listener in self.listeners.items():
            for host, port in listener.addresses:
                log.info("listener %s accepts on %s:%d", name, host, port)

    # -- change ----------------------------------------------------------------------------------------------------

    async def adopt(self, plan: Plan) -> None:
        """Put `plan` in force: new connections use it, open ones are judged again. All of it, or ConfigErrors."""
        self._check_feeds(plan)
        await self.surroundings.agree()
        config = plan.material.loaded.config
        binds = {listener.name: listener.bind for listener in self.config.listeners}
        fresh = [listener.name for listener in config.listeners if binds.get(listener.name) != listener.bind]
        sockets = self.surroundings.bind(plan.material.loaded, fresh)
        # From here to the last listener nothing is awaited: no request and no denial meets a half of it.
        self.pools.adopt(self.pools.prepare(plan))
        self.feeds.adopt(plan.material)
        self._make_snapshot(plan)
        show_material(self.metrics, plan.material, time.time())
        for name in [n for n in self.listeners if n in fresh or n not in plan.listeners]:
            self._retired.add(self.listeners.pop(name), config.shutdown.drain)
            self.metrics.connections.remove(name)
        for listener in config.listeners:
            if listener.name in fresh:
                self.listeners[listener.name] = self._listener(listener.name)
                sockets[listener.name].listen(BACKLOG)
                self.listeners[listener.name].listen(sockets[listener.name])
            else:
                self.listeners[listener.name].adopt(listener, self.snapshot.listeners[listener.name])
        self._retired.adopt(self.listeners, self.snapshot.generation)
        await self.judge_all_again()

    def _make_snapshot(self, plan: Plan, judges: Mapping[str, Judge] = MappingProxyType({})) -> None:
        """The next generation. Denials may have come while the plan was made: those of now are what counts."""
        material = plan.material.with_denials(self.denials.current).with_sources(self.feeds.sources)
        plan = dataclasses.replace(plan, material=material)
        self.pools.trust(plan)
        generation = self.snapshot.generation + 1
        self.snapshot = make_snapshot(plan, generation, self.pools.upstreams, self.metrics, judges)

    def _check_feeds(self, plan: Plan) -> None:
        """Raises ConfigErrors."""
        try:
            self.feeds.check(plan.material)
        except CacheError as error:
            raise ConfigErrors([plan.material.loaded.error("state_dir", error.detail)]) from error

    def _denied(self) -> None:
        """Denials have come or gone: of thousands, those whom they do not name are not judged from the start again."""
        self._renew({name: listener.judge for name, listener in self.snapshot.listeners.items()})

    def _renew(self, judges: Mapping[str, Judge] = MappingProxyType({})) -> None:
        """Put the denials and the fetched lists of now in force: a new generation of the same files."""
        self._make_snapshot(self.snapshot.plan, judges)
        for name, listener in self.listeners.items():
            listener.adopt(listener.config, self.snapshot.listeners[name])
        self._retired.adopt(self.listeners, self.snapshot.generation)

    def _tell_list(self, truststore: str, event: CrlEvent) -> None:
        self.audit.fetched(truststore, event)

    def _fetched(self) -> None:
        """Lists or answers have changed."""
        if self.serving:
            self._renew()
            show_material(self.metrics, self.snapshot.material, time.time())
            judging = self.loop.create_task(self.judge_all_again())
            self._judging.add(judging)
            judging.add_done_callback(self._judging.discard)

    async def judge_all_again(self) -> None:
        """Let go of open connections that no longer pass."""
        await asyncio.gather(*(listener.judge_all_again() for listener in self._all_listeners()))

    # -- run and stop ----------------------------------------------------------------------------------------------

    def heed_signals(self) -> None:
        """SIGTERM and SIGINT drain, a second one does not wait; SIGHUP reloads, SIGUSR1 reopens the logs.

        Before `start`: who is told that it is ready may send one at once.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, self.ask_to_stop)
        self.loop.add_signal_handler(signal.SIGUSR1, self._reopen_logs)
        self.loop.add_signal_handler(signal.SIGHUP, self.reloader.reload_soon)

    def _reopen_logs(self) -> None:
        if self.serving:
            self.logs.reopen()

    async def run_until_stopped(self) -> None:
        """Until a signal asks for it."""
        await self._stopping.wait()
        await self.stop()

    def ask_to_stop(self) -> None:
        """Who asks a second time does not want to wait any longer."""
        if self._stopping.is_set():
            log.warning("asked to stop again: what is in flight is cut off")
            self.hurry()
        self._stopping.set()

    def hurry(self) -> None:
        """Have `stop` wait for nothing more."""
        self._at_once.set()

    async def stop(self) -> None:
        """Readiness fails first; then listeners close, what is in flight gets `shutdown.drain`, the rest is ended."""
        self.draining = True
        self.surroundings.notifier.stopping()
        await self.reloader.stop()
        shutdown = self.config.shutdown
        log.info("stopping: draining for at most %gs", shutdown.drain)
        if shutdown.delay:
            for listener in self.listeners.values():
                listener.service.draining = True  # answers say Connection: close: clients come back elsewhere
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._at_once.wait(), shutdown.delay)
        for listener in self.listeners.values():
            listener.retire()
        await self._wait_for_connections(shutdown.drain)
        for listener in self._all_listeners():
            listener.kill()
        # Not before: who comes meanwhile, and who is still served, may need an answer or a list.
        await self.feeds.close()
        self.pools.close()
        await asyncio.sleep(0)
        if self._admin is not None:
            await self._admin.close()
        self.wheel.close()
        self.surroundings.notifier.close()
        log.info("stopped")
        self.logs.close(_LOG_FLUSH)

    def _all_listeners(self) -> list[ListenerRuntime]:
        return [*self.listeners.values(), *self._retired.busy]

    async def _wait_for_connections(self, seconds: float) -> None:
        deadline = self.loop.time() + seconds
        while any(listener.busy for listener in self._all_listeners()):
            if self._at_once.is_set():
                return
            if self.loop.time() > deadline:
                here = sum(len(listener.service.connections) for listener in self._all_listeners())
                log.warning("shutdown.drain is over: connections that are cut off: %d", here)
                return
            await asyncio.sleep(0.02)


def settle_down(loaded: LoadedConfig) -> None:
    """Become the configuration's `user`, now that what only root may do is done. Raises ConfigErrors."""
    user = loaded.config.user
    if user is None:
        return
    try:
        become(user)
    except PrivilegeError as error:
        raise ConfigErrors([loaded.error("user", error.detail)]) from error
    if closed := unreadable([Path(sys.executable), Path(os.__file__), Path(__file__)]):
        detail = f"{user} cannot read {closed[0]}: Python and this program must be where {user} can run them"
        raise ConfigErrors([loaded.error("user", detail)])
    if closed := unreadable(watched_paths(loaded.config, Path(loaded.document.file))):
        detail = f"{user} cannot read {closed[0]}, which a reload and a new worker need: change its owner or its group"
        raise ConfigErrors([loaded.error("user", detail)])
