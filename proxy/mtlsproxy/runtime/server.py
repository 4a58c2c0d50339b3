"""The process: everything is loaded and bound before anything listens; signals; drain."""

import asyncio
import gc
import logging
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from mtlsproxy.config.errors import ConfigErrors
from mtlsproxy.config.model import Bind, Config
from mtlsproxy.http1.origin import Origin
from mtlsproxy.runtime.gauges import show_build, show_material
from mtlsproxy.runtime.listener import ListenerRuntime
from mtlsproxy.runtime.material import Material
from mtlsproxy.runtime.snapshot import Snapshot, build_snapshot
from mtlsproxy.runtime.status import Status
from mtlsproxy.telemetry.logs import Logs
from mtlsproxy.telemetry.metrics import Metrics
from mtlsproxy.tls import native
from mtlsproxy.transport.wheel import TimerWheel
from mtlsproxy.upstream.pool import PoolSettings, Server, Upstream

BACKLOG = 4096
"""Connections that the kernel keeps while we are busy; it cuts this down to net.core.somaxconn."""

_LOG_FLUSH = 5.0
"""Seconds for the last log lines at the end."""

log = logging.getLogger(__name__)


class StartError(Exception):
    """The proxy cannot start. str() says what is wrong and where."""


class AdminHandle(Protocol):
    async def close(self) -> None: ...


StartAdmin = Callable[[Config, Metrics, Status], Awaitable[AdminHandle]]
"""Starts the admin listener, which is above this room."""


