"""Who signed a certificate (RFC 5280 §6.1.3 (a)(1)), with the issuer's key as it was loaded once.

NOTE: `verify_directly_issued_by` is not used: it loads the issuer's key anew each time and demands that names are
encoded alike. The tests hold this module against it.
"""

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.x509.oid import SignatureAlgorithmOID as Oid

from mtlsproxy.x509.certificate import Certificate
from mtlsproxy.x509.path import Link

MAX_RSA_BITS = 8192
"""A verification with a longer key costs milliseconds; Go's TLS draws the same line."""

_RSA = frozenset(
    {
        Oid.RSA_WITH_MD5.dotted_string,
        Oid.RSA_WITH_SHA1.dotted_string,
        Oid.RSA_WITH_SHA224.dotted_string,
        Oid.RSA_WITH_SHA256.dotted_string,
        Oid.RSA_WITH_SHA384.dotted_string,
        Oid.RSA_WITH_SHA512.dotted_string,
    }
)
_PSS = Oid.RSASSA_PSS.dotted_string
_ECDSA = frozenset(
    {
        Oid.ECDSA_WITH_SHA1.dotted_string,
        Oid.ECDSA_WITH_SHA224.dotted_string,
        Oid.ECDSA_WITH_SHA256.dotted_string,
        Oid.ECDSA_WITH_SHA384.dotted_string,
        Oid.ECDSA_WITH_SHA512.dotted_string,
    }
)
_ED25519 = Oid.ED25519.dotted_string
_ED448 = Oid.ED448.dotted_string


def link(certificate: Certificate, issuer: Certificate) -> Link:
    """Whether the issuer's key made the certificate's signature; names are not looked at. One verification at most."""
    if certificate.signature_algorithm not in _SUPPORTED or issuer.public_key is None:
        return Link.UNSUPPORTED
    try:
        return _verify(certificate, issuer)
    except InvalidSignature:
        return Link.OTHER_KEY if key_ids_differ(certificate, issuer) else Link.FORGED
    except (UnsupportedAlgorithm, ValueError, TypeError):
        return Link.UNSUPPORTED  # a hash or parameters that the library will not verify with


_SUPPORTED = _RSA | _ECDSA | {_PSS, _ED25519, _ED448}


def key_ids_differ(certificate: Certificate, issuer: Certificate) -> bool:
    """Both identifiers are there and differ. Only a hint (RFC 5280 §4.2.1.1): a signature that verifies stands."""
    wanted, offered = certificate.authority_key_id, issuer.subject_key_id
    return wanted is not None and offered is not None and wanted != offered


def _verify(certificate: Certificate, issuer: Certificate) -> Link:
    """Link.SIGNED or OTHER_KEY or UNSUPPORTED; raises InvalidSignature and what the library refuses to do."""
    key, algorithm, loaded = issuer.public_key, certificate.signature_algorithm, certificate.x509
    signature, signed = loaded.signature, loaded.tbs_certificate_bytes
    if isinstance(key, rsa.RSAPublicKey):
        if algorithm not in _RSA and algorithm != _PSS:
            return Link.OTHER_KEY
        parameters = loaded.signature_algorithm_parameters
        hashing = loaded.signature_hash_algorithm
        if key.key_size > MAX_RSA_BITS or hashing is None or not isinstance(parameters, padding.AsymmetricPadding):
            return Link.UNSUPPORTED
        key.verify(signature, signed, parameters, hashing)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        if algorithm not in _ECDSA:
            return Link.OTHER_KEY
        hashing = loaded.signature_hash_algorithm
        assert hashing is not None
        key.verify(signature, signed, ec.ECDSA(hashing))
    elif isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        if algorithm != (_ED25519 if isinstance(key, ed25519.Ed25519PublicKey) else _ED448):
            return Link.OTHER_KEY
        key.verify(signature, signed)
    else:
        return Link.UNSUPPORTED
    return Link.SIGNED
