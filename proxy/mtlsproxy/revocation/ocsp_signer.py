"""Who signed an OCSP response, and had they the right to (RFC 6960 §4.2.2.2)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ObjectIdentifier, ocsp
from cryptography.x509.oid import SignatureAlgorithmOID as Oid

from mtlsproxy.revocation.errors import OcspError
from mtlsproxy.revocation.ocsp_names import key_hash
from mtlsproxy.revocation.policy import OcspPolicy
from mtlsproxy.revocation.pss import read_pss
from mtlsproxy.revocation.wording import moment
from mtlsproxy.x509 import der as asn1
from mtlsproxy.x509.certificate import Certificate, MalformedCertificate, parse_certificate
from mtlsproxy.x509.path import Link
from mtlsproxy.x509.signatures import MAX_RSA_BITS, link

OCSP_SIGNING = "1.3.6.1.5.5.7.3.9"

_MAX_ENCLOSED = 16
_MAX_CANDIDATES = 4
"""Certificates of a response that are read, and tried: each costs time, and whoever sent them chose their number."""

_RESPONDER_KEY_HASH = hashes.SHA1()  # noqa: S303 - KeyHash is defined so (§4.2.1); it only names

_RSA: Mapping[ObjectIdentifier, hashes.HashAlgorithm] = {
    Oid.RSA_WITH_SHA256: hashes.SHA256(),
    Oid.RSA_WITH_SHA384: hashes.SHA384(),
    Oid.RSA_WITH_SHA512: hashes.SHA512(),
}
_ECDSA: Mapping[ObjectIdentifier, hashes.HashAlgorithm] = {
    Oid.ECDSA_WITH_SHA256: hashes.SHA256(),
    Oid.ECDSA_WITH_SHA384: hashes.SHA384(),
    Oid.ECDSA_WITH_SHA512: hashes.SHA512(),
}
_PURE = frozenset({Oid.ED25519, Oid.ED448})


def signer_of(response: ocsp.OCSPResponse, issuer: Certificate, at: datetime, policy: OcspPolicy) -> Certificate | None:
    """The delegate that signed a successful response, None where `issuer` did. Raises OcspError for anybody else, and
    for a delegate that had no right to at `at`.

    The issuer's own key is held to the truststore's minimums by path validation (a trust anchor's is not, there as
    here); a delegate's is held to them here.
    """
    scheme = _scheme_of(response)
    _refuse_weak_hash(scheme, policy)
    if _is_named(response, issuer):
        try:
            _verify(response, scheme, issuer)
            return None
        except InvalidSignature:
            wrong = f"the response names {issuer.subject} as its signer, whose key did not make its signature"
    else:
        wrong = f"the response is signed neither by {issuer.subject} nor by a certificate that comes with it"
    for candidate in islice(_candidates(response), _MAX_CANDIDATES):
        try:
            _verify(response, scheme, candidate)
        except InvalidSignature:
            wrong = f"the response names {candidate.subject} as its signer, whose key did not make its signature"
            continue
        _refuse_delegate(candidate, issuer, at, policy)
        return candidate
    raise OcspError(f"{wrong} (RFC 6960 §4.2.2.2)")


@dataclass(frozen=True, slots=True)
class _Scheme:
    """How a response is signed. hashing: None for EdDSA, which brings its own. rsa: the padding; None: no RSA."""

    hashing: hashes.HashAlgorithm | None
    rsa: padding.PKCS1v15 | padding.PSS | None = None


def _scheme_of(response: ocsp.OCSPResponse) -> _Scheme:
    oid = response.signature_algorithm_oid
    if oid in _PURE:
        return _Scheme(None)
    if oid in _ECDSA:
        return _Scheme(_ECDSA[oid])
    if oid in _RSA:
        return _Scheme(_RSA[oid], padding.PKCS1v15())
    if oid == Oid.RSASSA_PSS:
        data = response.public_bytes(Encoding.DER)
        return _Scheme(*read_pss(data, *_parameters(data)))
    raise OcspError(f"the response is signed with {_algorithm_name(response)}, which is not accepted")


def _parameters(data: bytes) -> tuple[int, int]:
    """Where the parameters of signatureAlgorithm are in an OCSPResponse (§4.2.1); nowhere if it has none."""
    _, carrier = asn1.children(data, *asn1.enter(data, 0, len(data), asn1.SEQUENCE))
    inside = asn1.enter(data, *carrier[1:], carrier[0])
    _, octets = asn1.children(data, *asn1.enter(data, *inside, asn1.SEQUENCE))
    basic = asn1.enter(data, *asn1.enter(data, *octets[1:], asn1.OCTET_STRING), asn1.SEQUENCE)
    _, algorithm, *_ = asn1.children(data, *basic)
    identifier, *_ = asn1.children(data, *asn1.enter(data, *algorithm[1:], asn1.SEQUENCE))
    return identifier[2], algorithm[2]


def _refuse_weak_hash(scheme: _Scheme, policy: OcspPolicy) -> None:
    if scheme.hashing is not None and scheme.hashing.name not in policy.signature_hashes:
        accepted = ", ".join(sorted(policy.signature_hashes))
        raise OcspError(f"the response is signed with {scheme.hashing.name}, which is not accepted ({accepted})")


def _algorithm_name(response: ocsp.OCSPResponse) -> str:
    try:
        hashing = response.signature_hash_algorithm
    except UnsupportedAlgorithm:
        hashing = None
    return f"the algorithm {response.signature_algorithm_oid.dotted_string}" if hashing is None else hashing.name


def _candidates(response: ocsp.OCSPResponse) -> Iterator[Certificate]:
    for certificate in response.certificates[:_MAX_ENCLOSED]:
        try:
            candidate = parse_certificate(certificate.public_bytes(Encoding.DER))
        except MalformedCertificate:
            continue  # it may be there for others; who is left without a signer is told so
        if _is_named(response, candidate):
            yield candidate


def _is_named(response: ocsp.OCSPResponse, certificate: Certificate) -> bool:
    """Whether responderID means this certificate; only the signature proves it."""
    if response.responder_name is not None:
        return response.responder_name == certificate.x509.subject
    return response.responder_key_hash == key_hash(certificate, _RESPONDER_KEY_HASH)


def _verify(response: ocsp.OCSPResponse, scheme: _Scheme, signer: Certificate) -> None:
    """Return when the signer's key made the signature; else raise InvalidSignature."""
    key, oid = signer.public_key, response.signature_algorithm_oid
    value, signed, hashing = response.signature, response.tbs_response_bytes, scheme.hashing
    if isinstance(key, rsa.RSAPublicKey) and scheme.rsa and hashing and key.key_size <= MAX_RSA_BITS:
        key.verify(value, signed, scheme.rsa, hashing)
    elif isinstance(key, ec.EllipticCurvePublicKey) and hashing and not scheme.rsa:
        key.verify(value, signed, ec.ECDSA(hashing))
    elif (isinstance(key, ed25519.Ed25519PublicKey) and oid == Oid.ED25519) or (
        isinstance(key, ed448.Ed448PublicKey) and oid == Oid.ED448
    ):
        key.verify(value, signed)
    else:
        raise InvalidSignature


