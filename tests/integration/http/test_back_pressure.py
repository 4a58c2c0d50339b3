"""Whoever is slow makes the other side wait, never the proxy grow: measured on a process of its own."""

import contextlib
import hashlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.clients import PATIENCE, Connection, request, tls
from tests.integration.harness import RunningCommand, Tree, eventually, running_command
from tests.integration.http.conftest import Serve, Served
from tests.integration.http.peers import Listening, Peer, settled, swallow

from mtlsproxy.transport import stream
from mtlsproxy.transport.interfaces import Stream
from mtlsproxy.transport.stream import SocketStream
from mtlsproxy.transport.wheel import TimerWheel
from mtlsproxy.upstream.server import Lendable, Server

GIB = 1024 * 1024 * 1024
MIB = 1024 * 1024


@pytest.fixture
def command(config: Tree, by_hand: Listening, tmp_path: Path) -> Iterator[RunningCommand]:
    with running_command(config, tmp_path) as running:
        yield running


def resident(command: RunningCommand) -> int:
    """Bytes of the process in memory."""
    for line in Path(f"/proc/{command.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


class Pump:
    """Sends `size` bytes from a thread, as fast as they are taken, behind `first`. sent: how many were."""

    def __init__(self, sock: socket.socket, size: int, first: bytes = b"") -> None:
        self.sent = 0
        sock.settimeout(60)
        self._thread = threading.Thread(target=self._run, args=(sock, size, first), daemon=True)
        self._thread.start()

    def _run(self, sock: socket.socket, size: int, first: bytes) -> None:
        block = b"x" * 65536
        try:
            sock.sendall(first)
            while self.sent < size:
                self.sent += sock.send(block[: size - self.sent])
        except (OSError, ssl.SSLError, ValueError):
            return

    def stuck(self) -> int:
        """How much was sent by when it did not go on for a while."""
        return settled(lambda: self.sent)


def warm(command: RunningCommand, context: ssl.SSLContext, by_hand: Listening) -> None:
    """20 MiB each way: what the process allocates once, it has then."""
    size = 20 * MIB
    with tls(command.port(), context) as client:
        client.send(request("/", f"Content-Length: {size}", method="POST"))
        peer = by_hand.accept()
        Pump(client.sock, size)
        peer.head()
        swallow(peer, size)
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        Pump(peer.sock, size)
        client.until(b"\r\n\r\n")
        swallow(client, size)
        peer.finish()


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_client_that_does_not_read_a_gibibyte_costs_little(
    command: RunningCommand, context: ssl.SSLContext, by_hand: Listening, framing: str
) -> None:
    """Less than 2 MiB; and once it reads, the answer goes on."""
    warm(command, context, by_hand)
    with tls(command.port(), context) as client:
        client.send(request())
        peer = by_hand.accept()
        before = resident(command)
        if framing == "length":
            peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % GIB)
        else:
            peer.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % GIB)
        pump = Pump(peer.sock, GIB)
        stuck = pump.stuck()
        assert stuck < GIB // 8, "the kernel's buffers take a few MiB"
        assert resident(command) - before < 2 * MIB
        client.until(b"\r\n\r\n")
        for _ in range(200):
            client.sock.recv(65536)
        eventually(lambda: pump.sent > stuck)


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_an_upstream_that_does_not_read_a_gibibyte_costs_little(
    command: RunningCommand, context: ssl.SSLContext, by_hand: Listening, framing: str
) -> None:
    warm(command, context, by_hand)
    with tls(command.port(), context) as client:
        line = f"Content-Length: {GIB}" if framing == "length" else "Transfer-Encoding: chunked"
        client.send(request("/", line, method="POST"))
        peer = by_hand.accept()
        peer.head()
        before = resident(command)
        if framing == "chunked":
            client.send(b"%x\r\n" % GIB)
        pump = Pump(client.sock, GIB)
        stuck = pump.stuck()
        assert stuck < GIB // 8
        assert resident(command) - before < 2 * MIB
        for _ in range(200):
            peer.sock.recv(65536)
        eventually(lambda: pump.sent > stuck)


def test_many_clients_that_do_not_read_cost_little_each(
    command: RunningCommand, context: ssl.SSLContext, by_hand: Listening
) -> None:
    """Twenty of them: less than 1 MiB each, and another client is served meanwhile."""
    warm(command, context, by_hand)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(tls(command.port(), context)) for _ in range(20)]
        before = resident(command)
        pumps = []
        for client in clients:
            client.send(request())
            peer = by_hand.accept()
            peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % GIB)
            pumps.append(Pump(peer.sock, GIB))
        settled(lambda: sum(pump.sent for pump in pumps))
        assert resident(command) - before < len(clients) * MIB
        with tls(command.port(), context) as other:
            other.send(request())
            by_hand.accept().answer()
            assert other.response().status == 200


def test_a_slow_reader_gets_everything(serve: Serve, config: Tree, by_hand: Listening) -> None:
    """However slow: it is the upstream's pauses that response_body counts, and the client's that write counts."""
    config["routes"][0]["timeouts"] = {"response_body": "500ms"}
    size = 20 * MIB
    with serve().connect() as client:
        client.send(request())
        peer = by_hand.accept()
        peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        Pump(peer.sock, size).stuck()
        time.sleep(1)
        client.until(b"\r\n\r\n")
        assert swallow(client, size) == hashlib.sha256(b"x" * size).hexdigest()


