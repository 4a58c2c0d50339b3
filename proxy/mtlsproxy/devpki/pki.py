"""The development PKI as a folder: an offline root, one CA for servers, one for clients, their CRLs and a ledger.

DIR/root.pem  root.key               the trust anchor; its key only revokes intermediates and renews crls/root.pem
DIR/server-ca.pem  server-ca.key     signs servers, and nothing else (pathLen 0, EKU serverAuth)
DIR/client-ca.pem  client-ca.key     signs clients, and nothing else (pathLen 0, EKU clientAuth)
DIR/crls/NAME.pem                    one CRL for each
DIR/ledger.json                      what was issued and revoked, and the CRL numbers
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from mtlsproxy.devpki import files, ledger
from mtlsproxy.devpki.authority import CLIENT, PROFILES, SERVER, Authority, Profile, Validity
from mtlsproxy.devpki.errors import UNREADABLE, PkiError
from mtlsproxy.devpki.files import NewFile
from mtlsproxy.devpki.keys import KeyType, generate_key, key_pem, load_key
from mtlsproxy.devpki.ledger import Ledger, Revoked
from mtlsproxy.devpki.requests import LeafRequest, make_request, read_csr
from mtlsproxy.x509.certificate import held_instead

AUTHORITIES = ("root", SERVER.authority, CLIENT.authority)
LEAF_DAYS = 90
MOST_DAYS = 36500
CRL_DAYS = {"root": 365, SERVER.authority: 30, CLIENT.authority: 30}
"""A new CRL's life. The root's is long because its key is seldom at hand."""
BACKDATE = timedelta(minutes=5)
"""notBefore lies this far back: a fresh certificate must also work on a machine whose clock is a little slow."""
_HOLD = x509.ReasonFlags.certificate_hold


@dataclass(frozen=True, slots=True)
class SignedCertificate:
    """chain_pem: the leaf, then its CA; never the root, which the other side must already have."""

    chain_pem: bytes
    certificate: x509.Certificate


@dataclass(frozen=True, slots=True)
class IssuedCertificate(SignedCertificate):
    """A signed certificate whose key we made. key_pem: PKCS #8, unencrypted."""

    key_pem: bytes

    def write(self, certificate: Path, key: Path) -> None:
        """Writes both files, the key readable by its owner only. Raises PkiError; existing files stay."""
        files.create_all([NewFile(key, self.key_pem, files.PRIVATE), NewFile(certificate, self.chain_pem)])


@dataclass(frozen=True, slots=True)
class Revocation:
    """What `revoke` recorded. already: it had been revoked before, and that record stands."""

    authority: str
    record: Revoked
    already: bool


@dataclass(frozen=True, slots=True)
class CrlFile:
    """A CRL of the folder. written: made just now; else left as it was, the root's key being elsewhere."""

    path: Path
    written: bool
    number: int
    next_update: datetime
    entries: int


