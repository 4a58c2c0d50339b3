"""The command line: one file a command, loaded when it is first asked for, so that none pays for another's imports.

Beside the commands, which COMMANDS lists:

    report          how all of them answer: trees, JSON, errors; streams: and how they end when nobody reads that
    report_check, report_explain, report_inspect, report_inspect_json, report_plan, report_policy, report_probe:
                    how what one command found looks; report_checks, report_sources: parts of several
    inquiry         what the data path would say to a client (`explain`); evidence: by which files
    rejection       a refusal of a running proxy; admin_client: asks it; mends: what to do, by the reason alone
    site, policy    what a configuration says to clients (`test-policy`, `plan`); expectations: what it should say
    replay          requests of a log or of an admin, by another configuration (`plan`)
    auditing        lines of audit logs; foreign: JSON that others wrote
    server_trust    what `probe` judges a server's certificate by
"""

import importlib
import importlib.util
import sys

import click

import mtlsproxy
from mtlsproxy.cli.streams import exit_status_of

COMMANDS = {
    "audit": ("audit", "Read the audit log."),
    "check": ("check", "Load everything that a start would load, and say what was found."),
    "demo": ("demo", "Try it: a development PKI, an upstream and the proxy, with curl lines to copy."),
    "explain": ("explain", "Show why a client certificate is accepted or refused."),
    "inspect": ("inspect", "Show certificates, CSRs, CRLs and keys."),
    "pki": ("pki", "A development CA: certificates for servers and clients, revocation, CRLs."),
    "plan": ("plan", "Show who would gain or lose access by a new configuration."),
    "probe": ("probe", "Find out what a TLS server wants of its clients."),
    "run": ("run", "Run the proxy as CONFIG says."),
    "schema": ("schema", "Print the JSON Schema of the configuration (draft 2020-12)."),
    "test-policy": ("test_policy", "Test expectations about who may do what."),
}
"""Command → its module, and its line in the list, which is kept here so that `--help` imports no command."""


class LazyGroup(click.Group):
    """Loads `mtlsproxy.cli.NAME` on use; each such module has one click command called `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, (module, _) in COMMANDS.items() if importlib.util.find_spec(f"mtlsproxy.cli.{module}")]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command = importlib.import_module(f"mtlsproxy.cli.{COMMANDS[cmd_name][0]}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(mtlsproxy.__version__, prog_name="mtlsproxy")
def cli() -> None:
    """A reverse proxy that lets nobody through who has not proved, with a client certificate, who they are."""


def main() -> None:
    """The console script."""
    sys.exit(exit_status_of(lambda: cli.main(prog_name="mtlsproxy")))
