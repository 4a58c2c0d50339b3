"""What a server can do wrong with a socket: reset, truncate, trickle, stay silent, lie. Each alone, and beside a server
that is well: the client's answer, the log line, the metrics, and how often the request was sent."""

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.faults.conftest import Onward
from tests.integration.clients import Connection, request
from tests.integration.harness import Tree, eventually
from tests.integration.http.conftest import Serve, Served
from tests.integration.http.peers import OK, reset
from tests.integration.secure.conftest import server_context
from tests.integration.upstream import Recorded, RecordingUpstream, Script

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\n\r\n"


def says(data: bytes, then: Callable[[socket.socket], None] = lambda sock: sock.shutdown(socket.SHUT_WR)) -> Script:
    """Sends `data`, and then no answer."""

    def script(_: Recorded, connection: socket.socket) -> None:
        connection.sendall(data)
        then(connection)
        connection.settimeout(10)
        while connection.recv(65536):  # until the proxy has had enough of it
            pass

    return script


def silent(_: socket.socket) -> None:
    """Neither bytes nor an end."""


def trickles(data: bytes) -> Script:
    """A byte every 50 ms, for as long as somebody takes them."""

    def script(_: Recorded, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stop = threading.Event()
        for at in range(len(data)):
            connection.sendall(data[at : at + 1])
            stop.wait(0.05)

    return script


@dataclass(frozen=True)
class Fault:
    script: Script
    status: int
    reason: str
    words: str
    """In the log line's detail."""
    begun: bool = False
    """Bytes of an answer have come: nothing is sent again."""
    patient: bool = False
    """It took all the time: the same server is not given as much again."""


def lie(data: bytes, words: str) -> Fault:
    return Fault(says(data), 502, "upstream_error", words, begun=True)


BROKE = "the connection to the upstream broke"
CLOSED = "closed the connection without an answer"
WITHIN = "closed the connection within its answer"
LATE = "did not answer in time"

BEFORE = {
    "closes": Fault(says(b""), 502, "upstream_error", CLOSED),
    "resets": Fault(says(b"", reset), 502, "upstream_error", BROKE),
    "is silent": Fault(says(b"", silent), 504, "upstream_timeout", LATE, patient=True),
    "closes within its head": Fault(says(HEAD[:9]), 502, "upstream_error", CLOSED, begun=True),
    "is silent within its head": Fault(says(HEAD[:9], silent), 504, "upstream_timeout", LATE, begun=True),
    "trickles its head": Fault(trickles(HEAD + b"X: y\r\n" * 30), 504, "upstream_timeout", LATE, begun=True),
    "hints and closes": Fault(says(HINTS), 502, "upstream_error", CLOSED, begun=True),
    "hints without end": lie(HINTS * 33, "more than 32 interim answers"),
    "speaks TLS": lie(b"\x16\x03\x01\x00\x05hello\r\n\r\n", "answer"),
    "speaks HTTP/2": lie(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\r\n\r\n", "answer"),
    "speaks SMTP": lie(b"220 mail.example ESMTP\r\n\r\n", "answer"),
    "lies about its length": lie(HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok", "(?i)length"),
    "frames twice": lie(HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\nok", "(?i)transfer|length"),
    "switches unasked": lie(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "101"),
    "has an endless head": lie(HEAD + b"X: y\r\n" * 20_000, "bytes"),
}

WITHIN_BODY = {
    "closes": Fault(says(HEAD + b"Content-Length: 9\r\n\r\nhello"), 200, "upstream_error", WITHIN),
    "resets": Fault(says(HEAD + b"Content-Length: 9\r\n\r\nhello", reset), 200, "upstream_error", BROKE),
    "stops": Fault(says(HEAD + b"Content-Length: 9\r\n\r\nhello", silent), 200, "upstream_timeout", "stopped within"),
    "closes within a chunk": Fault(says(CHUNKED + b"9\r\nhello"), 200, "upstream_error", WITHIN),
    "closes between chunks": Fault(says(CHUNKED + b"5\r\nhello\r\n"), 200, "upstream_error", WITHIN),
    "lies about a chunk": Fault(says(CHUNKED + b"5\r\nhello!!\r\n0\r\n\r\n"), 200, "upstream_error", "chunk"),
    "sends what is no chunk": Fault(says(CHUNKED + b"5\r\nhello\r\nnone\r\n"), 200, "upstream_error", "chunk"),
}


def named(faults: dict[str, Fault]) -> Any:
    return pytest.mark.parametrize("fault", faults.values(), ids=faults.keys())


def behind(config: Tree, *servers: RecordingUpstream, **settings: Any) -> None:
    config["upstreams"]["recorder"] = {"servers": [{"url": server.url} for server in servers], **settings}
    config["routes"][0]["timeouts"] = {"response": "600ms", "response_body": "600ms"}


def series(served: Served, name: str) -> dict[str, float]:
    return {url: value for (_, url), value in served.proxy.series(f"upstream_{name}").items()}


def final(client: Connection) -> tuple[int, str]:
    """Status and reason of the answer behind the interim ones."""
    while (answer := client.response()).status < 200:
        pass
    return answer.status, answer.problem["reason"] if answer.status >= 500 else ""


def told(served: Served, fault: Fault) -> None:
    """By the refusals' log, the access log and the metrics of requests."""
    line = served.proxy.refusal()
    assert (line["status"], line["reason"]) == (fault.status, fault.reason)
    assert re.search(fault.words, line["detail"]), line["detail"]
    (entry,) = [entry for entry in served.proxy.access() if entry["reason"]]
    assert (entry["status"], entry["reason"], entry["upstream"]) == (fault.status, fault.reason, "recorder")
    assert served.proxy.series("rejections_total") == {("internal", "all", fault.reason, "true"): 1}


@named(BEFORE)
@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_no_answer_from_the_only_server(
    config: Tree, serve: Serve, upstream: RecordingUpstream, onward: Onward, fault: Fault, secure: bool
) -> None:
    """Said at once where nothing else can come of it, after one more attempt where something can; and forgotten."""
    if secure:
        upstream.context = server_context(onward.files[0])
    behind(config, upstream, retries=1)
    if secure:
        config["upstreams"]["recorder"]["tls"] = onward.settings
    served = serve()
    upstream.script = fault.script
    with served.connect() as client:
        client.send(request("/asked"))
        assert final(client) == (fault.status, fault.reason)
        attempts = 1 if fault.begun or fault.patient else 2
        assert [asked.line for asked in upstream.requests] == ["GET /asked HTTP/1.1"] * attempts
        told(served, fault)
        assert series(served, "failures_total") == {upstream.url: attempts}
        upstream.answer(OK)
        assert client.get("/next").body == b"ok"
    assert served.proxy.series("requests_total") == {
        ("internal", "all", "GET", str(fault.status), "HTTP/1.1"): 1,
        ("internal", "all", "GET", "200", "HTTP/1.1"): 1,
    }


@named(BEFORE)
@pytest.mark.parametrize(("method", "body"), [("GET", b""), ("POST", b"hello")])
def test_no_answer_from_one_of_two_servers(
    config: Tree,
    serve: Serve,
    upstream: RecordingUpstream,
    other: RecordingUpstream,
    fault: Fault,
    method: str,
    body: bytes,
) -> None:
    """The other one answers what may be repeated and has not been answered; it never hears of anything else."""
    behind(config, upstream, other, retries=1)
    served = serve()
    upstream.script = fault.script
    repeated = method == "GET" and not fault.begun
    with served.connect() as client:
        client.send(request("/asked", f"Content-Length: {len(body)}", method=method, body=body))
        assert final(client) == ((200, "") if repeated else (fault.status, fault.reason))
    assert len(upstream.requests) == 1
    assert len(other.requests) == int(repeated)
    assert series(served, "failures_total") == {upstream.url: 1}
    assert series(served, "retries_total") == ({other.url: 1} if repeated else {})
    if repeated:
        assert not served.proxy.refusals()
        (entry,) = served.proxy.access()
        assert (entry["status"], entry["reason"]) == (200, None)


@named(WITHIN_BODY)
def test_half_an_answer(
    config: Tree, serve: Serve, upstream: RecordingUpstream, other: RecordingUpstream, fault: Fault
) -> None:
    """Cut short so that the client can tell; not asked again; the breaker does not mind: it was an answer."""
    behind(config, upstream, other, retries=3, circuit_breaker={"failures": 1, "open_for": "1h"})
    served = serve()
    upstream.script = fault.script
    with served.connect() as client:
        client.send(request("/asked"))
        assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
            while True:
                assert not client._buffer.endswith(b"0\r\n\r\n"), "a falsely complete message"
                client._more()
    told(served, fault)
    assert other.untouched
    assert series(served, "failures_total") == {upstream.url: 1}
    assert series(served, "healthy").get(upstream.url, 0) == int(fault.reason == "upstream_error")


def test_a_body_that_trickles_is_passed_on_whole(config: Tree, serve: Serve, upstream: RecordingUpstream) -> None:
    """For longer than the timeout, which is about the time between two of its bytes."""
    behind(config, upstream)
    served = serve()
    body = b"not a fault at all"

    def script(asked: Recorded, connection: socket.socket) -> None:
        connection.sendall(b"%bContent-Length: %d\r\n\r\n" % (HEAD, len(body)))
        trickles(body)(asked, connection)

    upstream.script = script
    with served.connect() as client:
        answer = client.get()
    assert (answer.status, answer.body) == (200, body)
    assert not served.proxy.refusals()


def test_a_server_that_takes_no_body_is_slow(config: Tree, serve: Serve) -> None:
    """It accepts and reads nothing: the client's upload stands still until the time is up."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        config["upstreams"]["recorder"]["servers"] = [{"url": f"http://127.0.0.1:{sock.getsockname()[1]}"}]
        config["routes"][0]["timeouts"] = {"response": "600ms"}
        served = serve()
        with served.connect() as client:
            size = 50_000_000
            sender = threading.Thread(target=send_all, args=(client, size), daemon=True)
            sender.start()
            assert final(client) == (504, "upstream_timeout")
        sender.join(10)
        assert not sender.is_alive()
    told(served, Fault(says(b"", silent), 504, "upstream_timeout", LATE))


def send_all(client: Connection, size: int) -> None:
    try:
        client.send(request("/", f"Content-Length: {size}", method="POST") + b"x" * size)
    except OSError:
        return  # the proxy has told it and ended the connection


@contextlib.contextmanager
def backlogged(family: socket.AddressFamily, where: Any) -> Iterator[Any]:
    """A server that accepts nobody, and whose kernel has no room for further connections: where it is."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket(family))
        server.bind(where)
        server.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket(family))
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield server.getsockname()


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_server_that_accepts_nobody(
    config: Tree, serve: Serve, upstream: RecordingUpstream, tmp_path: Path, kind: str, method: str
) -> None:
    """Alone it costs connect_timeout; beside another one, that one is asked whatever the method: nothing was sent."""
    path = str(tmp_path / "full.sock")
    family, where = (socket.AF_UNIX, path) if kind == "unix" else (socket.AF_INET, ("127.0.0.1", 0))
    with backlogged(family, where) as found:
        bad = {"url": f"unix:{path}" if kind == "unix" else f"http://127.0.0.1:{found[1]}"}
        for others in ([], [{"url": upstream.url}]):
            config["upstreams"]["recorder"] = {"servers": [bad, *others], "connect_timeout": "500ms"}
            served = serve()
            with served.connect() as client:
                client.send(request("/", "Content-Length: 0", method=method))
                assert final(client) == ((200, "") if others else (504, "upstream_timeout"))
            if not others:
                assert re.search("no connection to .* in time", served.proxy.refusal()["detail"])
            assert series(served, "failures_total") == {bad["url"]: 1}
            eventually(lambda served=served: series(served, "connections").get(bad["url"], 0) == 0)  # type: ignore[misc]


# -- TLS -------------------------------------------------------------------------------------------------------------


def speaks_http(sock: socket.socket) -> None:
    sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def sends_half_a_record(sock: socket.socket) -> None:
    sock.sendall(b"\x16\x03\x03\x40\x00half")
    sock.shutdown(socket.SHUT_WR)


HANDSHAKES: dict[str, tuple[Callable[[socket.socket], None], int, str, str]] = {
    "closes": (socket.socket.close, 502, "upstream_error", "during the TLS handshake"),
    "resets": (reset, 502, "upstream_error", "broke during the TLS handshake"),
    "is silent": (silent, 504, "upstream_timeout", "no handshake with .* in time"),
    "speaks HTTP": (speaks_http, 502, "upstream_error", "http://"),
    "sends half a record": (sends_half_a_record, 502, "upstream_error", "during the TLS handshake"),
}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("fault", HANDSHAKES.values(), ids=HANDSHAKES.keys())
def test_a_handshake_that_fails(
    config: Tree,
    serve: Serve,
    onward: Onward,
    upstream: RecordingUpstream,
    fault: tuple[Callable[[socket.socket], None], int, str, str],
    method: str,
) -> None:
    """Alone it is told; where there is another server, that one is asked whatever the method: nothing was sent yet."""
    act, status, reason, words = fault
    with socket.create_server(("127.0.0.1", 0)) as sock:
        held: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    connection = sock.accept()[0]
                except OSError:
                    return
                held.append(connection)
                connection.recv(65536)
                act(connection)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        bad = {"url": f"https://127.0.0.1:{sock.getsockname()[1]}"}
        config["upstreams"]["recorder"] = {
            "servers": [bad], "tls": onward.settings, "connect_timeout": "600ms", "retries": 0,
        }  # fmt: skip
        served = serve()
        with served.connect() as client:
            client.send(request("/", "Content-Length: 0", method=method))
            assert final(client) == (status, reason)
        line = served.proxy.refusal()
        assert re.search(words, line["detail"]), line["detail"]
        assert series(served, "failures_total") == {bad["url"]: 1}
        assert eventually(lambda: not served.proxy.series("upstream_connections"))

        config["upstreams"]["recorder"] = {
            "servers": [bad, {"url": upstream.url}],
            "tls": onward.settings,
            "connect_timeout": "600ms",
        }
        served = serve()
        with served.connect() as client:
            client.send(request("/", "Content-Length: 0", method=method))
            assert final(client) == (200, "")
        assert series(served, "failures_total") == {bad["url"]: 1}
        assert series(served, "retries_total") == {upstream.url: 1}
        sock.shutdown(socket.SHUT_RDWR)
        thread.join(10)
        for connection in held:
            connection.close()
