"""How a log names a client, worked out from its certificate without the proxy's own code."""

import hashlib

from cryptography import x509
from tests.integration.certificates import Identity

_NOBODY = dict.fromkeys(("subject", "issuer", "serial", "fingerprint"))


def serial_of(leaf: x509.Certificate) -> str:
    """As openssl prints it: whole bytes in upper-case hexadecimal."""
    number = leaf.serial_number
    return number.to_bytes((number.bit_length() + 7) // 8).hex().upper()


def described(who: Identity | None) -> dict[str, str | None]:
    """subject and issuer (RFC 4514), serial, SHA-256 of the DER."""
    if who is None:
        return dict(_NOBODY)
    leaf = who.leaf
    return {
        "subject": leaf.subject.rfc4514_string(),
        "issuer": leaf.issuer.rfc4514_string(),
        "serial": serial_of(leaf),
        "fingerprint": hashlib.sha256(who.der).hexdigest(),
    }
