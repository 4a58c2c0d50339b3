"""Certificates for these tests: good by default, bad where a test says so; in DER what libraries refuse to make."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import count

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import AsymmetricPadding
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from mtlsproxy.x509.certificate import Certificate, parse_certificate
from mtlsproxy.x509.der import children, enter
from mtlsproxy.x509.policy import CLIENT_AUTH, Policy, Truststore

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
Extra = tuple[x509.ExtensionType, bool]
_DEFAULT = object()
_serials = count(1000)


@cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def new_key(kind: str = "P-256") -> Key:
    """A key by the name that Certificate.key_name gives it; RSA keys are made once a run."""
    if kind.startswith("RSA-"):
        return rsa_key(int(kind[4:]))
    if kind == "Ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind == "Ed448":
        return ed448.Ed448PrivateKey.generate()
    curves = {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1, "P-521": ec.SECP521R1, "secp256k1": ec.SECP256K1}
    return ec.generate_private_key(curves[kind]())


@dataclass(frozen=True)
class Issued:
    certificate: Certificate
    key: Key


def dn(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) if text else x509.Name([])


def key_usage(*names: str) -> x509.KeyUsage:
    every = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign crl_sign "
        "encipher_only decipher_only"
    )
    return x509.KeyUsage(**{name: name in names for name in every.split()})


def issue(
    name: str | x509.Name,
    issuer: Issued | None = None,
    *,
    ca: bool = False,
    key: Key | None = None,
    basic: object = _DEFAULT,
    path_length: int | None = None,
    usage: object = _DEFAULT,
    eku: object = _DEFAULT,
    sans: Sequence[x509.GeneralName] = (),
    permitted: Sequence[x509.GeneralName] = (),
    excluded: Sequence[x509.GeneralName] = (),
    policies: Sequence[str] = (),
    extra: Sequence[Extra] = (),
    start: datetime = NOW - DAY,
    end: datetime = NOW + 30 * DAY,
    serial: int | None = None,
    hashing: hashes.HashAlgorithm | None = None,
    padding: AsymmetricPadding | None = None,
    issuer_name: x509.Name | None = None,
    identifiers: bool = True,
) -> Issued:
    """A certificate of `issuer` (self-signed without one): a CA, or a client with clientAuth and digitalSignature.

    basic, usage: the extension, eku: dotted OIDs; None leaves it out.
    """
    subject = dn(name) if isinstance(name, str) else name
    key = key or new_key()
    signer = issuer.key if issuer else key
    above = issuer_name or (issuer.certificate.x509.subject if issuer else subject)
    builder = (
        x509.CertificateBuilder(subject_name=subject, issuer_name=above, public_key=key.public_key())
        .serial_number(next(_serials) if serial is None else serial)
        .not_valid_before(start)
        .not_valid_after(end)
    )
    basic = x509.BasicConstraints(ca, path_length if ca else None) if basic is _DEFAULT else basic
    if usage is _DEFAULT:
        usage = key_usage("key_cert_sign", "crl_sign") if ca else key_usage("digital_signature")
    eku = (None if ca else [CLIENT_AUTH]) if eku is _DEFAULT else eku
    extensions: list[Extra] = [(value, True) for value in (basic, usage) if isinstance(value, x509.ExtensionType)]
    if isinstance(eku, list | tuple):
        extensions.append((x509.ExtendedKeyUsage([x509.ObjectIdentifier(oid) for oid in eku]), False))
    if sans:
        extensions.append((x509.SubjectAlternativeName(sans), not subject.rdns))
    if permitted or excluded:
        extensions.append((x509.NameConstraints(list(permitted) or None, list(excluded) or None), True))
    if policies:
        found = [x509.PolicyInformation(x509.ObjectIdentifier(oid), None) for oid in policies]
        extensions.append((x509.CertificatePolicies(found), False))
    if identifiers:
        extensions.append((x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False))
        extensions.append((x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False))
    for value, critical in (*extensions, *extra):
        builder = builder.add_extension(value, critical)
    edwards = isinstance(signer, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    algorithm = None if edwards else hashing or hashes.SHA256()
    signed = builder.sign(signer, algorithm, rsa_padding=padding)  # type: ignore[arg-type]
    return Issued(parse_certificate(signed.public_bytes(Encoding.DER)), key)


def truststore(*anchors: Issued, intermediates: Sequence[Issued] = (), **policy: object) -> Truststore:
    extra = tuple(issued.certificate for issued in intermediates)
    return Truststore("partners", tuple(a.certificate for a in anchors), extra, Policy(**policy))  # type: ignore[arg-type]


def tlv(tag: int, *parts: bytes) -> bytes:
    """One DER element."""
    content = b"".join(parts)
    if len(content) < 0x80:
        return bytes((tag, len(content))) + content
    octets = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


def fields_of(der: bytes) -> list[bytes]:
    """The elements of tbsCertificate: version, serial, algorithm, issuer, validity, subject, key, extensions."""
    start, after = enter(der, 0, len(der), 0x30)
    _, at, end = children(der, start, after)[0]
    return [der[a:b] for _, a, b in children(der, *enter(der, at, end, 0x30))]


def assemble(fields: Sequence[bytes], signer: Key, outer_algorithm: bytes | None = None) -> bytes:
    """A certificate of these tbs elements, signed by an ECDSA key with SHA-256."""
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    tbs = tlv(0x30, *fields)
    algorithm = outer_algorithm or bytes.fromhex("300a06082a8648ce3d040302")
    return tlv(0x30, tbs, algorithm, tlv(0x03, b"\0", signer.sign(tbs, ec.ECDSA(hashes.SHA256()))))
