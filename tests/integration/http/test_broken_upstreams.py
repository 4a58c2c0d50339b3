"""What upstreams do wrong: said as 502, 503 or 504 before an answer began, passed on as truncation after it.

No client gets a falsely complete message, and none gets what was another's.
"""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable

import pytest
from tests.integration.clients import Connection, request
from tests.integration.harness import Tree, eventually
from tests.integration.http.conftest import Serve, Served
from tests.integration.http.peers import OK, Listening, Peer, listening
from tests.integration.http.test_messages import chunks

HEAD = b"HTTP/1.1 200 OK\r\n"


def series(upstream: Listening) -> tuple[str, str]:
    return ("recorder", upstream.url)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        HEAD + b"Content-Length: 2, 2\r\n\r\nok",
        HEAD + b"Content-Length: +2\r\n\r\nok",
        HEAD + b"Transfer-Encoding: gzip\r\n\r\nok",
        HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + chunks(b"ok"),
        HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n" + chunks(b"ok"),
        HEAD + b"X: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
        HEAD + b"X: a\nY: b\r\nContent-Length: 2\r\n\r\nok",
        HEAD + b"X : a\r\nContent-Length: 2\r\n\r\nok",
        HEAD + b"X: " + b"a" * 70_000 + b"\r\nContent-Length: 2\r\n\r\nok",
        HEAD + b"X: a\r\n" * 15_000,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 33 + OK,
        b"HTTP/1.1 103 Early Hints\r\n\r\n",
    ],
    ids=lambda answer: repr(answer[:40]),
)
def test_what_is_no_answer_is_an_upstream_error(by_hand: Listening, serve: Serve, answer: bytes) -> None:
    """502, and the connection to the upstream is not used again; the client's is."""
    served = serve()
    with served.connect() as client:
        # A method that is not asked again.
        client.send(request("/", "Content-Length: 0", method="POST"))
        peer = by_hand.accept()
        with contextlib.suppress(OSError):  # of an overlong head the proxy does not take everything
            peer.answer(answer)
        peer.finish()
        response = client.response()
        while response.status < 200:
            response = client.response()
        assert (response.status, response.problem["reason"]) == (502, "upstream_error")
        assert peer.rest() == b""
        client.send(request())
        by_hand.accept().answer()
        assert client.response().status == 200
    assert served.proxy.series("upstream_failures_total") == {series(by_hand): 1}


def test_32_interim_answers_are_not_too_many(by_hand: Listening, serve: Serve) -> None:
    with serve().connect() as client:
        client.send(request())
        by_hand.accept().answer(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 32 + OK)
        assert [client.response().status for _ in range(33)] == [103] * 32 + [200]


def test_an_answer_that_comes_in_bits_is_whole(by_hand: Listening, serve: Serve) -> None:
    """Head and body, byte by byte."""
    answer = (
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks(b"hello", b"you")
    )
    with serve().connect() as client:
        client.send(request())
        peer = by_hand.accept()
        peer.head()
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(len(answer)):
            peer.send(answer[at : at + 1])
        assert [client.response().status, client.response().body] == [103, b"helloyou"]


def finish(peer: Peer) -> None:
    peer.finish()


def reset(peer: Peer) -> None:
    peer.reset()


def garbage(peer: Peer) -> None:
    peer.send(b"zzz\r\n")


BEGUN = {
    "length": (HEAD + b"Content-Length: 10\r\n\r\nhello", [finish, reset]),
    "length, nothing of the body": (HEAD + b"Content-Length: 10\r\n\r\n", [finish, reset]),
    "chunks, within one": (HEAD + b"Transfer-Encoding: chunked\r\n\r\na\r\nhello", [finish, reset]),
    "chunks, between two": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", [finish, reset, garbage]),
    "chunks, within the last": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", [finish, reset]),
    "until close": (HEAD + b"\r\nhello", [reset]),
}


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
@pytest.mark.parametrize(
    ("begun", "end"),
    [(begun, end) for begun, ends in BEGUN.values() for end in ends],
    ids=[f"{name}, {end.__name__}" for name, (_, ends) in BEGUN.items() for end in ends],
)
def test_truncation_is_passed_on(
    by_hand: Listening, serve: Serve, begun: bytes, end: Callable[[Peer], None], version: str
) -> None:
    """By the framing, and where there is none (HTTP/1.0 and no length) by an end without close_notify."""
    served = serve()
    with served.connect() as client:
        client.send(request().replace(b"HTTP/1.1", version.encode()))
        peer = by_hand.accept()
        peer.answer(begun)
        head = client.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        end(peer)
        with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
            rest_of(client)
    (line,) = served.proxy.access()
    assert (line["status"], line["reason"]) == (200, "upstream_error")