@dataclass(frozen=True, slots=True)
class DevPki:
    """A loaded PKI. Keys stay in their files until something is signed, so the root's may be kept elsewhere."""

    directory: Path
    root: x509.Certificate
    server_ca: x509.Certificate
    client_ca: x509.Certificate

    @classmethod
    def load(cls, directory: Path) -> "DevPki":
        """The PKI in a folder that `create_pki` made. Raises PkiError when a certificate is missing or not ours."""
        if not (directory / "root.pem").exists():
            raise PkiError(
                f"{directory}: no PKI here (root.pem is missing); make one with: mtlsproxy pki init {directory}"
            )
        root, server_ca, client_ca = (_load_certificate(directory / f"{name}.pem") for name in AUTHORITIES)
        for name, certificate in ((SERVER.authority, server_ca), (CLIENT.authority, client_ca)):
            if not _issued_by(certificate, root):
                raise PkiError(f"{directory / name}.pem: not issued by root.pem beside it; restore the pair")
        return cls(directory, root, server_ca, client_ca)

    def authority(self, name: str) -> Authority:
        """A CA with its key. Raises PkiError when the key is not here or belongs to another certificate."""
        path = self.directory / f"{name}.key"
        key = load_key(files.read(path), str(path))
        certificate = self.certificate(name)
        if key.public_key() != certificate.public_key():
            raise PkiError(f"{path}: not the key of {name}.pem; restore the pair from a backup")
        return Authority(name, certificate, key)

    def certificate(self, name: str) -> x509.Certificate:
        return {"root": self.root, SERVER.authority: self.server_ca, CLIENT.authority: self.client_ca}[name]

    def crl_path(self, name: str) -> Path:
        return self.directory / "crls" / f"{name}.pem"

    def issue(
        self,
        subject: str,
        sans: Sequence[str | x509.GeneralName] = (),
        profile: str = CLIENT.name,
        days: int = LEAF_DAYS,
        *,
        key_type: KeyType = KeyType.EC,
        extended_key_usage: Sequence[x509.ObjectIdentifier] | None = None,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
    ) -> IssuedCertificate:
        """A new key and its certificate. Raises PkiError.

        extended_key_usage, not_before and not_after are for tests and demonstrations that need a certificate which
        ought to be refused: given, they replace the profile's and are not held against it (() leaves the EKU out).
        """
        key = generate_key(KeyType(key_type))
        request = make_request(subject, sans, key.public_key())
        validity = _override(_validity(days), not_before, not_after)
        signed = self._sign(request, _profile(profile), validity, extended_key_usage, strict=not_after is None)
        return IssuedCertificate(signed.chain_pem, signed.certificate, key_pem(key))

    def sign(self, csr: bytes, source: str, profile: str, days: int = LEAF_DAYS) -> SignedCertificate:
        """A certificate for a CSR, PEM or DER; source names it in messages. Raises PkiError."""
        return self._sign(read_csr(csr, source), _profile(profile), _validity(days), None, strict=True)

    def revoke(
        self,
        certificate: x509.Certificate,
        reason: x509.ReasonFlags = x509.ReasonFlags.unspecified,
        *,
        at: datetime | None = None,
    ) -> Revocation:
        """Records a revocation and rewrites the CRLs. Raises PkiError for a certificate that is not of this PKI.

        A second revocation changes nothing, but rewrites the CRLs, which mends a first that was cut short. Only
        certificateHold gives way to another reason.
        """
        if reason is x509.ReasonFlags.remove_from_crl:
            raise PkiError("removeFromCRL belongs to delta CRLs (RFC 5280, section 5.3.1); give another reason")
        name = self._issuer_of(certificate)
        self.authority(name)  # without its key there would be a record and no CRL that says so
        now = (at or datetime.now(UTC)).replace(microsecond=0)
        with files.locked(self.directory):
            current = ledger.load(self.directory)
            known = current.book(name).revocation_of(certificate.serial_number)
            already = known is not None and not (known.reason is _HOLD and reason is not _HOLD)
            if not already:
                current = current.with_revoked(name, certificate.serial_number, now, reason)
            self._write_crls(current, None, now)
        record = current.book(name).revocation_of(certificate.serial_number)
        assert record is not None
        return Revocation(name, record, already)

    def write_crls(self, days: int | None = None, *, at: datetime | None = None) -> tuple[CrlFile, ...]:
        """Makes all CRLs anew, good for `days` (None: as long as each one's predecessor). Raises PkiError.

        The root's CRL stays as it is while root.key is kept elsewhere. at: thisUpdate, for tests.
        """
        if days is not None:
            _check_days(days)
        with files.locked(self.directory):
            return self._write_crls(ledger.load(self.directory), days, at or datetime.now(UTC))

    def _write_crls(self, current: Ledger, days: int | None, now: datetime) -> tuple[CrlFile, ...]:
        signers = [self.authority(name) for name in AUTHORITIES if name != "root" or self._has_root_key()]
        left = [] if self._has_root_key() else [self._existing_crl("root")]
        made: list[tuple[CrlFile, bytes]] = []
        for signer in signers:
            path = self.crl_path(signer.name)
            previous = _load_crl(path)
            number = max(current.book(signer.name).crl_number, _number(previous)) + 1
            book = current.book(signer.name).model_copy(update={"crl_number": number})
            current = current.with_book(signer.name, book)
            validity = Validity(now, now + _crl_period(signer.name, days, previous))
            data = signer.sign_crl((record.entry() for record in book.revoked), number, validity)
            made.append((CrlFile(path, True, number, validity.not_after, len(book.revoked)), data))
        # The numbers are put down before the CRLs that bear them, so that a crash in between can never reuse one.
        ledger.save(self.directory, current)
        files.make_directory(self.directory / "crls")
        for crl_file, data in made:
            files.replace(crl_file.path, data, beside=self.directory)
        return (*left, *(crl_file for crl_file, _ in made))

    def _has_root_key(self) -> bool:
        return (self.directory / "root.key").exists()

    def _existing_crl(self, name: str) -> CrlFile:
        path = self.crl_path(name)
        crl = _load_crl(path)
        if crl is None or crl.next_update_utc is None:
            raise PkiError(f"{path}: missing; put {name}.key into {self.directory} once, to sign a new one")
        return CrlFile(path, False, _number(crl), crl.next_update_utc, len(crl))

    def _sign(
        self,
        request: LeafRequest,
        profile: Profile,
        validity: Validity,
        usages: Sequence[x509.ObjectIdentifier] | None,
        *,
        strict: bool,
    ) -> SignedCertificate:
        signer = self.authority(profile.authority)
        if usages is None:
            signer.refuse_usages(profile.extended_key_usage)
        if strict:
            _refuse_outliving(signer, validity)
        _refuse_hostless(request, profile)
        with files.locked(self.directory):
            current = ledger.load(self.directory)
            leaf = signer.sign_leaf(request, profile.extended_key_usage if usages is None else usages, validity)
            ledger.save(self.directory, current.with_issued(signer.name, leaf))
        return SignedCertificate(pem(leaf) + pem(signer.certificate), leaf)

    def _issuer_of(self, certificate: x509.Certificate) -> str:
        if certificate == self.root:
            raise PkiError("root.pem: no CRL revokes a trust anchor; take it out of every trust_anchors instead")
        for name in AUTHORITIES:
            if _issued_by(certificate, self.certificate(name)):
                return name
        issuer = certificate.issuer.rfc4514_string()
        raise PkiError(f"issued by {issuer!r}, not by the PKI in {self.directory}; revoke it where it was issued")


