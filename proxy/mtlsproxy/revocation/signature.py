"""The signature of a CRL (RFC 5280 §5.1.1), ready to be verified once the issuer's key is known.

The hash is taken while the list is at hand: a later verification costs microseconds, and the list's bytes can go.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography import x509 as pyca
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from mtlsproxy.revocation.errors import CrlError
from mtlsproxy.revocation.pss import LONGEST_SALT, MASKS

ACCEPTED_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
"""SHA-1 and MD5 collide: a list that carries them could have been signed as another one."""

_BY_NAME: Mapping[str, type[hashes.HashAlgorithm]] = {kind.name: kind for kind in ACCEPTED_HASHES}


@dataclass(frozen=True, slots=True)
class Signature:
    """algorithm: None for EdDSA. scheme: the RSA padding, None elsewhere. signed: the hash of the signed bytes; for
    EdDSA, which cannot be given a hash, the bytes themselves (mapped, where the list is)."""

    algorithm: hashes.HashAlgorithm | None
    scheme: padding.PKCS1v15 | padding.PSS | None
    value: bytes
    signed: bytes | memoryview

    def verify(self, key: CertificatePublicKeyTypes | None) -> None:
        """Return when `key` made this signature, with an accepted hash; else raise CrlError ("… is not signed by")."""
        if self.algorithm is not None and not isinstance(self.algorithm, ACCEPTED_HASHES):
            raise CrlError(f"is signed with {self.algorithm.name}, which is not accepted (sha256, sha384, sha512 are)")
        try:
            self._verify(key)
        except InvalidSignature as error:
            raise CrlError("is not signed by that issuer's key") from error

    def _verify(self, key: CertificatePublicKeyTypes | None) -> None:
        if self.algorithm is None:
            if not isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
                raise InvalidSignature
            key.verify(self.value, self.signed)
        elif isinstance(key, rsa.RSAPublicKey) and self.scheme is not None:
            key.verify(self.value, bytes(self.signed), self.scheme, utils.Prehashed(self.algorithm))
        elif isinstance(key, ec.EllipticCurvePublicKey) and self.scheme is None:
            key.verify(self.value, self.signed, ec.ECDSA(utils.Prehashed(self.algorithm)))
        else:
            raise InvalidSignature


def signature_of(crl: pyca.CertificateRevocationList, signed: memoryview) -> Signature:
    """The signature of `crl` over the bytes `signed`. Raises UnsupportedAlgorithm or ValueError for unknown ones."""
    algorithm = crl.signature_hash_algorithm
    if algorithm is None:
        return Signature(None, None, crl.signature, bytes(signed))
    scheme = crl.signature_algorithm_parameters
    digest = hashes.Hash(algorithm)
    digest.update(signed)
    return Signature(
        algorithm,
        scheme if isinstance(scheme, padding.PKCS1v15 | padding.PSS) else None,
        crl.signature,
        digest.finalize(),
    )


def signature_state(signature: Signature) -> tuple[dict[str, Any], bytes | memoryview]:
    """`signature` as JSON and the bytes `signed`, for `signature_from`. Raises CrlError where it could never verify."""
    if signature.algorithm is not None and signature.algorithm.name not in _BY_NAME:
        raise CrlError(f"is signed with {signature.algorithm.name}, which is not accepted (sha256, sha384, sha512 are)")
    state = {
        "algorithm": None if signature.algorithm is None else signature.algorithm.name,
        "scheme": _scheme_state(signature.scheme),
        "value": signature.value.hex(),
    }
    return state, signature.signed


def signature_from(state: Mapping[str, Any], signed: memoryview) -> Signature:
    """The reverse of `signature_state`. Raises KeyError, TypeError or ValueError for another state."""
    algorithm = None if state["algorithm"] is None else _BY_NAME[state["algorithm"]]()
    return Signature(algorithm, _scheme_from(state["scheme"]), bytes.fromhex(state["value"]), signed)


def _scheme_state(scheme: padding.PKCS1v15 | padding.PSS | None) -> list[Any] | None:
    """The library tells a salt's length to nobody; but it compares."""
    if not isinstance(scheme, padding.PSS):
        return None if scheme is None else ["PKCS1v15"]
    for name, kind in MASKS.items():
        if scheme.mgf == padding.MGF1(kind()):
            for salt in range(LONGEST_SALT + 1):
                if scheme == padding.PSS(scheme.mgf, salt):
                    return ["PSS", name, salt]
    raise CrlError("is signed with PSS parameters that are not supported (RFC 4055 §3.1)")


def _scheme_from(state: list[Any] | None) -> padding.PKCS1v15 | padding.PSS | None:
    if state is None:
        return None
    if state[0] == "PKCS1v15":
        return padding.PKCS1v15()
    return padding.PSS(padding.MGF1(MASKS[state[1]]()), state[2])
