"""A certificate, parsed once into what the rest of the proxy asks for (RFC 5280 §4).

What is refused here is refused wherever the certificate turns up, as client, CA or trust anchor: encodings that are not
DER, names that could be read in two ways, an algorithm that differs inside and outside the signature.
"""

import binascii
import re
from base64 import b64decode
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address
from typing import TypeVar

from cryptography import x509 as pyca
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import AuthorityInformationAccessOID as Aia
from cryptography.x509.oid import ExtensionOID as Oid

from mtlsproxy.x509.oddities import silence_oddities
from mtlsproxy.x509.raw import names_its_curve, policy_mappings, refuse_subtree_distances, slice_certificate

_Extension = TypeVar("_Extension", bound=pyca.ExtensionType)

MAX_RSA_EXPONENT_BITS = 64
"""OpenSSL's own bound for large moduli; everybody uses 17 bits."""

MAX_CERTIFICATE = 128 * 1024
"""Bytes. OpenSSL takes 100 KiB for a whole chain; a certificate beyond this is an attack on our time."""

HANDLED_CRITICAL = frozenset(
    {
        Oid.BASIC_CONSTRAINTS,
        Oid.KEY_USAGE,
        Oid.EXTENDED_KEY_USAGE,
        Oid.SUBJECT_ALTERNATIVE_NAME,
        Oid.NAME_CONSTRAINTS,
        Oid.CERTIFICATE_POLICIES,
        Oid.POLICY_CONSTRAINTS,
        Oid.POLICY_MAPPINGS,
        Oid.INHIBIT_ANY_POLICY,
        Oid.CRL_DISTRIBUTION_POINTS,
    }
)
"""Extensions that validation acts upon; any other one that is critical refuses the path (RFC 5280 §4.2).

NOTE: key identifiers and authorityInfoAccess MUST NOT be critical (§4.2.1.1, §4.2.1.2, §4.2.2.1), so they are absent.
"""

_CURVE_NAMES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_KEY_USAGES = (
    ("digital_signature", "digitalSignature"),
    ("content_commitment", "nonRepudiation"),
    ("key_encipherment", "keyEncipherment"),
    ("data_encipherment", "dataEncipherment"),
    ("key_agreement", "keyAgreement"),
    ("key_cert_sign", "keyCertSign"),
    ("crl_sign", "cRLSign"),
)
_NO_REV_AVAIL = pyca.ObjectIdentifier("2.5.29.56")  # RFC 9608
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----((?:[^-]++|-(?!----))*+)-----END CERTIFICATE-----")
_LABEL = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,64})-----")
_UNINTERPRETED = (pyca.OtherName, pyca.RegisteredID)
_SAN_KINDS: dict[type[pyca.GeneralName], str] = {
    pyca.UniformResourceIdentifier: "URI",
    pyca.DNSName: "DNS",
    pyca.RFC822Name: "EMAIL",
    pyca.IPAddress: "IP",
}
_UNPARSABLE = (
    ValueError,
    TypeError,
    pyca.InvalidVersion,
    pyca.DuplicateExtension,
    pyca.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)


