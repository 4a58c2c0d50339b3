"""The demo itself: everything in one process, until it is told to stop."""

import asyncio
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from shutil import which
from typing import Any

from mtlsproxy.admin.server import AdminServer, start_admin
from mtlsproxy.config.load import load_config
from mtlsproxy.config.model import Config
from mtlsproxy.demo.script import introduction, scenes, show
from mtlsproxy.demo.stage import Stage, set_up
from mtlsproxy.demo.upstream import Say, echo_upstream
from mtlsproxy.runtime.material import load_material
from mtlsproxy.runtime.server import Proxy
from mtlsproxy.runtime.status import Status

PORT = 8443
ADMIN_PORT = 9901
_LOOK_SECONDS = 0.2
"""How often new refusals are looked for."""


class PortTaken(Exception):
    """str() says which, and what to do."""


async def run_demo(port: int | None, say: Say) -> None:
    """Until SIGINT, SIGTERM or SIGHUP. port: the proxy's; None for the usual one, or a free one where it is taken.

    Raises PortTaken, ConfigErrors, PkiError or AdminError, with nothing left behind.
    """
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with tempfile.TemporaryDirectory(prefix="mtlsproxy-demo-") as folder:
        stage = Stage(Path(folder), _proxy_port(port), _free_port(ADMIN_PORT))
        async with echo_upstream(say) as upstream_port:
            set_up(stage, upstream_port)
            proxy = Proxy(load_material(load_config(stage.config, os.environ), datetime.now(UTC)), _start_admin)
            await proxy.start()
            try:
                _introduce(stage, upstream_port, say)
                await _tell_refusals_until(stop, proxy, say)
            finally:
                await proxy.stop()
    say(f"stopped; {folder} is removed")


def _proxy_port(wanted: int | None) -> int:
    if wanted is None:
        return _free_port(PORT)
    if not _is_free(wanted):
        raise PortTaken(f"port {wanted} is taken: choose another with --port, or leave it out for a free one")
    return wanted


def _free_port(usual: int) -> int:
    if _is_free(usual):
        return usual
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


async def _start_admin(config: Config, status: Status) -> AdminServer:
    return await start_admin(config.admin, status)


def _introduce(stage: Stage, upstream_port: int, say: Say) -> None:
    say(introduction(stage, upstream_port))
    no_proxy = any(name.lower() in ("http_proxy", "https_proxy", "all_proxy") for name in os.environ)
    for number, scene in enumerate(scenes(stage, _program(), no_proxy=no_proxy), 1):
        say(show(number, scene))
    say("Ctrl-C ends the demo. What happens meanwhile:\n")


def _program() -> str:
    """How the reader can call this very program from any folder."""
    called = Path(sys.argv[0]).absolute()
    known = which("mtlsproxy")
    return "mtlsproxy" if known is not None and Path(known).absolute() == called else str(called)


async def _tell_refusals_until(stop: asyncio.Event, proxy: Proxy, say: Say) -> None:
    refusals = proxy.logs.refusals
    known: tuple[object, ...] | None = None
    while not stop.is_set():
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                await stop.wait()
        except TimeoutError:
            pass  # then it is time to look
        known = _tell_new(refusals.recent, known, say)


def _tell_new(
    recent: Callable[[], list[dict[str, Any]]], known: tuple[object, ...] | None, say: Say
) -> tuple[object, ...] | None:
    """Tell the refusals since `known`, oldest first; returns what is known then."""
    new = list(takewhile(lambda refusal: _identity(refusal) != known, recent()))
    for refusal in reversed(new):
        say(_in_few_words(refusal))
    return _identity(new[0]) if new else known


def _identity(refusal: Mapping[str, Any]) -> tuple[object, ...]:
    return refusal["time"], refusal["client_port"], refusal["request_id"]


def _in_few_words(refusal: Mapping[str, Any]) -> str:
    who = refusal["subject"] or "-"
    if refusal["status"] is None:
        return f"refused in the handshake: {refusal['reason']}  {who}  {refusal['detail']}"
    what = f"{refusal['method']} {refusal['path']}" if refusal["method"] else "a request"
    return f"refused with {refusal['status']}: {refusal['reason']}  {who}  {what}  {refusal['detail']}"
