"""Message bodies: by length, by chunks (RFC 9112 §7.1), until close. Sans-IO: bytes in, slices of them out."""

import re
from typing import Protocol

from mtlsproxy.http1.errors import BadMessage
from mtlsproxy.reasons import Reason

MAX_CHUNK_LINE = 256
"""Bytes of a chunk-size line with its extensions, which nobody needs and which serve attacks."""

MAX_TRAILERS = 16 * 1024
"""Bytes of a trailer section."""

MAX_TRAILER_COUNT = 100

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = rb"\"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*\""
_SIZE_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,15})[ \t]*"
    rb"(?:;[ \t]*" + _TOKEN + rb"[ \t]*(?:=[ \t]*(?:" + _TOKEN + rb"|" + _QUOTED + rb")[ \t]*)?)*"
)
_TRAILER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*((?:[^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?)[ \t]*")

Trailers = list[tuple[bytes, bytes]]


class Body(Protocol):
    """How a message's body is read. done: its last byte was seen. trailers: known once it is done."""

    done: bool
    trailers: Trailers

    def feed(self, data: memoryview) -> tuple[list[memoryview], int]:
        """The pieces of content in `data`, and how many of its bytes belong to this message. Raises BadMessage."""
        ...


class LengthBody:
    """Content-Length bytes."""

    __slots__ = ("done", "left", "trailers")

    def __init__(self, length: int) -> None:
        self.left = length
        self.done = length == 0
        self.trailers: Trailers = []

    def feed(self, data: memoryview) -> tuple[list[memoryview], int]:
        size = len(data)
        if size < self.left:
            self.left -= size
            return [data], size
        size = self.left
        self.left = 0
        self.done = True
        return ([data[:size]] if size else []), size


class UntilClose:
    """An answer without length: its end is the connection's (RFC 9112 §6.3, rule 8)."""

    __slots__ = ("done", "trailers")

    def __init__(self) -> None:
        self.done = False
        self.trailers: Trailers = []

    def feed(self, data: memoryview) -> tuple[list[memoryview], int]:
        return [data], len(data)


_SIZE, _DATA, _DATA_END, _TRAILERS = range(4)


class ChunkedBody:
    """Chunks, strictly: CRLF alone ends a line, a size is 1 to 15 hexadecimal digits, extensions are dropped."""

    __slots__ = ("_left", "_line", "_reason", "_state", "_trailer_size", "done", "trailers")

    def __init__(self, reason: Reason) -> None:
        """reason: of the BadMessage that malformed chunks raise (bad_request or upstream_error)."""
        self._reason = reason
        self._state = _SIZE
        self._left = 0
        self._line = b""
        self._trailer_size = 0
        self.done = False
        self.trailers: Trailers = []

    def feed(self, data: memoryview) -> tuple[list[memoryview], int]:
        pieces: list[memoryview] = []
        at, size = 0, len(data)
        while at < size and not self.done:
            if self._state == _DATA:
                take = min(self._left, size - at)
                pieces.append(data[at : at + take])
                at += take
                self._left -= take
                if self._left == 0:
                    self._state = _DATA_END
            else:
                line, at = self._read_line(data, at)
                if line is not None:
                    self._on_line(line)
        return pieces, at

    def _read_line(self, data: memoryview, at: int) -> tuple[bytes | None, int]:
        """A whole line without its CRLF, or None with what there is kept; and the position behind it."""
        limit = MAX_TRAILERS if self._state == _TRAILERS else MAX_CHUNK_LINE
        window = self._line + bytes(data[at : at + limit + 2])
        end = window.find(b"\n")
        if end < 0:
            if len(window) > limit:
                raise self._bad("a chunk or trailer line that is too long")
            taken = len(window) - len(self._line)
            self._line = window
            return None, at + taken
        if end == 0 or window[end - 1] != 0x0D:
            raise self._bad("a line in a chunked body that ends in LF alone")
        taken = end + 1 - len(self._line)
        self._line = b""
        return window[: end - 1], at + taken

    def _on_line(self, line: bytes) -> None:
        if self._state == _DATA_END:
            if line:
                raise self._bad("a chunk longer than its size")
            self._state = _SIZE
        elif self._state == _SIZE:
            match = _SIZE_LINE.fullmatch(line)
            if match is None:
                raise self._bad("a malformed chunk size")
            self._left = int(match.group(1), 16)
            self._state = _DATA if self._left else _TRAILERS
        elif line:
            self._on_trailer(line)
        else:
            self.done = True

    def _on_trailer(self, line: bytes) -> None:
        match = _TRAILER.fullmatch(line)
        if match is None:
            raise self._bad("a malformed trailer field")
        self._trailer_size += len(line)
        self.trailers.append((match.group(1), match.group(2)))
        if self._trailer_size > MAX_TRAILERS or len(self.trailers) > MAX_TRAILER_COUNT:
            raise self._bad("a trailer section that is too large")

    def _bad(self, detail: str) -> BadMessage:
        return BadMessage(self._reason, detail)
