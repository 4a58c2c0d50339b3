"""Bytes of a file to what it holds, or to a problem that says what was expected, where, and how to mend it."""

import re
from collections.abc import Callable
from hashlib import sha256
from itertools import islice

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7, pkcs12

from mtlsproxy.anatomy import keys, pem
from mtlsproxy.anatomy.algorithms import signature_name
from mtlsproxy.anatomy.effort import TooMuchWork, require_modest
from mtlsproxy.anatomy.extensions import show_all
from mtlsproxy.anatomy.items import (
    CertificateItem,
    Contents,
    CrlItem,
    Item,
    Origin,
    OtherItem,
    Problem,
    RequestItem,
    Revoked,
)
from mtlsproxy.anatomy.pem import BadBlock, Block
from mtlsproxy.anatomy.shape import Shape, shape_of
from mtlsproxy.revocation.crl import parse_crl
from mtlsproxy.revocation.errors import CrlError
from mtlsproxy.x509 import der
from mtlsproxy.x509.certificate import MalformedCertificate, key_name, parse_certificate
from mtlsproxy.x509.oddities import silence_oddities

MOST_ENTRIES = 1000
"""Entries of a CRL that are kept to be shown: whoever asks about one of a million asks by its serial."""

_UNREADABLE = (
    ValueError,
    TypeError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)
_CERTIFICATES = ("CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE")
_REQUESTS = ("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")
_BUNDLES = ("PKCS7", "CMS", "PKCS #7 SIGNED DATA")
_WITHOUT_FACTS = ("EC PARAMETERS", "DH PARAMETERS", "DSA PARAMETERS", "X9.42 DH PARAMETERS")
_BASE64_OF_A_SEQUENCE = re.compile(rb"MI[A-Za-z0-9+/=\s]{8,}")
_EXPECTED = "a certificate, signing request, CRL, key, PKCS#7 or PKCS#12, in PEM or DER, was expected"


class _Unreadable(Exception):
    """One thing of a file that cannot be read; says why."""


def read_contents(data: bytes, file: str, password: bytes | None = None) -> Contents:
    """Everything in `data`, in its order. file: for messages. password: of keys and PKCS#12. Raises nothing."""
    silence_oddities()
    if pem.is_pem(data):
        found = [_of_block(block, file, password) for block in pem.blocks(data)]
        return Contents(
            tuple(item for each in found for item in each.items),
            tuple(problem for each in found for problem in each.problems),
        )
    return _attempt(lambda: _of_der(data, Origin(file), password), file, None)


def _attempt(read: Callable[[], tuple[Item, ...]], file: str, line: int | None) -> Contents:
    try:
        return Contents(read())
    except BadBlock as error:
        return Contents(problems=(Problem(file, error.line, error.detail),))
    except (_Unreadable, keys.BadKey) as error:
        return Contents(problems=(Problem(file, line, str(error)),))


# -- PEM --------------------------------------------------------------------------------------------------------------


def _of_block(block: Block | BadBlock, file: str, password: bytes | None) -> Contents:
    if isinstance(block, BadBlock):
        return Contents(problems=(Problem(file, block.line, block.detail),))
    return _attempt(lambda: _of_label(block, Origin(file, block.line), password), file, block.line)


def _of_label(block: Block, origin: Origin, password: bytes | None) -> tuple[Item, ...]:
    label = block.label
    if label in keys.FORMS:
        return (keys.read_pem_key(origin, block, password),)
    if label in keys.PUBLIC_FORMS:
        return (keys.read_public_key(origin, block.text, keys.PUBLIC_FORMS[label]),)
    if label in _WITHOUT_FACTS:
        return (OtherItem(origin, label),)
    if label in _CERTIFICATES:
        data = block.der()
        return (_certificate(_first_element(data) if label.startswith("TRUSTED") else data, origin),)
    if label in _REQUESTS:
        return (_request(block.der(), origin),)
    if label == "X509 CRL":
        return (_crl(block.der(), origin),)
    if label in _BUNDLES:
        return _pkcs7(block.der(), origin)
    raise _Unreadable(f"{_EXPECTED}; BEGIN {label} is none of them")


def _first_element(data: bytes) -> bytes:
    """OpenSSL's TRUSTED CERTIFICATE has settings of its own behind the certificate."""
    try:
        _, _, end = der.read(data, 0, len(data))
    except der.DerError as error:
        raise _Unreadable(f"{Shape.CERTIFICATE.value} was expected, and this is none: {error}") from error
    return data[:end]


# -- DER --------------------------------------------------------------------------------------------------------------


def _of_der(data: bytes, origin: Origin, password: bytes | None) -> tuple[Item, ...]:
    shape = shape_of(data)
    if shape is None:
        raise _Unreadable(f"{_EXPECTED}, and this is none of them: {_looks_like(data)}")
    if shape is Shape.CERTIFICATE:
        return (_certificate(data, origin),)
    if shape is Shape.REQUEST:
        return (_request(data, origin),)
    if shape is Shape.CRL:
        return (_crl(data, origin),)
    if shape is Shape.PKCS7:
        return _pkcs7(data, origin)
    if shape is Shape.PKCS12:
        return _pkcs12(data, origin, password)
    return (keys.read_der_key(origin, shape, data, password),)


