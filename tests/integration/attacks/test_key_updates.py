"""Attacks within TLS 1.3: KeyUpdates that ask for an answer each (RFC 8446 §4.6.3), from a client that reads none."""

import _ssl
import contextlib
import ctypes
import socket
import ssl
from collections.abc import Iterator

import pytest
from tests.integration.clients import PATIENCE, request, tls
from tests.integration.conftest import Start
from tests.integration.harness import RunningProxy, Tree
from tests.integration.refusals import assert_nobody_left
from tests.integration.stepped import SteppedClient

from mtlsproxy.tls.stream import MAX_KEY_UPDATES

_NOT_REQUESTED, _REQUESTED = 0, 1
_libssl = ctypes.CDLL(_ssl.__file__)
_libssl.SSL_key_update.argtypes = [ctypes.c_void_p, ctypes.c_int]
_libssl.SSL_do_handshake.argtypes = [ctypes.c_void_p]


class Updater(SteppedClient):
    """A client that has shaken hands and can ask for new keys, which Python's ssl cannot."""

    def shake_hands(self) -> None:
        self.raw.sendall(self.flight())
        self.raw.sendall(self.answer_flight())

    def say(self, data: bytes) -> None:
        self.tls.write(data)
        self.raw.sendall(self._outgoing.read())

    def updates(self, count: int, kind: int = _REQUESTED) -> bytes:
        """The records of that many KeyUpdates."""
        for _ in range(count):
            # The structure is `PyObject_HEAD; PyObject *Socket; SSL *ssl; …`.
            inner = ctypes.c_void_p.from_address(id(self.tls._sslobj) + object.__basicsize__ + 8)  # type: ignore[attr-defined]
            assert _libssl.SSL_key_update(inner, kind) == 1
            assert _libssl.SSL_do_handshake(inner) == 1
        return self._outgoing.read()

    def answer(self) -> bytes:
        while True:
            try:
                return self.tls.read(65536)
            except ssl.SSLWantReadError:
                assert self.receive()


@contextlib.contextmanager
def updater(port: int, context: ssl.SSLContext) -> Iterator[Updater]:
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.settimeout(PATIENCE)
        raw.connect(("127.0.0.1", port))
        client = Updater(raw, context)
        client.shake_hands()
        yield client


def kept_for_clients(proxy: RunningProxy) -> int:
    """Bytes that the proxy keeps because they were not taken."""
    service = proxy.proxy.listeners["internal"].service
    return proxy.call(lambda: sum(connection._stream.unsent for connection in service.connections))


@pytest.mark.parametrize("at_once", [1, 1000], ids=["one a segment", "a thousand a segment"])
def test_a_flood_of_key_updates_ends_the_connection_with_little_kept_for_it(
    config: Tree, start: Start, honest: ssl.SSLContext, hostile: ssl.SSLContext, at_once: int
) -> None:
    proxy = start(config)
    most = sent = 0
    with tls(proxy.port(), honest) as client, updater(proxy.port(), hostile) as attacker:
        assert client.get().status == 200
        with pytest.raises(ConnectionError):
            while sent <= 1000 * MAX_KEY_UPDATES:
                attacker.raw.sendall(attacker.updates(at_once))
                sent += at_once
                if sent % 1000 == 0:
                    most = max(most, kept_for_clients(proxy))
        assert client.get().status == 200
    assert most < 1024 * 1024, f"{most} bytes kept after {sent} KeyUpdates"
    assert_nobody_left(proxy)


@pytest.mark.parametrize("at_once", [1, 1000], ids=["one a segment", "a thousand a segment"])
def test_a_flood_of_key_updates_without_answers_ends_the_connection(
    config: Tree, start: Start, honest: ssl.SSLContext, hostile: ssl.SSLContext, at_once: int
) -> None:
    """Nothing is kept for them, but each derives new keys; between requests no other limit sees them."""
    proxy = start(config)
    sent = 0
    with tls(proxy.port(), honest) as client, updater(proxy.port(), hostile) as attacker:
        attacker.say(request())
        assert attacker.answer().startswith(b"HTTP/1.1 200 ")
        with pytest.raises(ConnectionError):
            while sent <= 100_000:
                attacker.raw.sendall(attacker.updates(at_once, _NOT_REQUESTED))
                sent += at_once
        assert client.get().status == 200
    assert_nobody_left(proxy)


@pytest.mark.parametrize("kind", [_NOT_REQUESTED, _REQUESTED])
def test_a_client_that_renews_its_keys_now_and_then_is_served(
    config: Tree, start: Start, honest: ssl.SSLContext, kind: int
) -> None:
    proxy = start(config)
    with updater(proxy.port(), honest) as client:
        for _ in range(20):
            client.raw.sendall(client.updates(40, kind))
            client.say(request())
            assert client.answer().startswith(b"HTTP/1.1 200 ")
