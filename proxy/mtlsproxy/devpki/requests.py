"""What a certificate is asked for: subject, names and public key, from our own hands or out of a CSR (PKCS #10)."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from mtlsproxy.devpki.errors import UNREADABLE, PkiError
from mtlsproxy.devpki.keys import PrivateKey, PublicKey, certifiable, signing_hash
from mtlsproxy.devpki.names import check_sans, check_subject, parse_san, parse_subject


@dataclass(frozen=True, slots=True)
class LeafRequest:
    """All that a requester has a say in. Everything else in the certificate comes from the profile."""

    subject: x509.Name
    sans: tuple[x509.GeneralName, ...]
    public_key: PublicKey


def make_request(subject: str, sans: Sequence[str | x509.GeneralName], public_key: PublicKey) -> LeafRequest:
    """A request from the operator's words. Raises PkiError for a malformed subject or name."""
    names = tuple(parse_san(san) if isinstance(san, str) else san for san in sans)
    check_sans(names)
    name = parse_subject(subject)
    if not list(name) and not names:
        raise PkiError("neither a subject nor a SAN: the certificate would stand for nobody; give one of them")
    return LeafRequest(name, names, public_key)


def make_csr(subject: str, sans: Sequence[str | x509.GeneralName], key: PrivateKey) -> bytes:
    """A PEM certificate signing request (RFC 2986), signed with `key` to prove its possession. Raises PkiError."""
    request = make_request(subject, sans, key.public_key())
    builder = x509.CertificateSigningRequestBuilder().subject_name(request.subject)
    if request.sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(request.sans), critical=False)
    return builder.sign(key, signing_hash(key)).public_bytes(serialization.Encoding.PEM)


def read_csr(data: bytes, source: str) -> LeafRequest:
    """The request of a PEM or DER CSR whose own signature verifies. Raises PkiError.

    Its subject and SANs are taken, and no other extension: key usages and the like are the profile's to give. One that
    asks to become a CA is refused rather than quietly made a leaf, since its author expects something else.
    """
    csr = _load(data, source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what cryptography warns of (lengths) is refused by check_subject
            subject, extensions, public_key = csr.subject, csr.extensions, csr.public_key()
        proved = csr.is_signature_valid
    except UNREADABLE as error:
        raise PkiError(f"{source}: the request cannot be read ({error}); make a new one") from error
    if not proved:
        raise PkiError(f"{source}: the request's own signature does not verify: it was altered; ask for a new one")
    key = certifiable(public_key, source)
    _refuse_ca(extensions, source)
    sans = _sans_of(extensions)
    try:
        check_subject(subject)
        check_sans(sans)
    except PkiError as error:
        raise PkiError(f"{source}: {error}") from error
    if not list(subject) and not sans:
        raise PkiError(f"{source}: neither a subject nor a SAN; make a new request with one of them")
    return LeafRequest(subject, sans, key)


def _load(data: bytes, source: str) -> x509.CertificateSigningRequest:
    load = x509.load_pem_x509_csr if b"-----BEGIN" in data else x509.load_der_x509_csr
    try:
        return load(data)
    except UNREADABLE as error:
        raise PkiError(f"{source}: not a certificate signing request; make one with: mtlsproxy pki csr") from error


def _sans_of(extensions: x509.Extensions) -> tuple[x509.GeneralName, ...]:
    try:
        return tuple(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return ()


def _refuse_ca(extensions: x509.Extensions, source: str) -> None:
    try:
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return
    if constraints.ca:
        raise PkiError(f"{source}: asks for a CA certificate (basicConstraints cA); this CA signs leaves only")
