"""Clients that leave, break off or go on alone: the upstream hears of it, and nobody inherits their connections."""

import contextlib
import socket

import pytest
from tests.integration.clients import Connection, request
from tests.integration.harness import Tree, eventually
from tests.integration.http.conftest import Serve, Served
from tests.integration.http.peers import OK, Listening, full_port, listening, reset

LARGE = 50_000_000


def leave(client: Connection) -> None:
    """FIN from a client that will not read either."""
    client.sock.close()


def abort(client: Connection) -> None:
    """RST."""
    reset(client.sock)


def idle_again(served: Served) -> None:
    """Nothing is in flight, and the upstream's connection is gone."""
    eventually(
        lambda: not served.proxy.series("requests_in_flight") and not served.proxy.series("upstream_connections")
    )


@pytest.mark.parametrize("end", [leave, abort])
@pytest.mark.parametrize("framing", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
def test_a_client_that_leaves_within_its_body_ends_the_upstreams_request(
    by_hand: Listening,
    serve: Serve,
    framing: str,
    end,  # type: ignore[no-untyped-def]
) -> None:
    """The upstream sees a message cut short, never one that looks whole (RFC 9112 §8)."""
    served = serve()
    with contextlib.suppress(OSError), served.connect() as client:
        client.send(request("/", framing, method="POST", body=b"400\r\n" + b"x" * 1000))
        peer = by_hand.accept()
        peer.head()
        peer.until(b"x" * 100)
        end(client)
        assert not peer.rest().endswith(b"0\r\n\r\n")
    idle_again(served)
    (line,) = served.proxy.access()
    assert (line["status"], line["reason"]) == (499, "client_aborted")


@pytest.mark.parametrize("end", [leave, abort])
def test_a_client_that_leaves_within_its_answer_ends_the_upstreams_connection(
    by_hand: Listening, serve: Serve, end
) -> None:  # type: ignore[no-untyped-def]
    """It is not read to the end for nobody, and not used again."""
    served = serve()
    with contextlib.suppress(OSError), served.connect() as client:
        client.send(request())
        peer = by_hand.accept()
        peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE)
        client.until(b"\r\n\r\n")
        end(client)
        with pytest.raises(OSError):
            for _ in range(LARGE // 100_000):
                peer.send(b"x" * 100_000)
            peer.send(b"x" * 100_000)
    idle_again(served)
    (line,) = served.proxy.access()
    assert (line["status"], line["reason"]) == (200, "client_aborted")


def test_a_client_that_breaks_off_before_its_answer_ends_the_upstreams_request(
    by_hand: Listening, serve: Serve
) -> None:
    served = serve()
    with contextlib.suppress(OSError), served.connect() as client:
        client.send(request())
        peer = by_hand.accept()
        peer.head()
        abort(client)
        assert peer.rest() == b""
    idle_again(served)
    (line,) = served.proxy.access()
    assert (line["status"], line["reason"]) == (499, "client_aborted")


def test_a_client_that_leaves_while_its_connection_is_made_leaves_nothing_behind(config: Tree, serve: Serve) -> None:
    """The connection made for it serves the next."""
    with full_port() as port:
        config["upstreams"]["recorder"] = {
            "servers": [{"url": f"http://127.0.0.1:{port}"}], "connect_timeout": "500ms", "retries": 0,
        }  # fmt: skip
        served = serve()
        with contextlib.suppress(OSError), served.connect() as client:
            client.send(request())
            eventually(lambda: served.proxy.series("requests_in_flight"))
            abort(client)
        eventually(lambda: not served.proxy.series("requests_in_flight"))
        with served.connect() as client:
            assert client.get().status == 504
        eventually(lambda: not served.proxy.series("upstream_connections"))


def test_a_client_that_leaves_while_it_waits_for_a_connection_gives_up_its_place(
    config: Tree, by_hand: Listening, serve: Serve
) -> None:
    config["upstreams"]["recorder"] |= {"max_connections": 1, "queue": 1}
    served = serve()
    with served.connect() as busy, contextlib.suppress(OSError), served.connect() as waiting:
        busy.send(request("/1"))
        peer = by_hand.accept()
        peer.head()
        waiting.send(request("/2"))
        eventually(lambda: served.proxy.series("requests_in_flight").get(("internal",)) == 2)
        abort(waiting)
        eventually(lambda: served.proxy.series("requests_in_flight").get(("internal",)) == 1)
        with served.connect() as next_one:
            next_one.send(request("/3"))
            eventually(lambda: served.proxy.series("requests_in_flight").get(("internal",)) == 2)
            peer.send(OK)
            assert busy.response().status == 200
            assert peer.answer().startswith(b"GET /3 ")
            assert next_one.response().status == 200


@pytest.mark.parametrize("answer", [OK, b"HTTP/1.1 200 OK\r\n\r\nok"], ids=["length", "until close"])
def test_a_client_that_has_said_all_still_gets_its_answer(by_hand: Listening, serve: Serve, answer: bytes) -> None:
    """Half-close: FIN behind the request, or behind the body's last byte; the answer comes later."""
    served = serve()
    for data in (request(), request("/", "Content-Length: 5", method="POST", body=b"hello")):
        with served.connect() as client:
            client.send(data)
            peer = by_hand.accept()
            peer.head()
            socket.socket.shutdown(client.sock, socket.SHUT_WR)
            peer.send(answer)
            peer.finish()
            assert client.response().body == b"ok"
            assert client.ended()
            peer.rest()


def test_other_clients_are_served_while_one_is_stuck(by_hand: Listening, serve: Serve) -> None:
    served = serve()
    with served.connect() as stuck, served.connect() as client:
        stuck.send(request("/stuck"))
        first = by_hand.accept()
        first.head()
        client.send(request("/quick"))
        by_hand.accept().answer()
        assert client.response().status == 200
        first.send(OK)
        assert stuck.response().status == 200


def test_an_upload_that_breaks_off_does_not_touch_other_uploads(config: Tree, serve: Serve) -> None:
    """Two at a time over the same pool, one aborted between the other's halves."""
    with listening() as server:
        config["upstreams"]["recorder"]["servers"] = [{"url": server.url}]
        served = serve()
        with served.connect() as one, contextlib.suppress(OSError), served.connect() as two:
            for client, mark in ((one, b"1"), (two, b"2")):
                client.send(request("/" + mark.decode(), "Content-Length: 10", method="PUT", body=mark * 5))
            peers = {}
            for _ in range(2):
                peer = server.accept()
                peers[peer.head()[5:6]] = peer
            abort(two)
            assert peers[b"2"].rest() == b"2" * 5
            one.send(b"1" * 5)
            assert peers[b"1"].exactly(10) == b"1" * 10
            peers[b"1"].send(OK)
            assert one.response().status == 200
