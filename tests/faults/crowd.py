"""Clients of every kind that ask without end, and keep account of what became of each request.

Every request has a name of its own, which is its X-Request-Id and stands in its path. One of these becomes of it:

    whole     200, and the answer is that of this very request, to its last byte
    refused   4xx or 5xx: the proxy's own answer names this request; a server's has no content
    cut       an answer began, and broke off so that the client could tell
    over      a WebSocket: it stood, and ended, sooner or later

Anything else is `wrong`.
"""

import contextlib
import hashlib
import json
import random
import socket
import ssl
import subprocess
import threading
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.application import NOTHING, bytes_of, line
from tests.integration.certificates import Identity
from tests.integration.clients import Connection, Response, client_context, request, tls
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

BROKEN = (ssl.SSLEOFError, ConnectionResetError, BrokenPipeError)

REFUSED = (413, 502, 503, 504)


@dataclass(frozen=True)
class Way:
    """How to the proxy."""

    port: int
    root: Path
    who: Identity

    @property
    def context(self) -> ssl.SSLContext:
        return client_context(self.root, self.who)


@dataclass
class Account:
    """What became of the requests of one client: name to the status that it saw, by outcome."""

    whole: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    over: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    lines: dict[str, str] = field(default_factory=dict)
    """`METHOD PATH` of each."""

    @property
    def seen(self) -> dict[str, int]:
        return self.whole | self.refused | self.cut | self.over


class Client(threading.Thread):
    """One client, until it is told to leave."""

    def __init__(self, way: Way, name: str, prefix: str) -> None:
        super().__init__(name=name, daemon=True)
        self.way = way
        self.account = Account()
        self.random = random.Random(name)
        self._prefix = prefix
        self._leaving = threading.Event()

    def leave(self) -> None:
        self._leaving.set()
        self.join(60)
        assert not self.is_alive(), f"{self.name} hangs"

    def run(self) -> None:
        try:
            while not self._leaving.is_set():
                self.visit()
        except Exception as error:  # noqa: BLE001 - told by the test's own thread
            self.account.wrong.append(f"{self.name}: {error!r}")

    @abstractmethod
    def visit(self) -> None:
        """Requests over one connection."""

    def names(self, count: int) -> Iterator[str]:
        """So many further requests, with pauses between them."""
        for _ in range(count):
            if self._leaving.wait(self.random.choice((0, 0, 0.005, 0.02))):
                return
            yield f"{self.name}-{len(self.account.lines)}"

    def path(self, name: str, method: str, suffix: str = "") -> str:
        path = f"/{self._prefix}/{name}{suffix}"
        self.account.lines[name] = f"{method} {path}"
        return path

    def judge(self, name: str, status: int, body: bytes, expected: bytes) -> None:
        """An answer that is complete."""
        account = self.account
        if status == 200 and body == expected:
            account.whole[name] = status
        elif status in REFUSED and (not body or json.loads(body)["request_id"] == name):
            account.refused[name] = status
        else:
            account.wrong.append(f"{name} was answered {status} {body[:200]!r}")


class HttpClient(Client):
    """Keep-alive over TLS by hand: nothing is asked again behind our back."""

    def visit(self) -> None:
        with tls(self.way.port, self.way.context) as connection:
            for name in self.names(self.random.randint(1, 40)):
                if not self.ask(connection, name):
                    return

    @abstractmethod
    def ask(self, connection: Connection, name: str) -> bool:
        """One request; whether the connection goes on."""

    def hear(self, connection: Connection, name: str) -> Response | None:
        """None: the answer was cut short, which must not happen before it began."""
        try:
            head = connection.until(b"\r\n\r\n")
            while head.startswith(b"HTTP/1.1 1"):
                head = connection.until(b"\r\n\r\n")
        except (EOFError, *BROKEN) as error:
            self.account.wrong.append(f"{name} had no answer at all: {error!r}")
            return None
        connection._buffer = head + connection._buffer
        try:
            return connection.response()
        except BROKEN:
            self.account.cut[name] = int(head[9:12])
        return None


