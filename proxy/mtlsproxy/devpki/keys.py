"""Private keys: the three types that we make, and the public keys that we are willing to certify."""

from enum import StrEnum

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from mtlsproxy.devpki.errors import PkiError

RSA_BITS = 3072
"""128 bits of security, as P-256 and Ed25519 (NIST SP 800-57 part 1, table 2)."""
MINIMUM_RSA_BITS = 2048
CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey


class KeyType(StrEnum):
    """What `--key-type` takes."""

    EC = "ec"
    RSA = "rsa"
    ED25519 = "ed25519"


def generate_key(key_type: KeyType) -> PrivateKey:
    """A new key: P-256, RSA with 3072 bits, or Ed25519."""
    match key_type:
        case KeyType.EC:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyType.RSA:
            return rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
        case KeyType.ED25519:
            return ed25519.Ed25519PrivateKey.generate()


def key_pem(key: PrivateKey) -> bytes:
    """The key as unencrypted PKCS #8 PEM: the file's mode protects it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def load_key(data: bytes, source: str) -> PrivateKey:
    """A PEM private key. Raises PkiError for anything that is not one of ours or that has a passphrase."""
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except TypeError as error:
        raise PkiError(f"{source}: the key has a passphrase; remove it with openssl pkey") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise PkiError(f"{source}: not a PEM private key; restore it from a backup") from error
    if not isinstance(key, PrivateKey):
        raise PkiError(f"{source}: a key of a kind that signs no certificates; use EC, RSA or Ed25519")
    return key


def certifiable(key: CertificatePublicKeyTypes, source: str) -> PublicKey:
    """The key, if the proxy's default policy would accept a certificate for it. Raises PkiError."""
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < MINIMUM_RSA_BITS:
        raise PkiError(f"{source}: RSA with {key.key_size} bits is too weak; make a key of {RSA_BITS} bits or EC P-256")
    if isinstance(key, ec.EllipticCurvePublicKey) and not isinstance(key.curve, CURVES):
        raise PkiError(f"{source}: curve {key.curve.name} is not accepted; use P-256, P-384, P-521 or Ed25519")
    if not isinstance(key, PublicKey):
        raise PkiError(f"{source}: a key that makes no signatures; use EC, RSA or Ed25519")
    return key


def signing_hash(key: PrivateKey) -> hashes.SHA256 | None:
    """The hash for the key's signatures: none for EdDSA, which brings its own (RFC 8410)."""
    return None if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) else hashes.SHA256()
