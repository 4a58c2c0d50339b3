"""`mtlsproxy explain`: why is this client accepted, or refused?"""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mtlsproxy.cli.report import errors_in, format_option

if TYPE_CHECKING:
    from mtlsproxy.cli.inquiry import Asked, Explanation

REFUSED = 1
_SEVERAL = ("--trust-anchors", "--crl")
_FILE = click.Path(path_type=Path, dir_okay=False)
_ANY = click.Path(path_type=Path)


class SeveralValues(click.Command):
    """Takes `--crl A B` for `--crl A --crl B`, as a shell makes of `--crl crls/*.pem`. There are no arguments that the
    values could be confused with."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        spread: list[str] = []
        option, taken = "", False
        for arg in args:
            if arg.startswith("-"):
                option, taken = arg, False
            elif option in _SEVERAL and taken:
                spread.append(option)
            else:
                taken = True
            spread.append(arg)
        return super().parse_args(ctx, spread)


def _instant(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    """RFC 3339 → aware UTC."""
    from mtlsproxy.config.scalars import parse_instant

    try:
        return None if value is None else parse_instant(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error


@click.command(
    cls=SeveralValues,
    epilog="""\b
Examples:
  mtlsproxy explain --cert alice.pem --config mtlsproxy.yaml
  mtlsproxy explain --cert alice.pem --config mtlsproxy.yaml --method GET --path /orders --host api.example.org
  mtlsproxy explain --cert alice.pem --config mtlsproxy.yaml --route orders --at 2030-01-01T00:00:00Z
  mtlsproxy explain --cert alice.pem --config mtlsproxy.yaml --fetch
  mtlsproxy explain --cert alice.pem --trust-anchors client-ca.pem --crl crls/*.pem --format json
  mtlsproxy explain --request-id 6f0c9d1e2a --config mtlsproxy.yaml
  mtlsproxy explain --request-id 6f0c9d1e2a --admin http://10.0.0.7:9901 --token-file admin.token

\b
Exit status: 0 accepted; 1 refused; 2 the input is wrong.""",
)
@click.option("--cert", "certificate", type=_FILE, metavar="CHAIN.pem", help="What the client presents, leaf first.")
@click.option("--config", "config_file", type=_FILE, metavar="CONFIG", help="Judge as this configuration does.")
@click.option("--truststore", metavar="NAME", help="By this truststore of the configuration alone.")
@click.option("--listener", metavar="NAME", help="On this listener; else on the first that has the route.")
@click.option("--route", metavar="NAME", help="May the client use this route?")
@click.option("--path", metavar="P", help="May the client send this request? The path.")
@click.option("--method", metavar="M", help="Its method; GET unless given.")
@click.option("--host", metavar="H", help="Its Host; without it only routes for any host match.")
@click.option(
    "--trust-anchors", type=_FILE, multiple=True, metavar="F…", help="Instead of a configuration: whom to trust (PEM)."
)
@click.option(
    "--crl",
    "crls",
    type=_ANY,
    multiple=True,
    metavar="F…",
    help="With --trust-anchors: CRLs; makes revocation hard_fail.",
)
@click.option(
    "--at", callback=_instant, metavar="RFC3339", help="Judge as if it were then. Default: now; of a refusal, its time."
)
@click.option(
    "--fetch",
    is_flag=True,
    help="With --config: ask the network, once and as the proxy would, for CRLs that it keeps no usable copy of, and "
    "for OCSP answers. Without it only its copies in state_dir are read.",
)
@click.option(
    "--request-id",
    metavar="ID",
    help="Instead of --cert: a refusal of a running proxy, by the id in its log or answer. With --config it is judged "
    "again; without, what the proxy recorded is shown.",
)
@click.option("--admin", metavar="URL", help="Where that proxy's admin is. Default: the configuration's admin.bind.")
@click.option("--token-file", type=_FILE, metavar="F", help="The admin's token. Default: the configuration's.")
@format_option
def command(
    certificate: Path | None,
    config_file: Path | None,
    truststore: str | None,
    listener: str | None,
    route: str | None,
    path: str | None,
    method: str | None,
    host: str | None,
    trust_anchors: tuple[Path, ...],
    crls: tuple[Path, ...],
    at: datetime | None,
    fetch: bool,
    request_id: str | None,
    admin: str | None,
    token_file: Path | None,
    output_format: str,
) -> None:
    """Show every check that a client certificate passes or fails, by the code that judges connections.

    The certificate's key is not needed: whether the client holds it is settled in the handshake alone. Of revocation it
    knows what the proxy keeps in state_dir, without disturbing it; with --fetch also what the network says now.
    """
    from mtlsproxy.cli.report_explain import print_explanation

    with errors_in(output_format):
        if request_id is not None:
            given = (certificate, truststore, listener, route, path, method, host, *trust_anchors, *crls)
            if any(value is not None for value in given):
                raise click.UsageError("a refusal says who asked for what: give --config and --at alone with it")
            status = _explain_rejection(request_id, config_file, admin, token_file, at, output_format, fetch=fetch)
            click.get_current_context().exit(status)
        if admin is not None or token_file is not None:
            raise click.UsageError("--admin and --token-file go with --request-id")
        if certificate is None:
            raise click.UsageError("give the client's certificate with --cert, or a refusal's --request-id")
        _refuse_contradictions(config_file, trust_anchors, crls, (truststore, listener, route, path, method, host))
        if fetch and config_file is None:
            raise click.UsageError("--fetch asks what a configuration names: give --config")
        asked = _asked(route, path, method, host)
        then = at or datetime.now(UTC)
        explanation = _explain(
            certificate, config_file, (truststore, listener), asked, trust_anchors, crls, then, fetch=fetch
        )
    print_explanation(explanation, output_format)
    click.get_current_context().exit(0 if explanation.accepted else REFUSED)


def _explain(
    certificate: Path,
    config_file: Path | None,
    where: tuple[str | None, str | None],
    asked: "Asked",
    trust_anchors: tuple[Path, ...],
    crls: tuple[Path, ...],
    at: datetime,
    *,
    fetch: bool,
) -> "Explanation":
    """where: truststore and listener. Raises BadInput."""
    from mtlsproxy.cli import evidence

    presented = evidence.read_chain(certificate)
    if config_file is not None:
        return evidence.explain_by_config(presented, config_file, *where, asked, at, fetch=fetch)
    return evidence.explain_by_files(presented, trust_anchors, crls, at)


def _explain_rejection(
    ident: str,
    config_file: Path | None,
    admin: str | None,
    token_file: Path | None,
    at: datetime | None,
    output_format: str,
    *,
    fetch: bool,
) -> int:
    """The exit status. Raises BadInput."""
    from mtlsproxy.cli import admin_client, evidence, rejection
    from mtlsproxy.cli.mends import NOT_ABOUT_THE_CLIENT

    configured = evidence.admin_of(config_file) if config_file is not None else None
    url = admin_client.admin_url(admin, configured)
    if token_file is None and admin is None and configured is not None:
        token_file = configured.token_file
    found = rejection.fetch_rejection(ident, url, token_file)
    judged = None
    if config_file is not None and found.presented is not None:
        asked = rejection.asked_of(found)
        judged = evidence.explain_by_config(
            found.presented, config_file, None, found.said.get("listener"), asked, at or found.at, fetch=fetch
        )
    rejection.print_rejection(found, judged, output_format)
    if judged is None or found.reason in NOT_ABOUT_THE_CLIENT:
        return REFUSED if found.enforced else 0
    return 0 if judged.accepted else REFUSED


def _refuse_contradictions(
    config_file: Path | None,
    trust_anchors: tuple[Path, ...],
    crls: tuple[Path, ...],
    about_config: tuple[str | None, ...],
) -> None:
    if config_file is None and not trust_anchors:
        raise click.UsageError("say whom to trust: --config CONFIG or --trust-anchors F")
    if config_file is not None and (trust_anchors or crls):
        raise click.UsageError("with --config its truststores say whom to trust: leave out --trust-anchors and --crl")
    if config_file is None and any(value is not None for value in about_config):
        raise click.UsageError("truststores, listeners and routes are found in a configuration: give --config")


def _asked(route: str | None, path: str | None, method: str | None, host: str | None) -> "Asked":
    from mtlsproxy.cli.inquiry import NamedRoute
    from mtlsproxy.cli.policy import Request

    if route is not None:
        if path is not None or method is not None or host is not None:
            raise click.UsageError("give --route, or the request that finds it (--path, --method, --host), not both")
        return NamedRoute(route)
    if path is None:
        if method is not None or host is not None:
            raise click.UsageError("a request has a path: give --path")
        return None
    # As in a request line: the query is no part of what routes match.
    return Request(method or "GET", path.partition("?")[0].encode("utf-8", "surrogateescape"), _bare(host))


def _bare(host: str | None) -> str:
    from mtlsproxy.cli.policy import bare_host

    bare = bare_host(host)
    if bare is None:
        raise click.UsageError(f"--host: {host!r} is not a host with an optional port")
    return bare
