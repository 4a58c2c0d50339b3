"""The header and trailer names that no client may send, because upstreams take them for ours."""

from collections.abc import Iterable
from typing import Protocol

FORWARDED = frozenset({b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-real-ip"})
"""Who the client was, to an upstream; a trusted proxy's word on that counts.

X-Real-IP is not one that we set. It is here because applications read it before X-Forwarded-For: left in, a client
would choose the address that the upstream logs and rate-limits.
"""

_IDENTITY = frozenset({b"client-cert", b"client-cert-chain", b"x-forwarded-client-cert"})
_IDENTITY_PREFIXES = (b"x-ssl-", b"ssl-client-")

_REWRITTEN = frozenset({b"via", b"x-request-id", b"host", b"content-length", b"transfer-encoding", b"connection"})
"""Set or rewritten by the HTTP rooms: the right spelling is theirs to read, any other folding is a forgery."""

_CACHED_NAMES = 1024
_CACHED_LENGTH = 64
"""Names come from clients: the cache holds few and short ones, and starts again when full."""

_LETTERS_AND_DIGITS = b"abcdefghijklmnopqrstuvwxyz0123456789"
_FOLDING = bytes(byte if byte in _LETTERS_AND_DIGITS else ord("-") for byte in bytes(range(256)).lower())

_KEEP, _STRIP, _STRIP_UNTRUSTED = range(3)


class _HasPrefix(Protocol):
    @property
    def prefix(self) -> str: ...


def fold(name: bytes) -> bytes:
    """`name` as the most careless upstream may read it: lower-case, `_` and `.` and every other separator as `-`.

    CGI and its heirs (WSGI, PHP, Rack) cannot tell `X_Client.Id` from `X-Client-Id`, and some of them map every byte
    that is no letter or digit. Whitespace around the name is dropped.
    """
    return name.strip(b" \t\r\n\v\f\0").translate(_FOLDING)


class StripRules:
    """Which names are removed from every inbound request and its trailers, on every route.

    identities: all that the configuration names, whichever of them a route uses: a header that one route vouches for
    must not be forgeable on another one.
    """

    def __init__(self, identities: Iterable[_HasPrefix]) -> None:
        prefixes = {fold(identity.prefix.encode()) for identity in identities}
        self._prefixes = tuple(sorted(prefixes)) + _IDENTITY_PREFIXES
        self._verdicts: dict[bytes, int] = {}

    def strips(self, name: bytes, *, trusted: bool = False) -> bool:
        """Whether `name` must go. trusted: a trusted proxy sent it; its FORWARDED stay, in their right spelling."""
        verdict = self._verdicts.get(name)
        if verdict is None:
            verdict = self._remember(name)
        return verdict == _STRIP or (verdict == _STRIP_UNTRUSTED and not trusted)

    def _remember(self, name: bytes) -> int:
        verdict = self._judge(name)
        if len(name) <= _CACHED_LENGTH:
            if len(self._verdicts) >= _CACHED_NAMES:
                self._verdicts.clear()
            self._verdicts[name] = verdict
        return verdict

    def _judge(self, name: bytes) -> int:
        folded = fold(name)
        if folded in _IDENTITY or folded.startswith(self._prefixes):
            return _STRIP
        own_spelling = name.lower() == folded
        if folded in FORWARDED:
            return _STRIP_UNTRUSTED if own_spelling else _STRIP
        return _STRIP if folded in _REWRITTEN and not own_spelling else _KEEP
