"""Starting and stopping the admin server.

aiohttp takes half a second to import, so nothing here imports it before `start_admin`, and then in a thread: the
listeners are up and serving by that time.
"""

import asyncio
import errno
import importlib
import os
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from mtlsproxy.admin.connections import Connections, Limits, usual_limits
from mtlsproxy.admin.hosts import HostRule
from mtlsproxy.admin.source import StatusSource
from mtlsproxy.config.scalars import Bind
from mtlsproxy.config.service import Admin

if TYPE_CHECKING:
    from aiohttp import web

_BACKLOG = 128
_SHUTDOWN_SECONDS = 1.0
"""How long a scrape in flight may hold up the end of the process."""
_LINGER_SECONDS = 2.0
"""How long the rest of a body that nobody wants is read, so that the answer is not lost to a reset."""


class AdminError(Exception):
    """The admin server cannot start. key: of the setting, `admin.bind`; detail: what is wrong with it."""

    def __init__(self, key: str, detail: str) -> None:
        super().__init__(f"{key}: {detail}")
        self.key = key
        self.detail = detail


@dataclass(frozen=True, slots=True)
class AdminServer:
    """A running admin server. `addresses` and `metrics_addresses` are what is bound, ports resolved."""

    addresses: tuple[Bind, ...]
    metrics_addresses: tuple[Bind, ...]
    undo: AsyncExitStack

    async def close(self) -> None:
        await self.undo.aclose()


async def start_admin(admin: Admin, source: StatusSource, limits: Limits | None = None) -> AdminServer:
    """Bind and serve `admin.bind`, and `admin.metrics_bind` where it is set. limits: of each. Raises AdminError."""
    limits = limits or usual_limits()
    async with AsyncExitStack() as undo:
        sockets = await _bind("admin.bind", admin.bind, undo)
        metrics_sockets: list[socket.socket] = []
        if admin.metrics_bind is not None:
            metrics_sockets = await _bind("admin.metrics_bind", admin.metrics_bind, undo)
        app_module = await asyncio.to_thread(importlib.import_module, "mtlsproxy.admin.app")
        scope = app_module.Scope.ALL if _only_local(sockets) else app_module.Scope.WITH_TOKEN
        sites = [("admin.bind", admin.bind, scope, sockets)]
        if admin.metrics_bind is not None:
            metrics_alone = app_module.Scope.METRICS_ALONE
            sites.append(("admin.metrics_bind", admin.metrics_bind, metrics_alone, metrics_sockets))
        addresses, metrics_addresses = _addresses(sockets), _addresses(metrics_sockets)
        for key, bind, scope, bound in sites:
            known = [bind.host, *(address.host for address in _addresses(bound))]
            app = app_module.make_app(HostRule(known, admin.allowed_hosts), scope, source, limits)
            await _serve(app, bound, Connections(key, limits), undo)
        return AdminServer(addresses, metrics_addresses, undo.pop_all())


async def _serve(
    app: "web.Application", sockets: Sequence[socket.socket], connections: Connections, undo: AsyncExitStack
) -> None:
    """Not by aiohttp's own sites: they take no protocol but its own."""
    from aiohttp import web

    from mtlsproxy.admin.app import http_log

    runner = web.AppRunner(
        app,
        handle_signals=False,
        access_log=None,
        logger=http_log,
        shutdown_timeout=_SHUTDOWN_SECONDS,
        lingering_time=_LINGER_SECONDS,
    )
    undo.push_async_callback(runner.cleanup)
    await runner.setup()
    assert runner.server is not None
    undo.callback(connections.close)
    factory = connections.factory(runner.server)
    for bound in sockets:
        server = await asyncio.get_running_loop().create_server(factory, sock=bound, backlog=_BACKLOG)
        undo.callback(server.close)


async def _bind(key: str, bind: Bind, undo: AsyncExitStack) -> list[socket.socket]:
    """Listening sockets on every address of `bind`; closed by `undo` unless it is popped."""
    if bind.fd_name is not None:
        raise AdminError(key, f"{bind}: sockets passed by systemd are for listeners: write host:port")
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(bind.host, bind.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise AdminError(key, f"{bind}: {error.strerror}") from error
    sockets: list[socket.socket] = []
    failure: OSError | None = None
    for family, _, _, _, address in dict.fromkeys(found):
        try:
            bound = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
        except OSError as error:
            # A name such as localhost may have an address of a family that this machine does not run.
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise AdminError(key, f"{bind}: {_words(error)}") from error
            failure = error
            continue
        undo.callback(bound.close)
        sockets.append(bound)
    if not sockets:
        raise AdminError(key, f"{bind}: {_words(failure)}") from failure
    return sockets


def _words(error: OSError | None) -> str:
    if error is None or error.errno is None:
        return "it has no address"
    return os.strerror(error.errno)


def _only_local(sockets: Sequence[socket.socket]) -> bool:
    return all(ip_address(str(bound.getsockname()[0])).is_loopback for bound in sockets)


def _addresses(sockets: Sequence[socket.socket]) -> tuple[Bind, ...]:
    return tuple(Bind(str(bound.getsockname()[0]), int(bound.getsockname()[1])) for bound in sockets)
