"""SIGTERM: readiness fails, idle connections close, what is in flight finishes, and the exit status is 0."""

import signal
import socket
import ssl
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.integration.clients import PATIENCE, Connection, connected, request, tls
from tests.integration.harness import RunningCommand, Tree, eventually, running_command
from tests.integration.http.conftest import Served
from tests.integration.http.peers import OK, Listening
from tests.integration.http.test_websockets import AGREES, ASKS
from tests.integration.stepped import SteppedClient, stepped

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
    (line,) = command.access(1)
    assert (line["status"], line["reason"]) == (200, "upstream_timeout"), "the client has not left"
    assert "shutdown.drain is over: connections that are cut off: 1" in command.error_file.read_text()


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


def test_server_sent_events_go_on_until_the_drain_is_over(
    config: Tree, run: Run, by_hand: Listening, context: ssl.SSLContext
) -> None:
    config["shutdown"] = {"drain": "1s"}
    command = run()
    with tls(command.port(), context) as client:
        client.send(request())
        peer = by_hand.accept()
        peer.answer(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        client.until(b"data: 1\n\n")
        command.process.send_signal(signal.SIGTERM)
        eventually(lambda: not accepts(command))
        peer.send(b"data: 2\n\n")
        client.until(b"data: 2\n\n")
        with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
            read_on(client)
    assert command.process.wait(PATIENCE) == 0


def test_an_upload_that_takes_longer_than_drain_is_cut_off(
    config: Tree, run: Run, by_hand: Listening, context: ssl.SSLContext
) -> None:
    """At the upstream, too: it never sees an end."""
    config["shutdown"] = {"drain": "300ms"}
    command = run()
    with tls(command.port(), context) as client:
        client.send(request("/", "Transfer-Encoding: chunked", method="POST", body=b"5\r\nhello\r\n"))
        peer = by_hand.accept()
        peer.head()
        command.process.send_signal(signal.SIGTERM)
        assert peer.rest() == b"5\r\nhello\r\n"
        answer = client.response()
        assert (answer.status, answer.problem["reason"]) == (408, "request_timeout")
        assert "before the request was whole (shutdown.drain)" in answer.problem["detail"]
    assert command.process.wait(PATIENCE) == 0


def test_who_still_waits_for_an_answer_when_drain_is_over_is_told(
    config: Tree, run: Run, by_hand: Listening, context: ssl.SSLContext
) -> None:
    """A reset would say nothing, and look in the log as if the client had left."""
    config["shutdown"] = {"drain": "300ms"}
    command = run()
    with tls(command.port(), context) as client:
        client.send(request())
        by_hand.accept().head()
        command.process.send_signal(signal.SIGTERM)
        answer = client.response()
        assert (answer.status, answer.problem["reason"]) == (504, "upstream_timeout")
        assert answer.values("Connection") == ["close"]
    assert command.process.wait(PATIENCE) == 0


def test_a_request_whose_headers_are_half_here_is_in_flight(
    config: Tree, run: Run, by_hand: Listening, context: ssl.SSLContext
) -> None:
    """It has the time of request_headers, and not that of an idle connection (half a second)."""
    config["shutdown"] = {"drain": "20s"}
    command = run()
    with tls(command.port(), context) as client, tls(command.port(), context) as idle:
        client.send(request()[:10])
        eventually(lambda: command.series("received_bytes_total"))
        command.process.send_signal(signal.SIGTERM)
        assert idle.ended(), "half a second has passed for it"
        client.send(request()[10:])
        by_hand.accept().answer()
        assert client.response().values("Connection") == ["close"]
    assert command.process.wait(PATIENCE) == 0


# -- who has not come as far as a request ------------------------------------------------------------------------------


def half_way(client: SteppedClient) -> bytes:
    """Sends the ClientHello; what would come next of this client."""
    client.raw.sendall(client.flight())
    return client.answer_flight()


def test_a_handshake_under_way_is_finished_and_one_request_answered(
    config: Tree, run: Run, by_hand: Listening, context: ssl.SSLContext
) -> None:
    config["shutdown"] = {"drain": "20s"}
    command = run()
    with stepped(command.port(), context) as client:
        flight = half_way(client)
        command.process.send_signal(signal.SIGTERM)
        eventually(lambda: not accepts(command))
        client.raw.sendall(flight)
        client.say(request())
        by_hand.accept().answer()
        assert b"\r\nConnection: close\r\n" in client.hear()
    assert command.process.wait(PATIENCE) == 0


def test_who_asks_for_nothing_does_not_hold_up_the_end(config: Tree, run: Run, context: ssl.SSLContext) -> None:
    """Connected and silent; or its handshake is finished during the drain, and no request follows."""
    config["shutdown"] = {"drain": "60s"}
    config["listeners"][0]["tls"]["client_hello_timeout"] = "60s"
    command = run()
    with connected(command.port()), stepped(command.port(), context) as client:
        flight = half_way(client)
        command.process.send_signal(signal.SIGTERM)
        eventually(lambda: not accepts(command))
        client.raw.sendall(flight)
        assert command.process.wait(PATIENCE) == 0


def test_a_handshake_that_takes_longer_than_drain_is_cut_off(config: Tree, run: Run, context: ssl.SSLContext) -> None:
    """And it is said whose."""
    config["shutdown"] = {"drain": "300ms"}
    config["listeners"][0]["tls"]["handshake_timeout"] = "60s"
    command = run()
    with stepped(command.port(), context) as client:
        half_way(client)
        assert command.stop() == 0
    line = command.refusal()
    assert (line["reason"], line["detail"]) == (
        "handshake_timeout", "the handshake was not complete when the proxy stopped"
    )  # fmt: skip


def test_who_connected_before_the_listener_closed_is_served(served: Served, context: ssl.SSLContext) -> None:
    """Nobody had accepted it yet; a reset would have been its answer."""
    listener = served.proxy.proxy.listeners["internal"]

    def connect_and_retire() -> socket.socket:
        raw = connected(served.port)
        listener.retire()
        return raw

    with (
        served.proxy.call(connect_and_retire) as raw,
        context.wrap_socket(raw, server_hostname="proxy.test", suppress_ragged_eofs=False) as sock,
    ):
        client = Connection(sock)
        answer = client.get()
        assert (answer.status, answer.values("Connection")) == (200, ["close"])
        assert client.ended()


# -- asked twice -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shutdown", [{"drain": "60s"}, {"delay": "60s", "drain": "60s"}], ids=["drain", "delay"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(
    config: Tree, run: Run, by_hand: Listening, context: ssl.SSLContext, number: signal.Signals, shutdown: Tree
) -> None:
    """What is in flight is seen to be cut short; the exit status is that of a stop that was asked for."""
    config["shutdown"] = shutdown
    command = run()
    with tls(command.port(), context) as client:
        client.send(request())
        peer = by_hand.accept()
        peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        client.until(b"hello")
        command.process.send_signal(signal.SIGTERM)
        eventually(lambda: not ready(command))
        assert command.process.poll() is None
        command.process.send_signal(number)
        with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
            read_on(client)
        assert peer.rest() == b""
    assert command.process.wait(PATIENCE) == 0
    assert "asked to stop again: what is in flight is cut off" in [line["message"] for line in command.messages()]
