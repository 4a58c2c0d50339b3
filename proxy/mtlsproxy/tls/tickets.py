"""Session ticket keys: of one policy each, and short-lived, so that a session can neither cross policies nor grow old.

OpenSSL resumes a session at any context with the same ticket keys, whatever that context verifies; TLS 1.3 renews a
session's lifetime at each resumption. Keys that are derived from a secret, the policy and the hour answer both: a
ticket is of no use at another policy, and none outlives the hour in which its full handshake took place. Workers that
share the secret take each other's tickets. Pure.
"""

import hashlib
import hmac
from dataclasses import dataclass

MAX_AGE = 3600
"""Seconds that a session lives at most since its full handshake."""

KEY_SIZE = 80
"""What OpenSSL takes: a name of 16 bytes, an HMAC key and an AES key of 32 each."""

SECRET_SIZE = 32


@dataclass(frozen=True, slots=True)
class TicketKeys:
    """Of one policy. policy: a hash over everything that a handshake there verifies."""

    secret: bytes
    policy: bytes

    def at(self, now: float) -> bytes:
        """The key in force at `now`, Unix seconds."""
        epoch = int((now + self._offset) // MAX_AGE)
        # HKDF-Expand (RFC 5869 §2.3); the secret is uniformly random, so there is nothing to extract.
        info = b"mtlsproxy ticket key" + self.policy + epoch.to_bytes(8, "big")
        out, block, counter = b"", b"", 1
        while len(out) < KEY_SIZE:
            block = hmac.digest(self.secret, block + info + bytes([counter]), "sha256")
            out += block
            counter += 1
        return out[:KEY_SIZE]

    def next_change(self, now: float) -> float:
        """When another key comes into force, Unix seconds."""
        return (int((now + self._offset) // MAX_AGE) + 1) * MAX_AGE - self._offset

    @property
    def _offset(self) -> int:
        """Policies do not all change at the full hour: their clients' full handshakes would come at once."""
        return int.from_bytes(self.policy[:4], "big") % MAX_AGE


def policy_hash(*parts: bytes) -> bytes:
    """Of parts that are told apart by their lengths."""
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(len(part).to_bytes(8, "big"))
        hasher.update(part)
    return hasher.digest()
