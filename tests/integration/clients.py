"""A TLS client on a blocking socket that sends any bytes, and sees answers and alerts as they are."""

import contextlib
import json
import select
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.certificates import Identity

RECORD = 16 * 1024

PATIENCE = 10.0
"""Seconds after which a test gives up on a socket: no test waits for it, only a broken proxy does."""

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
VERSIONS = {"TLSv1.2": V12, "TLSv1.3": V13}


@dataclass(frozen=True)
class Response:
    status: int
    fields: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        return [value for field, value in self.fields if field.lower() == name.lower()]

    def one(self, name: str) -> str:
        (value,) = self.values(name)
        return value

    @property
    def problem(self) -> dict[str, Any]:
        """The problem+json that it must be."""
        assert self.one("Content-Type") == "application/problem+json"
        found: dict[str, Any] = json.loads(self.body)
        return found


class Bytes:
    """Of a connection, as the test asks for them. Reading past the end raises EOFError."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffer = b""

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def until(self, end: bytes) -> bytes:
        while (at := self._buffer.find(end)) < 0:
            self._more()
        at += len(end)
        out, self._buffer = self._buffer[:at], self._buffer[at:]
        return out

    def exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        out, self._buffer = self._buffer[:size], self._buffer[size:]
        return out

    def _more(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError(f"the connection ended with {self._buffer!r} unread")
        self._buffer += data


class Connection(Bytes):
    """Bytes over TLS; an alert raises ssl.SSLError."""

    sock: ssl.SSLSocket
    _ahead = memoryview(b"")

    def send_ahead(self, data: bytes) -> None:
        """As much as is taken now; the rest goes out while answers are read. By one thread: OpenSSL's connections are
        not made for one that reads while another one writes."""
        self._ahead = memoryview(data)
        self._exchange(reading=False)

    @property
    def all_sent(self) -> bool:
        return not self._ahead

    def _more(self) -> None:
        if self._ahead:
            self._exchange(reading=True)
        else:
            super()._more()

    def _exchange(self, *, reading: bool) -> None:
        """Write what waits, until some bytes were read; or only until no more is taken."""
        sock = self.sock
        sock.setblocking(False)
        wants = (ssl.SSLWantReadError, ssl.SSLWantWriteError)
        try:
            while True:
                with contextlib.suppress(*wants):
                    while self._ahead:
                        self._ahead = self._ahead[sock.send(self._ahead[:RECORD]) :]
                if not reading:
                    return
                with contextlib.suppress(*wants):
                    if not (data := sock.recv(65536)):
                        raise EOFError(f"the connection ended with {self._buffer!r} unread")
                    self._buffer += data
                    return
                assert any(select.select([sock], [sock] if self._ahead else [], [], PATIENCE)), "nothing moves"
        finally:
            sock.settimeout(PATIENCE)

    def get(self, path: str = "/", *lines: str, host: str = "proxy.test") -> Response:
        """A GET and its answer."""
        self.send(request(path, *lines, host=host))
        return self.response()

    def response(self, *, to_head: bool = False) -> Response:
        """The next answer, interim ones included."""
        head = self.until(b"\r\n\r\n")
        first, *lines = head[:-4].decode("latin-1").split("\r\n")
        fields = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        answer = Response(int(first.split(" ")[1]), fields, b"")
        if to_head or answer.status in (204, 304) or answer.status < 200:
            return answer
        if answer.values("Transfer-Encoding"):
            return Response(answer.status, fields, self._chunks())
        if answer.values("Content-Length"):
            return Response(answer.status, fields, self.exactly(int(answer.one("Content-Length"))))
        return Response(answer.status, fields, self.rest())

    def _chunks(self) -> bytes:
        out = b""
        while size := int(self.until(b"\r\n"), 16):
            out += self.exactly(size + 2)[:-2]
        while self.until(b"\r\n") != b"\r\n":
            pass
        return out

    def rest(self) -> bytes:
        """All there is until the other side ends properly (close_notify)."""
        with contextlib.suppress(EOFError):
            while True:
                self._more()
        out, self._buffer = self._buffer, b""
        return out

    def end(self) -> None:
        """Send nothing more (FIN without close_notify), and read on."""
        socket.socket.shutdown(self.sock, socket.SHUT_WR)  # SSLSocket's own would end TLS in both directions

    def ended(self) -> bool:
        """Waits for the other side's proper end; False when it sends more instead."""
        return self.rest() == b""


def request(path: str = "/", *lines: str, method: str = "GET", host: str = "proxy.test", body: bytes = b"") -> bytes:
    """The bytes of a request. lines: further header lines."""
    head = "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *lines])
    return head.encode("latin-1") + b"\r\n\r\n" + body


def client_context(
    root: Path, identity: Identity | None = None, version: ssl.TLSVersion | None = None
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(root)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if identity is not None:
        context.set_ciphers("DEFAULT:@SECLEVEL=0")  # else OpenSSL does not load weak certificates
        context.load_cert_chain(identity.certificate, identity.key)
    return context


def connected(port: int) -> socket.socket:
    """Without Nagle's algorithm, which would hold back a request behind the handshake's last flight for 40 ms."""
    raw = socket.create_connection(("127.0.0.1", port), PATIENCE)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return raw


@contextlib.contextmanager
def tls(
    port: int, context: ssl.SSLContext, server_name: str | None = "proxy.test", session: ssl.SSLSession | None = None
) -> Iterator[Connection]:
    """A connection whose handshake the client thinks complete (in TLS 1.3 the server may still refuse it)."""
    with (
        connected(port) as raw,
        context.wrap_socket(raw, server_hostname=server_name, suppress_ragged_eofs=False, session=session) as sock,
    ):
        yield Connection(sock)


def alert(port: int, context: ssl.SSLContext, server_name: str = "proxy.test") -> str:
    """The name of the alert that refuses this client, as OpenSSL calls it.

    The client sends a request as soon as it can, which in TLS 1.3 is before the server has judged it.
    """
    try:
        with tls(port, context, server_name) as connection:
            connection.send(request())
            connection.sock.recv(1)
    except ssl.SSLError as error:
        _, found, name = (error.reason or "").partition("_ALERT_")
        assert found, error
        return name.lower()
    raise AssertionError("the connection was not refused by an alert")
