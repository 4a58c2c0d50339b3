"""Making a new PKI in a folder."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from mtlsproxy.devpki import files, ledger
from mtlsproxy.devpki.authority import CLIENT, SERVER, Authority, Validity, make_root
from mtlsproxy.devpki.files import NewFile
from mtlsproxy.devpki.keys import KeyType, generate_key, key_pem
from mtlsproxy.devpki.ledger import Book, Ledger
from mtlsproxy.devpki.names import check_subject
from mtlsproxy.devpki.pki import AUTHORITIES, BACKDATE, CRL_DAYS, DevPki, pem

ROOT_LIFETIME = timedelta(days=3650)
INTERMEDIATE_LIFETIME = timedelta(days=1825)


def create_pki(directory: Path, organization: str = "mtlsproxy development", key_type: KeyType = KeyType.EC) -> DevPki:
    """Makes a new PKI in a folder: all of its files, or none. Raises PkiError, which names a file that exists."""
    kind = KeyType(key_type)
    names = [_ca_name(common_name, organization) for common_name in ("Root CA", "Server CA", "Client CA")]
    targets = [directory / f"{name}{ending}" for name in AUTHORITIES for ending in (".pem", ".key")]
    crls = {name: directory / "crls" / f"{name}.pem" for name in AUTHORITIES}
    files.refuse_existing([*targets, *crls.values(), directory / ledger.FILE_NAME])
    authorities = _create_authorities(names, kind)
    new = []
    for authority in authorities:
        new.append(NewFile(directory / f"{authority.name}.key", key_pem(authority.key), files.PRIVATE))
        new.append(NewFile(directory / f"{authority.name}.pem", pem(authority.certificate)))
    now = datetime.now(UTC)
    book = Ledger(authorities={})
    for authority in authorities:
        validity = Validity(now, now + timedelta(days=CRL_DAYS[authority.name]))
        new.append(NewFile(crls[authority.name], authority.sign_crl((), 1, validity)))
        book = book.with_book(authority.name, Book(crl_number=1))
    for authority in authorities[1:]:
        book = book.with_issued("root", authority.certificate)
    for folder in (directory, directory / "crls"):
        files.make_directory(folder)
    files.create_all([*new, NewFile(directory / ledger.FILE_NAME, book.to_json())])
    root, server_ca, client_ca = (authority.certificate for authority in authorities)
    return DevPki(directory, root, server_ca, client_ca)


def _create_authorities(names: Sequence[x509.Name], kind: KeyType) -> tuple[Authority, ...]:
    start = datetime.now(UTC) - BACKDATE
    root = make_root(names[0], generate_key(kind), Validity(start, start + ROOT_LIFETIME))
    below = [
        root.sign_intermediate(
            profile.authority,
            name,
            generate_key(kind),
            profile.extended_key_usage,
            Validity(start, start + INTERMEDIATE_LIFETIME),
        )
        for profile, name in zip((SERVER, CLIENT), names[1:], strict=True)
    ]
    return (root, *below)


def _ca_name(common_name: str, organization: str) -> x509.Name:
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
    check_subject(name)
    return name
