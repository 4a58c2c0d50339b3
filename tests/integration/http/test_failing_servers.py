"""Several servers, of which some fail: a client's request goes where it is answered, and repeats only what it may."""

import contextlib
import socket
from typing import Any

import pytest
from tests.integration.clients import Connection, request
from tests.integration.harness import RunningProxy, Tree, eventually
from tests.integration.http.conftest import Serve
from tests.integration.http.peers import OK, Listening, listening
from tests.integration.upstream import RecordingUpstream


def use(config: Tree, *servers: Any, **settings: Any) -> None:
    urls = [server if isinstance(server, str) else server.url for server in servers]
    config["upstreams"]["recorder"] = {"servers": [{"url": url} for url in urls], **settings}


def counted(proxy: RunningProxy, name: str) -> dict[str, float]:
    """A metric of the servers, by URL, those that are 0 left out."""
    return {url: value for (_, url), value in proxy.series(f"upstream_{name}").items()}


def said(proxy: RunningProxy, words: str) -> list[str]:
    """Lines of its log with these words, once there is one: another thread writes them."""
    return eventually(lambda: [line["message"] for line in proxy.messages() if words in line["message"]])


def refused(proxy: RunningProxy, words: str) -> list[str]:
    """Details of refusals with these words, once there is one."""
    return eventually(lambda: [line["detail"] for line in proxy.refusals() if words in line["detail"]])


def dead() -> str:
    """The URL of a server that is not there."""
    with listening() as server:
        return server.url


def ended(_: Any, connection: socket.socket) -> None:
    """A server that ends connections instead of answering."""


def test_requests_are_shared_by_weight(config: Tree, serve: Serve, upstream: RecordingUpstream, other: Any) -> None:
    use(config, upstream, other)
    config["upstreams"]["recorder"]["servers"][0]["weight"] = 3
    with serve().connect() as client:
        for _ in range(8):
            assert client.get().status == 200
    assert (len(upstream.requests), len(other.requests)) == (6, 2)


def test_a_client_stays_with_its_server_and_moves_only_when_it_is_gone(
    config: Tree, serve: Serve, upstream: RecordingUpstream, other: RecordingUpstream
) -> None:
    use(config, upstream, other, balance="client_hash", retries=2)
    served = serve()
    for _ in range(3):
        with served.connect() as client:
            for _ in range(3):
                assert client.get().status == 200
    first, second = sorted((upstream, other), key=lambda each: -len(each.requests))
    assert (len(first.requests), len(second.requests)) == (9, 0)
    first.script = ended
    with served.connect() as client:
        assert client.get().status == 200
    assert len(second.requests) == 1


def test_the_busier_of_two_servers_gets_no_more(config: Tree, serve: Serve, other: RecordingUpstream) -> None:
    with listening() as busy:
        use(config, busy, other, balance="least_requests")
        served = serve()
        with contextlib.ExitStack() as stack:
            peer = None
            while peer is None:  # chance decides among two idle ones
                client = stack.enter_context(served.connect())
                client.send(request())
                if not busy.nobody_else(0.05):
                    peer = client
                else:
                    client.response()
            before = len(other.requests)
            with served.connect() as client:
                for _ in range(10):
                    assert client.get().status == 200
            assert len(other.requests) == before + 10


def test_a_dead_server_is_left_alone_after_some_failures(
    config: Tree, serve: Serve, upstream: RecordingUpstream
) -> None:
    """Clients notice nothing of it; the operator does."""
    gone = dead()
    use(config, gone, upstream, circuit_breaker={"failures": 2, "open_for": "1h"})
    served = serve()
    with served.connect() as client:
        for _ in range(10):
            assert client.get().status == 200
    assert counted(served.proxy, "failures_total") == {gone: 2}
    assert counted(served.proxy, "retries_total") == {upstream.url: 2}
    assert counted(served.proxy, "healthy") == {upstream.url: 1}
    assert counted(served.proxy, "connections") == {upstream.url: 1}
    (line,) = said(served.proxy, "left alone")
    assert f"server {gone} of upstream recorder" in line
    assert "refused" in line