def rest_of(client: Connection) -> None:
    """Reads on; a proper end is the failure."""
    while data := client.sock.recv(65536):
        assert not data.endswith(b"0\r\n\r\n"), "a falsely complete message"


def test_an_upstream_that_stops_within_its_answer_times_out(config: Tree, by_hand: Listening, serve: Serve) -> None:
    config["routes"][0]["timeouts"] = {"response_body": "300ms"}
    served = serve()
    with served.connect() as client:
        client.send(request())
        peer = by_hand.accept()
        peer.answer(HEAD + b"Content-Length: 10\r\n\r\nhello")
        client.until(b"\r\n\r\n")
        with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
            rest_of(client)
        assert peer.rest() == b""
    (line,) = served.proxy.access()
    assert (line["status"], line["reason"]) == (200, "upstream_timeout")


def test_the_response_timeout_is_not_restarted_by_interim_answers(
    config: Tree, by_hand: Listening, serve: Serve
) -> None:
    config["routes"][0]["timeouts"] = {"response": "500ms"}
    with serve().connect() as client:
        client.send(request())
        peer = by_hand.accept()
        peer.head()
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(0.1):
                try:
                    peer.send(b"HTTP/1.1 102 Processing\r\n\r\n")
                except OSError:
                    return

        dripping = threading.Thread(target=drip)
        dripping.start()
        statuses = []
        while (status := client.response().status) < 200:
            statuses.append(status)
        stop.set()
        dripping.join()
        assert status == 504
        assert 2 <= len(statuses) <= 12


# -- connections that are used again ---------------------------------------------------------------------------------


def first_exchange(client: Connection, upstream: Listening, answer: bytes = OK) -> Peer:
    client.send(request("/first"))
    peer = upstream.accept()
    peer.answer(answer)
    assert client.response().status == 200
    return peer


def gone(served: Served, upstream: Listening) -> None:
    """The proxy has seen that its pooled connection ended."""
    eventually(lambda: series(upstream) not in served.proxy.series("upstream_connections"))


def test_a_pooled_connection_that_the_upstream_closed_is_not_used(by_hand: Listening, serve: Serve) -> None:
    served = serve()
    for end in (finish, reset):
        with served.connect() as client:
            end(first_exchange(client, by_hand))
            gone(served, by_hand)
            client.send(request("/second", "Content-Length: 0", method="POST"))
            peer = by_hand.accept()
            assert peer.answer().startswith(b"POST /second")
            assert client.response().status == 200
            peer.finish()
            gone(served, by_hand)


def test_a_safe_request_is_asked_again_when_the_connection_breaks_under_it(by_hand: Listening, serve: Serve) -> None:
    """The server closed while the request was on its way (RFC 9110 §9.2.2, RFC 9112 §9.3.1)."""
    served = serve()
    for method in ("GET", "HEAD", "OPTIONS", "DELETE", "PUT"):
        with served.connect() as client:
            client.send(request(method=method))
            peer = by_hand.accept()
            peer.head()
            peer.finish()
            again = by_hand.accept()
            assert again.answer().startswith(method.encode())
            assert client.response(to_head=method == "HEAD").status == 200
            again.finish()
            gone(served, by_hand)
    assert served.proxy.series("upstream_retries_total") == {series(by_hand): 5}


@pytest.mark.parametrize(
    ("method", "lines", "body"),
    [
        ("POST", (), b""),
        ("PATCH", (), b""),
        ("PUT", ("Content-Length: 2",), b"ab"),
        ("POST", ("Content-Length: 2",), b"ab"),
    ],
)
def test_other_requests_are_not_asked_again(
    by_hand: Listening, serve: Serve, method: str, lines: tuple[str, ...], body: bytes
) -> None:
    """The server may have acted on it."""
    with serve().connect() as client:
        client.send(request("/", *lines, method=method, body=body))
        peer = by_hand.accept()
        peer.head()
        peer.exactly(len(body))
        peer.finish()
        assert client.response().status == 502
        assert by_hand.nobody_else()


def test_a_safe_request_is_asked_again_only_so_often(config: Tree, by_hand: Listening, serve: Serve) -> None:
    """retries: n means n + 1 attempts; 0 means one."""
    for retries in (0, 1, 2):
        config["upstreams"]["recorder"]["retries"] = retries
        with serve().connect() as client:
            client.send(request())
            for _ in range(retries + 1):
                peer = by_hand.accept()
                peer.head()
                peer.finish()
            assert client.response().status == 502
            assert by_hand.nobody_else()


