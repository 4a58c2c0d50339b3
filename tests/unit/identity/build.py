"""Real certificates and clients for the tests of identity and access."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from mtlsproxy.identity.client import Client, client_of
from mtlsproxy.x509.certificate import Certificate, parse_certificate

NOT_AFTER = datetime(2031, 2, 3, 4, 5, 6, tzinfo=UTC)
CN, ORG, OU, C = NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.COUNTRY_NAME


@cache
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def name(*attributes: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])


def certificate(
    subject: x509.Name | None = None,
    sans: Sequence[x509.GeneralName] = (),
    *,
    issuer: x509.Name | None = None,
    serial: int = 0xABC,
    policies: Sequence[str] = (),
) -> Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(name((CN, "client")) if subject is None else subject)
        .issuer_name(issuer or name((ORG, "Example"), (CN, "Client CA")))
        .serial_number(serial)
        .not_valid_before(NOT_AFTER - timedelta(days=1))
        .not_valid_after(NOT_AFTER)
        .public_key(key().public_key())
    )
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
    if policies:
        information = [x509.PolicyInformation(x509.ObjectIdentifier(oid), None) for oid in policies]
        builder = builder.add_extension(x509.CertificatePolicies(information), critical=False)
    return parse_certificate(builder.sign(key(), hashes.SHA256()).public_bytes(Encoding.DER))


def client(*sans: x509.GeneralName, subject: x509.Name | None = None, **more: object) -> Client:
    return client_of(certificate(subject, sans, **more))  # type: ignore[arg-type]


def uri(text: str) -> x509.GeneralName:
    return x509.UniformResourceIdentifier(text)


def dns(text: str) -> x509.GeneralName:
    return x509.DNSName(text)


def email(text: str) -> x509.GeneralName:
    return x509.RFC822Name(text)
