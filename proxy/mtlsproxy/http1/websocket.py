"""The one upgrade that passes: HTTP/1.1 to WebSocket (RFC 6455 §4). Decides; does nothing.

Whoever gets a tunnel through this proxy can say anything to the upstream in it, unread by us. So it opens only where
both sides prove that they mean a WebSocket: the client with a key, the upstream with the answer to that very key. h2c
is refused: its tunnel would carry requests past every route and rule ("h2c smuggling", Bishop Fox 2020).
"""

import hashlib
import re
from base64 import b64encode
from typing import Protocol

from mtlsproxy.http1.errors import BadMessage, bad_request
from mtlsproxy.reasons import Reason

_KEY = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")
"""Sixteen bytes in base64."""

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Asks(Protocol):
    """What of a request's head decides."""

    method: str
    version_1_1: bool
    upgrade: bytes | None
    websocket_key: bytes | None

    @property
    def has_body(self) -> bool: ...


class Switches(Protocol):
    """What of a 101's head decides."""

    upgrade: bytes | None
    websocket_accept: bytes | None

    @property
    def connection_tokens(self) -> frozenset[bytes]: ...


def wants_websocket(head: Asks, listed: frozenset[bytes]) -> bool:
    """Whether a request with an Upgrade field asks for a WebSocket; other protocols are ignored (RFC 9110 §7.8).

    listed: what its Connection fields list, in lower case. Raises BadMessage: h2c, or a WebSocket asked for wrongly.
    """
    asked = {protocol.strip().lower() for protocol in (head.upgrade or b"").split(b",")}
    if any(protocol.startswith((b"h2c", b"http/2")) for protocol in asked):
        raise bad_request("an upgrade to h2c")
    if b"websocket" not in asked or b"upgrade" not in listed or not head.version_1_1:
        return False
    if head.method != "GET" or head.has_body:
        raise bad_request("an upgrade to WebSocket that is not a GET without a body")
    if head.websocket_key is None or not _KEY.fullmatch(head.websocket_key):
        raise bad_request("an upgrade to WebSocket without one proper Sec-WebSocket-Key")
    return True


def accept_of(key: bytes) -> bytes:
    """The Sec-WebSocket-Accept that answers `key` (RFC 6455 §4.2.2)."""
    return b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def check_switch(head: Switches, key: bytes) -> None:
    """Raises BadMessage (upstream_error) unless a 101 agrees to the WebSocket that `key` asked for."""
    if (head.upgrade or b"").lower() != b"websocket" or b"upgrade" not in head.connection_tokens:
        raise _unmeant("101 to something other than a WebSocket")
    if head.websocket_accept != accept_of(key):
        raise _unmeant("101 whose Sec-WebSocket-Accept does not answer the client's key")


def _unmeant(detail: str) -> BadMessage:
    return BadMessage(Reason.UPSTREAM_ERROR, f"the upstream's answer: {detail}")
