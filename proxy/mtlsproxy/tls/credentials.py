"""A certificate of ours with its key, read and checked before OpenSSL sees it, so that what is wrong can be said."""

import itertools
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from mtlsproxy.tls.permissions import exposed
from mtlsproxy.x509.certificate import Certificate, MalformedCertificate, load_pem_certificates
from mtlsproxy.x509.policy import CLIENT_AUTH

Role = Literal["server", "client"]


class CredentialError(Exception):
    """`key` is the setting (`certificate`, `private_key`, `private_key_password_file`), `detail` what and the mend."""

    def __init__(self, key: str, detail: str) -> None:
        super().__init__(f"{key}: {detail}")
        self.key = key
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Credential:
    """chain: leaf first, at least one. warnings: in words, for `check` and at start."""

    chain: tuple[Certificate, ...]
    certificate_file: Path
    private_key_file: Path
    password: bytes | None
    warnings: tuple[str, ...]

    @property
    def leaf(self) -> Certificate:
        return self.chain[0]


def load_credential(
    certificate: Path, private_key: Path, password_file: Path | None, at: datetime, role: Role = "server"
) -> Credential:
    """Read the files. role: what this proxy is where it presents the certificate. Raises CredentialError."""
    chain = _load_chain(certificate)
    password = None
    if password_file is not None:
        password = _read(password_file, "private_key_password_file").rstrip(b"\r\n")
    try:
        key = serialization.load_pem_private_key(_read(private_key, "private_key"), password)
    except TypeError as error:
        hint = "name private_key_password_file" if password is None else "remove private_key_password_file"
        raise CredentialError("private_key", f"{private_key}: {error}; {hint}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CredentialError(
            "private_key", f"{private_key} is no PEM private key that can be read (not a key, or the wrong password)"
        ) from error
    if _spki(key.public_key()) != _spki(chain[0].x509.public_key()):
        raise CredentialError(
            "private_key",
            f"{private_key} does not match the certificate {certificate} ({chain[0].subject}); "
            "name the key that its request was made with",
        )
    return Credential(chain, certificate, private_key, password, tuple(_warnings(chain, private_key, at, role)))


def _read(file: Path, key: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CredentialError(key, f"cannot read {file}: {error.strerror}") from error


def _load_chain(file: Path) -> tuple[Certificate, ...]:
    try:
        chain = load_pem_certificates(_read(file, "certificate"))
    except MalformedCertificate as error:
        raise CredentialError("certificate", f"{file}: {error.detail}") from error
    if not chain:
        raise CredentialError("certificate", f"{file} holds no PEM certificate")
    return chain


def _spki(key: object) -> bytes:
    der: bytes = key.public_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return der


def _warnings(chain: tuple[Certificate, ...], private_key: Path, at: datetime, role: Role) -> list[str]:
    leaf = chain[0]
    out = []
    who = f"the {role} certificate {leaf.subject}"
    peers = "clients" if role == "server" else "servers"
    if leaf.not_after < at:
        out.append(f"{who} expired on {leaf.not_after:%Y-%m-%d}: {peers} will refuse it")
    if leaf.not_before > at:
        out.append(f"{who} is not valid before {leaf.not_before:%Y-%m-%d}")
    if role == "server" and not leaf.sans.dns and not leaf.sans.ips:
        out.append(f"{who} names no host (no subjectAltName): {peers} will refuse it")
    if role == "client" and leaf.extended_key_usage is not None and CLIENT_AUTH not in leaf.extended_key_usage:
        out.append(f"{who} has no extended key usage clientAuth: {peers} will refuse it")
    for child, parent in itertools.pairwise(chain):
        if child.issuer_der != parent.subject_der:
            out.append(f"the chain is out of order: {parent.subject} did not issue {child.subject}")
    return out + exposed(private_key, "key")