class MalformedCertificate(Exception):
    """Bytes that are no certificate, or one that nobody may rely on (reason malformed_certificate)."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


@dataclass(frozen=True, slots=True)
class AlternativeNames:
    """subjectAltName (RFC 5280 §4.2.1.6) by type; `ordered` is (kind, text) with kinds URI, DNS, EMAIL, IP, as issued.

    others: dotted OIDs of otherName forms and registeredIDs, which nothing here interprets.
    """

    dns: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    ips: tuple[IPv4Address | IPv6Address, ...] = ()
    directory_names: tuple[pyca.Name, ...] = ()
    others: tuple[str, ...] = ()
    ordered: tuple[tuple[str, str], ...] = ()
    present: bool = False
    critical: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Certificate:
    """One parsed certificate; equal to another when the DER is. Names are RFC 4514, hashes lower-case hexadecimal."""

    der: bytes
    x509: pyca.Certificate
    version: int
    subject: str
    issuer: str
    subject_der: bytes
    issuer_der: bytes
    serial: int
    not_before: datetime
    not_after: datetime
    fingerprint_sha256: str
    spki_sha256: str
    self_issued: bool
    public_key: CertificatePublicKeyTypes | None
    """None for a key that cryptography cannot load (explicit curve parameters, unknown algorithms)."""
    key_name: str
    """`RSA-2048`, `P-256`, `Ed25519`, or what else it is."""
    signature_algorithm: str
    """Dotted OID; the same inside and outside of what was signed."""
    signature_hash: str | None
    """`sha256`…; None for EdDSA, which brings its own, and for algorithms that cryptography does not know."""
    is_ca: bool | None
    """None without basicConstraints."""
    path_length: int | None
    key_usage: frozenset[str] | None
    extended_key_usage: tuple[str, ...] | None
    sans: AlternativeNames
    name_constraints: pyca.NameConstraints | None
    certificate_policies: tuple[str, ...]
    policy_mappings: tuple[tuple[str, str], ...]
    """(policy of the issuer's domain, policy of the subject's), dotted."""
    policy_constraints: pyca.PolicyConstraints | None
    inhibit_any_policy: int | None
    subject_key_id: bytes | None
    authority_key_id: bytes | None
    no_rev_avail: bool
    crl_urls: tuple[str, ...]
    freshest_urls: tuple[str, ...]
    """Where deltas to the lists of `crl_urls` are published (RFC 5280 §4.2.1.15)."""
    ocsp_urls: tuple[str, ...]
    ca_issuer_urls: tuple[str, ...]
    unhandled_critical: tuple[str, ...]
    """Dotted OIDs of critical extensions that validation does not act upon."""

    def __eq__(self, other: object) -> bool:
        return self.der == other.der if isinstance(other, Certificate) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.der)

    def __repr__(self) -> str:
        return f"<Certificate {self.subject!r} {self.fingerprint_sha256[:16]}>"


def parse_certificate(der: bytes) -> Certificate:
    """The certificate in `der` (exactly one, DER). Raises MalformedCertificate, whatever the bytes."""
    if len(der) > MAX_CERTIFICATE:
        raise MalformedCertificate(f"{len(der)} bytes are more than a certificate may have ({MAX_CERTIFICATE})")
    try:
        return _parse(der)
    except _UNPARSABLE as error:
        raise MalformedCertificate(f"not a certificate that RFC 5280 allows: {error}") from error


def serial_hex(serial: int) -> str:
    """A serial number as openssl prints it: upper-case hexadecimal, whole bytes, no separators."""
    digits = f"{abs(serial):X}"
    return ("-" if serial < 0 else "") + "0" * (len(digits) % 2) + digits


def load_pem_certificates(data: bytes) -> tuple[Certificate, ...]:
    """Every certificate of a PEM file (RFC 7468), in its order; other blocks and text between them are passed over.

    Raises MalformedCertificate, which says which one is at fault, also where there is none at all.
    """
    blocks = _PEM.findall(data)
    if data.count(b"-----BEGIN CERTIFICATE-----") != len(blocks):
        raise MalformedCertificate(f"certificate {len(blocks) + 1} of the file has no end")
    if not blocks:
        raise MalformedCertificate(f"no certificate in the file, but {held_instead(data)}")
    return tuple(_parse_block(number, block) for number, block in enumerate(blocks, 1))


def held_instead(data: bytes) -> str:
    """What a file without a certificate in PEM holds, in words."""
    labels = sorted({label.decode("ascii") for label in _LABEL.findall(data)})
    if any(label.endswith("PRIVATE KEY") for label in labels):
        return f"{', '.join(labels)}: name the file of the certificate, not of its key"
    return ", ".join(labels) or "nothing in PEM"


def _parse_block(number: int, block: bytes) -> Certificate:
    try:
        return parse_certificate(b64decode(b"".join(block.split()), validate=True))
    except binascii.Error as error:
        raise MalformedCertificate(f"certificate {number} of the file: not base64: {error}") from error
    except MalformedCertificate as error:
        raise MalformedCertificate(f"certificate {number} of the file: {error.detail}") from error


def _parse(der: bytes) -> Certificate:
    silence_oddities()
    loaded = pyca.load_der_x509_certificate(der)
    extensions = {extension.oid: extension for extension in loaded.extensions}
    raw = slice_certificate(der)
    public_key = _public_key(loaded, raw.spki)
    constraints = _value(extensions, pyca.BasicConstraints)
    usages = _value(extensions, pyca.ExtendedKeyUsage)
    policies = _value(extensions, pyca.CertificatePolicies)
    mappings = extensions.get(Oid.POLICY_MAPPINGS)
    name_constraints = _value(extensions, pyca.NameConstraints)
    if name_constraints is not None:
        refuse_subtree_distances(raw.extensions)
    inhibit = _value(extensions, pyca.InhibitAnyPolicy)
    subject_key = _value(extensions, pyca.SubjectKeyIdentifier)
    authority_key = _value(extensions, pyca.AuthorityKeyIdentifier)
    access = _access_urls(_value(extensions, pyca.AuthorityInformationAccess))
    sans = _alternative_names(extensions)
    _refuse_control_characters(loaded, sans)
    return Certificate(
        der=der,
        x509=loaded,
        version=loaded.version.value + 1,
        subject=loaded.subject.rfc4514_string(),
        issuer=loaded.issuer.rfc4514_string(),
        subject_der=raw.subject,
        issuer_der=raw.issuer,
        serial=raw.serial,
        not_before=loaded.not_valid_before_utc,
        not_after=loaded.not_valid_after_utc,
        fingerprint_sha256=sha256(der).hexdigest(),
        spki_sha256=sha256(raw.spki).hexdigest(),
        self_issued=raw.subject == raw.issuer,
        public_key=public_key,
        key_name=key_name(public_key) or f"unusable key (algorithm {loaded.public_key_algorithm_oid.dotted_string})",
        signature_algorithm=loaded.signature_algorithm_oid.dotted_string,
        signature_hash=_signature_hash(loaded),
        is_ca=constraints.ca if constraints else None,
        path_length=constraints.path_length if constraints else None,
        key_usage=_key_usage(_value(extensions, pyca.KeyUsage)),
        extended_key_usage=tuple(usage.dotted_string for usage in usages) if usages else None,
        sans=sans,
        name_constraints=name_constraints,
        certificate_policies=tuple(p.policy_identifier.dotted_string for p in policies) if policies else (),
        policy_mappings=policy_mappings(mappings.value.public_bytes()) if mappings else (),
        policy_constraints=_value(extensions, pyca.PolicyConstraints),
        inhibit_any_policy=inhibit.skip_certs if inhibit else None,
        subject_key_id=subject_key.digest if subject_key else None,
        authority_key_id=authority_key.key_identifier if authority_key else None,
        no_rev_avail=_NO_REV_AVAIL in extensions,
        crl_urls=point_urls(_value(extensions, pyca.CRLDistributionPoints)),
        freshest_urls=point_urls(_value(extensions, pyca.FreshestCRL)),
        ocsp_urls=access.get(Aia.OCSP, ()),
        ca_issuer_urls=access.get(Aia.CA_ISSUERS, ()),
        unhandled_critical=tuple(
            oid.dotted_string
            for oid, extension in extensions.items()
            if extension.critical and oid not in HANDLED_CRITICAL
        ),
    )


_Extensions = dict[pyca.ObjectIdentifier, pyca.Extension[pyca.ExtensionType]]


def _value(extensions: _Extensions, kind: type[_Extension]) -> _Extension | None:
    found = extensions.get(kind.oid)
    if found is None:
        return None
    assert isinstance(found.value, kind)
    return found.value


def _public_key(loaded: pyca.Certificate, spki: bytes) -> CertificatePublicKeyTypes | None:
    try:
        key = loaded.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None  # the key check refuses it by name; another path may do without this certificate
    if isinstance(key, rsa.RSAPublicKey) and key.public_numbers().e.bit_length() > MAX_RSA_EXPONENT_BITS:
        return None  # a verification takes as long as the exponent is: strangers choose theirs
    return key if not isinstance(key, ec.EllipticCurvePublicKey) or names_its_curve(spki) else None


def key_name(key: object) -> str | None:
    """`RSA-2048`, `P-256`, `Ed25519` …; None for what is no public key that signs."""
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA-{key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _CURVE_NAMES.get(key.curve.name, key.curve.name)
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "Ed25519"
    if isinstance(key, ed448.Ed448PublicKey):
        return "Ed448"
    if isinstance(key, dsa.DSAPublicKey):
        return f"DSA-{key.key_size}"
    return None


def _signature_hash(loaded: pyca.Certificate) -> str | None:
    try:
        algorithm = loaded.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return None  # the signature check knows no verification for it and refuses
    return algorithm.name if algorithm else None


def _key_usage(value: pyca.KeyUsage | None) -> frozenset[str] | None:
    if value is None:
        return None
    return frozenset(name for attribute, name in _KEY_USAGES if getattr(value, attribute))


def _access_urls(value: pyca.AuthorityInformationAccess | None) -> dict[pyca.ObjectIdentifier, tuple[str, ...]]:
    urls: dict[pyca.ObjectIdentifier, tuple[str, ...]] = {}
    for access in value or ():
        if isinstance(access.access_location, pyca.UniformResourceIdentifier):
            urls[access.access_method] = (*urls.get(access.access_method, ()), access.access_location.value)
    return urls


def point_urls(value: pyca.CRLDistributionPoints | pyca.FreshestCRL | None) -> tuple[str, ...]:
    """URLs of points that cover every reason and the certificate's own issuer (RFC 5280 §4.2.1.13)."""
    return tuple(
        name.value
        for point in value or ()
        if point.reasons is None and point.crl_issuer is None
        for name in point.full_name or ()
        if isinstance(name, pyca.UniformResourceIdentifier)
    )


