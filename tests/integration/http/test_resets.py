"""Resets that come together with bytes: whoever waits for more learns at once that none will come.

Every timeout here is a minute long, and a test gives up after ten seconds.
"""

import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.attacks.conftest import standing_still
from tests.integration.clients import connected, request, tls
from tests.integration.harness import LOOPS, RunningProxy, Tree, eventually, running_proxy
from tests.integration.http.peers import Listening, reset
from tests.integration.http.test_websockets import AGREES, ASKS
from tests.integration.refusals import assert_nobody_left
from tests.integration.stepped import client_hello, stepped

from mtlsproxy.tls import slots

LONG = "60s"


@pytest.fixture(params=LOOPS)
def proxy(config: Tree, by_hand: Listening, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RunningProxy]:
    listener = config["listeners"][0]
    listener["timeouts"] = dict.fromkeys(("request_headers", "request_body", "idle", "write"), LONG)
    listener["tls"] |= {"client_hello_timeout": LONG, "handshake_timeout": LONG}
    listener["limits"] = {"max_concurrent_handshakes": 1}
    with running_proxy(config, tmp_path, request.param) as running:
        yield running


def test_within_a_client_hello(proxy: RunningProxy, context: ssl.SSLContext) -> None:
    with connected(proxy.port()) as raw:
        eventually(lambda: proxy.series("connections"))
        with standing_still(proxy):
            raw.sendall(client_hello(context)[:-1])
            reset(raw)
    assert_nobody_left(proxy)
    assert proxy.refusal()["reason"] == "client_aborted"


def test_while_it_waits_for_a_handshake_slot(
    proxy: RunningProxy, context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not read then: who is gone keeps no place in the queue, and none on the listener."""
    monkeypatch.setattr(slots, "SLOT_PATIENCE", 60.0)
    with stepped(proxy.port(), context) as first:
        first.raw.sendall(first.flight())
        assert first.receive()
        with connected(proxy.port()) as waits:
            waits.sendall(client_hello(context))
            eventually(lambda: proxy.series("connections") == {("internal",): 2})
            hello = len(client_hello(context))
            eventually(lambda: proxy.series("received_bytes_total")[("internal",)] >= 2 * hello - 100)
            reset(waits)
        eventually(lambda: proxy.series("connections") == {("internal",): 1})
    assert_nobody_left(proxy)


def test_within_a_requests_headers(proxy: RunningProxy, context: ssl.SSLContext) -> None:
    with tls(proxy.port(), context) as client:
        eventually(lambda: proxy.series("handshakes_total"))
        with standing_still(proxy):
            client.send(b"GET / HT")
            reset(client.sock)
    assert_nobody_left(proxy)


@pytest.mark.parametrize("piece", [b"half", b""], ids=["with a piece of it", "alone"])
def test_within_a_requests_body(proxy: RunningProxy, by_hand: Listening, context: ssl.SSLContext, piece: bytes) -> None:
    with tls(proxy.port(), context) as client:
        client.send(request("/", "Content-Length: 100", method="POST"))
        peer = by_hand.accept()
        peer.head()
        with standing_still(proxy):
            if piece:
                client.send(piece)
            reset(client.sock)
        assert peer.rest() == piece
    assert_nobody_left(proxy)
    (line,) = proxy.access()
    assert (line["status"], line["reason"]) == (499, "client_aborted")


@pytest.mark.parametrize("piece", [b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 103 Early Hints\r\n\r\n"])
def test_before_an_answer(proxy: RunningProxy, by_hand: Listening, context: ssl.SSLContext, piece: bytes) -> None:
    """502 at once; not asked again, for something had come."""
    with tls(proxy.port(), context) as client:
        client.send(request())
        peer = by_hand.accept()
        peer.head()
        with standing_still(proxy):
            peer.send(piece)
            peer.reset()
        answer = client.response()
        if answer.status == 103:
            answer = client.response()
        assert (answer.status, answer.problem["reason"]) == (502, "upstream_error")
    assert by_hand.nobody_else()


@pytest.mark.parametrize("framing", [b"Content-Length: 100", b"Transfer-Encoding: chunked", b"Connection: close"])
def test_within_an_answer(proxy: RunningProxy, by_hand: Listening, context: ssl.SSLContext, framing: bytes) -> None:
    """Cut short for the client, too."""
    with tls(proxy.port(), context) as client:
        client.send(request())
        peer = by_hand.accept()
        peer.head()
        with standing_still(proxy):
            peer.send(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n4\r\nhalf\r\n")
            peer.reset()
        with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
            client.rest()
    (line,) = proxy.access()
    assert (line["status"], line["reason"]) == (200, "upstream_error")


def test_a_whole_answer_is_passed_on(proxy: RunningProxy, by_hand: Listening, context: ssl.SSLContext) -> None:
    """What a reset comes behind is no less whole for it."""
    with tls(proxy.port(), context) as client:
        client.send(request())
        peer = by_hand.accept()
        peer.head()
        with standing_still(proxy):
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            peer.reset()
        assert client.response().body == b"ok"
    eventually(lambda: not proxy.series("upstream_connections"))


@pytest.mark.parametrize("who", ["client", "upstream"])
def test_within_a_websocket(proxy: RunningProxy, by_hand: Listening, context: ssl.SSLContext, who: str) -> None:
    """What came before passes; then the other end ends as well."""
    with tls(proxy.port(), context) as client:
        client.send(request("/", *ASKS))
        peer = by_hand.accept()
        peer.answer(AGREES)
        assert client.response().status == 101
        with standing_still(proxy):
            if who == "client":
                client.send(b"last words")
                reset(client.sock)
            else:
                peer.send(b"last words")
                peer.reset()
        if who == "client":
            assert peer.rest() == b"last words"
        else:
            assert client.exactly(10) == b"last words"
            with contextlib.suppress(OSError):
                assert client.ended()
    assert_nobody_left(proxy)
    (line,) = proxy.access()
    assert line["reason"] == ("client_aborted" if who == "client" else "upstream_error")