def test_a_breaker_opens_lets_one_try_and_closes(config: Tree, serve: Serve, upstream: RecordingUpstream) -> None:
    use(config, upstream, retries=0, circuit_breaker={"failures": 2, "open_for": "300ms"})
    served = serve()
    with served.connect() as client:
        upstream.script = ended
        assert [client.get().status for _ in range(2)] == [502, 502]
        asked = len(upstream.requests)
        answer = client.get()
        assert (answer.status, answer.problem["reason"]) == (503, "upstream_unavailable")
        assert len(upstream.requests) == asked, "nothing was sent"
        assert counted(served.proxy, "healthy") == {}
        # The one that tries fails: again nothing passes.
        assert eventually(lambda: client.get().status == 502)
        assert client.get().status == 503
        upstream.answer(OK)
        assert eventually(lambda: client.get().status == 200)
        assert [client.get().status for _ in range(5)] == [200] * 5
        assert counted(served.proxy, "healthy") == {upstream.url: 1}
    assert said(served.proxy, f"server {upstream.url} of upstream recorder answers again")
    assert upstream.url in refused(served.proxy, "no server may be asked")[0]


def test_an_answer_of_any_status_is_an_answer(config: Tree, serve: Serve, upstream: RecordingUpstream) -> None:
    """500 is the application's business: the breaker counts what fails to answer."""
    use(config, upstream, circuit_breaker={"failures": 1, "open_for": "1h"})
    upstream.answer(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
    with serve().connect() as client:
        assert [client.get().status for _ in range(4)] == [503] * 4
    assert len(upstream.requests) == 4


def test_answers_in_time_keep_the_breaker_closed(config: Tree, serve: Serve, upstream: RecordingUpstream) -> None:
    use(config, upstream, retries=0, circuit_breaker={"failures": 2, "open_for": "1h"})
    served = serve()
    with served.connect() as client:
        for _ in range(4):
            upstream.script = ended
            assert client.get().status == 502
            upstream.answer(OK)
            assert client.get().status == 200


def test_a_get_that_was_reset_goes_to_another_server(config: Tree, serve: Serve, other: RecordingUpstream) -> None:
    with listening() as first:
        use(config, first, other)
        served = serve()
        with served.connect() as client:
            client.send(request("/a"))
            peer = first.accept()
            peer.head()
            peer.reset()
            assert client.response().status == 200
        assert [asked.line for asked in other.requests] == ["GET /a HTTP/1.1"]
        assert counted(served.proxy, "retries_total") == {other.url: 1}
        assert counted(served.proxy, "failures_total") == {first.url: 1}


@pytest.mark.parametrize(("method", "body"), [("POST", b""), ("PUT", b"ab"), ("PATCH", b"")])
def test_what_may_have_been_heard_is_not_repeated(
    config: Tree, serve: Serve, other: RecordingUpstream, method: str, body: bytes
) -> None:
    """Not idempotent, or its body has gone (RFC 9110 §9.2.2)."""
    with listening() as first:
        use(config, first, other, retries=3)
        with serve().connect() as client:
            client.send(request("/", f"Content-Length: {len(body)}", method=method, body=body))
            peer = first.accept()
            peer.head()
            peer.exactly(len(body))
            peer.reset()
            answer = client.response()
            assert (answer.status, answer.problem["reason"]) == (502, "upstream_error")
        assert other.untouched


def test_a_get_that_waits_too_long_goes_to_another_server_where_there_is_one(
    config: Tree, serve: Serve, other: RecordingUpstream
) -> None:
    config["routes"][0]["timeouts"] = {"response": "300ms"}
    with listening() as silent:
        use(config, silent, other)
        with serve().connect() as client:
            assert client.get().status == 200
        use(config, silent)
        with serve().connect() as client:
            answer = client.get()
            assert (answer.status, answer.problem["reason"]) == (504, "upstream_timeout")


def test_the_last_reason_is_told_when_nothing_helps(config: Tree, serve: Serve) -> None:
    with listening() as first, listening() as second:
        use(config, first, second, retries=1)
        served = serve()
        with served.connect() as client:
            client.send(request())
            for server in (first, second):
                peer = server.accept()
                peer.head()
                peer.reset()
            answer = client.response()
            assert (answer.status, answer.problem["reason"]) == (502, "upstream_error")
        assert counted(served.proxy, "failures_total") == {first.url: 1, second.url: 1}
        assert counted(served.proxy, "retries_total") == {second.url: 1}


def test_what_went_wrong_is_told_where_no_server_is_left_to_try(config: Tree, serve: Serve) -> None:
    """The breaker opens with the first failure: the retry finds nobody, and that is not what the client is told."""
    with listening() as server:
        use(config, server, retries=3, circuit_breaker={"failures": 1, "open_for": "1h"})
        served = serve()
        with served.connect() as client:
            client.send(request())
            peer = server.accept()
            peer.head()
            peer.reset()
            answer = client.response()
            assert (answer.status, answer.problem["reason"]) == (502, "upstream_error")
            assert client.get().status == 503
        assert "no server may be asked" in refused(served.proxy, "broke")[0]


def rested(client: Connection, server: Listening) -> Any:
    """The upstream's end of a connection that has served a request and rests."""
    client.send(request())
    peer = server.accept()
    peer.answer()
    assert client.response().status == 200
    return peer


def test_a_pooled_connection_that_ends_with_the_next_request_is_not_the_clients_problem(
    config: Tree, serve: Serve
) -> None:
    """The server closes it in the moment in which the request is on its way: no retry, no failure."""
    with listening() as server:
        use(config, server, retries=0)
        served = serve()
        with served.connect() as client:
            peer = rested(client, server)
            client.send(request("/again"))
            peer.head()
            peer.reset()
            server.accept().answer()
            assert client.response().status == 200
        assert counted(served.proxy, "failures_total") == {}
        assert counted(served.proxy, "retries_total") == {}


def test_once_is_enough(config: Tree, serve: Serve) -> None:
    """A server that ends the fresh connection, too, fails the request."""
    with listening() as server:
        use(config, server, retries=0)
        served = serve()
        with served.connect() as client:
            peers = [rested(client, server)]
            client.send(request())
            peers[0].head()
            peers[0].reset()
            peer = server.accept()
            peer.head()
            peer.reset()
            assert client.response().status == 502
        assert counted(served.proxy, "failures_total") == {server.url: 1}


def test_a_post_on_a_connection_that_ends_is_a_failure(config: Tree, serve: Serve) -> None:
    with listening() as server:
        use(config, server)
        served = serve()
        with served.connect() as client:
            peer = rested(client, server)
            client.send(request("/", "Content-Length: 0", method="POST"))
            peer.head()
            peer.reset()
            assert client.response().status == 502
            assert server.nobody_else()
        assert counted(served.proxy, "failures_total") == {server.url: 1}


def test_requests_beyond_the_queue_are_turned_away(config: Tree, serve: Serve) -> None:
    with listening() as server:
        use(config, server, max_connections=1, queue=1)
        served = serve()
        with served.connect() as busy, served.connect() as waiting, served.connect() as third:
            busy.send(request("/busy"))
            peer = server.accept()
            peer.head()
            waiting.send(request("/waiting"))
            upstream = served.proxy.proxy.pools.upstreams["recorder"]
            eventually(lambda: served.proxy.call(lambda: len(upstream._waiting)))
            answer = third.get()
            assert (answer.status, answer.problem["reason"]) == (503, "upstream_unavailable")
            peer.send(OK)
            assert busy.response().status == 200
            assert peer.answer().startswith(b"GET /waiting")
            assert waiting.response().status == 200
        assert "(queue)" in served.proxy.refusal()["detail"]
