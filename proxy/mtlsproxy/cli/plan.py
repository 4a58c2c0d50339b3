"""`mtlsproxy plan`: who would gain or lose access by a new configuration?"""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mtlsproxy.cli.audit import moment_option
from mtlsproxy.cli.report import errors_in, table_option

if TYPE_CHECKING:
    from mtlsproxy.cli.replay import Replay

CHANGES = 1

_FILE = click.Path(path_type=Path, dir_okay=False)
_LOG = click.Path(path_type=Path, dir_okay=False, allow_dash=True)


@click.command(
    epilog="""\b
Examples:
  mtlsproxy plan new.yaml --access-log /var/log/mtlsproxy/access.jsonl
  mtlsproxy plan new.yaml --config mtlsproxy.yaml --access-log access.jsonl.1.gz --access-log access.jsonl
  mtlsproxy plan new.yaml --admin http://127.0.0.1:9901
  journalctl -u mtlsproxy -o cat | mtlsproxy plan new.yaml --access-log - --since 7d --format json

\b
loses: was let through, and would be refused. gains: the other way round. moves: another route would take it.
It replays requests of verified clients; certificates are not verified anew, for a log has names alone. What it cannot
tell it counts. The log is compared with what became of its requests, or, with --config, with what CURRENT says.

\b
Exit status: 0 nobody gains or loses; 1 somebody does; 2 the input is wrong, or no line could be replayed."""
)
@click.argument("new", type=_FILE, metavar="NEW.yaml")
@click.option("--config", "current", type=_FILE, metavar="CURRENT", help="The configuration in force, to compare with.")
@click.option("--access-log", "logs", type=_LOG, multiple=True, metavar="FILE", help="Access log; - is stdin.")
@click.option(
    "--admin",
    metavar="URL",
    help="Also, or instead: ask a running proxy's admin which routes its latest clients used, and whom it refused.",
)
@click.option("--token-file", type=_FILE, metavar="F", help="The admin's token.")
@moment_option("--since", "Lines not before: 7d, or RFC 3339.")
@click.option(
    "--no-hosts",
    is_flag=True,
    help="Do not read the listeners' certificates: whether one stands for a Host is then not judged.",
)
@table_option
def command(
    new: Path,
    current: Path | None,
    logs: tuple[Path, ...],
    admin: str | None,
    token_file: Path | None,
    since: datetime | None,
    no_hosts: bool,
    output_format: str,
) -> None:
    """Replay the requests of an access log by the routes of NEW.yaml, and list who would gain or lose access."""
    from mtlsproxy.cli.auditing import Filter, records
    from mtlsproxy.cli.replay import Replay, trust_changes
    from mtlsproxy.cli.report import BadInput
    from mtlsproxy.cli.report_plan import print_plan
    from mtlsproxy.cli.site import load_site

    with errors_in(output_format):
        if not logs and admin is None:
            raise click.UsageError("say whose requests: --access-log FILE or --admin URL")
        site = load_site(new, hosts=not no_hosts, asks_hosts=True)
        before = load_site(current, hosts=not no_hosts, asks_hosts=True) if current is not None else None
        replay = Replay(site, before, datetime.now(UTC))
        wanted = Filter(since=since)
        for file in logs:
            for record in records(file, is_access_line):
                if record.said is not None and wanted.takes(record.said):
                    replay.add(record.said)
        if logs and not replay.lines:
            raise BadInput(f"{', '.join(map(str, logs))}: no line of an access log{' since then' if since else ''}")
        if admin is not None:
            _ask(replay, admin, token_file)
    notes = trust_changes(site.config, before.config) if before is not None else []
    print_plan(replay, notes, output_format)
    if not replay.replayed and logs:
        click.get_current_context().exit(BadInput.exit_code)
    differs = any(change.kind != "moves" for change in replay.changes)
    click.get_current_context().exit(CHANGES if differs else 0)


def _ask(replay: "Replay", admin: str, token_file: Path | None) -> None:
    """Raises BadInput."""
    from mtlsproxy.cli import admin_client
    from mtlsproxy.cli.report import BadInput

    url, token = admin_client.admin_url(admin, None), admin_client.token_of(token_file)
    try:
        for client in admin_client.ask(url, "/api/clients", token)["clients"]:
            replay.add_client(client)
        for line in admin_client.ask(url, "/api/rejections", token)["rejections"]:
            replay.add(line)
    except (admin_client.NotThere, AttributeError, KeyError, TypeError) as error:
        raise BadInput(f"{url} does not answer as an admin of mtlsproxy does: {error!r}") from error


def is_access_line(said: dict[str, object]) -> bool:
    """Of an access log, or of another log that has its fields."""
    return "request_id" in said and "listener" in said
