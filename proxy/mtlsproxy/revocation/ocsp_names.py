"""How OCSP names certificates and keys: by hashes of their original encoding (RFC 6960 §4.1.1, §4.2.1)."""

from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes

from mtlsproxy.x509 import der as asn1
from mtlsproxy.x509.certificate import Certificate
from mtlsproxy.x509.raw import slice_certificate

CERT_ID_HASH = hashes.SHA1()  # noqa: S303 - a name for a certificate, which nothing trusts
CERT_ID_HASHES = (hashes.SHA1, hashes.SHA256, hashes.SHA384, hashes.SHA512)
"""A responder may name the certificate in another hash than the request: all of it is compared, so that is as good."""

_BIT_STRING = 0x03


@dataclass(frozen=True, slots=True)
class CertId:
    """CertID without its hashAlgorithm."""

    issuer_name_hash: bytes
    issuer_key_hash: bytes
    serial: int


def cert_id(certificate: Certificate, issuer: Certificate, algorithm: hashes.HashAlgorithm) -> CertId:
    """The CertID of `certificate`: the issuer's name is hashed as it stands in there."""
    return CertId(_hash(certificate.issuer_der, algorithm), key_hash(issuer, algorithm), certificate.serial)


def key_hash(certificate: Certificate, algorithm: hashes.HashAlgorithm) -> bytes:
    """The hash of the certificate's public key: of the BIT STRING's content, without tag, length and unused bits."""
    spki = slice_certificate(certificate.der).spki
    start, end = asn1.enter(spki, 0, len(spki), asn1.SEQUENCE)
    _, at, after = asn1.children(spki, start, end)[1]
    content, content_end = asn1.enter(spki, at, after, _BIT_STRING)
    return _hash(spki[content + 1 : content_end], algorithm)


def _hash(data: bytes, algorithm: hashes.HashAlgorithm) -> bytes:
    digest = hashes.Hash(algorithm)
    digest.update(data)
    return digest.finalize()
