"""What each CA has issued and revoked, and the number of its last CRL: `ledger.json`."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from cryptography import x509
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from mtlsproxy.devpki import files
from mtlsproxy.devpki.authority import RevokedEntry
from mtlsproxy.devpki.errors import PkiError
from mtlsproxy.x509.certificate import serial_hex

FILE_NAME = "ledger.json"

Serial = Annotated[str, Field(pattern="^[0-9A-F]{1,40}$")]
AuthorityName = Literal["root", "server-ca", "client-ca"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Issued(_Record):
    """A certificate as it left the CA. serial: upper-case hexadecimal, as openssl prints it."""

    serial: Serial
    subject: str
    not_after: AwareDatetime


class Revoked(_Record):
    """A revocation. reason: a name of RFC 5280, section 5.3.1."""

    serial: Serial
    date: AwareDatetime
    reason: x509.ReasonFlags

    def entry(self) -> RevokedEntry:
        reason = None if self.reason is x509.ReasonFlags.unspecified else self.reason
        return RevokedEntry(int(self.serial, 16), self.date, reason)


class Book(_Record):
    """One CA's page of the ledger. crl_number: of its newest CRL; never used twice (RFC 5280, section 5.2.3)."""

    crl_number: int = Field(default=0, ge=0)
    issued: tuple[Issued, ...] = ()
    revoked: tuple[Revoked, ...] = ()

    def revocation_of(self, serial: int) -> Revoked | None:
        return next((record for record in self.revoked if int(record.serial, 16) == serial), None)


class Ledger(_Record):
    """The whole ledger. Never changed in place: each change makes the next one, which `save` puts down at once."""

    version: Literal[1] = 1
    authorities: dict[AuthorityName, Book]

    def book(self, name: str) -> Book:
        return next((book for key, book in self.authorities.items() if key == name), Book())

    def with_book(self, name: str, book: Book) -> "Ledger":
        return Ledger.model_validate({"authorities": {**self.authorities, name: book}})

    def with_issued(self, name: str, certificate: x509.Certificate) -> "Ledger":
        record = Issued(
            serial=serial_hex(certificate.serial_number),
            subject=certificate.subject.rfc4514_string(),
            not_after=certificate.not_valid_after_utc,
        )
        book = self.book(name)
        return self.with_book(name, book.model_copy(update={"issued": (*book.issued, record)}))

    def with_revoked(self, name: str, serial: int, date: datetime, reason: x509.ReasonFlags) -> "Ledger":
        """Adds a revocation; one of the same serial is replaced."""
        book = self.book(name)
        others = tuple(record for record in book.revoked if int(record.serial, 16) != serial)
        record = Revoked(serial=serial_hex(serial), date=date, reason=reason)
        return self.with_book(name, book.model_copy(update={"revoked": (*others, record)}))

    def to_json(self) -> bytes:
        return self.model_dump_json(indent=2).encode() + b"\n"


def load(directory: Path) -> Ledger:
    """The folder's ledger. Raises PkiError when it is missing or damaged.

    NOTE: never replaced by an empty one, because the next CRL would then forget what was revoked.
    """
    path = directory / FILE_NAME
    try:
        return Ledger.model_validate_json(files.read(path))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise PkiError(f"{path}: {where}: {first['msg']}; restore it from a backup") from error


def save(directory: Path, ledger: Ledger) -> None:
    files.replace(directory / FILE_NAME, ledger.to_json(), beside=directory)
