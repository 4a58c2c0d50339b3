"""Requests sent ahead are answered in order, one at a time, however many and however they are cut."""

import socket
import ssl
import threading
import time

import pytest
from tests.integration.clients import Connection, request
from tests.integration.harness import Tree
from tests.integration.http.conftest import Serve, Served
from tests.integration.http.peers import settled, swallow
from tests.integration.upstream import Recorded, RecordingUpstream

MANY = 9_000


def named(asked: Recorded, _: socket.socket) -> bytes:
    """Answers with the request's path."""
    body = asked.line.split(" ")[1].encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def half_close(client: Connection) -> None:
    """FIN, without TLS's own end of data."""
    socket.socket.shutdown(client.sock, socket.SHUT_WR)


def test_thousands_sent_ahead_are_answered_in_order(served: Served, upstream: RecordingUpstream) -> None:
    upstream.script = named
    with served.connect() as client:
        data = b"".join(request(f"/{n}") for n in range(MANY))
        client.send_ahead(data)
        for n in range(MANY):
            assert client.response().body == b"/%d" % n
        assert client.all_sent
    assert len(upstream.received) == 1, "one at a time"


def test_requests_with_and_without_bodies_and_refusals_keep_their_order(
    config: Tree, upstream: RecordingUpstream, serve: Serve
) -> None:
    config["routes"][0] |= {"methods": ["GET", "POST"]}
    upstream.script = lambda asked, _: (
        named(asked, _) if not asked.body else b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"
    )
    ahead = [
        (request("/1"), 200),
        (request("/2", "Content-Length: 5", method="POST", body=b"GET /"), 201),
        (request("/3", "Transfer-Encoding: chunked", method="POST", body=b"5\r\nGET /\r\n0\r\n\r\n"), 201),
        (request("/4", method="PUT"), 405),
        (request("/5", host="other.test"), 421),
        (b"\r\n" + request("/6"), 200),
        (request("/7", "Content-Length: 0", method="POST"), 200),
        (request("/8", "Connection: close"), 200),
        (request("/9"), None),
    ]
    data = b"".join(part for part, _ in ahead)
    expected = [status for _, status in ahead if status]
    served = serve()
    for size in (len(data), 100, 7):
        upstream.requests.clear()
        with served.connect() as client:
            for at in range(0, len(data), size):
                client.send(data[at : at + size])
            assert [client.response().status for _ in expected] == expected
            assert client.ended()
        assert [asked.line.split(" ")[1] for asked in upstream.requests] == ["/1", "/2", "/3", "/6", "/7", "/8"]


def test_a_bad_request_behind_good_ones_is_refused_in_its_turn(served: Served, upstream: RecordingUpstream) -> None:
    """And what is behind it is not read at all."""
    with served.connect() as client:
        client.send(request("/1") + request("/2", "X : bad") + request("/3"))
        assert [client.response().status for _ in range(2)] == [200, 400]
        assert client.ended()
    assert [asked.line for asked in upstream.requests] == ["GET /1 HTTP/1.1"]


def test_what_was_sent_ahead_is_answered_though_the_client_sends_no_more(
    served: Served, upstream: RecordingUpstream
) -> None:
    """Half-close by FIN: after one request and after several."""
    upstream.script = named
    for count in (1, 3):
        with served.connect() as client:
            client.send(b"".join(request(f"/{n}") for n in range(count)))
            half_close(client)
            assert [client.response().body for n in range(count)] == [b"/%d" % n for n in range(count)]


def test_what_was_sent_ahead_is_answered_after_close_notify(
    served: Served, upstream: RecordingUpstream, context: ssl.SSLContext
) -> None:
    """Half-close by TLS: the end of data comes in the same bytes as the requests (RFC 8446 §6.1)."""
    upstream.script = named
    for count in (1, 3):
        with socket.create_connection(("127.0.0.1", served.port), 10) as raw:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            client = context.wrap_bio(incoming, outgoing, server_hostname="proxy.test")
            while True:
                try:
                    client.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    raw.sendall(outgoing.read())
                    incoming.write(raw.recv(65536))
            client.write(b"".join(request(f"/{n}") for n in range(count)))
            with pytest.raises(ssl.SSLWantReadError):
                client.unwrap()
            raw.sendall(outgoing.read())
            got = b""
            while got.count(b"HTTP/1.1 200") < count:
                try:
                    got += client.read(65536)
                except ssl.SSLWantReadError:
                    data = raw.recv(65536)
                    assert data, got
                    incoming.write(data)