class Getting(HttpClient):
    def ask(self, connection: Connection, name: str) -> bool:
        path = self.path(name, "GET")
        connection.send(request(path, f"X-Request-Id: {name}"))
        answer = self.hear(connection, name)
        if answer is None:
            return False
        self.judge(name, answer.status, answer.body, line("GET", path, 0, NOTHING).encode())
        return answer.values("Connection") != ["close"]


class Uploading(HttpClient):
    def ask(self, connection: Connection, name: str) -> bool:
        path = self.path(name, "POST")
        body = self.random.randbytes(self.random.choice((0, 10, 5_000, 300_000)))
        with contextlib.suppress(*BROKEN):  # refused before all was sent: what it says is read all the same
            if self.random.random() < 0.5:
                framing, framed = f"Content-Length: {len(body)}", body
            else:
                framing, framed = "Transfer-Encoding: chunked", chunked(body)
            connection.send(request(path, f"X-Request-Id: {name}", framing, method="POST", body=framed))
        answer = self.hear(connection, name)
        if answer is None:
            return False
        expected = line("POST", path, len(body), hashlib.sha256(body).hexdigest()).encode()
        self.judge(name, answer.status, answer.body, expected)
        return answer.values("Connection") != ["close"]


def chunked(body: bytes) -> bytes:
    pieces = [body[at : at + 7000] for at in range(0, len(body), 7000)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


class Downloading(HttpClient):
    def ask(self, connection: Connection, name: str) -> bool:
        size = self.random.choice((0, 1, 65_536, 65_536, 1_000_000, 4_000_000))
        path = self.path(
            name, "GET", f"/{self.random.choice(('sized', 'chunked', 'slowly', 'slowly/sized'))}/bytes/{size}"
        )
        connection.send(request(path, f"X-Request-Id: {name}"))
        if size > 1_000_000:
            self._leaving.wait(0.2)  # more than the way holds: the server has to wait
        answer = self.hear(connection, name)
        if answer is None:
            return False
        self.judge(name, answer.status, answer.body, bytes_of(path))
        return answer.values("Connection") != ["close"]


class Talking(Client):
    """A WebSocket: each message comes back, in order, until the connection ends."""

    def visit(self) -> None:
        for name in self.names(1):
            path = self.path(name, "GET")
            sock = socket.create_connection(("127.0.0.1", self.way.port), 10)
            try:
                with connect(
                    f"wss://proxy.test{path}",
                    sock=sock,
                    ssl=self.way.context,
                    additional_headers={"X-Request-Id": name},
                    compression=None,
                    close_timeout=5,
                ) as socket_:
                    self.account.over[name] = 101
                    for number in range(self.random.randint(1, 30)):
                        message = f"{name} {number} " + "x" * self.random.choice((0, 1000, 200_000))
                        socket_.send(message)
                        if socket_.recv(timeout=10) != message:
                            self.account.wrong.append(f"{name}: message {number} came back as another")
            except InvalidStatus as error:
                self.judge(name, error.response.status_code, error.response.body or b"", b"")
            except (ConnectionClosed, OSError) as error:
                if name not in self.account.over:
                    self.account.wrong.append(f"{name} had no answer at all: {error!r}")
            finally:
                sock.close()


class Curling(Client):
    """curl, a process and a connection for each request."""

    def visit(self) -> None:
        way = self.way
        for name in self.names(1):
            path = self.path(name, "GET")
            done = subprocess.run(
                ["curl", "--silent", "--show-error", "--http1.1", "--max-time", "30", "--cacert", way.root,
                 "--cert", way.who.certificate, "--key", way.who.key, "--resolve", f"proxy.test:{way.port}:127.0.0.1",
                 "--header", f"X-Request-Id: {name}", "--write-out", "\n%{http_code}",
                 f"https://proxy.test:{way.port}{path}"],
                capture_output=True, check=False, timeout=60,
            )  # fmt: skip
            body, _, status = done.stdout.rpartition(b"\n")
            if done.returncode == 0:
                self.judge(name, int(status), body, line("GET", path, 0, NOTHING).encode())
            elif done.returncode in (18, 56) and int(status) == 200:  # "partial file", "failure in receiving"
                self.account.cut[name] = 200
            else:
                self.account.wrong.append(f"curl ended {name} with {done}")