def test_a_client_that_reads_little_by_little_is_not_let_go(config: Tree, serve: Serve, by_hand: Listening) -> None:
    """timeouts.write is for who takes nothing at all: less than the kernel passes on in that time is enough."""
    config["listeners"][0]["timeouts"] = {"write": "300ms"}
    size = 8 * MIB
    served = serve()
    with narrow_reader(served) as client:
        client.send(request())
        peer = by_hand.accept()
        peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        Pump(peer.sock, size)
        client.until(b"\r\n\r\n")
        ends, taken = time.monotonic() + 1.5, 0
        while time.monotonic() < ends:
            taken += len(client.exactly(50_000))
            time.sleep(0.05)
        assert taken < size // 2
        swallow(client, size - taken)


@contextlib.contextmanager
def narrow_reader(served: Served) -> Iterator[Connection]:
    """Whose own kernel takes little, and the proxy's much: what it reads is seen there long before here."""
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        raw.settimeout(PATIENCE)
        raw.connect(("127.0.0.1", served.port))
        with served.context.wrap_socket(raw, server_hostname="proxy.test") as sock:
            yield Connection(sock)


def test_the_end_of_a_closing_answer_has_the_time_that_its_client_needs(
    serve: Serve, by_hand: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connection: close. All of the answer is here, and its client takes some of it within each FLUSH (10 s)."""
    monkeypatch.setattr(stream, "FLUSH", 1.0)
    size = 100_000
    with serve().connect_narrowly() as client:
        client.send(request("/", "Connection: close"))
        peer = by_hand.accept()
        peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
        client.until(b"\r\n\r\n")
        ends, taken = time.monotonic() + 2.5, 0
        while time.monotonic() < ends:
            taken += len(client.exactly(2_000))
            time.sleep(0.1)
        assert taken < size - 30_000, "some of it is still the proxy's to send"
        swallow(client, size - taken)
        assert client.ended()


def test_a_closing_answer_that_nobody_takes_is_given_up(
    serve: Serve, by_hand: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refused case of the above."""
    monkeypatch.setattr(stream, "FLUSH", 0.2)
    served = serve()
    with served.connect_narrowly() as client:
        client.send(request("/", "Connection: close"))
        by_hand.accept().answer(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000)
        client.until(b"\r\n\r\n")
        eventually(lambda: not served.proxy.series("connections"))


def test_an_upload_is_held_back_from_its_first_bytes(serve: Serve, by_hand: Listening) -> None:
    """What came with the head is as much as one read takes, and fills the upstream's stream before it is even lent."""
    served, size = serve(), 40 * MIB
    narrow_upstreams(served)
    with served.connect() as client:
        stalls, release = threading.Event(), threading.Event()
        stall = threading.Thread(
            target=served.proxy.call, args=(lambda: (stalls.set(), release.wait(PATIENCE)),), daemon=True
        )
        stall.start()
        assert stalls.wait(PATIENCE)
        pump = Pump(client.sock, size, request("/", f"Content-Length: {size}", method="POST"))
        settled(lambda: pump.sent)  # all that fits waits when the loop goes on: it comes in the largest pieces
        release.set()
        stall.join()
        peer = by_hand.accept()
        settled(lambda: pump.sent)
        assert pump.sent < size // 2
        assert kept_for_upstreams(served) < MIB
        peer.head()
        swallow(peer, MIB)


def narrow_upstreams(served: Served) -> None:
    """Connections that are made from now on take little at once, as over a real network."""
    upstream = served.proxy.proxy.pools.upstreams["recorder"]
    make = upstream._make

    def narrowly(wheel: TimerWheel, raw: Stream, server: Server) -> Lendable:
        assert isinstance(raw, SocketStream)
        raw._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        return make(wheel, raw, server)

    upstream._make = narrowly


def kept_for_upstreams(served: Served) -> int:
    service = served.proxy.proxy.listeners["internal"].service

    def kept() -> int:
        origins = [connection._exchange and connection._exchange._origin for connection in service.connections]
        return sum(origin.stream.unsent for origin in origins if origin)

    return served.proxy.call(kept)


@pytest.mark.parametrize("size", [50_000, 3_000])
def test_a_slow_reader_leaves_no_deaf_connection_behind(serve: Serve, by_hand: Listening, size: int) -> None:
    """An upstream connection that was paused for one client reads again for the next, be its answers large or small
    (those are written in one piece, when the connection is given back already)."""
    served = serve()
    body = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
    with served.connect_narrowly() as slow, served.connect() as other:
        slow.send(request())
        peer = by_hand.accept()
        asked = fill(slow, peer, body)
        other.send(request("/other"))
        peer = peer if asked else by_hand.accept()
        assert peer.answer().startswith(b"GET /other ")
        assert other.response().status == 200


def fill(slow: Connection, peer: Peer, body: bytes) -> bool:
    """Answers to a client that never reads, until it is not served any more."""
    peer.sock.settimeout(0.5)
    for _ in range(500):
        try:
            peer.answer(body)
        except TimeoutError:
            return True
        slow.send(request())
    raise AssertionError("500 answers went to a client that does not read")