def test_a_request_is_not_asked_again_once_an_answer_began(by_hand: Listening, serve: Serve) -> None:
    """Not even after an interim answer, or the first byte of a head."""
    with serve().connect() as client:
        for answer, statuses in [(b"H", [502]), (b"HTTP/1.1 103 Early Hints\r\n\r\n", [103, 502])]:
            client.send(request())
            peer = by_hand.accept()
            peer.answer(answer)
            peer.finish()
            assert [client.response().status for _ in statuses] == statuses
            assert by_hand.nobody_else()


def test_a_surplus_answer_is_nobodys(by_hand: Listening, serve: Serve) -> None:
    """Two answers to one request, at once or one after the other: the next client must not get the second."""
    served = serve()
    evil = HEAD + b"Content-Length: 4\r\n\r\nevil"
    for together in (True, False):
        with served.connect() as client, served.connect() as other:
            peer = first_exchange(client, by_hand, OK + evil if together else OK)
            if not together:
                peer.send(evil)
            gone(served, by_hand)
            other.send(request("/second"))
            peer = by_hand.accept()
            peer.answer()
            assert other.response().body == b"ok"
            peer.finish()
            gone(served, by_hand)


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"Content-Length: 2\r\n\r\nokHTTP",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks(b"ok") + b"\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\nok",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nok",
    ],
)
def test_a_connection_with_bytes_behind_its_answer_is_not_used_again(
    by_hand: Listening, serve: Serve, answer: bytes
) -> None:
    with serve().connect() as client:
        client.send(request())
        peer = by_hand.accept()
        peer.answer(answer)
        assert client.response().status in (200, 204, 304)
        assert peer.rest() == b""
        client.send(request())
        by_hand.accept().answer()
        assert client.response().body == b"ok"


def test_a_body_after_an_answer_to_head_is_nobodys(by_hand: Listening, serve: Serve) -> None:
    with serve().connect() as client:
        client.send(request(method="HEAD"))
        peer = by_hand.accept()
        peer.answer(OK)
        assert client.response(to_head=True).status == 200
        assert peer.rest() == b""


def test_who_answers_early_gets_no_more_and_the_client_goes_on(by_hand: Listening, serve: Serve) -> None:
    """The rest of the body is nobody's (an upstream that has answered may take it for another request); the client's
    next request is read where it begins, and asked on another connection."""
    with serve().connect() as client:
        client.send(request("/first", "Content-Length: 10", method="POST", body=b"hello"))
        peer = by_hand.accept()
        peer.head()
        assert peer.exactly(5) == b"hello"
        peer.send(OK)
        assert client.response().status == 200
        client.send(b"GET /" + request("/second"))
        assert peer.rest() == b""
        assert by_hand.accept().answer().startswith(b"GET /second ")
        assert client.response().status == 200


@pytest.mark.parametrize("end", [finish, reset])
def test_an_upstream_that_answers_early_and_closes_is_heard(
    by_hand: Listening, serve: Serve, end: Callable[[Peer], None]
) -> None:
    """As servers do with 413: the client gets the answer although most of its body has no taker."""
    with serve().connect() as client:
        client.send(request("/", f"Content-Length: {10_000_000}", method="POST", body=b"x" * 1000))
        peer = by_hand.accept()
        peer.answer(b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig")
        assert client.response().body == b"big"
        end(peer)
        with pytest.raises((EOFError, OSError)):
            # The proxy reads on for a while, then ends; it does not take ten million bytes for nobody.
            for _ in range(100):
                client.send(b"x" * 100_000)
            client.until(b"\r\n")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_nobody_listens(config: Tree, serve: Serve, method: str) -> None:
    with listening() as server:
        config["upstreams"]["recorder"]["servers"] = [{"url": server.url}]
        server.close()
        served = serve()
        with served.connect() as client:
            client.send(request("/", "Content-Length: 2", method=method, body=b"ab"))
            answer = client.response()
            assert (answer.status, answer.problem["reason"]) == (503, "upstream_unavailable")
    assert served.proxy.series("upstream_failures_total") == {series(server): 2}, "it was tried again once"


def test_another_server_is_asked_when_one_does_not_listen(config: Tree, by_hand: Listening, serve: Serve) -> None:
    """What was refused before a byte was sent may be repeated whatever its method, body and all."""
    with listening() as server:
        config["upstreams"]["recorder"]["servers"].insert(0, {"url": server.url})
        server.close()
        with serve().connect() as client:
            client.send(request("/", "Content-Length: 5", method="POST", body=b"hello"))
            peer = by_hand.accept()
            peer.head()
            assert peer.exactly(5) == b"hello"
            peer.send(OK)
            assert client.response().status == 200
