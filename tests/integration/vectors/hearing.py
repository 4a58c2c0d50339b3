"""What a client hears of an answer, and whether it could tell that it was cut short."""

import contextlib
import ssl
from dataclasses import dataclass

from tests.integration.clients import Connection
from tests.integration.vectors.recorder import body_of


@dataclass(frozen=True)
class Heard:
    """What a client got: its chunks joined into one; whole: it ended as its framing says it must."""

    said: bytes
    whole: bool
    interims: int
    """Bytes of `said` that are interim answers."""

    @property
    def status(self) -> int:
        return int(self.said[self.interims + 9 : self.interims + 12])

    @property
    def body(self) -> bytes:
        """The content of a whole answer."""
        return body_of(self.said[self.interims :])


def listen(client: Connection, *, to_head: bool) -> Heard:
    """The next answer, with the interim ones before it."""
    said = b""
    while (head := client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 1"):
        said += head
    interims = len(said)
    said += head
    lower = head.lower()
    if to_head or head.startswith((b"HTTP/1.1 204 ", b"HTTP/1.1 304 ")):
        return Heard(said, True, interims)
    if b"\r\ntransfer-encoding: chunked\r\n" in lower:
        body, whole = _chunks(client)
        return Heard(said + body, whole, interims)
    if b"\r\ncontent-length: " in lower:
        size = int(lower.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0])
        body = _as_much_as_comes(client, size)
        return Heard(said + body, len(body) == size, interims)
    return Heard(said + client.rest(), True, interims)


def _as_much_as_comes(client: Connection, size: int) -> bytes:
    with contextlib.suppress(ssl.SSLEOFError, ConnectionResetError):
        while len(client._buffer) < size:
            client._more()
    out, client._buffer = client._buffer[:size], client._buffer[size:]
    return out


def _chunks(client: Connection) -> tuple[bytes, bool]:
    """Joined into one, and whether the last one came. A proper end without it is the failure (EOFError)."""
    content = b""
    try:
        while size := int(client.until(b"\r\n"), 16):
            content += client.exactly(size + 2)[:-2]
        trailers = b""
        while (line := client.until(b"\r\n")) != b"\r\n":
            trailers += line
    except (ssl.SSLEOFError, ConnectionResetError):
        return b"%x\r\n%b\r\n" % (len(content), content) if content else b"", False
    joined = b"%x\r\n%b\r\n" % (len(content), content) if content else b""
    return joined + b"0\r\n" + trailers + b"\r\n", True
