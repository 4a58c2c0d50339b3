"""Certificates for these tests, valid now: good ones by default, and such as a library refuses to make."""

import os
from base64 import encodebytes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.unit.x509 import build
from tests.unit.x509.build import Issued, Key

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)

issue: Callable[..., Issued] = partial(build.issue, start=NOW - DAY, end=NOW + 30 * DAY)
"""As `tests.unit.x509.build.issue`, but valid while the tests run."""

_numbers = count()


@dataclass(frozen=True)
class Identity:
    """A client: what it presents and the key that it signs with. der: the leaf. names: as the proxy logs them."""

    certificate: Path
    key: Path
    der: bytes

    @property
    def leaf(self) -> x509.Certificate:
        return x509.load_der_x509_certificate(self.der)


def pem(*certificates: Issued | bytes) -> bytes:
    """Issued certificates or DER, in order."""
    return b"".join(_pem(c if isinstance(c, bytes) else c.certificate.der) for c in certificates)


def _pem(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + encodebytes(der) + b"-----END CERTIFICATE-----\n"


def key_pem(key: Key) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def identity(folder: Path, leaf: Issued, *others: Issued) -> Identity:
    """A client that presents `leaf` and then `others`."""
    return identity_of_der(folder, leaf.certificate.der, leaf.key, *others)


def identity_of_der(folder: Path, leaf: bytes, key: Key, *others: Issued) -> Identity:
    stem = folder / f"client-{os.getpid()}-{next(_numbers)}"
    certificate, private = stem.with_suffix(".pem"), stem.with_suffix(".key")
    certificate.write_bytes(pem(leaf, *others))
    write_key(private, key_pem(key))
    return Identity(certificate, private, leaf)


def write_key(file: Path, data: bytes) -> None:
    file.touch(mode=0o600)
    file.write_bytes(data)


def anchor_file(folder: Path, *anchors: Issued | bytes) -> Path:
    file = folder / f"anchors-{os.getpid()}-{next(_numbers)}.pem"
    file.write_bytes(pem(*anchors))
    return file


def names(*texts: str) -> Sequence[x509.GeneralName]:
    """`DNS:x` or `URI:x`."""
    kinds: dict[str, Callable[[str], x509.GeneralName]]
    kinds = {"DNS": x509.DNSName, "URI": x509.UniformResourceIdentifier, "EMAIL": x509.RFC822Name}
    return [kinds[kind](value) for kind, _, value in (text.partition(":") for text in texts)]
