"""SIGTERM: readiness fails, idle connections close, what is in flight finishes, and the exit status is 0."""

import signal
import socket
import ssl
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.integration.clients import PATIENCE, Connection, request, tls
from tests.integration.harness import RunningCommand, Tree, eventually, running_command
from tests.integration.http.peers import OK, Listening
from tests.integration.http.test_websockets import AGREES, ASKS

Run = Callable[[], RunningCommand]


@pytest.fixture
def run(config: Tree, by_hand: Listening, tmp_path: Path) -> Iterator[Run]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(running_command(config, tmp_path))


def accepts(command: RunningCommand) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", command.port())) == 0


def ready(command: RunningCommand) -> bool:
    try:
        command.admin("/readyz")
    except urllib.error.HTTPError as error:
        assert error.code == 503
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_in_flight_finishes(
    config: Tree, run: Run, by_hand: Listening, context: ssl.SSLContext, number: signal.Signals
) -> None:
    """An answer that has not begun, one that has, and an upload; nobody new gets in."""
    config["shutdown"] = {"drain": "20s"}
    command = run()
    with ExitStack() as stack:
        waiting, reading, sending, idle = (stack.enter_context(tls(command.port(), context)) for _ in range(4))
        waiting.send(request("/waiting"))
        first = by_hand.accept()
        first.head()
        reading.send(request("/reading"))
        second = by_hand.accept()
        second.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        reading.until(b"hello")
        sending.send(request("/sending", "Content-Length: 10", method="POST", body=b"hello"))
        third = by_hand.accept()
        third.head()
        command.process.send_signal(number)
        assert idle.ended(), "at once, and properly"
        eventually(lambda: not accepts(command))
        assert command.process.poll() is None
        first.send(OK)
        answer = waiting.response()
        assert (answer.body, answer.values("Connection")) == (b"ok", ["close"])
        assert waiting.ended()
        second.send(b"world")
        assert reading.exactly(5) == b"world"
        assert reading.ended()
        sending.send(b"world")
        assert third.exactly(10) == b"helloworld"
        third.send(OK)
        assert sending.response().body == b"ok"
        assert sending.ended()
    assert command.process.wait(PATIENCE) == 0
    assert [line["status"] for line in command.access(3)] == [200] * 3


def test_what_takes_longer_than_drain_is_cut_off(
    config: Tree, run: Run, by_hand: Listening, context: ssl.SSLContext
) -> None:
    """Visibly: the client does not see a complete message."""
    config["shutdown"] = {"drain": "300ms"}
    command = run()
    with tls(command.port(), context) as client:
        client.send(request())
        peer = by_hand.accept()
        peer.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        client.until(b"hello\r\n")
        command.process.send_signal(signal.SIGTERM)
        with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
            read_on(client)
        assert command.process.wait(PATIENCE) == 0
        assert peer.rest() == b""


def read_on(client: Connection) -> None:
    while data := client.sock.recv(65536):
        raise AssertionError(f"{data!r} came")


def test_readiness_fails_before_anything_closes(
    config: Tree, run: Run, by_hand: Listening, context: ssl.SSLContext
) -> None:
    """shutdown.delay: load balancers see it and stop sending, while who comes is still served."""
    config["shutdown"] = {"delay": "1s", "drain": "5s"}
    command = run()
    assert ready(command)
    with tls(command.port(), context) as old:
        command.process.send_signal(signal.SIGTERM)
        eventually(lambda: not ready(command))
        with tls(command.port(), context) as new:
            new.send(request())
            peer = by_hand.accept()
            peer.answer()
            assert new.response().status == 200
        old.send(request())
        peer.answer()
        assert old.response().status == 200
        assert old.ended()
    assert command.process.wait(PATIENCE) == 0


def test_a_websocket_stays_until_the_drain_is_over(
    config: Tree, run: Run, by_hand: Listening, context: ssl.SSLContext
) -> None:
    """It goes on for as long as others are waited for, then ends properly at both ends."""
    config["shutdown"] = {"drain": "1s"}
    command = run()
    with tls(command.port(), context) as client:
        client.send(request("/", *ASKS))
        peer = by_hand.accept()
        peer.answer(AGREES)
        assert client.response().status == 101
        command.process.send_signal(signal.SIGTERM)
        eventually(lambda: not accepts(command))
        peer.send(b"still here")
        assert client.exactly(10) == b"still here"
        assert client.ended()
        assert peer.rest() == b""
    assert command.process.wait(PATIENCE) == 0
