"""OCSP responses for these tests: by the library where it makes them, by hand in DER where it refuses to."""

from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from tests.unit.revocation import build
from tests.unit.revocation.build import DAY, HOUR, NOW, Authority, tlv

from mtlsproxy.x509.certificate import Certificate

STATUS = {
    "good": ocsp.OCSPCertStatus.GOOD,
    "revoked": ocsp.OCSPCertStatus.REVOKED,
    "unknown": ocsp.OCSPCertStatus.UNKNOWN,
}
OCSP_SIGNING = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.OCSP_SIGNING])
BASIC = bytes.fromhex("06092b0601050507300101")


def delegate(issuer: Authority, *extensions: x509.ExtensionType, key: object = None, **options: object) -> Authority:
    """A responder that `issuer` certified, for OCSPSigning where no extension is given."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    certified = build.certificate("Responder", issuer, key, *(extensions or (OCSP_SIGNING,)), **options)
    return Authority(key, certified)


def respond(
    certificate: Certificate,
    issuer: Authority,
    status: str = "good",
    *,
    signer: Authority | None = None,
    this_update: datetime = NOW - HOUR,
    next_update: datetime | None = NOW + HOUR,
    reason: x509.ReasonFlags | None = None,
    cert_id_hash: hashes.HashAlgorithm | None = None,
    signature_hash: hashes.HashAlgorithm | None = None,
    by_name: bool = False,
    enclosed: tuple[Authority, ...] | None = None,
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = (),
) -> bytes:
    """enclosed: the certificates that come with it; by default the signer's where that is not the issuer."""
    signer = signer or issuer
    enclosed = enclosed if enclosed is not None else ((signer,) if signer is not issuer else ())
    revoked = status == "revoked"
    encoding = ocsp.OCSPResponderEncoding.NAME if by_name else ocsp.OCSPResponderEncoding.HASH
    builder = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            cert=certificate.x509,
            issuer=issuer.certificate.x509,
            algorithm=cert_id_hash or hashes.SHA1(),
            cert_status=STATUS[status],
            this_update=this_update,
            next_update=next_update,
            revocation_time=NOW - DAY if revoked else None,
            revocation_reason=reason if revoked else None,
        )
        .responder_id(encoding, signer.certificate.x509)
    )
    if enclosed:
        builder = builder.certificates([authority.certificate.x509 for authority in enclosed])
    for value, critical in extensions:
        builder = builder.add_extension(value, critical=critical)
    pure = isinstance(signer.key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    signed = builder.sign(signer.key, None if pure else signature_hash or hashes.SHA256())
    return signed.public_bytes(Encoding.DER)


def single(
    certificate: Certificate, issuer: Authority, status: bytes = b"\x80\x00", *fields: bytes, next_update: bytes = b""
) -> bytes:
    """A SingleResponse (RFC 6960 §4.2.1), as the library makes it but for what is given here."""
    made = ocsp.load_der_ocsp_response(respond(certificate, issuer))
    algorithm = tlv(0x30, bytes.fromhex("06052b0e03021a"), b"\x05\x00")
    named = tlv(
        0x30,
        algorithm,
        tlv(0x04, made.issuer_name_hash),
        tlv(0x04, made.issuer_key_hash),
        build.integer(made.serial_number),
    )
    return tlv(0x30, named, status, generalized(NOW - HOUR), next_update, *fields)


def generalized(moment: datetime) -> bytes:
    return tlv(0x18, moment.strftime("%Y%m%d%H%M%SZ").encode())


def until(moment: datetime) -> bytes:
    """nextUpdate."""
    return tlv(0xA0, generalized(moment))


def by_hand(signer: Authority, *singles: bytes, algorithm: bytes = build.ECDSA_SHA256, hash_: object = None) -> bytes:
    """A whole response of these singles; the signer has an ECDSA key and is named by its name."""
    data = tlv(0x30, tlv(0xA1, signer.certificate.subject_der), generalized(NOW - HOUR), tlv(0x30, *singles))
    signature = signer.key.sign(data, ec.ECDSA(hash_ or hashes.SHA256()))
    basic = tlv(0x30, data, algorithm, tlv(0x03, b"\0", signature))
    return tlv(0x30, b"\x0a\x01\x00", tlv(0xA0, tlv(0x30, BASIC, tlv(0x04, basic))))