def test_a_half_request_and_an_end_is_no_request(served: Served, upstream: RecordingUpstream) -> None:
    for data in (request()[:-3], b"GET", request("/", "Content-Length: 5", method="POST", body=b"hel"), b""):
        with served.connect() as client:
            client.send(data)
            half_close(client)
            assert client.rest() == b""
    assert all(not asked.body for asked in upstream.requests)


@pytest.mark.parametrize("reuse", [b"keep-alive", b"close"])
def test_requests_wait_until_the_client_has_taken_the_answers_before_them(
    served: Served, upstream: RecordingUpstream, reuse: bytes
) -> None:
    """A client that sends ahead and does not read is not served ahead, by whichever connection of the upstream's."""
    upstream.answer(b"HTTP/1.1 200 OK\r\nConnection: %b\r\nContent-Length: 6000\r\n\r\n" % reuse + b"x" * 6_000)
    with served.connect_narrowly() as client:
        client.send_ahead(request() * 300)
        asked = settled(lambda: len(upstream.requests))
        assert asked < 100, "1.8 MB were asked for; the kernel's buffers take some"
        assert served.unsent < 512 * 1024
        for _ in range(300):
            assert len(client.response().body) == 6_000
        assert client.all_sent


def test_a_large_answer_behind_others_is_held_back_like_a_first(served: Served, upstream: RecordingUpstream) -> None:
    """It begins while its client owes reading of earlier ones."""
    large = 20_000_000

    def sized(asked: Recorded, _: socket.socket) -> bytes:
        size = int(asked.line.split(" ")[1][1:])
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size

    upstream.script = sized
    with served.connect_narrowly() as client:
        client.send(request("/20000") * 4 + request(f"/{large}"))
        kept = settled(lambda: served.unsent)
        assert kept < 512 * 1024
        assert [len(client.response().body) for _ in range(4)] == [20_000] * 4
        client.until(b"\r\n\r\n")
        assert settled(lambda: served.unsent) < 512 * 1024
        swallow(client, large)


def test_who_owes_reading_is_not_idle(config: Tree, upstream: RecordingUpstream, serve: Serve) -> None:
    """Requests that wait for their client to take the answers before them: timeouts.write is for that."""
    config["listeners"][0]["timeouts"] = {"idle": "200ms"}
    upstream.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 6000\r\n\r\n" + b"x" * 6_000)
    served = serve()
    with served.connect_narrowly() as client:
        client.send(request() * 60)
        settled(lambda: served.unsent)
        time.sleep(0.5)
        assert [len(client.response().body) for _ in range(60)] == [6_000] * 60


def test_a_connection_is_idle_again_once_its_client_has_taken_the_answer(
    config: Tree, upstream: RecordingUpstream, serve: Serve
) -> None:
    """However slowly: it is closed in time, instead of never."""
    config["listeners"][0]["timeouts"] = {"idle": "200ms"}
    upstream.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000)
    served = serve()
    with served.connect_narrowly() as client:
        client.send(request())
        settled(lambda: served.unsent)
        assert len(client.response().body) == 100_000
        assert client.ended()


def test_refusals_wait_too(config: Tree, serve: Serve) -> None:
    config["routes"][0]["paths"] = ["/elsewhere"]
    served = serve()
    count = 60_000
    with served.connect() as client:
        writer = threading.Thread(target=client.send, args=(request() * count,), daemon=True)
        writer.start()
        settled(lambda: int(served.proxy.series("rejections_total").get(("internal", "", "no_route", "true"), 0)))
        assert served.unsent < 512 * 1024
