"""Bytes of an upstream's answer to a `ResponseHead` (RFC 9112 §4, §6.3), or `BadMessage` (upstream_error)."""

import re

import httptools

from mtlsproxy.http1.errors import BadMessage
from mtlsproxy.http1.fields import Action, FieldRules, response_rules, without
from mtlsproxy.reasons import Reason

MAX_HEAD = 64 * 1024
"""Bytes of an answer's head: an upstream that sends more is broken, and the client would not take it either."""

_PHRASE = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*")
_DIGITS = re.compile(rb"[0-9]{1,18}")

_VERSIONS = ("1.1", "1.0")
_PLAIN_TOKENS = frozenset({b"keep-alive", b"close", b"Keep-Alive", b"Close"})

_rules: FieldRules = response_rules()
passes_in_trailer = _rules.passes_in_trailer


def _malformed(detail: str) -> BadMessage:
    return BadMessage(Reason.UPSTREAM_ERROR, f"the upstream's answer: {detail}")


class ResponseHead:
    """An answer without its body. fields: name, `: `, value, CRLF, … as they pass on to the client."""

    # Most answers differ from these in two or three: set at the class, they cost nothing at each.
    status = 0
    phrase = b""
    content_length: int | None = None
    chunked = False
    keep_alive = True
    lines = b""
    """`fields` as they pass on, joined."""
    upgrade: bytes | None = None
    websocket_accept: bytes | None = None
    _coding: bytes | None = None
    _tokens: bytes | None = None

    def __init__(self) -> None:
        self.fields: list[bytes] = []

    # -- httptools' callbacks --------------------------------------------------------------------------------------

    def on_status(self, phrase: bytes) -> None:
        if not _PHRASE.fullmatch(phrase):
            raise _malformed("a reason phrase with control characters")
        self.phrase = phrase

    def on_header(self, name: bytes, value: bytes) -> None:
        value = value.rstrip(b" \t")  # RFC 9112 §5: white space behind a value is none of it
        action = _rules.known.get(name)
        if action is None:
            action = _rules.action(name)
        if not action:
            self.fields += (name, b": ", value, b"\r\n")
        elif action > 1:
            self._special(action, value)

    def _special(self, action: Action, value: bytes) -> None:
        if action is Action.CONTENT_LENGTH:
            if self.content_length is not None or not _DIGITS.fullmatch(value):
                raise _malformed("a Content-Length that is not one plain number")
            self.content_length = int(value)
        elif action is Action.TRANSFER_ENCODING:
            self._coding = value if self._coding is None else self._coding + b", " + value
        elif action is Action.CONNECTION:
            self._tokens = value if self._tokens is None else self._tokens + b"," + value
        elif action is Action.UPGRADE:
            self.upgrade = value if self.upgrade is None else self.upgrade + b"," + value
        elif action is Action.WEBSOCKET:
            self.websocket_accept = value if self.websocket_accept is None else b""
            self.fields += (b"Sec-WebSocket-Accept", b": ", value, b"\r\n")

    # -- rules -----------------------------------------------------------------------------------------------------

    @property
    def connection_tokens(self) -> frozenset[bytes]:
        """What its Connection fields list, in lower case."""
        return frozenset(token.strip() for token in (self._tokens or b"").lower().split(b","))

    def settle(self, version: str) -> None:
        """All fields are here: judge the framing and drop what is between the upstream and us only."""
        self.keep_alive = _keeps_alive(version, self._tokens)
        if self._coding is not None:
            if self.content_length is not None:
                raise _malformed("Transfer-Encoding and Content-Length together")
            if self._coding.lower() != b"chunked":
                raise _malformed("a transfer coding other than chunked")
            if version == "1.0":  # RFC 9112 §6.1: faulty framing
                raise _malformed("Transfer-Encoding in an HTTP/1.0 answer")
            self.chunked = True
        if self._tokens is not None and self._tokens not in _PLAIN_TOKENS:
            self.fields = without(self.fields, self.connection_tokens)


def parse_response_head(data: bytes) -> ResponseHead:
    """`data`: from the status line to the empty line, both included. Raises BadMessage."""
    if not data.startswith(b"HTTP/"):
        raise _malformed("a malformed status line")  # llhttp takes RTSP for an answer, too
    head = ResponseHead()
    parser = httptools.HttpResponseParser(head)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserCallbackError as error:
        if isinstance(error.__context__, BadMessage):
            raise error.__context__ from None
        raise
    except httptools.HttpParserError as error:
        raise _malformed(str(error)) from None
    head.status = parser.get_status_code()
    version = parser.get_http_version()
    if version not in _VERSIONS or head.status < 100:
        raise _malformed("a malformed status line")
    head.settle(version)
    head.lines = b"".join(head.fields)
    return head


def _keeps_alive(version: str, tokens: bytes | None) -> bool:
    """RFC 9112 §9.3. (llhttp's own answer is wrong once it has seen the end of the message.)"""
    if tokens is None:
        return version == "1.1"
    listed = {token.strip() for token in tokens.lower().split(b",")}
    return b"close" not in listed and (version == "1.1" or b"keep-alive" in listed)