def _alternative_names(extensions: _Extensions) -> AlternativeNames:
    names = _value(extensions, pyca.SubjectAlternativeName)
    if names is None:
        return AlternativeNames()
    general = list(names)
    if not general:
        raise ValueError("subjectAltName is empty")
    others = (n.type_id if isinstance(n, pyca.OtherName) else n.value for n in general if isinstance(n, _UNINTERPRETED))
    return AlternativeNames(
        dns=tuple(name.value for name in general if isinstance(name, pyca.DNSName)),
        uris=tuple(name.value for name in general if isinstance(name, pyca.UniformResourceIdentifier)),
        emails=tuple(name.value for name in general if isinstance(name, pyca.RFC822Name)),
        ips=tuple(_address(name) for name in general if isinstance(name, pyca.IPAddress)),
        directory_names=tuple(name.value for name in general if isinstance(name, pyca.DirectoryName)),
        others=tuple(oid.dotted_string for oid in others),
        ordered=tuple((_SAN_KINDS[type(name)], str(name.value)) for name in general if type(name) in _SAN_KINDS),
        present=True,
        critical=extensions[pyca.SubjectAlternativeName.oid].critical,
    )


def _address(name: pyca.IPAddress) -> IPv4Address | IPv6Address:
    if not isinstance(name.value, IPv4Address | IPv6Address):
        raise TypeError("an iPAddress of subjectAltName is a network, not an address")
    return name.value


def _refuse_control_characters(loaded: pyca.Certificate, sans: AlternativeNames) -> None:
    """NUL and control characters make one name read as two (CVE-2009-2408 and its kin, Envoy CVE-2026-47778)."""
    directories = (loaded.subject, loaded.issuer, *sans.directory_names)
    texts = [a.value for name in directories for a in name if isinstance(a.value, str)]
    texts += [text for _, text in sans.ordered]
    for text in texts:
        if not text.isprintable() and _CONTROL.search(text):
            raise MalformedCertificate(f"a control character in the name {text!r}")