def load_certificate(data: bytes, source: str) -> x509.Certificate:
    """The first certificate of a PEM file, or a DER one. Raises PkiError."""
    load = x509.load_pem_x509_certificate if b"-----BEGIN" in data else x509.load_der_x509_certificate
    try:
        certificate = load(data)
        _ = certificate.issuer, certificate.subject, certificate.extensions  # read lazily, and so judged here
    except UNREADABLE as error:
        held = f", but {held_instead(data)}" if b"-----BEGIN" in data and b"BEGIN CERTIFICATE-----" not in data else ""
        raise PkiError(
            f"{source}: not a certificate (PEM or DER){held}; give the file that pki issue or sign wrote"
        ) from error
    return certificate


def _profile(name: str) -> Profile:
    try:
        return PROFILES[name]
    except KeyError:
        raise PkiError(f"profile {name!r}: choose one of {', '.join(PROFILES)}") from None


def _validity(days: int) -> Validity:
    _check_days(days)
    now = datetime.now(UTC)
    return Validity(now - BACKDATE, now + timedelta(days=days))


def _check_days(days: int) -> None:
    if not 1 <= days <= MOST_DAYS:
        raise PkiError(f"{days} days: give a number from 1 to {MOST_DAYS}")


def _override(validity: Validity, not_before: datetime | None, not_after: datetime | None) -> Validity:
    return Validity(not_before or validity.not_before, not_after or validity.not_after)


def _refuse_outliving(signer: Authority, validity: Validity) -> None:
    """A leaf is of no use once its CA has expired, so that it would end earlier than it says."""
    end = signer.certificate.not_valid_after_utc
    if validity.not_after > end:
        most = max(0, (end - datetime.now(UTC)).days)
        raise PkiError(f"{signer.name}.pem expires {end:%Y-%m-%d}, before the leaf; give --days {most} or fewer")


def _refuse_hostless(request: LeafRequest, profile: Profile) -> None:
    """RFC 9525, section 6.3: a server is known by its DNS names and addresses; its common name is never looked at."""
    if profile.needs_host and not any(isinstance(san, x509.DNSName | x509.IPAddress) for san in request.sans):
        raise PkiError("a server certificate needs the name that clients dial: give --san DNS:… or --san IP:…")


def _issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _load_certificate(path: Path) -> x509.Certificate:
    return load_certificate(files.read(path), str(path))


def _load_crl(path: Path) -> x509.CertificateRevocationList | None:
    if not path.exists():
        return None
    try:
        return x509.load_pem_x509_crl(files.read(path))
    except ValueError as error:
        raise PkiError(f"{path}: not a PEM CRL; remove it and run: mtlsproxy pki crl") from error


def _number(crl: x509.CertificateRevocationList | None) -> int:
    if crl is None:
        return 0
    try:
        return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        return 0


def _crl_period(name: str, days: int | None, previous: x509.CertificateRevocationList | None) -> timedelta:
    if days is not None:
        return timedelta(days=days)
    if previous is not None and previous.next_update_utc is not None:
        return previous.next_update_utc - previous.last_update_utc
    return timedelta(days=CRL_DAYS[name])


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
