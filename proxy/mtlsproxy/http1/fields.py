"""What becomes of a header field by its name (RFC 9110 §7.6.1: hop-by-hop fields; identity.strip: forgeries)."""

import functools
from collections.abc import Callable
from enum import IntEnum
from typing import Protocol

_REMEMBERED = 2048
_REMEMBERED_LENGTH = 64
"""Names come from peers: the cache holds short ones, and is cleared when it holds more."""


class Action(IntEnum):
    PASS = 0
    DROP = 1
    HOST = 2
    CONTENT_LENGTH = 3
    TRANSFER_ENCODING = 4
    CONNECTION = 5
    EXPECT = 6
    TE = 7
    REQUEST_ID = 8
    VIA = 9
    UPGRADE = 10
    WEBSOCKET = 11
    """What ties a WebSocket's answer to its request; it passes."""
    FORWARDED_FOR = 12
    FORWARDED_PROTO = 13
    FORWARDED_HOST = 14


_HOP_BY_HOP = {
    b"connection": Action.CONNECTION,
    b"transfer-encoding": Action.TRANSFER_ENCODING,
    b"content-length": Action.CONTENT_LENGTH,
    b"te": Action.TE,
    b"keep-alive": Action.DROP,
    b"proxy-connection": Action.DROP,
    b"proxy-authenticate": Action.DROP,
    b"proxy-authorization": Action.DROP,
    b"proxy-authentication-info": Action.DROP,
    b"upgrade": Action.UPGRADE,
    b"http2-settings": Action.DROP,
}

_REQUEST = {
    **_HOP_BY_HOP,
    b"host": Action.HOST,
    b"expect": Action.EXPECT,
    b"x-request-id": Action.REQUEST_ID,
    b"via": Action.VIA,
    b"sec-websocket-key": Action.WEBSOCKET,
}

_TRUSTED_REQUEST = {
    **_REQUEST,
    b"x-forwarded-for": Action.FORWARDED_FOR,
    b"x-forwarded-proto": Action.FORWARDED_PROTO,
    b"x-forwarded-host": Action.FORWARDED_HOST,
}

_RESPONSE = {**_HOP_BY_HOP, b"sec-websocket-accept": Action.WEBSOCKET}

NOT_IN_TRAILERS = frozenset(
    {
        b"authorization", b"cache-control", b"content-encoding", b"content-range", b"content-type", b"cookie",
        b"max-forwards", b"pragma", b"range", b"set-cookie", b"te", b"trailer", b"www-authenticate",
    }
)  # fmt: skip
"""Fields that say how to treat the message and so come too late in a trailer section (RFC 9110 §6.5.1)."""


class _Strips(Protocol):
    def __call__(self, name: bytes, *, trusted: bool = False) -> bool: ...


class FieldRules:
    """Actions by field name as it was sent, remembered; `strips` says which names a peer may not send at all."""

    __slots__ = ("_strips", "_table", "known")

    def __init__(self, table: dict[bytes, Action], strips: Callable[[bytes], bool]) -> None:
        self._table = table
        self._strips = strips
        self.known: dict[bytes, Action] = {}

    def action(self, name: bytes) -> Action:
        action = self.known.get(name)
        if action is None:
            special = self._table.get(name.lower())
            action = special or (Action.DROP if self._strips(name) else Action.PASS)
            if len(name) <= _REMEMBERED_LENGTH:
                if len(self.known) >= _REMEMBERED:
                    self.known.clear()
                self.known[name] = action
        return action

    def passes_in_trailer(self, name: bytes) -> bool:
        return self.action(name) is Action.PASS and name.lower() not in NOT_IN_TRAILERS


def request_rules(strips: Callable[[bytes], bool]) -> FieldRules:
    """For requests: what we set ourselves and hop-by-hop fields are taken out, forgeries dropped."""
    return FieldRules(_REQUEST, strips)


def trusted_request_rules(strips: _Strips) -> FieldRules:
    """For requests of trusted proxies: as for others, but what they say of their clients is kept, or read to be
    appended to. Trailers go by request_rules: there is nothing of the kind in them."""
    return FieldRules(_TRUSTED_REQUEST, functools.partial(strips, trusted=True))


def response_rules() -> FieldRules:
    """For answers of upstreams."""
    return FieldRules(_RESPONSE, lambda _: False)


def without(fields: list[bytes], tokens: frozenset[bytes]) -> list[bytes]:
    """`fields` (name, `: `, value, CRLF, …) without those whose lower-case name a Connection header lists."""
    out: list[bytes] = []
    for at in range(0, len(fields), 4):
        if fields[at].lower() not in tokens:
            out += fields[at : at + 4]
    return out
