"""`mtlsproxy pki`: the development CA."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from cryptography import x509

from mtlsproxy.devpki import DevPki, IssuedCertificate, KeyType, PkiError, create_pki, files
from mtlsproxy.devpki.authority import PROFILES
from mtlsproxy.devpki.keys import generate_key, key_pem
from mtlsproxy.devpki.pki import AUTHORITIES, LEAF_DAYS, MOST_DAYS, load_certificate
from mtlsproxy.devpki.requests import make_csr
from mtlsproxy.x509.certificate import serial_hex

REASONS = [reason.value for reason in x509.ReasonFlags if reason is not x509.ReasonFlags.remove_from_crl]
"""RFC 5280, section 5.3.1. removeFromCRL is for delta CRLs, which we do not make."""

FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)
DAYS = click.IntRange(1, MOST_DAYS)

ca_option = click.option("--ca", "directory", type=FOLDER, required=True, help="The folder that `pki init` made.")
profile_option = click.option(
    "--profile", type=click.Choice(list(PROFILES)), required=True, help="What the certificate is for; decides its CA."
)
subject_option = click.option("--subject", metavar="DN", required=True, help="RFC 4514, as in CN=orders,O=Example.")
san_option = click.option(
    "--san", "sans", metavar="NAME", multiple=True, help="URI:…, DNS:…, IP:… or EMAIL:…; once for each name."
)
days_option = click.option(
    "--days", type=DAYS, default=LEAF_DAYS, show_default=True, help="How long the certificate is valid."
)
out_option = click.option("--out", type=FILE, required=True, help="The certificate chain to write, leaf first.")
key_option = click.option("--out-key", type=FILE, required=True, help="The private key to write (mode 0600).")
key_type_option = click.option(
    "--key-type",
    type=click.Choice([kind.value for kind in KeyType]),
    default=KeyType.EC.value,
    show_default=True,
    help="ec is P-256, rsa has 3072 bits.",
)


class PkiFailure(click.ClickException):
    exit_code = 2


@contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except PkiError as error:
        raise PkiFailure(str(error)) from error


@click.group()
def command() -> None:
    """A development CA: certificates for servers and clients, revocation, CRLs.

    \b
    mtlsproxy pki init certs/dev
    mtlsproxy pki issue --ca certs/dev --profile server --subject CN=localhost --san DNS:localhost \\
        --out server.pem --out-key server.key
    mtlsproxy pki issue --ca certs/dev --profile client --subject CN=alice,O=Example \\
        --san EMAIL:alice@example.org --out alice.pem --out-key alice.key
    mtlsproxy pki revoke --ca certs/dev alice.pem --reason keyCompromise
    """


@command.command(short_help="Make a root, a CA for servers, a CA for clients, and their CRLs.")
@click.argument("directory", metavar="DIR", type=FOLDER)
@click.option("--organization", metavar="O", default="mtlsproxy development", show_default=True, help="O of every CA.")
@key_type_option
def init(directory: Path, organization: str, key_type: str) -> None:
    """Make an offline root, a CA for servers, a CA for clients, and their CRLs in DIR.

    \b
    mtlsproxy pki init certs/dev
    mtlsproxy pki init certs/dev --organization "Example Ltd" --key-type ed25519

    Nothing that exists is overwritten. Keep root.key elsewhere afterwards: it is needed only to revoke an
    intermediate and to renew crls/root.pem, once a year.
    """
    with _reported():
        pki = create_pki(directory, organization, KeyType(key_type))
    for name in AUTHORITIES:
        certificate = pki.certificate(name)
        subject, until = certificate.subject.rfc4514_string(), certificate.not_valid_after_utc
        click.echo(f"{directory / name}.pem  {subject}  until {until:%Y-%m-%d}")
    click.echo(f"{directory / 'crls'}/  {', '.join(name + '.pem' for name in AUTHORITIES)}")
    click.echo(f"Move {directory / 'root.key'} to a safe place; bring it back to renew crls/root.pem.")


@command.command(short_help="Make a key and a certificate signing request.")
@subject_option
@san_option
@key_type_option
@click.option("--out", type=FILE, required=True, help="The signing request to write.")
@key_option
def csr(subject: str, sans: tuple[str, ...], key_type: str, out: Path, out_key: Path) -> None:
    """Make a key and a certificate signing request for it.

    \b
    mtlsproxy pki csr --subject CN=orders,O=Example --san URI:spiffe://example.org/ns/shop/sa/orders \\
        --out orders.csr --out-key orders.key
    openssl req -in orders.csr -noout -text -verify
    """
    with _reported():
        files.refuse_outputs([out, out_key])
        key = generate_key(KeyType(key_type))
        request = make_csr(subject, sans, key)
        files.create_all([files.NewFile(out_key, key_pem(key), files.PRIVATE), files.NewFile(out, request)])
    click.echo(f"{out}  a request for {subject}; give it to the CA\n{out_key}  its key; keep it here")


@command.command(short_help="Sign a certificate signing request.")
@ca_option
@profile_option
@click.option("--csr", "csr_file", type=FILE, required=True, help="The request, PEM or DER.")
@days_option
@out_option
def sign(directory: Path, profile: str, csr_file: Path, days: int, out: Path) -> None:
    """Sign a request: its subject and SANs are taken, everything else comes from the profile.

    \b
    mtlsproxy pki sign --ca certs/dev --profile client --csr orders.csr --out orders.pem
    openssl verify -purpose sslclient -CAfile certs/dev/root.pem -untrusted orders.pem orders.pem
    """
    with _reported():
        files.refuse_outputs([out])
        signed = DevPki.load(directory).sign(files.read(csr_file), str(csr_file), profile, days)
        files.create_all([files.NewFile(out, signed.chain_pem)])
    click.echo(_described(out, signed.certificate))


@command.command(short_help="Make a key and its certificate in one step.")
@ca_option
@profile_option
@subject_option
@san_option
@days_option
@key_type_option
@out_option
@key_option
def issue(
    directory: Path,
    profile: str,
    subject: str,
    sans: tuple[str, ...],
    days: int,
    key_type: str,
    out: Path,
    out_key: Path,
) -> None:
    """Make a key and its certificate in one step.

    \b
    mtlsproxy pki issue --ca certs/dev --profile server --subject CN=localhost \\
        --san DNS:localhost --san IP:127.0.0.1 --out server.pem --out-key server.key
    mtlsproxy pki issue --ca certs/dev --profile client --subject CN=orders --days 1 \\
        --san URI:spiffe://example.org/ns/shop/sa/orders --out orders.pem --out-key orders.key
    """
    with _reported():
        files.refuse_outputs([out, out_key])
        issued: IssuedCertificate = DevPki.load(directory).issue(
            subject, sans, profile, days, key_type=KeyType(key_type)
        )
        issued.write(out, out_key)
    click.echo(f"{_described(out, issued.certificate)}\n{out_key}  its key")


@command.command(short_help="Revoke a certificate, and rewrite the CRLs.")
@ca_option
@click.argument("certificate", metavar="CERT", type=FILE)
@click.option(
    "--reason", type=click.Choice(REASONS, case_sensitive=False), default="unspecified", show_default=True, help="Why."
)
def revoke(directory: Path, certificate: Path, reason: str) -> None:
    """Record that CERT (the first certificate in the file) is revoked, and rewrite the CRLs.

    \b
    mtlsproxy pki revoke --ca certs/dev alice.pem --reason keyCompromise
    openssl crl -in certs/dev/crls/client-ca.pem -noout -text

    Revoking twice is no error: the first record stands. certificateHold alone gives way to another reason.
    """
    with _reported():
        leaf = load_certificate(files.read(certificate), str(certificate))
        try:
            revocation = DevPki.load(directory).revoke(leaf, x509.ReasonFlags(reason))
        except PkiError as error:
            raise PkiError(f"{certificate}: {error}") from error
    record = revocation.record
    word = "was revoked already" if revocation.already else "is revoked"
    click.echo(f"{certificate}  serial {record.serial} {word}, {record.date:%Y-%m-%dT%H:%M:%SZ}, {record.reason.value}")
    click.echo(
        f"{directory / 'crls' / revocation.authority}.pem  says so; a proxy that names it reads it again by itself"
    )


@command.command(short_help="Make the CRLs anew, before they end.")
@ca_option
@click.option("--days", type=DAYS, help="Until nextUpdate; absent: as long as each CRL's predecessor.")
def crl(directory: Path, days: int | None) -> None:
    """Make the CRLs anew, before their nextUpdate passes. The root's stays while root.key is kept elsewhere.

    \b
    mtlsproxy pki crl --ca certs/dev --days 30
    """
    with _reported():
        crls = DevPki.load(directory).write_crls(days)
    for file in crls:
        word = "number" if file.written else "left as it is (root.key is not here): number"
        until = f"until {file.next_update:%Y-%m-%dT%H:%M:%SZ}"
        click.echo(f"{file.path}  {word} {file.number}, {file.entries} revoked, {until}")


def _described(path: Path, certificate: x509.Certificate) -> str:
    subject, serial = certificate.subject.rfc4514_string(), serial_hex(certificate.serial_number)
    return f"{path}  {subject}  serial {serial}  until {certificate.not_valid_after_utc:%Y-%m-%d}"
