"""Distinguished names as they are compared (RFC 5280 §7.1)."""

from collections.abc import Callable

from cryptography import x509 as pyca

from mtlsproxy.x509.certificate import Certificate
from mtlsproxy.x509.oddities import silence_oddities

Rdn = frozenset[tuple[str, str | bytes]]
_CACHED_NAMES = 256
_CACHED_SIZE = 1024
"""CA names recur. They come from strangers, too: only short ones are kept, by their bytes, and nothing else of the
certificate with them."""

_VERSION = b"\x02\x01\x00"
_ED25519 = bytes.fromhex("300506032b6570")
_ED25519_KEY = b"\x30\x2a" + _ED25519 + b"\x03\x21\x00" + bytes(32)

_known: "dict[bytes, tuple[Rdn, ...]]" = {}

_LOWER_ASCII = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def canonical(name: pyca.Name) -> tuple[Rdn, ...]:
    """The RDNs with string types, ASCII case and runs of spaces folded, as OpenSSL folds them.

    NOTE: §7.1 asks for all of stringprep; folding less can only tell names apart, and excluded subtrees are decided on
    names that the constraining CA issued below itself.
    """
    return tuple(frozenset((a.oid.dotted_string, _fold(a.value)) for a in rdn) for rdn in name.rdns)


def _fold(value: str | bytes) -> str | bytes:
    return value if isinstance(value, bytes) else " ".join(value.translate(_LOWER_ASCII).split())


def _folded(der: bytes, name: Callable[[], pyca.Name]) -> tuple[Rdn, ...]:
    found = _known.get(der)
    if found is None:
        found = canonical(name())
        if len(der) <= _CACHED_SIZE:
            if len(_known) >= _CACHED_NAMES:
                _known.clear()
            _known[der] = found
    return found


def issued_by_name(certificate: Certificate, issuer: Certificate) -> bool:
    """Whether the certificate's issuer names the other's subject; encoded alike nearly always, else compared folded."""
    if certificate.issuer_der == issuer.subject_der:
        return True
    mine = _folded(certificate.issuer_der, lambda: certificate.x509.issuer)
    return mine == _folded(issuer.subject_der, lambda: issuer.x509.subject)


def name_text(der: bytes) -> str:
    """A DER Name in the string form of RFC 4514. Raises ValueError where the bytes are none.

    NOTE: cryptography reads names only as part of something else, so one is put into a request (RFC 2986 §4.1).
    """
    silence_oddities()
    details = _element(b"\x30", _VERSION + der + _ED25519_KEY + b"\xa0\x00")
    request = _element(b"\x30", details + _ED25519 + b"\x03\x41\x00" + bytes(64))
    return pyca.load_der_x509_csr(request).subject.rfc4514_string()


def _element(tag: bytes, content: bytes) -> bytes:
    if len(content) < 0x80:
        return tag + bytes((len(content),)) + content
    octets = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return tag + bytes((0x80 | len(octets),)) + octets + content
