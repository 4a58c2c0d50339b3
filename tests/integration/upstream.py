"""An upstream that records every byte it is sent and answers by script, on plain threads and sockets."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass(frozen=True)
class Recorded:
    """A whole request as it arrived. body: with its chunk framing, if it has one."""

    head: bytes
    body: bytes

    @property
    def line(self) -> str:
        return self.head.split(b"\r\n", 1)[0].decode()

    @property
    def fields(self) -> list[tuple[str, str]]:
        """Names as sent, in order."""
        lines = self.head.split(b"\r\n")[1:-2]
        return [
            (name.decode(), value.strip().decode("latin-1")) for name, _, value in (x.partition(b":") for x in lines)
        ]

    def values(self, name: str) -> list[str]:
        return [value for field_name, value in self.fields if field_name.lower() == name.lower()]


Script = Callable[[Recorded, socket.socket], bytes | None]
"""Answers a request: bytes to send, or None to end the connection (after whatever it did to the socket itself)."""


@dataclass
class RecordingUpstream:
    """`script` may be replaced at any time; what comes later is answered by the new one. So may `context`: with one it
    speaks TLS."""

    port: int
    script: Script = lambda _request, _connection: OK
    requests: list[Recorded] = field(default_factory=list)
    received: list[bytearray] = field(default_factory=list)
    """What came over each connection, in the order in which they were accepted."""
    open: set[socket.socket] = field(default_factory=set)
    context: ssl.SSLContext | None = None
    tls: list[ssl.SSLSocket] = field(default_factory=list)
    """Connections whose handshake this side found complete."""
    peers: list[Any] = field(default_factory=list)
    """What `getpeercert` said of the other side of each."""
    tls_failures: list[Exception] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{'https' if self.context else 'http'}://127.0.0.1:{self.port}"

    @property
    def untouched(self) -> bool:
        """Nobody connected, so nothing can have come."""
        return not self.received

    def answer(self, data: bytes) -> None:
        self.script = lambda _request, _connection: data


@contextlib.contextmanager
def recording_upstream() -> Iterator[RecordingUpstream]:
    """Listens on a free port of 127.0.0.1 until the block ends."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        upstream = RecordingUpstream(listening.getsockname()[1])
        acceptor = threading.Thread(target=_accept, args=(listening, upstream), daemon=True)
        acceptor.start()
        try:
            yield upstream
        finally:
            # Closing alone does not wake a thread in accept().
            listening.shutdown(socket.SHUT_RDWR)
            acceptor.join(5)
            for connection in list(upstream.open):
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


def _accept(listening: socket.socket, upstream: RecordingUpstream) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        received = bytearray()
        upstream.received.append(received)
        upstream.open.add(connection)
        threading.Thread(target=_serve, args=(connection, received, upstream), daemon=True).start()


def _serve(connection: socket.socket, received: bytearray, upstream: RecordingUpstream) -> None:
    with contextlib.ExitStack() as stack:
        if upstream.context is not None:
            try:
                connection = _shake_hands(connection, upstream.context, upstream)
            except OSError as error:
                upstream.tls_failures.append(error)
                connection.close()
                return
        stack.enter_context(connection)
        _answer(connection, received, upstream)


def _shake_hands(plain: socket.socket, context: ssl.SSLContext, upstream: RecordingUpstream) -> ssl.SSLSocket:
    connection = context.wrap_socket(plain, server_side=True)
    upstream.open.discard(plain)
    upstream.open.add(connection)
    upstream.peers.append(connection.getpeercert())
    upstream.tls.append(connection)
    return connection


def _answer(connection: socket.socket, received: bytearray, upstream: RecordingUpstream) -> None:
    with contextlib.suppress(OSError):
        reader = _Reader(connection, received)
        while (request := reader.request()) is not None:
            upstream.requests.append(request)
            answer = upstream.script(request, connection)
            if answer is None:
                break
            connection.sendall(answer)
    upstream.open.discard(connection)


class _Reader:
    """Whole requests off one connection; everything that comes is recorded first."""

    def __init__(self, connection: socket.socket, received: bytearray) -> None:
        self._connection = connection
        self._received = received
        self._at = 0

    def request(self) -> Recorded | None:
        head = self._until(b"\r\n\r\n")
        if head is None:
            return None
        lower = head.lower()
        if b"\r\ntransfer-encoding: chunked\r\n" in lower:
            body = self._chunks()
        else:
            length = lower.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0]
            body = self._exactly(int(length or 0))
        return None if body is None else Recorded(head, body)

    def _chunks(self) -> bytes | None:
        out = b""
        while True:
            line = self._until(b"\r\n")
            if line is None:
                return None
            out += line
            size = int(line, 16)
            if size == 0:
                break
            chunk = self._exactly(size + 2)
            if chunk is None:
                return None
            out += chunk
        while line := self._until(b"\r\n"):
            out += line
            if line == b"\r\n":
                return out
        return None

    def _until(self, end: bytes) -> bytes | None:
        while (found := self._received.find(end, self._at)) < 0:
            if not self._more():
                return None
        return self._take(found + len(end))

    def _exactly(self, size: int) -> bytes | None:
        while len(self._received) < self._at + size:
            if not self._more():
                return None
        return self._take(self._at + size)

    def _take(self, end: int) -> bytes:
        taken = bytes(self._received[self._at : end])
        self._at = end
        return taken

    def _more(self) -> bool:
        data = self._connection.recv(65536)
        self._received += data
        return bool(data)