def _refuse_delegate(delegate: Certificate, issuer: Certificate, at: datetime, policy: OcspPolicy) -> None:
    """RFC 6960 §4.2.2.2: the CA itself, with the key that signed the certificate in question, named the delegate."""
    name = f"the responder {delegate.subject}"
    if delegate.issuer_der != issuer.subject_der or link(delegate, issuer) is not Link.SIGNED:
        raise OcspError(f"{name} is not certified by {issuer.subject} itself (RFC 6960 §4.2.2.2)")
    if OCSP_SIGNING not in (delegate.extended_key_usage or ()):
        raise OcspError(f"{name} has no extended key usage OCSPSigning (RFC 6960 §4.2.2.2)")
    if delegate.key_usage is not None and "digitalSignature" not in delegate.key_usage:
        raise OcspError(f"{name} has a key usage without digitalSignature (RFC 5280 §4.2.1.12)")
    if delegate.unhandled_critical:
        raise OcspError(f"{name} has an unknown critical extension, {delegate.unhandled_critical[0]}")
    second = at.replace(microsecond=0)
    if second > delegate.not_after:
        raise OcspError(f"{name} expired at {moment(delegate.not_after)}")
    if second < delegate.not_before:
        raise OcspError(f"{name} is not valid before {moment(delegate.not_before)}")
    _refuse_weak(delegate, name, policy)


def _refuse_weak(delegate: Certificate, name: str, policy: OcspPolicy) -> None:
    key = delegate.public_key
    if isinstance(key, rsa.RSAPublicKey):
        strong = policy.minimum_rsa_bits <= key.key_size <= MAX_RSA_BITS
    else:
        strong = delegate.key_name in policy.curves
    if not strong:
        raise OcspError(f"{name} has the key {delegate.key_name}, which the truststore's keys do not accept")
    if delegate.signature_hash is not None and delegate.signature_hash not in policy.signature_hashes:
        raise OcspError(f"{name} is certified with {delegate.signature_hash}, which signature_hashes does not accept")
