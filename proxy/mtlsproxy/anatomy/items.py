"""What a file can hold, and what is known of each."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from mtlsproxy.revocation.crl import Crl
from mtlsproxy.x509.certificate import Certificate


@dataclass(frozen=True, slots=True)
class Origin:
    """Where something stands. line: of its BEGIN; None where the file is no PEM. inside: what it was wrapped in
    (`PKCS#12`, `PKCS#7`), else "". name: what the wrapping calls it, else ""."""

    file: str
    line: int | None = None
    inside: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """What could not be read. message: what was expected, what is there, how to mend it."""

    file: str
    line: int | None
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}" if self.line is not None else f"{self.file}: {self.message}"


@dataclass(frozen=True, slots=True)
class Shown:
    """An extension in words. oid: dotted. values: one text for each part of it."""

    name: str
    oid: str
    critical: bool
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class CertificateItem:
    """spki: SHA-256 of the key as this program encodes it, by which keys are compared; None for unusable keys."""

    origin: Origin
    certificate: Certificate
    extensions: tuple[Shown, ...]
    spki: str | None


@dataclass(frozen=True, slots=True, eq=False)
class RequestItem:
    """A certificate signing request (RFC 2986). self_signed: whether its own key made its signature, which proves that
    the requester holds the key; None where the signature's algorithm is not known."""

    origin: Origin
    subject: str
    key_name: str
    spki: str | None
    signature_algorithm: str
    self_signed: bool | None
    extensions: tuple[Shown, ...]
    fingerprint_sha256: str


@dataclass(frozen=True, slots=True)
class Revoked:
    """An entry of a CRL. reason: of RFC 5280 §5.3.1, None where it gives none."""

    serial: int
    at: datetime
    reason: str | None


@dataclass(frozen=True, slots=True, eq=False)
class CrlItem:
    """first: the entries at the beginning of the list, MOST_ENTRIES at most."""

    origin: Origin
    crl: Crl
    signature_algorithm: str
    first: tuple[Revoked, ...]


@dataclass(frozen=True, slots=True, eq=False)
class KeyItem:
    """A key, of which nothing is kept that is secret. form: `PKCS#8`, `PKCS#1`, `SEC 1` … encrypted: it was, in its
    file. key_name, spki: None where it was not decrypted."""

    origin: Origin
    form: str
    kind: Literal["private", "public"]
    encrypted: bool
    key_name: str | None
    spki: str | None


@dataclass(frozen=True, slots=True, eq=False)
class OtherItem:
    """What is known to be there and has nothing to show, such as EC PARAMETERS."""

    origin: Origin
    label: str


Item = CertificateItem | RequestItem | CrlItem | KeyItem | OtherItem


@dataclass(frozen=True, slots=True)
class Contents:
    """What files hold, in their order."""

    items: tuple[Item, ...] = ()
    problems: tuple[Problem, ...] = ()

    def __add__(self, other: "Contents") -> "Contents":
        return Contents(self.items + other.items, self.problems + other.problems)
