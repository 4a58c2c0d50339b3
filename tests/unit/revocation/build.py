"""CAs, leaves and CRLs for these tests. CRLs are written in DER by hand: libraries refuse to make the bad ones."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from mtlsproxy.revocation.crl import Crl, parse_crl
from mtlsproxy.x509.certificate import Certificate, parse_certificate

NOW = datetime(2025, 6, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)

ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
REASON = b"\x06\x03\x55\x1d\x15"


def tlv(tag: int, *parts: bytes) -> bytes:
    """One DER element."""
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


def integer(value: int) -> bytes:
    return tlv(0x02, value.to_bytes((value + (value < 0)).bit_length() // 8 + 1, "big", signed=True))


def time(moment: datetime) -> bytes:
    if 1950 <= moment.year < 2050:
        return tlv(0x17, moment.strftime("%y%m%d%H%M%SZ").encode())
    return tlv(0x18, moment.strftime("%Y%m%d%H%M%SZ").encode())


def extension(oid: bytes, value: bytes, *, critical: bool = False) -> bytes:
    """oid: its whole element."""
    return tlv(0x30, oid, b"\x01\x01\xff" if critical else b"", tlv(0x04, value))


def reason(code: int) -> bytes:
    return extension(REASON, tlv(0x0A, bytes((code,))))


def entry(serial: int, at: datetime = NOW - DAY, *extensions: bytes) -> bytes:
    return tlv(0x30, integer(serial), time(at), tlv(0x30, *extensions) if extensions else b"")


@dataclass(frozen=True)
class Authority:
    """A CA with its key."""

    key: object
    certificate: Certificate

    @property
    def name(self) -> x509.Name:
        return self.certificate.x509.subject


def name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(*, crl_sign: bool) -> x509.KeyUsage:
    off = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"), False
    )
    return x509.KeyUsage(digital_signature=False, key_cert_sign=True, crl_sign=crl_sign, decipher_only=False, **off)


def certificate(
    subject: str,
    issuer: Authority | None,
    key: object,
    *extensions: x509.ExtensionType,
    serial: int | None = None,
    lifetime: timedelta = 365 * DAY,
) -> Certificate:
    """Valid around NOW; self-signed without an issuer."""
    signer = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(issuer.name if issuer else name(subject))
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(NOW - lifetime / 2)
        .not_valid_after(NOW + lifetime / 2)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    for value in extensions:
        builder = builder.add_extension(value, critical=isinstance(value, x509.BasicConstraints | x509.KeyUsage))
    pure = isinstance(signer, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    return parse_certificate(builder.sign(signer, None if pure else hashes.SHA256()).public_bytes(Encoding.DER))


def authority(
    common_name: str = "Root", issuer: Authority | None = None, *, key: object = None, crl_sign: bool | None = True
) -> Authority:
    """crl_sign None: without keyUsage."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    usage = () if crl_sign is None else (_usage(crl_sign=crl_sign),)
    constraints = x509.BasicConstraints(ca=True, path_length=None)
    return Authority(key, certificate(common_name, issuer, key, constraints, *usage))


def leaf(issuer: Authority, *extensions: x509.ExtensionType, **options: object) -> Certificate:
    return certificate("client", issuer, ec.generate_private_key(ec.SECP256R1()), *extensions, **options)


def crl_number(value: int) -> bytes:
    return extension(b"\x06\x03\x55\x1d\x14", integer(value))


def delta_of(base_number: int) -> bytes:
    """deltaCRLIndicator (RFC 5280 §5.2.4)."""
    return extension(b"\x06\x03\x55\x1d\x1b", integer(base_number), critical=True)


def freshest(*urls: str) -> bytes:
    """freshestCRL (RFC 5280 §5.2.6), one point for each URL."""
    return extension(b"\x06\x03\x55\x1d\x2e", tlv(0x30, *(tlv(0x30, url(one)) for one in urls)))


def key_identifier(issuer: Authority) -> bytes:
    identifier = issuer.certificate.subject_key_id
    return extension(b"\x06\x03\x55\x1d\x23", tlv(0x30, tlv(0x80, identifier)))


def distribution_point(*fields: bytes, critical: bool = True) -> bytes:
    """issuingDistributionPoint of these fields (RFC 5280 §5.2.5)."""
    return extension(b"\x06\x03\x55\x1d\x1c", tlv(0x30, *fields), critical=critical)


def url(text: str) -> bytes:
    """The distributionPoint field of one URL."""
    return tlv(0xA0, tlv(0xA0, tlv(0x86, text.encode())))


ONLY_USER = b"\x81\x01\xff"
ONLY_CA = b"\x82\x01\xff"
SOME_REASONS = b"\x83\x02\x06\x40"
INDIRECT = b"\x84\x01\xff"
ONLY_ATTRIBUTE = b"\x85\x01\xff"


def assemble(
    issuer: Authority,
    entries: bytes | None,
    *,
    this_update: datetime = NOW - HOUR,
    next_update: datetime | None = NOW + DAY,
    extensions: Iterable[bytes] = (),
    version: bytes = integer(1),
    signed_algorithm: bytes = ECDSA_SHA256,
) -> bytes:
    """A whole CRL that an ECDSA P-256 key signs. entries: the content of revokedCertificates."""
    extensions = tuple(extensions)
    tbs = tlv(
        0x30,
        version,
        signed_algorithm,
        issuer.certificate.subject_der,
        time(this_update),
        time(next_update) if next_update else b"",
        b"" if entries is None else tlv(0x30, entries),
        tlv(0xA0, tlv(0x30, *extensions)) if extensions else b"",
    )
    signature = issuer.key.sign(tbs, ec.ECDSA(hashes.SHA256()))
    return tlv(0x30, tbs, ECDSA_SHA256, tlv(0x03, b"\0", signature))


def crl(
    issuer: Authority,
    *serials: int,
    number: int | None = 1,
    source: str = "test.crl",
    extensions: Iterable[bytes] = (),
    key_id: bool = True,
    **options: object,
) -> Crl:
    """A parsed CRL of these serials."""
    ours = (() if number is None else (crl_number(number),)) + ((key_identifier(issuer),) if key_id else ())
    entries = b"".join(entry(serial) for serial in serials) or None
    return parse_crl(assemble(issuer, entries, extensions=(*ours, *extensions), **options), source)


def library_crl(issuer: Authority, hash_: object = None, pad: padding.AsymmetricPadding | None = None) -> bytes:
    """A CRL of serial 7 that the library makes, for keys other than ECDSA P-256."""
    revoked = x509.RevokedCertificateBuilder().serial_number(7).revocation_date(NOW - DAY).build()
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.name)
        .last_update(NOW - HOUR)
        .next_update(NOW + DAY)
        .add_revoked_certificate(revoked)
    )
    extra = {"rsa_padding": pad} if isinstance(issuer.key, rsa.RSAPrivateKey) else {}
    return builder.sign(issuer.key, hash_, **extra).public_bytes(Encoding.DER)
