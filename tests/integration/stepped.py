"""A TLS client taken step by step: its flights can be held back, cut up and altered before they are sent."""

import contextlib
import socket
import ssl
from collections.abc import Iterator

from tests.integration.clients import connected


class SteppedClient:
    """A client between two memory BIOs, and a plain socket to the server."""

    def __init__(self, raw: socket.socket, context: ssl.SSLContext, server_name: str | None = "proxy.test") -> None:
        self.raw = raw
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)

    def flight(self) -> bytes:
        """What the client says next; b"" when it has nothing to say."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self._outgoing.read()

    def receive(self) -> bytes:
        """What the server says, shown to the client; b"" at its end."""
        data = self.raw.recv(65536)
        self._incoming.write(data)
        return data

    def answer_flight(self) -> bytes:
        """What the client says once it has all of the server's first flight."""
        while True:
            assert self.receive(), "the server ended the handshake"
            if said := self.flight():
                return said

    def say(self, data: bytes) -> None:
        """Over TLS, once the client's part of the handshake is sent."""
        self.tls.write(data)
        self.raw.sendall(self._outgoing.read())

    def hear(self) -> bytes:
        """The next plaintext; session tickets are none."""
        while True:
            with contextlib.suppress(ssl.SSLWantReadError):
                return self.tls.read(65536)
            assert self.receive(), "the server ended the connection"

    def alert(self) -> str:
        """The name of the alert that the server ends with."""
        try:
            while self.receive():
                self.tls.do_handshake()
                self.tls.read(1)
        except ssl.SSLWantReadError:
            return self.alert()
        except ssl.SSLError as error:
            _, found, name = (error.reason or "").partition("_ALERT_")
            assert found, error
            return name.lower()
        raise AssertionError("the server ended without an alert")


@contextlib.contextmanager
def stepped(port: int, context: ssl.SSLContext, server_name: str | None = "proxy.test") -> Iterator[SteppedClient]:
    with connected(port) as raw:
        yield SteppedClient(raw, context, server_name)


def client_hello(context: ssl.SSLContext, server_name: str | None = "proxy.test") -> bytes:
    """The bytes of a ClientHello, in one record."""
    with socket.socket() as unconnected:
        return SteppedClient(unconnected, context, server_name).flight()
