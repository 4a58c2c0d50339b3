"""Distinguished names as they are compared (RFC 5280 §7.1)."""

from functools import lru_cache

from cryptography import x509 as pyca

from mtlsproxy.x509.certificate import Certificate

Rdn = frozenset[tuple[str, str | bytes]]
_CACHED_NAMES = 256  # CA names recur; each entry is below a kilobyte

_LOWER_ASCII = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def canonical(name: pyca.Name) -> tuple[Rdn, ...]:
    """The RDNs with string types, ASCII case and runs of spaces folded, as OpenSSL folds them.

    NOTE: §7.1 asks for all of stringprep; folding less can only tell names apart, and excluded subtrees are decided on
    names that the constraining CA issued below itself.
    """
    return tuple(frozenset((a.oid.dotted_string, _fold(a.value)) for a in rdn) for rdn in name.rdns)


def _fold(value: str | bytes) -> str | bytes:
    return value if isinstance(value, bytes) else " ".join(value.translate(_LOWER_ASCII).split())


@lru_cache(maxsize=_CACHED_NAMES)
def _subject(certificate: Certificate) -> tuple[Rdn, ...]:
    return canonical(certificate.x509.subject)


@lru_cache(maxsize=_CACHED_NAMES)
def _issuer(certificate: Certificate) -> tuple[Rdn, ...]:
    return canonical(certificate.x509.issuer)


def issued_by_name(certificate: Certificate, issuer: Certificate) -> bool:
    """Whether the certificate's issuer names the other's subject; encoded alike nearly always, else compared folded."""
    return certificate.issuer_der == issuer.subject_der or _issuer(certificate) == _subject(issuer)
