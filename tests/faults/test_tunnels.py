"""WebSocket servers that are not there, are killed and are stopped."""

import contextlib
import socket
from collections.abc import Iterator

import pytest
from tests.faults.conftest import Run
from tests.faults.servers import ServerProcess
from tests.integration.harness import Tree, eventually
from tests.integration.http.conftest import Serve, Served
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from mtlsproxy.transport import stream


@pytest.fixture
def server(run: Run) -> ServerProcess:
    return run("websockets")


@pytest.fixture
def served(config: Tree, serve: Serve, server: ServerProcess) -> Served:
    config["upstreams"]["recorder"] = {"servers": [{"url": server.url}], "connect_timeout": "1s"}
    config["routes"][0]["timeouts"] = {"response": "1s", "tunnel_idle": "1s"}
    return serve()


@contextlib.contextmanager
def dialled(served: Served) -> Iterator[ClientConnection]:
    with (
        socket.create_connection(("127.0.0.1", served.port), 10) as sock,
        connect("wss://proxy.test/", sock=sock, ssl=served.context, close_timeout=5, compression=None) as client,
    ):
        yield client


def let_go(served: Served) -> bool:
    """The proxy keeps neither end."""
    gauges = ("connections", "requests_in_flight", "upstream_connections")
    return eventually(lambda: not any(served.proxy.series(gauge) for gauge in gauges))


def refused_with(served: Served) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as refused, dialled(served):
        pass
    (line,) = served.proxy.access()
    assert line["status"] == refused.value.response.status_code
    return line["status"], line["reason"]


def test_one_that_was_killed_is_unavailable(served: Served, server: ServerProcess) -> None:
    server.kill()
    assert refused_with(served) == (503, "upstream_unavailable")
    assert let_go(served)


def test_one_that_is_stopped_takes_too_long(served: Served, server: ServerProcess) -> None:
    server.stop()
    assert refused_with(served) == (504, "upstream_timeout")
    assert let_go(served)


def test_one_that_is_killed_ends_its_conversations(served: Served, server: ServerProcess) -> None:
    """Without the closing handshake, so that the client can tell; a new one works once the server is back."""
    with dialled(served) as client:
        client.send("hello")
        assert client.recv(timeout=10) == "hello"
        server.kill()
        with pytest.raises(ConnectionClosedError):
            client.recv(timeout=10)
    assert let_go(served)
    (line,) = served.proxy.access()
    assert (line["status"], line["route"]) == (101, "all")
    server.start()
    with dialled(served) as client:
        client.send("again")
        assert client.recv(timeout=10) == "again"


def test_one_that_is_stopped_is_silent_and_its_conversations_end(
    served: Served, server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After tunnel_idle, also where the client has more to say than anybody takes."""
    monkeypatch.setattr(stream, "FLUSH", 0.5)
    with dialled(served) as client:
        client.send("hello")
        assert client.recv(timeout=10) == "hello"
        server.stop()
        with pytest.raises((ConnectionClosedError, OSError)):
            for _ in range(1000):
                client.send(b"x" * 100_000)
    assert let_go(served)
