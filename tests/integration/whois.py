"""How a log names a client, worked out from its certificate without the proxy's own code."""

import hashlib

from tests.integration.certificates import Identity

_NOBODY = dict.fromkeys(("subject", "issuer", "serial", "fingerprint"))


def described(who: Identity | None) -> dict[str, str | None]:
    """subject and issuer (RFC 4514), serial in upper-case hexadecimal, SHA-256 of the DER."""
    if who is None:
        return dict(_NOBODY)
    leaf = who.leaf
    return {
        "subject": leaf.subject.rfc4514_string(),
        "issuer": leaf.issuer.rfc4514_string(),
        "serial": f"{leaf.serial_number:X}",
        "fingerprint": hashlib.sha256(who.der).hexdigest(),
    }
