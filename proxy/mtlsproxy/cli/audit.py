"""`mtlsproxy audit`: who was refused and what was changed, and whether the log is whole."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mtlsproxy.cli.report import counted, format_option_of, printable

if TYPE_CHECKING:
    from mtlsproxy.cli.auditing import Filter

Command = TypeVar("Command", bound=Callable[..., Any])

NOTHING = 1

EVENTS = ("refused", "reload", "denial_made", "denial_lifted", "crl", "started", "stopped")

_FILE = click.Path(path_type=Path, dir_okay=False, allow_dash=True)
_IDENTITY = (
    "Part of who: principal, subject, a SAN, serial, fingerprint or address; for changes, who asked. "
    "Case does not count."
)


def _moment(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    """A duration back from now, or RFC 3339 → aware UTC."""
    from mtlsproxy.config.scalars import parse_duration, parse_instant

    if value is None:
        return None
    try:
        return datetime.now(UTC) - timedelta(seconds=parse_duration(value))
    except ValueError:
        pass
    except OverflowError as error:
        raise click.BadParameter(f"{value!r} is before all times", ctx, param) from error
    try:
        return parse_instant(value)
    except ValueError as error:
        words = f"{value!r} is neither a duration such as 2h nor a time such as 2030-01-01T00:00:00Z"
        raise click.BadParameter(words, ctx, param) from error


def moment_option(name: str, words: str) -> Callable[[Command], Command]:
    """An option that takes a time: aware UTC, None where it is not given."""
    return click.option(name, callback=_moment, metavar="TIME", help=words)


def _reasons(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    from mtlsproxy.config.errors import did_you_mean
    from mtlsproxy.reasons import Reason

    for value in values:
        if value not in set(Reason):
            raise click.BadParameter(f"there is no reason {value}{did_you_mean(value, Reason)}", ctx, param)
    return values


@click.command(
    epilog="""\b
Examples:
  mtlsproxy audit --since 2h audit.jsonl
  mtlsproxy audit --identity alice --reason not_allowed audit.jsonl
  mtlsproxy audit --event reload --event denial_made --since 2030-01-01T00:00:00Z audit.jsonl
  mtlsproxy audit --format json audit.jsonl* | jq -r .fingerprint
  mtlsproxy audit --verify audit.jsonl.2.gz audit.jsonl.1 audit.jsonl

\b
Exit status: 0 found, or whole; 1 nothing found, or --verify found lines changed or missing; 2 the input is wrong."""
)
@click.argument("files", nargs=-1, required=True, type=_FILE, metavar="FILE…")
@click.option("--identity", metavar="TEXT", help=_IDENTITY)
@click.option("--reason", "reasons", multiple=True, callback=_reasons, metavar="CODE", help="Refusals for this reason.")
@click.option("--event", "events", multiple=True, type=click.Choice(EVENTS), help="Of this kind; crl: fetched.")
@click.option("--route", "routes", multiple=True, metavar="NAME", help="On this route.")
@click.option("--listener", "listeners", multiple=True, metavar="NAME", help="On this listener.")
@moment_option("--since", "Not before: 2h, 7d, or RFC 3339.")
@moment_option("--until", "Not after, written likewise.")
@click.option("--verify", is_flag=True, help="Check the chain of hashes instead: are lines changed, missing, put in?")
@format_option_of("table", "A table for people; json for programs: the lines themselves, with --verify one object.")
def command(
    files: tuple[Path, ...],
    identity: str | None,
    reasons: tuple[str, ...],
    events: tuple[str, ...],
    routes: tuple[str, ...],
    listeners: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    verify: bool,
    output_format: str,
) -> None:
    """Show who was refused and what was changed, from audit logs (logging.audit); - is standard input.

    Files may be compressed by gzip. The program's own log, which holds the refusals alone, is read as well.
    """
    from mtlsproxy.cli import auditing

    wanted = auditing.Filter(identity, reasons, events, routes, listeners, since, until)
    if verify:
        _require_no_filter(wanted)
        status = auditing.print_verification(files, output_format)
    else:
        status = _show(files, wanted, output_format)
    click.get_current_context().exit(status)


def _require_no_filter(wanted: "Filter") -> None:
    if wanted.given:
        raise click.UsageError("--verify looks at every line: leave out the filters")


def _show(files: tuple[Path, ...], wanted: "Filter", output_format: str) -> int:
    from mtlsproxy.cli import auditing

    found = 0
    for file in files:
        others = 0
        for record in auditing.records(file):
            if record.said is None:
                others += 1
            elif wanted.takes(record.said):
                found += 1
                auditing.print_record(record.said, output_format)
        if others:
            name = printable(str(file))
            click.echo(f"{name}: passed over {counted(others, 'line')} of no audit log; see --verify", err=True)
    return 0 if found else NOTHING
