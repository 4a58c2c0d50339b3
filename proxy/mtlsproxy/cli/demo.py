"""`mtlsproxy demo`: see it work."""

import click

from mtlsproxy.cli.report import BadInput, printable


@click.command(
    epilog="""\b
Examples:
  mtlsproxy demo
  mtlsproxy demo --port 9443

\b
Exit status: 0 ended with Ctrl-C; 2 it could not start."""
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="The proxy's port on 127.0.0.1. Default: 8443, or a free one where that is taken.",
)
def command(port: int | None) -> None:
    """Make a development PKI in a temporary folder, start a small upstream and the proxy, and print curl lines to copy:
    a client that is accepted, and one of each kind that is refused. Ctrl-C ends it and removes the folder."""
    import asyncio

    from mtlsproxy.admin.server import AdminError
    from mtlsproxy.config.errors import ConfigErrors
    from mtlsproxy.demo.show import PortTaken, run_demo
    from mtlsproxy.devpki import PkiError
    from mtlsproxy.transport.loop import new_event_loop

    try:
        with asyncio.Runner(loop_factory=new_event_loop()) as runner:
            runner.run(run_demo(port, _say))
    except (PortTaken, ConfigErrors, PkiError, AdminError) as error:
        raise BadInput(str(error)) from error


def _say(words: str) -> None:
    """To stdout, at once: clients choose some of what is told."""
    click.echo("\n".join(map(printable, words.split("\n"))))