class Proxy:
    """One process. `start`, then `run_until_stopped`, or `stop` when embedded."""

    def __init__(self, material: Material, start_admin: StartAdmin) -> None:
        self.loop = asyncio.get_running_loop()
        self._material = material
        self._start_admin = start_admin
        self._admin: AdminHandle | None = None
        self._stopping = asyncio.Event()
        self.metrics = Metrics()
        self.wheel = TimerWheel(self.loop)
        self.draining = False
        self.listeners: dict[str, ListenerRuntime] = {}
        self.upstreams: dict[str, Upstream] = {}
        self.snapshot: Snapshot
        self.logs: Logs

    @property
    def config(self) -> Config:
        return self._material.loaded.config

    # -- start -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Raises StartError, ConfigErrors or LogError with nothing listening."""
        sockets = self._bind_all()
        try:
            self.upstreams = _make_upstreams(self.config, self.loop, self.wheel, self.metrics)
            self.snapshot = build_snapshot(self._material, 1, self.upstreams, self.metrics)
            self.logs = Logs(self.config.logging, self.metrics, self.loop)
        except BaseException:
            _close_all(sockets)
            raise
        for listener in self.config.listeners:
            self.listeners[listener.name] = ListenerRuntime(
                self.loop,
                self.wheel,
                listener,
                self.snapshot.listeners[listener.name],
                self.metrics,
                self.logs.access,
                self.logs.refusals,
            )
        show_build(self.metrics)
        show_material(self.metrics, self._material, time.time())
        try:
            # Before the listeners: an admin address that is taken must leave nothing half-started.
            self._admin = await self._start_admin(self.config, self.metrics, Status(self))
        except BaseException:
            _close_all(sockets)
            self.logs.close(_LOG_FLUSH)
            raise
        self._listen(sockets)
        self._announce()
        gc.collect()
        gc.freeze()  # what is here now stays: full collections need not look at it
        gc.set_threshold(50_000, 20, 100)

    def _bind_all(self) -> dict[str, list[socket.socket]]:
        sockets: dict[str, list[socket.socket]] = {}
        errors = []
        for number, listener in enumerate(self.config.listeners):
            try:
                sockets[listener.name] = [_bound(listener.bind)]
            except OSError as error:
                detail = f"cannot listen on {listener.bind}: {error.strerror or error}"
                errors.append(self._material.loaded.error(f"listeners[{number}].bind", detail))
        if errors:
            _close_all(sockets)
            raise ConfigErrors(errors)
        return sockets

    def _listen(self, sockets: dict[str, list[socket.socket]]) -> None:
        for name, bound in sockets.items():
            for sock in bound:
                sock.listen(BACKLOG)
                self.listeners[name].listen(sock)

    def _announce(self) -> None:
        for warning in self._material.warnings:
            log.warning("%s", warning)
        missing = native.unavailable_because()
        if missing is not None:
            log.warning("acceptable CA names are not advertised: %s", missing)
        for name, listener in self.listeners.items():
            for host, port in listener.addresses:
                log.info("listener %s accepts on %s:%d", name, host, port)

    # -- run and stop ----------------------------------------------------------------------------------------------

    async def run_until_stopped(self) -> None:
        """Until SIGTERM or SIGINT; then drain. SIGUSR1 reopens the logs."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, self._stopping.set)
        self.loop.add_signal_handler(signal.SIGUSR1, self.logs.reopen)
        self.loop.add_signal_handler(signal.SIGHUP, self._refuse_reload)
        await self._stopping.wait()
        await self.stop()

    def _refuse_reload(self) -> None:
        log.error("SIGHUP: reloading is not available in this version; restart to apply a changed configuration")
        self.metrics.config_reloads_total.cell("failure").value += 1

    async def stop(self) -> None:
        """Readiness fails first; then listeners close, what is in flight gets `shutdown.drain`, the rest is ended."""
        self.draining = True
        shutdown = self.config.shutdown
        log.info("stopping: draining for at most %gs", shutdown.drain)
        if shutdown.delay:
            await asyncio.sleep(shutdown.delay)
        for listener in self.listeners.values():
            listener.acceptor.close()
            listener.service.draining = True
            for connection in list(listener.service.connections):
                connection.drain()
        await self._wait_for_connections(shutdown.drain)
        for listener in self.listeners.values():
            for connection in list(listener.service.connections):
                connection.kill()
        for upstream in self.upstreams.values():
            upstream.close()
        await asyncio.sleep(0)
        if self._admin is not None:
            await self._admin.close()
        self.wheel.close()
        log.info("stopped")
        self.logs.close(_LOG_FLUSH)

    async def _wait_for_connections(self, seconds: float) -> None:
        deadline = self.loop.time() + seconds
        while self.loop.time() < deadline and any(x.service.connections for x in self.listeners.values()):
            await asyncio.sleep(0.02)  # noqa: ASYNC110 - once a process, and connections need not know of it


def _bound(bind: Bind) -> socket.socket:
    """A bound socket that does not listen yet."""
    family, _, _, _, address = socket.getaddrinfo(bind.host, bind.port, type=socket.SOCK_STREAM)[0]
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, bind.host != "::")
        sock.bind(address)
        sock.listen(0)  # bind alone does not say that the port is taken
    except BaseException:
        sock.close()
        raise
    return sock


def _close_all(sockets: dict[str, list[socket.socket]]) -> None:
    for bound in sockets.values():
        for sock in bound:
            sock.close()


def _make_upstreams(
    config: Config, loop: asyncio.AbstractEventLoop, wheel: TimerWheel, metrics: Metrics
) -> dict[str, Upstream]:
    upstreams = {}
    for name, settings in config.upstreams.items():
        upstream = Upstream(
            loop,
            wheel,
            PoolSettings(
                name, settings.connect_timeout, settings.idle_timeout, settings.max_connections, settings.queue
            ),
            Origin,
        )
        for entry in settings.servers:
            server = Server(
                upstream,
                entry.url,
                entry.host,
                entry.port,
                metrics.upstream_failures_total.cell(name, entry.url),
                metrics.upstream_retries_total.cell(name, entry.url),
            )
            upstream.servers.append(server)
            metrics.upstream_connections.watch((name, entry.url), lambda server=server: server.open)  # type: ignore[misc]
            metrics.upstream_healthy.set(name, entry.url, value=1)
        upstreams[name] = upstream
    return upstreams
