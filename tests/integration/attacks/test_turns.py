"""Attacks on the event loop's time: what one client asks for all at once is done in turns with everybody else's."""

import contextlib
import fcntl
import select
import socket
import ssl
import termios
import threading
from array import array

import pytest
from tests.integration.attacks.conftest import standing_still
from tests.integration.clients import Connection, request, tls
from tests.integration.conftest import Start
from tests.integration.harness import RunningProxy, Tree, eventually
from tests.integration.upstream import RecordingUpstream

from mtlsproxy.http1.downstream import REQUESTS_A_TURN

AT_LEAST = 48_000
"""Bytes of the attacker's that wait for the proxy when it goes on."""


def waiting_for(proxy: RunningProxy, client: socket.socket) -> int:
    """Bytes that this client has sent and the proxy has not read."""
    service = proxy.proxy.listeners["internal"].service
    (found,) = (c for c in service.connections if c.established.address == client.getsockname())
    unread = array("i", [0])
    fcntl.ioctl(found.established.stream._raw._fd, termios.FIONREAD, unread)
    return unread[0]


class Flood:
    """Sends what it is given, and takes the answers as they come, in one thread: a TLS object is not for two."""

    def __init__(self, connection: Connection, data: bytes) -> None:
        self._sock = connection.sock
        self._unsent = memoryview(data)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.answered = b""

    def start(self) -> None:
        self._sock.setblocking(False)
        self._thread.start()

    def join(self) -> None:
        self._thread.join(20)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                while self._unsent:
                    self._unsent = self._unsent[self._sock.send(self._unsent[:16384]) :]
            with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                while data := self._sock.recv(65536):
                    self.answered += data
                return
            select.select([self._sock], [self._sock] if self._unsent else [], [], 20)


REFUSED = {
    "no route": request("/a", host="localhost"),
    "misdirected": request("/a", host="x"),
    "not allowed": request("/forbidden"),
    "no such method": request("/get", method="DELETE"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_thousands_of_requests_to_refuse_keep_nobody_waiting(
    config: Tree, start: Start, honest: ssl.SSLContext, hostile: ssl.SSLContext, what: str
) -> None:
    """All is there at once, the attacker's first: after its turn it is the others', then its again."""
    config["routes"] = [
        {"name": "no", "hosts": ["proxy.test"], "paths": ["/forbidden"], "allow": [], "upstream": "recorder"},
        {
            "name": "get", "hosts": ["proxy.test"], "paths": ["/get"], "methods": ["GET"], "allow": "any",
            "upstream": "recorder",
        },
    ]  # fmt: skip
    proxy = start(config)
    asked = REFUSED[what]
    count = 2 * AT_LEAST // len(asked)
    with tls(proxy.port(), hostile) as attacker, tls(proxy.port(), honest) as client:
        assert client.get("/get/first").status == 200
        assert attacker.get("/get/first").status == 200
        flood = Flood(attacker, asked * (count - 1) + asked[:-2] + b"Connection: close\r\n\r\n")
        with standing_still(proxy):
            flood.start()
            eventually(lambda: waiting_for(proxy, attacker.sock) > AT_LEAST)
            client.send(request("/get/second"))
            eventually(lambda: waiting_for(proxy, client.sock))
        assert client.response().status == 200
        flood.join()
        assert flood.answered.count(b"HTTP/1.1 4") == count
        lines = proxy.access(count + 3)
    before = next(number for number, line in enumerate(lines) if line["path"] == "/get/second") - 2
    # Its own answer takes several turns: to the upstream and back.
    assert before <= 10 * REQUESTS_A_TURN < count


def test_thousands_of_small_chunks_go_on_as_a_few(
    config: Tree, upstream: RecordingUpstream, start: Start, honest: ssl.SSLContext, hostile: ssl.SSLContext
) -> None:
    """One byte a chunk costs its reading, not a system call and a chunk to the upstream each."""
    proxy = start(config)
    count = 40_000
    with tls(proxy.port(), hostile) as attacker, tls(proxy.port(), honest) as client:
        attacker.send(request("/", "Transfer-Encoding: chunked", method="POST"))
        eventually(lambda: proxy.series("requests_in_flight"))
        attacker.send(b"1\r\na\r\n" * count)
        assert client.get("/other").status == 200
        attacker.send(b"0\r\n\r\n")
        assert attacker.response().status == 200
    body = upstream.requests[-1].body
    sizes = [int(line, 16) for line in body.split(b"\r\n")[:-2:2]]
    assert sum(sizes) == count
    assert len(sizes) < count / 100


def test_thousands_of_small_chunks_of_an_answer_go_on_as_a_few(
    config: Tree, upstream: RecordingUpstream, start: Start, honest: ssl.SSLContext
) -> None:
    """The same from the other side."""
    count = 40_000
    upstream.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * count + b"0\r\n\r\n")
    proxy = start(config)
    with tls(proxy.port(), honest) as client:
        client.send(request())
        client.response(to_head=True)
        sizes = []
        while size := int(client.until(b"\r\n"), 16):
            sizes.append(len(client.exactly(size + 2)) - 2)
        assert client.until(b"\r\n") == b"\r\n"
    assert sum(sizes) == count
    assert len(sizes) < count / 100
