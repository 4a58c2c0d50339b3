"""A pooled connection that its server has closed is never the client's problem."""

import contextlib
import random
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.faults.conftest import Onward
from tests.faults.servers import fickle
from tests.integration.clients import request
from tests.integration.harness import Tree, eventually
from tests.integration.http.conftest import Serve, Served
from tests.integration.http.peers import Listening, Peer, listening, reset
from tests.integration.secure.conftest import server_context

METHODS = ("GET", "POST", "PATCH", "DELETE")


def close(sock: socket.socket) -> None:
    sock.close()


def say_goodbye(sock: socket.socket) -> None:
    """close_notify, and then the end."""
    assert isinstance(sock, ssl.SSLSocket)
    with contextlib.suppress(OSError):
        sock.unwrap()
    sock.close()


@pytest.mark.parametrize(
    ("secure", "end"), [(False, close), (False, reset), (True, close), (True, reset), (True, say_goodbye)]
)
def test_a_connection_that_was_closed_before_the_request_is_not_lent(
    config: Tree, serve: Serve, onward: Onward, secure: bool, end: Callable[[socket.socket], None]
) -> None:
    """Whatever the method, and however short before: the proxy has had no turn of its loop to hear of it."""
    context = server_context(onward.files[0]) if secure else None
    with listening() as server:
        url = server.url.replace("http:", "https:") if secure else server.url
        config["upstreams"]["recorder"] = {"servers": [{"url": url}], "retries": 0}
        if secure:
            config["upstreams"]["recorder"]["tls"] = onward.settings
        served = serve()
        with served.connect() as client:
            peer = None
            for number in range(60):
                method = METHODS[number % len(METHODS)]
                asked = request(f"/{number}", "Content-Length: 5", method=method, body=b"hello")
                if peer is not None:
                    end(peer.sock)
                client.send(asked)
                peer = accepted(server, context)
                assert peer.answer().startswith(f"{method} /{number} ".encode())
                assert peer.exactly(5) == b"hello"
                assert client.response().status == 200
        assert served.proxy.series("upstream_failures_total") == {}
        assert served.proxy.series("upstream_retries_total") == {}


def accepted(server: Listening, context: ssl.SSLContext | None) -> Peer:
    peer = server.accept()
    peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if context is not None:
        peer.sock = context.wrap_socket(peer.sock, server_side=True)
    return peer


class Asking(threading.Thread):
    """A client that asks at random moments. lost: requests that were not answered 200."""

    def __init__(self, served: Served, method: str, number: int, count: int) -> None:
        super().__init__(daemon=True)
        self._served = served
        self._method = method
        self._paths = [f"/{method}/{number}/{each}" for each in range(count)]
        self._random = random.Random(number)
        self.answered: list[str] = []
        self.lost: list[str] = []
        self.wrong: list[str] = []

    def run(self) -> None:
        pause = threading.Event()
        with self._served.connect() as client:
            for path in self._paths:
                pause.wait(self._random.choice((0, 0, 0.001, 0.003, 0.01)))
                client.send(request(path, "Content-Length: 0", method=self._method))
                answer = client.response()
                if answer.status == 502:
                    self.lost.append(f"{self._method} {path}")
                elif answer.status == 200 and answer.body.startswith(f"{self._method} {path} ".encode()):
                    self.answered.append(f"{self._method} {path}")
                else:
                    self.wrong.append(f"{path} was answered {answer}")


def test_a_server_that_closes_at_random_moments_costs_no_answer(config: Tree, serve: Serve, tmp_path: Path) -> None:
    """Not one GET. A POST is lost only where the server closed in the very moment in which it came, for nobody can know
    then whether it was heard (RFC 9112 §9.3.1); and none is done twice."""
    server = fickle(tmp_path, "restless")
    server.start()
    try:
        config["upstreams"]["recorder"] = {"servers": [{"url": server.url}], "retries": 0}
        config["upstreams"]["recorder"]["circuit_breaker"] = {"failures": 1000, "open_for": "1s"}
        served = serve()
        count = 300
        asking = [Asking(served, method, number, count) for number, method in enumerate(("GET", "POST", "GET", "POST"))]
        for client in asking:
            client.start()
        for client in asking:
            client.join(60)
        assert [client.wrong for client in asking] == [[]] * 4
        assert [len(client.answered) + len(client.lost) for client in asking] == [count] * 4
        lost = [path for client in asking for path in client.lost]
        assert not [path for path in lost if path.startswith("GET")]
        assert len(lost) <= count * 2 * 0.1
        done = Counter((tmp_path / "ledger").read_text().splitlines())
        assert {path for path, times in done.items() if times > 1 and path.startswith("POST")} == set()
        assert {path for client in asking for path in client.answered} <= done.keys()
        assert not set(lost) & done.keys(), "a request that was heard has its answer"
        failures = sum(served.proxy.series("upstream_failures_total").values())
        assert eventually(lambda: failures == len(lost)), "what no client noticed is no failure"
    finally:
        server.kill()
