"""Reads a ClientHello before TLS starts, so that the right context is chosen first (RFC 8446 §4.1.2, RFC 6066 §3).

OpenSSL reads the same bytes again afterwards; what this reading and OpenSSL's disagree about ends the handshake.
"""

from dataclasses import dataclass

MAX_CLIENT_HELLO = 32 * 1024
"""Bytes on the wire; real ones stay below 4 KiB even with post-quantum key shares."""

MAX_RECORDS = 16
"""Records that a ClientHello may be split over: libraries send one, some middleboxes' tests a few."""

_HANDSHAKE, _CLIENT_HELLO = 22, 1
_SERVER_NAME, _ALPN = 0, 16
_RECORD_HEADER, _MESSAGE_HEADER = 5, 4
_MAX_RECORD = 16 * 1024


class BadClientHello(Exception):
    """The bytes are no ClientHello. `detail` says what is wrong with them."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


@dataclass(frozen=True, slots=True)
class ClientHello:
    """server_name: as sent, not lowered (None: none sent). alpn: the protocols offered, in order."""

    server_name: str | None
    alpn: tuple[bytes, ...]


def parse_client_hello(data: bytes) -> ClientHello | None:
    """`data` from the first byte of the connection; None while more is needed. Raises BadClientHello."""
    message = _message(data)
    return None if message is None else _parse(message)


def _message(data: bytes) -> bytes | None:
    """The handshake message, put together from its records (it may be split over several)."""
    parts: list[bytes] = []
    have, need, at = 0, -1, 0
    while len(parts) < MAX_RECORDS:
        header = data[at : at + _RECORD_HEADER]
        if header and header[0] != _HANDSHAKE:
            raise BadClientHello(_not_tls(data) if at == 0 else "a record of another type inside the ClientHello")
        if len(header) > 1 and header[1] != 3:
            raise BadClientHello("not a TLS record")
        if len(header) < _RECORD_HEADER:
            return None
        size = header[3] << 8 | header[4]
        if not 0 < size <= _MAX_RECORD:
            raise BadClientHello("a TLS record with an impossible length")
        part = data[at + _RECORD_HEADER : at + _RECORD_HEADER + size]
        parts.append(part)
        have += len(part)
        if need < 0:
            need = _announced(b"".join(parts))
        if need >= 0 and have >= need:
            if have > need:
                raise BadClientHello("bytes behind the ClientHello")
            return b"".join(parts)
        if len(part) < size:
            return None
        at += _RECORD_HEADER + size
    raise BadClientHello(f"a ClientHello in more than {MAX_RECORDS} records")


def _announced(begin: bytes) -> int:
    """The message's length as its first bytes say it, header included; -1 while they are not here."""
    if begin and begin[0] != _CLIENT_HELLO:
        raise BadClientHello("the first TLS message is not a ClientHello")
    if len(begin) < _MESSAGE_HEADER:
        return -1
    need = _MESSAGE_HEADER + int.from_bytes(begin[1:_MESSAGE_HEADER], "big")
    if need > MAX_CLIENT_HELLO:
        raise BadClientHello("the ClientHello is too large")
    return need


def _not_tls(data: bytes) -> str:
    if data[:1].isalpha() and data[:1].isupper():
        return "plain HTTP on a TLS port"
    return "not a TLS handshake"


def _parse(message: bytes) -> ClientHello:
    reader = _Reader(message, _MESSAGE_HEADER, len(message))
    reader.skip(2 + 32)  # legacy_version, random
    reader.skip(reader.number(1))  # legacy_session_id
    reader.skip(reader.number(2))  # cipher_suites
    reader.skip(reader.number(1))  # legacy_compression_methods
    name: str | None = None
    alpn: tuple[bytes, ...] = ()
    if reader.left == 0:
        return ClientHello(None, ())  # no extensions: legal before TLS 1.3
    extensions = reader.part(reader.number(2))
    if reader.left:
        raise BadClientHello("bytes behind the extensions")
    seen: set[int] = set()
    while extensions.left:
        kind = extensions.number(2)
        body = extensions.part(extensions.number(2))
        if kind in seen:
            raise BadClientHello("an extension twice")  # RFC 8446 §4.2
        seen.add(kind)
        if kind == _SERVER_NAME:
            name = _server_name(body)
        elif kind == _ALPN:
            alpn = _alpn(body)
    return ClientHello(name, alpn)


def _server_name(body: "_Reader") -> str:
    names = body.part(body.number(2))
    if body.left or not names.left:
        raise BadClientHello("a malformed server_name extension")
    kind = names.number(1)
    name = names.bytes(names.number(2))
    if kind != 0 or names.left:
        raise BadClientHello("a server_name extension with more than one host_name")  # RFC 6066 §3
    if not name or len(name) > 255 or not name.isascii() or not _host_characters(name):
        raise BadClientHello("a server_name that is no host name")
    return name.decode("ascii")


def _host_characters(name: bytes) -> bool:
    return all(0x21 <= byte <= 0x7E for byte in name)


def _alpn(body: "_Reader") -> tuple[bytes, ...]:
    names = body.part(body.number(2))
    if body.left:
        raise BadClientHello("a malformed ALPN extension")
    out = []
    while names.left:
        out.append(names.bytes(names.number(1)))
    return tuple(out)


class _Reader:
    """A cursor over `data[at:end]` that refuses to read past the end."""

    __slots__ = ("_at", "_data", "_end")

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self._data, self._at, self._end = data, at, end

    @property
    def left(self) -> int:
        return self._end - self._at

    def skip(self, size: int) -> int:
        start = self._at
        if size > self._end - start:
            raise BadClientHello("a length that points past the end")
        self._at = start + size
        return start

    def number(self, size: int) -> int:
        start = self.skip(size)
        return int.from_bytes(self._data[start : start + size], "big")

    def bytes(self, size: int) -> bytes:
        start = self.skip(size)
        return self._data[start : start + size]

    def part(self, size: int) -> "_Reader":
        start = self.skip(size)
        return _Reader(self._data, start, start + size)
