"""Attacks on handshake slots: held by clients that shake hands no further, and come back when they are let go."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest
from tests.integration.clients import connected, request, tls
from tests.integration.conftest import Start
from tests.integration.harness import Tree, eventually
from tests.integration.refusals import assert_nobody_left
from tests.integration.stepped import client_hello, stepped
from tests.integration.upstream import RecordingUpstream

from mtlsproxy.reasons import Reason
from mtlsproxy.tls import slots
from mtlsproxy.transport import stream

SLOTS = 4


@pytest.fixture(autouse=True)
def _less_patience(config: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few slots, and no handshake that would end by itself while a test lasts."""
    monkeypatch.setattr(slots, "SLOT_PATIENCE", 0.2)
    monkeypatch.setattr(stream, "LINGER", 0.1)
    config["listeners"][0]["tls"]["handshake_timeout"] = "60s"
    config["listeners"][0]["limits"] = {"max_concurrent_handshakes": SLOTS}


@contextlib.contextmanager
def silent_crowd(port: int, hello: bytes, count: int) -> Iterator[None]:
    """`count` clients that send a ClientHello and nothing more; each comes back as soon as it is let go."""
    stop = threading.Event()
    sockets: set[socket.socket] = set()

    def come_again() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError), connected(port) as raw:
                sockets.add(raw)
                raw.sendall(hello)
                while not stop.is_set() and raw.recv(65536):
                    pass

    threads = [threading.Thread(target=come_again, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for raw in sockets:
            with contextlib.suppress(OSError):
                raw.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()


def test_newcomers_are_served_while_silence_is_in_every_slot(
    config: Tree, upstream: RecordingUpstream, start: Start, honest: ssl.SSLContext, nobody: ssl.SSLContext
) -> None:
    """Silence gives way to those who wait; who gave way is counted, and the flood goes on all the while."""
    proxy = start(config)
    with silent_crowd(proxy.port(), client_hello(nobody), 3 * SLOTS):
        eventually(lambda: proxy.series("connections") == {("internal",): 3 * SLOTS})
        for _ in range(3):
            with tls(proxy.port(), honest) as newcomer:
                assert newcomer.get().status == 200
        gave_way = proxy.series("handshakes_total").get(("internal", Reason.HANDSHAKE_TIMEOUT, "none"), 0)
        assert gave_way >= SLOTS
        assert proxy.refusals()[0]["detail"] == "the client was silent while others waited to shake hands"
    assert len(upstream.requests) == 3
    assert_nobody_left(proxy)


def test_silence_that_is_in_nobodys_way_is_left_alone(config: Tree, start: Start, honest: ssl.SSLContext) -> None:
    """All slots taken, and nobody waits: a client with a slow key is waited for."""
    proxy = start(config)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(stepped(proxy.port(), honest)) for _ in range(SLOTS)]
        flights = []
        for client in clients:
            client.raw.sendall(client.flight())
            flights.append(client.answer_flight())
        began = proxy.call(lambda: proxy.proxy.wheel.now)
        eventually(lambda: proxy.call(lambda: proxy.proxy.wheel.now) > began + 4 * slots.SLOT_PATIENCE)
        for client, flight in zip(clients, flights, strict=True):
            client.raw.sendall(flight)
        eventually(lambda: proxy.series("handshakes_total") == {("internal", "ok", "TLSv1.3"): SLOTS})
    assert proxy.refusals() == []


def test_established_clients_are_served_during_the_flood(
    config: Tree, start: Start, honest: ssl.SSLContext, nobody: ssl.SSLContext
) -> None:
    """A connection that stands needs no slot."""
    proxy = start(config)
    with tls(proxy.port(), honest) as client:
        assert client.get().status == 200
        with silent_crowd(proxy.port(), client_hello(nobody), 3 * SLOTS):
            eventually(lambda: proxy.series("connections") == {("internal",): 3 * SLOTS + 1})
            for _ in range(20):
                client.send(request())
                assert client.response().status == 200
