"""A certification authority at work: a certificate, its key, and what it signs (RFC 5280, sections 4.2 and 5)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from mtlsproxy.devpki.errors import PkiError
from mtlsproxy.devpki.keys import PrivateKey, PublicKey, signing_hash
from mtlsproxy.devpki.requests import LeafRequest

Extensions = Sequence[tuple[x509.ExtensionType, bool]]
"""Extensions with their criticality."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What kind of leaf is made, and by whom."""

    name: str
    authority: str
    extended_key_usage: tuple[x509.ObjectIdentifier, ...]
    needs_host: bool


SERVER = Profile("server", "server-ca", (ExtendedKeyUsageOID.SERVER_AUTH,), needs_host=True)
CLIENT = Profile("client", "client-ca", (ExtendedKeyUsageOID.CLIENT_AUTH,), needs_host=False)
PROFILES = {profile.name: profile for profile in (SERVER, CLIENT)}


@dataclass(frozen=True, slots=True)
class Validity:
    """From when to when, both inclusive (RFC 5280, section 4.1.2.5); aware datetimes."""

    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class RevokedEntry:
    """One line of a CRL. reason: None is `unspecified`, which a CRL leaves out (RFC 5280, section 5.3.1)."""

    serial: int
    date: datetime
    reason: x509.ReasonFlags | None


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA certificate with its private key; `name` is its file's name without the ending."""

    name: str
    certificate: x509.Certificate
    key: PrivateKey

    def sign_leaf(
        self, request: LeafRequest, usages: Sequence[x509.ObjectIdentifier], validity: Validity
    ) -> x509.Certificate:
        """A leaf for the request; no extended key usage extension where `usages` is empty."""
        extensions = _leaf_extensions(request, usages)
        return self._sign(request.subject, request.public_key, validity, extensions)

    def sign_intermediate(
        self,
        name: str,
        subject: x509.Name,
        key: PrivateKey,
        usages: Sequence[x509.ObjectIdentifier],
        validity: Validity,
    ) -> "Authority":
        """A CA below this one that may sign leaves of the given usages and no further CAs."""
        extensions = (*_ca_extensions(path_length=0), (x509.ExtendedKeyUsage(usages), False))
        return Authority(name, self._sign(subject, key.public_key(), validity, extensions), key)

    def sign_crl(self, entries: Iterable[RevokedEntry], number: int, validity: Validity) -> bytes:
        """A PEM CRL: thisUpdate and nextUpdate are the validity's ends (RFC 5280, section 5)."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(validity.not_before)
            .next_update(validity.not_after)
            .add_extension(self._authority_key(), critical=False)
            .add_extension(x509.CRLNumber(number), critical=False)
        )
        for entry in entries:
            builder = builder.add_revoked_certificate(_crl_entry(entry))
        return builder.sign(self.key, signing_hash(self.key)).public_bytes(serialization.Encoding.PEM)

    def refuse_usages(self, usages: Sequence[x509.ObjectIdentifier]) -> None:
        """Raises PkiError for an extended key usage that this CA's own certificate does not allow it to give."""
        try:
            allowed = self.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        except x509.ExtensionNotFound:
            raise PkiError(
                f"{self.name}.pem: has no extended key usage; make a new PKI with: mtlsproxy pki init"
            ) from None
        for usage in usages:
            if usage not in allowed:
                raise PkiError(f"{self.name}.pem: may not give {usage.dotted_string}; use the other CA's profile")

    def _sign(self, subject: x509.Name, key: PublicKey, validity: Validity, extensions: Extensions) -> x509.Certificate:
        extensions = (*extensions, (self._authority_key(), False))
        return _build(subject, key, self.certificate.subject, self.key, validity, extensions)

    def _authority_key(self) -> x509.AuthorityKeyIdentifier:
        try:
            own = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        except x509.ExtensionNotFound:
            raise PkiError(
                f"{self.name}.pem: has no subject key identifier; restore the file that pki init made"
            ) from None
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def make_root(subject: x509.Name, key: PrivateKey, validity: Validity) -> Authority:
    """A self-signed trust anchor with room for one CA below it."""
    extensions = _ca_extensions(path_length=1)
    return Authority("root", _build(subject, key.public_key(), subject, key, validity, extensions), key)


def _build(
    subject: x509.Name,
    key: PublicKey,
    issuer: x509.Name,
    issuer_key: PrivateKey,
    validity: Validity,
    extensions: Extensions,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity.not_before)
        .not_valid_after(validity.not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key, signing_hash(issuer_key))


def _ca_extensions(path_length: int) -> Extensions:
    return (
        (x509.BasicConstraints(ca=True, path_length=path_length), True),  # RFC 5280, section 4.2.1.9: critical in a CA
        (_key_usage(signs_certificates=True), True),
    )


def _leaf_extensions(request: LeafRequest, usages: Sequence[x509.ObjectIdentifier]) -> Extensions:
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_key_usage(signs_certificates=False), True),
    ]
    if usages:
        extensions.append((x509.ExtendedKeyUsage(usages), False))
    if request.sans:
        nameless = not list(request.subject)  # RFC 5280, section 4.2.1.6: then the SAN is all there is, so critical
        extensions.append((x509.SubjectAlternativeName(request.sans), nameless))
    return extensions


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """CAs sign certificates and CRLs and nothing else; leaves sign handshakes (TLS 1.3 and ECDHE need no more)."""
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _crl_entry(entry: RevokedEntry) -> x509.RevokedCertificate:
    builder = x509.RevokedCertificateBuilder().serial_number(entry.serial).revocation_date(entry.date)
    if entry.reason is not None:
        builder = builder.add_extension(x509.CRLReason(entry.reason), critical=False)
    return builder.build()
