"""`mtlsproxy probe`: what does this server want of its clients, and is it the one that it says it is?"""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mtlsproxy.cli.report import BadInput, errors_in, format_option

if TYPE_CHECKING:
    from mtlsproxy.probe.survey import Target
    from mtlsproxy.tls.credentials import Credential

NOT_AS_EXPECTED = 1
_HTTPS_PORT = 443
_TARGET = re.compile(r"(?:https://)?(?:\[([0-9A-Fa-f:.]+)\]|([^\s:/@\[\]]+))(?::([0-9]{1,5}))?/?")
_HOST = re.compile(r"[A-Za-z0-9_*-][A-Za-z0-9_.-]{0,252}|[0-9A-Fa-f:.]{2,45}")
_PATH = re.compile(r"/[\x21-\x7e]*")
_FILE = click.Path(path_type=Path, dir_okay=False)
_ANY = click.Path(path_type=Path)


@click.command(
    epilog="""\b
Examples:
  mtlsproxy probe api.example.org:443
  mtlsproxy probe api.example.org:443 --expect required --ca server-root.pem --crl crls/
  mtlsproxy probe 192.0.2.7:8443 --server-name api.example.org --format json | jq .acceptable_ca_names
  mtlsproxy probe api.example.org:443 --cert client.pem --key client.key

\b
Exit status: 0 the server answered; 1 it does not do what --expect says, or does not accept the certificate of --cert;
2 it cannot be reached, speaks no TLS, or the input is wrong. The checks of the server's certificate change nothing.""",
)
@click.argument("target", metavar="HOST:PORT")
@click.option(
    "--expect",
    type=click.Choice(["required", "requested", "not_requested"]),
    help="Exit with 1 unless the server does this with client certificates.",
)
@click.option("--server-name", metavar="N", help="SNI, Host, and the name to verify; HOST unless given.")
@click.option("--cert", "certificate", type=_FILE, metavar="F", help="Would this one be accepted? PEM, leaf first.")
@click.option("--key", "key", type=_FILE, metavar="F", help="Its key; unless given, it is in the file of --cert.")
@click.option("--key-password-file", type=_FILE, metavar="F", help="The password of the key, where it has one.")
@click.option(
    "--ca", "cas", type=_FILE, multiple=True, metavar="F", help="Verify the server's chain up to these CAs (PEM)."
)
@click.option("--crl", "crls", type=_ANY, multiple=True, metavar="F", help="Look into these CRLs: files or folders.")
@click.option(
    "--fetch",
    is_flag=True,
    help="With --ca: ask the CRL and OCSP servers that the server's certificates name, over http.",
)
@click.option(
    "--path", default="/", show_default=True, metavar="P", help="What to GET; some servers ask for one alone."
)
@click.option(
    "--timeout", type=click.FloatRange(0.1, 600), default=10.0, show_default=True, help="Seconds for each handshake."
)
@format_option
def command(
    target: str,
    expect: str | None,
    server_name: str | None,
    certificate: Path | None,
    key: Path | None,
    key_password_file: Path | None,
    cas: tuple[Path, ...],
    crls: tuple[Path, ...],
    fetch: bool,
    path: str,
    timeout: float,
    output_format: str,
) -> None:
    """Find out what a TLS server wants of its clients: whether it requires, requests or ignores their certificates, of
    which CAs it takes them, and whether its own certificate holds.

    It connects two or three times, with TLS 1.3 and with 1.2, and sends a GET over each: many servers refuse in HTTP
    alone. The server is not trusted meanwhile, nor are the system's CAs, and without --fetch nobody else is asked.
    """
    from mtlsproxy.cli.report_probe import print_survey
    from mtlsproxy.cli.server_trust import judge_server, read_servers
    from mtlsproxy.probe.survey import Unreachable, survey

    at = datetime.now(UTC)
    with errors_in(output_format):
        if (crls or fetch) and not cas:
            raise click.UsageError("revocation is judged for verified chains only: give the server's CAs with --ca")
        if not _PATH.fullmatch(path):
            raise click.UsageError(f"--path: {path!r} does not begin with / or has characters that must be %-encoded")
        asked = _target(target, server_name)
        credential = _credential(certificate, key, key_password_file, at)
        servers = read_servers(cas, crls) if cas else None
        try:
            found = survey(asked, credential, path, timeout)
        except Unreachable as error:
            raise BadInput(error.detail) from error
        judged = judge_server(found, asked.server_name, servers, at, fetch=fetch)
    print_survey(asked, found, judged, credential, at, output_format)
    refused = found.acceptance is not None and found.acceptance.accepted is False
    if refused or (expect is not None and found.finding.demand != expect):
        if expect is not None and found.finding.demand != expect:
            click.echo(f"expected {expect}, found {found.finding.demand}", err=True)
        click.get_current_context().exit(NOT_AS_EXPECTED)


def _target(text: str, server_name: str | None) -> "Target":
    from mtlsproxy.probe.survey import Target

    found = _TARGET.fullmatch(text)
    port = int(found[3] or _HTTPS_PORT) if found else 0
    if found is None or not 0 < port < 1 << 16:
        raise click.UsageError(f"{text!r} is not HOST:PORT, as in api.example.org:443 or [2001:db8::1]:8443")
    host = _ascii(found[1] or found[2])
    return Target(host, port, _ascii(server_name) if server_name is not None else host)


def _ascii(name: str) -> str:
    """A-labels, as a certificate and the wire have them, without the root's dot."""
    try:
        found = name.strip("[]").removesuffix(".").encode("idna").decode("ascii")
    except UnicodeError as error:
        raise click.UsageError(f"{name!r} is no host name: {error}") from error
    if not _HOST.fullmatch(found):
        raise click.UsageError(f"{name!r} is no host name and no address")
    return found


def _credential(certificate: Path | None, key: Path | None, password: Path | None, at: datetime) -> "Credential | None":
    from mtlsproxy.tls.credentials import CredentialError, load_credential

    if certificate is None:
        if key is not None or password is not None:
            raise click.UsageError("a key is of use with its certificate alone: give --cert")
        return None
    options = {"certificate": "--cert", "private_key": "--key", "private_key_password_file": "--key-password-file"}
    try:
        return load_credential(certificate, key or certificate, password, at, "client")
    except CredentialError as error:
        detail = error.detail.replace("private_key_password_file", "--key-password-file")
        raise BadInput(f"{options[error.key]}: {detail}") from error
