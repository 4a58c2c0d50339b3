"""Attacks by messages that two readers read in two ways: the connection ends, and nothing of it is forwarded."""

import contextlib
import ssl

import pytest
from tests.integration.clients import Connection, request, tls
from tests.integration.conftest import Start
from tests.integration.harness import RunningProxy, Tree, eventually
from tests.integration.upstream import RecordingUpstream
from tests.unit.http1.test_smuggling import REFUSED

from mtlsproxy.reasons import Reason

HIDDEN = request("/hidden", "X-Client-Id: admin")
FIRST = b"POST / HTTP/1.1\r\nHost: proxy.test\r\n"


def assert_refused_and_ended(client: Connection) -> None:
    answer = client.response()
    assert (answer.status, answer.problem["reason"]) == (400, Reason.BAD_REQUEST)
    assert answer.values("Connection") == ["close"]
    with contextlib.suppress(ConnectionError, ssl.SSLError):  # reset behind the answer: more was sent than was read
        assert client.rest() == b""


def test_no_ambiguous_head_lets_anything_through(
    config: Tree, upstream: RecordingUpstream, start: Start, hostile: ssl.SSLContext
) -> None:
    """Every vector of the parser's own tests, on the wire, with a request hidden behind it."""
    proxy = start(config)
    for _name, lines in REFUSED:
        with tls(proxy.port(), hostile) as client:
            client.send(FIRST + b"\r\n".join(lines) + b"\r\n\r\n" + b"0\r\n\r\n" + HIDDEN)
            assert_refused_and_ended(client)
    assert upstream.untouched
    assert proxy.series("rejections_total") == {("internal", "", Reason.BAD_REQUEST, "true"): len(REFUSED)}


VERSIONS_AND_TARGETS = [
    b"GET /\r\n",
    b"GET / HTTP/0.9\r\nHost: proxy.test\r\n",
    b"GET / HTTP/1.1 \r\nHost: proxy.test\r\n",
    b"GET  / HTTP/1.1\r\nHost: proxy.test\r\n",
    b"GET http://localhost/ HTTP/1.1\r\nHost: proxy.test\r\n",
    b"GET http://proxy.test@localhost/ HTTP/1.1\r\nHost: proxy.test\r\n",
    b"GET / HTTP/1.1\r\nHost: proxy.test\r\nHost: localhost\r\n",
    b"GET / HTTP/1.1\r\nHost: proxy.test, localhost\r\n",
    b"GET / HTTP/1.1\r\nHost: proxy.test/x\r\n",
    b"GET /#a HTTP/1.1\r\nHost: proxy.test\r\n",
    b"GET /\x00 HTTP/1.1\r\nHost: proxy.test\r\n",
    b"GET * HTTP/1.1\r\nHost: proxy.test\r\n",
    b"\r\n\r\nGET / HTTP/1.1\r\nHost: proxy.test\r\n",
]


@pytest.mark.parametrize("said", VERSIONS_AND_TARGETS)
def test_no_odd_first_line_or_host_lets_anything_through(
    config: Tree, upstream: RecordingUpstream, start: Start, hostile: ssl.SSLContext, said: bytes
) -> None:
    proxy = start(config)
    with tls(proxy.port(), hostile) as client:
        client.send(said + b"\r\n" + HIDDEN)
        answer = client.response()
        assert answer.status in (400, 505)
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            assert client.rest() == b""
    assert upstream.untouched


CHUNKS = {
    "no size": b"\r\n",
    "a sign": b"+1\r\na\r\n",
    "0x": b"0x1\r\na\r\n",
    "an underscore": b"1_0\r\na\r\n",
    "a size beyond 64 bits": b"10000000000000001\r\na\r\n",
    "white space before the size": b" 1\r\na\r\n",
    "bare LF behind the size": b"1\na\r\n",
    "bare CR behind the size": b"1\ra\r\n",
    "an extension with bare LF": b"1;a\nb\r\na\r\n",
    "a long extension": b"1;" + b"a" * 5_000 + b"\r\na\r\n",
    "more than the size": b"1\r\nab\r\n",
    "bare LF behind the data": b"1\r\na\n0\r\n\r\n",
    "a trailer without a colon": b"0\r\nGET /hidden HTTP/1.1\r\n\r\n",
    "a folded trailer": b"0\r\nA: b\r\n c\r\n\r\n",
    "a trailer without a name": b"0\r\n: b\r\n\r\n",
    "bare LF behind a trailer": b"0\r\nA: b\n\r\n",
}


@pytest.mark.parametrize("chunk", CHUNKS.values(), ids=CHUNKS)
def test_an_odd_chunk_ends_both_connections_and_nothing_behind_it_is_a_request(
    config: Tree, upstream: RecordingUpstream, start: Start, hostile: ssl.SSLContext, honest: ssl.SSLContext,
    chunk: bytes,
) -> None:  # fmt: skip
    """The upstream sees its request cut short, on a connection that nobody inherits."""
    proxy = start(config)
    with tls(proxy.port(), hostile) as client:
        client.send(request("/", "Transfer-Encoding: chunked", method="POST") + b"2\r\nhi\r\n")
        eventually(lambda: any(b"hi" in received for received in upstream.received))
        client.send(chunk + HIDDEN)
        assert_refused_and_ended(client)
    with tls(proxy.port(), honest) as client:
        assert client.get("/other").status == 200
    assert [asked.line for asked in upstream.requests] == ["GET /other HTTP/1.1"]
    assert len(upstream.received) == 2
    assert b"hidden" not in upstream.received[0]
    assert b"\r\n0\r\n" not in upstream.received[0]


def test_the_same_body_without_the_oddity_passes(
    config: Tree, upstream: RecordingUpstream, start: Start, honest: ssl.SSLContext
) -> None:
    """And is framed anew: extensions stay behind."""
    proxy: RunningProxy = start(config)
    body = b"2;a=b\r\nhi\r\n0\r\nX-Checksum: c\r\n\r\n"
    with tls(proxy.port(), honest) as client:
        client.send(request("/", "Transfer-Encoding: chunked", method="POST", body=body) + request("/next"))
        assert [client.response().status, client.response().status] == [200, 200]
    assert [asked.body for asked in upstream.requests] == [b"2\r\nhi\r\n0\r\nX-Checksum: c\r\n\r\n", b""]
