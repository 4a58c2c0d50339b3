"""`mtlsproxy run`: the proxy, until SIGTERM or SIGINT."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mtlsproxy.admin.source import StatusSource
from mtlsproxy.config.errors import ConfigErrors
from mtlsproxy.config.load import load_config
from mtlsproxy.config.model import Config
from mtlsproxy.hardening import harden
from mtlsproxy.runtime.material import Material
from mtlsproxy.runtime.server import AdminHandle, Proxy, Surroundings
from mtlsproxy.runtime.start import load_for_start
from mtlsproxy.runtime.systemd import Notifier
from mtlsproxy.telemetry.logs import LogError
from mtlsproxy.transport.loop import new_event_loop

if TYPE_CHECKING:
    from mtlsproxy.workers.supervisor import Supervisor

BAD_CONFIGURATION = 2


@click.command(
    epilog="""\b
Examples:
  mtlsproxy run config/quickstart.yaml
  mtlsproxy run /etc/mtlsproxy/mtlsproxy.yaml >> access.log

\b
Signals: SIGTERM and SIGINT drain and stop, a second one at once; SIGHUP reloads; SIGUSR1 reopens the logs.
Exit status: 0 stopped as asked; 2 the configuration or a file that it names is wrong, or an address is taken."""
)
@click.argument("config", type=click.Path(path_type=Path))
def command(config: Path) -> None:
    """Run the proxy as CONFIG says."""
    harden()
    try:
        material = load_for_start(load_config(config, os.environ), datetime.now(UTC))
    except ConfigErrors as errors:
        fail(str(errors))
    with asyncio.Runner(loop_factory=new_event_loop()) as runner:
        try:
            runner.run(serve(material))
        except (ConfigErrors, LogError) as error:
            fail(str(error))


async def serve(material: Material) -> None:
    """One process, or a supervisor with several workers, until it is told to stop."""

    async def start_admin(config: Config, status: StatusSource) -> AdminHandle:
        from mtlsproxy.admin import server

        try:
            return await server.start_admin(config.admin, status)
        except server.AdminError as error:
            raise ConfigErrors([material.loaded.error(error.key, error.detail)]) from error

    proxy = _proxy(material, start_admin)
    proxy.heed_signals()
    await proxy.start()
    await proxy.run_until_stopped()


def _proxy(
    material: Material, start_admin: Callable[[Config, StatusSource], Awaitable[AdminHandle]]
) -> "Proxy | Supervisor":
    count = worker_count(material.loaded.config)
    notifier = Notifier(os.environ, os.getpid())
    if count == 1:
        return Proxy(material, start_admin, Surroundings(notifier=notifier))
    from mtlsproxy.workers.supervisor import Supervisor

    return Supervisor(material, start_admin, count, notifier)


def worker_count(config: Config) -> int:
    """`workers`; auto is one a core that this process may use."""
    return len(os.sched_getaffinity(0)) if config.workers == "auto" else config.workers


def fail(message: str) -> None:
    """Say what is wrong and exit with status 2."""
    click.echo(message, err=True)
    sys.exit(BAD_CONFIGURATION)