def _looks_like(data: bytes) -> str:
    """What somebody may have done to a file."""
    if not data.strip():
        return "it is empty"
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "it is text in UTF-16; save it as ASCII or UTF-8"
    if data[:1] == b"\x30":
        return "it begins like DER and is cut short, damaged, or something else"
    if b"-----" in data:
        return "it has dashes as PEM has, and no whole BEGIN line such as -----BEGIN CERTIFICATE-----"
    if _BASE64_OF_A_SEQUENCE.fullmatch(data[:64]):
        return "it looks like PEM without its BEGIN and END lines; put them around it"
    return f"it begins with {data[:16]!r}"


def _certificate(data: bytes, origin: Origin) -> CertificateItem:
    try:
        certificate = parse_certificate(data)
        extensions = show_all(certificate.x509.extensions)
    except MalformedCertificate as error:
        raise _Unreadable(f"a certificate that verifiers refuse{_whose(data)}: {error.detail}") from error
    spki = None if certificate.public_key is None else keys.spki_of(certificate.public_key)
    return CertificateItem(origin, certificate, extensions, spki)


def _whose(data: bytes) -> str:
    """Of a certificate that is well-formed as far as names go."""
    try:
        loaded = x509.load_der_x509_certificate(data)
        return f" (subject {loaded.subject.rfc4514_string()}, issuer {loaded.issuer.rfc4514_string()})"
    except _UNREADABLE:
        return ""


def _request(data: bytes, origin: Origin) -> RequestItem:
    try:
        loaded = x509.load_der_x509_csr(data)
        extensions = show_all(loaded.extensions)
        subject = loaded.subject.rfc4514_string()
        public = _public_key_of(loaded)
    except _UNREADABLE as error:
        raise _Unreadable(f"a certificate signing request (RFC 2986) was expected: {error}") from error
    return RequestItem(
        origin=origin,
        subject=subject,
        key_name=key_name(public) or "a key of an unknown kind",
        spki=keys.spki_of(public),
        signature_algorithm=signature_name(loaded.signature_algorithm_oid.dotted_string),
        self_signed=_signed_itself(loaded),
        extensions=extensions,
        fingerprint_sha256=sha256(data).hexdigest(),
    )


def _public_key_of(request: x509.CertificateSigningRequest) -> object:
    try:
        return request.public_key()
    except UnsupportedAlgorithm:
        return None


def _signed_itself(request: x509.CertificateSigningRequest) -> bool | None:
    try:
        return request.is_signature_valid
    except (UnsupportedAlgorithm, ValueError, TypeError):
        return None


def _crl(data: bytes, origin: Origin) -> CrlItem:
    try:
        crl = parse_crl(data, origin.file)
        loaded = x509.load_der_x509_crl(data)
        first = tuple(map(_entry, islice(loaded, MOST_ENTRIES)))
    except CrlError as error:
        detail = error.detail.removeprefix(f"{origin.file}: ")
        raise _Unreadable(f"a CRL that can be relied upon was expected: {detail}") from error
    except _UNREADABLE as error:
        raise _Unreadable(f"a CRL (RFC 5280 §5) was expected: {error}") from error
    return CrlItem(origin, crl, signature_name(loaded.signature_algorithm_oid.dotted_string), first)


def _entry(entry: x509.RevokedCertificate) -> Revoked:
    reason = next((e.value.reason.value for e in entry.extensions if isinstance(e.value, x509.CRLReason)), None)
    return Revoked(entry.serial_number, entry.revocation_date_utc, reason)


# -- bundles ----------------------------------------------------------------------------------------------------------


def _pkcs7(data: bytes, origin: Origin) -> tuple[Item, ...]:
    try:
        loaded = pkcs7.load_der_pkcs7_certificates(data)
    except _UNREADABLE as error:
        raise _Unreadable(f"a PKCS#7 bundle of certificates was expected: {error}") from error
    inside = Origin(origin.file, origin.line, "PKCS#7")
    return tuple(_certificate(_encoded(certificate), inside) for certificate in loaded)


def _pkcs12(data: bytes, origin: Origin, password: bytes | None) -> tuple[Item, ...]:
    loaded = _open_pkcs12(data, password)
    items: list[Item] = []
    for found in (loaded.cert, *loaded.additional_certs):
        if found is not None:
            name = (found.friendly_name or b"").decode("utf-8", "replace")
            items.append(_certificate(_encoded(found.certificate), Origin(origin.file, None, "PKCS#12", name)))
    if loaded.key is not None:
        inside = Origin(origin.file, None, "PKCS#12")
        items.insert(min(1, len(items)), keys.private_item(inside, "PKCS#8", loaded.key, encrypted=bool(password)))
    if not items:
        raise _Unreadable("a PKCS#12 file without a certificate or a key")
    return tuple(items)


def _open_pkcs12(data: bytes, password: bytes | None) -> pkcs12.PKCS12KeyAndCertificates:
    """Without a password, also as written by those who call an empty one none."""
    try:
        require_modest(data)
    except TooMuchWork as error:
        raise _Unreadable(f"a PKCS#12 file that is not opened: {error}") from error
    for attempt in (password,) if password is not None else (None, b""):
        try:
            return pkcs12.load_pkcs12(data, attempt)
        except UnsupportedAlgorithm as error:
            raise _Unreadable(f"a PKCS#12 file with an algorithm that is not supported: {error}") from error
        except (ValueError, TypeError) as error:
            why = error
    mend = "give it with --password-file" if password is None else "give the right one with --password-file"
    raise _Unreadable(f"a PKCS#12 file that is damaged, or needs another password: {mend}") from why


def _encoded(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)
