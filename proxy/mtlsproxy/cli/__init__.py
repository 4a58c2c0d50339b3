"""The command line: one file a command, found when it is first asked for, so that no command pays for another's imports."""

import importlib
import importlib.util
from collections.abc import Sequence

import click

import mtlsproxy

COMMANDS = {
    "audit": "audit",
    "check": "check",
    "demo": "demo",
    "explain": "explain",
    "inspect": "inspect",
    "pki": "pki",
    "plan": "plan",
    "probe": "probe",
    "run": "run",
    "schema": "schema",
    "test-policy": "test_policy",
}


class LazyGroup(click.Group):
    """Loads `mtlsproxy.cli.NAME` on use; each such module has one click command called `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, module in COMMANDS.items() if importlib.util.find_spec(f"mtlsproxy.cli.{module}")]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command = importlib.import_module(f"mtlsproxy.cli.{COMMANDS[cmd_name]}").command
        assert isinstance(command, click.Command)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(mtlsproxy.__version__, prog_name="mtlsproxy")
def cli() -> None:
    """A reverse proxy that lets nobody through who has not proved, with a client certificate, who they are."""


def main(args: Sequence[str] | None = None) -> None:
    cli.main(args=list(args) if args is not None else None, prog_name="mtlsproxy")
