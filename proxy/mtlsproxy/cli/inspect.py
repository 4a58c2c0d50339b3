"""`mtlsproxy inspect`: what is in these files, who signed what, and when does it end?"""

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from mtlsproxy.cli.report import BAD_INPUT, BadInput, errors_in, format_option, printable

MAX_SIZE = 64 * 1024 * 1024
"""Bytes of a file: a CRL of a million entries has 35 MB; /dev/zero has no end."""

STDIN = "-"


@click.command(
    epilog="""\b
Examples:
  mtlsproxy inspect server.pem server.key
  mtlsproxy inspect client.pem root.pem crls/*.pem
  mtlsproxy inspect partner.p12 --password-file password.txt
  mtlsproxy inspect request.csr --format json | jq '.items[0].names'
  openssl s_client -connect HOST:443 -showcerts </dev/null | mtlsproxy inspect -

\b
Exit status: 0 all was read; 2 some of it was not, and the lines on stderr say which and why.""",
)
@click.argument("files", metavar="FILE…", nargs=-1, required=True)
@click.option(
    "--password-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="F",
    help="The password of encrypted keys and PKCS#12 files, on its first line.",
)
@click.option("--ask-password", is_flag=True, help="Ask for it instead.")
@format_option
def command(files: tuple[str, ...], password_file: Path | None, ask_password: bool, output_format: str) -> None:
    """Show what is in files of certificates, signing requests, CRLs, keys, PKCS#7 and PKCS#12, in PEM or DER.

    "-" is standard input.

    Who signed what is verified among all the files given: name the CA's certificate, too. Nothing secret is printed: of
    a private key, its kind and the certificate that it belongs to.
    """
    from mtlsproxy.anatomy.items import Contents, Problem
    from mtlsproxy.anatomy.reading import read_contents
    from mtlsproxy.cli.report_inspect import print_contents

    with errors_in(output_format):
        password = _password(password_file, ask=ask_password)
    contents = Contents()
    for file in files:
        try:
            data = _read(file)
        except IsADirectoryError:
            mend = "is a folder: name its files, as in FOLDER/*.pem"
            contents += Contents(problems=(Problem(file, None, mend),))
            continue
        except OSError as error:
            contents += Contents(problems=(Problem(file, None, f"cannot be read: {error.strerror or error}"),))
            continue
        contents += read_contents(data, "standard input" if file == STDIN else file, password)
    print_contents(contents, datetime.now(UTC), output_format)
    for problem in contents.problems:
        click.echo(printable(str(problem)), err=True)
    if contents.problems:
        click.get_current_context().exit(BAD_INPUT)


def _password(file: Path | None, *, ask: bool) -> bytes | None:
    if file is not None and ask:
        raise click.UsageError("give --password-file or --ask-password, not both")
    if ask:
        answer: str = click.prompt("Password", hide_input=True, err=True, default="", show_default=False)
        return answer.encode()
    if file is None:
        return None
    try:
        return file.read_bytes().partition(b"\n")[0].rstrip(b"\r")
    except OSError as error:
        raise BadInput(f"{file}: cannot be read: {error.strerror}") from error


def _read(file: str) -> bytes:
    """Raises OSError, also for what is too large."""
    if file == STDIN:
        data = sys.stdin.buffer.read(MAX_SIZE + 1)
    else:
        with Path(file).open("rb") as opened:
            data = opened.read(MAX_SIZE + 1)
    if len(data) > MAX_SIZE:
        raise OSError(0, f"it is larger than {MAX_SIZE} bytes, as nothing is that this command reads")
    return data
