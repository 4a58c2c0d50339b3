"""Requests and answers pass with every method and framing, re-serialised, in both directions."""

import contextlib
import http.client

import pytest
from tests.integration.clients import PATIENCE, request
from tests.integration.conftest import Start
from tests.integration.harness import Tree
from tests.integration.http.conftest import Serve, Served
from tests.integration.http.peers import OK, Listening
from tests.integration.upstream import RecordingUpstream


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_methods_pass(served: Served, upstream: RecordingUpstream, method: str) -> None:
    upstream.script = lambda asked, _: OK.replace(b"ok", b"") if asked.line.startswith("HEAD") else OK
    with served.connect() as client:
        for n in (1, 2):
            client.send(request(f"/{n}?q", method=method))
            answer = client.response(to_head=method == "HEAD")
            assert (answer.status, answer.one("Content-Length")) == (200, "2")
    assert [asked.line for asked in upstream.requests] == [f"{method} /1?q HTTP/1.1", f"{method} /2?q HTTP/1.1"]
    assert len(upstream.received) == 1, "one upstream connection served both"


BODY = bytes(range(256)) * 100


def test_a_body_with_a_length_passes(served: Served, upstream: RecordingUpstream) -> None:
    upstream.script = lambda asked, _: (
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(asked.body), asked.body)
    )
    with served.connect() as client:
        for body in (BODY, b"", b"x"):
            client.send(request("/", f"Content-Length: {len(body)}", method="POST", body=body))
            assert client.response().body == body
    assert [asked.values("Content-Length") for asked in upstream.requests] == [["25600"], ["0"], ["1"]]
    assert [asked.body for asked in upstream.requests] == [BODY, b"", b"x"]


def chunks(*pieces: bytes, trailers: bytes = b"", extension: bytes = b"") -> bytes:
    body = b"".join(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces)
    return body + b"0\r\n" + trailers + b"\r\n"


def unchunked(data: bytes) -> tuple[bytes, bytes]:
    """Content and trailer section."""
    out = b""
    while True:
        size, _, data = data.partition(b"\r\n")
        if not int(size, 16):
            return out, data
        out, data = out + data[: int(size, 16)], data[int(size, 16) + 2 :]


def test_chunks_pass_both_ways_with_trailers_and_without_extensions(
    served: Served, by_hand: Listening, serve: Serve
) -> None:
    """Trailers of the client's that are not for it to send are dropped, as they are from headers."""
    served = serve()
    with served.connect() as client:
        sent = b"X-Sum: 1\r\nX-Client-Id: mallory\r\nContent-Length: 3\r\nx_client_id: m\r\nX-More: a b\r\n"
        body = chunks(b"hello", BODY, extension=b";a=b", trailers=sent)
        client.send(request("/", "Transfer-Encoding: chunked", "TE: trailers", method="POST", body=body))
        peer = by_hand.accept()
        head = peer.head()
        assert b"\r\nTransfer-Encoding: chunked\r\n" in head
        assert b"\r\nTE: trailers\r\nConnection: TE\r\n" in head
        assert b"Content-Length" not in head
        raw = b""
        while not raw.endswith(b"X-More: a b\r\n\r\n"):
            raw += peer.until(b"\r\n")
        assert unchunked(raw) == (b"hello" + BODY, b"X-Sum: 1\r\nX-More: a b\r\n\r\n")
        answer = chunks(
            BODY, b"x", extension=b";e", trailers=b"Server-Timing: a\r\nSet-Cookie: b\r\nContent-Length: 1\r\n"
        )
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Server-Timing\r\n\r\n" + answer)
        head = client.until(b"\r\n\r\n")
        assert b"\r\nTransfer-Encoding: chunked\r\n" in head
        assert b"\r\nTrailer: Server-Timing\r\n" in head
        raw = b""
        while not raw.endswith(b"Server-Timing: a\r\n\r\n"):
            raw += client.until(b"\r\n")
        assert unchunked(raw) == (BODY + b"x", b"Server-Timing: a\r\n\r\n")


@pytest.mark.parametrize("status", [204, 304])
def test_answers_without_content_leave_the_connection_usable(
    served: Served, upstream: RecordingUpstream, status: int
) -> None:
    """204 and 304 have no body, whatever they say about one (RFC 9110 §15.3.5, §15.4.5)."""
    upstream.answer(b"HTTP/1.1 %d X\r\nContent-Length: 5\r\nETag: a\r\n\r\n" % status)
    with served.connect() as client:
        for _ in range(2):
            answer = client.get()
            assert (answer.status, answer.values("ETag"), answer.body) == (status, ["a"], b"")
            assert answer.values("Content-Length") == (["5"] if status == 304 else [])
            assert answer.values("Transfer-Encoding") == []
    assert len(upstream.received) == 1


def test_an_empty_answer_keeps_the_upstreams_connection(served: Served, upstream: RecordingUpstream) -> None:
    upstream.answer(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
    with served.connect() as client:
        assert [client.get().status for _ in range(5)] == [201] * 5
    assert len(upstream.received) == 1


def test_the_asterisk_passes_to_whoever_may_use_the_root(
    config: Tree, upstream: RecordingUpstream, serve: Serve
) -> None:
    """`OPTIONS *` (RFC 9110 §7.1): matched as `/`, forwarded as it is."""
    config["routes"].insert(
        0, config["routes"][0] | {"name": "root", "paths": ["/"], "allow": [{"common_name": "nobody"}]}
    )
    config["routes"][0]["methods"] = ["GET"]
    with serve().connect() as client:
        client.send(request("*", method="OPTIONS"))
        assert client.response().status == 200
    assert upstream.requests[0].line == "OPTIONS * HTTP/1.1"


def test_an_answer_to_head_says_what_a_get_would_get(served: Served, upstream: RecordingUpstream) -> None:
    """With a length, with chunks and until close: no body follows, and the connection goes on."""
    for framing, length in [(b"Content-Length: 5\r\n", ["5"]), (b"Transfer-Encoding: chunked\r\n", []), (b"", [])]:
        upstream.answer(b"HTTP/1.1 200 OK\r\nX: y\r\n%b\r\n" % framing)
        with served.connect() as client:
            for _ in range(2):
                client.send(request(method="HEAD"))
                answer = client.response(to_head=True)
                assert (answer.status, answer.values("X"), answer.values("Content-Length")) == (200, ["y"], length)
    assert len(upstream.received) == 1


def test_an_answer_until_close_is_chunked_for_the_client(by_hand: Listening, serve: Serve) -> None:
    """Its connection lives on; the upstream's does not."""
    with serve().connect() as client:
        for _ in range(2):
            client.send(request())
            peer = by_hand.accept()
            peer.answer(b"HTTP/1.1 200 OK\r\n\r\nhello")
            peer.send(BODY)
            peer.finish()
            answer = client.response()
            assert answer.values("Transfer-Encoding") == ["chunked"]
            assert answer.body == b"hello" + BODY
            assert peer.rest() == b""


def test_interim_answers_pass(by_hand: Listening, serve: Serve) -> None:
    """103 with its fields, before the final answer; hop-by-hop fields of theirs do not."""
    with serve().connect() as client:
        client.send(request())
        peer = by_hand.accept()
        peer.head()
        peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nKeep-Alive: a\r\n\r\n")
        interim = client.response()
        assert (interim.status, interim.fields) == (103, [("Link", "</a>")])
        peer.send(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + OK)
        assert [client.response().status for _ in range(3)] == [102, 103, 200]
        client.send(request())
        peer.answer()
        assert client.response().status == 200


def test_100_continue_is_between_client_and_upstream(by_hand: Listening, serve: Serve) -> None:
    """The body comes only once the upstream asked for it (RFC 9110 §10.1.1)."""
    with serve().connect() as client:
        client.send(request("/", "Expect: 100-continue", "Content-Length: 5", method="PUT"))
        peer = by_hand.accept()
        assert b"\r\nExpect: 100-continue\r\n" in peer.head()
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert client.response().status == 100
        client.send(b"hello")
        assert peer.exactly(5) == b"hello"
        peer.send(OK)
        assert client.response().status == 200
        client.send(request())
        assert b"Expect" not in peer.answer()
        assert client.response().status == 200


def test_a_final_answer_instead_of_100_continue_does_not_end_the_request(by_hand: Listening, serve: Serve) -> None:
    """The client may send the body all the same: it is the body, whatever it looks like, and never a request; and the
    upstream that has answered does not see it."""
    with serve().connect() as client:
        client.send(request("/first", "Expect: 100-continue", "Content-Length: 18", method="PUT"))
        peer = by_hand.accept()
        peer.answer(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
        assert client.response().status == 401
        client.send(b"GET /x HTTP/1.1\r\n\r" + request("/second"))
        assert peer.rest() == b""
        assert by_hand.accept().answer().startswith(b"GET /second HTTP/1.1\r\n")
        assert client.response().status == 200


@pytest.mark.parametrize("lines", [(), ("Connection: keep-alive",)])
def test_an_http_1_0_client_gets_one_answer_and_the_end(
    served: Served, upstream: RecordingUpstream, lines: tuple[str, ...]
) -> None:
    """No chunks, no interim answers (RFC 9112 §6.1, RFC 9110 §15.2)."""
    old = request("/", *lines).replace(b"HTTP/1.1", b"HTTP/1.0")
    for data, body in [
        (OK, b"ok"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK, b"ok"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks(b"hello", BODY), b"hello" + BODY),
    ]:
        upstream.answer(data)
        with served.connect() as client:
            client.send(old)
            answer = client.response()
            assert (answer.status, answer.body) == (200, body)
            assert answer.values("Connection") == ["close"]
            assert answer.values("Transfer-Encoding") == []
            assert client.ended()
    assert {asked.line for asked in upstream.requests} == {"GET / HTTP/1.1"}


def test_an_http_1_0_upload_passes(served: Served, upstream: RecordingUpstream) -> None:
    with served.connect() as client:
        client.send(request("/", "Content-Length: 5", method="POST", body=b"hello").replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert client.response().status == 200
    assert upstream.requests[0].body == b"hello"


def test_hop_by_hop_fields_stay_on_their_hop(served: Served, upstream: RecordingUpstream) -> None:
    """Both directions (RFC 9110 §7.6.1); everything else passes, repeated fields in their order."""
    upstream.answer(
        b"HTTP/1.1 200 OK\r\nConnection: X-Up, keep-alive\r\nX-Up: 1\r\nKeep-Alive: timeout=5\r\nUpgrade: h2c\r\n"
        b"Proxy-Authenticate: Basic\r\nSet-Cookie: a\r\nX-Keep: 2\r\nSet-Cookie: b\r\nContent-Length: 2\r\n\r\nok"
    )
    with served.connect() as client:
        answer = client.get(
            "/", "Connection: X-Down, Upgrade, keep-alive", "X-Down: 1", "Upgrade: spdy/3.1", "Keep-Alive: a",
            "TE: gzip", "Proxy-Authorization: a", "Proxy-Connection: a", "HTTP2-Settings: a", "Accept: a", "X-Keep: 1",
            "Accept: b", "traceparent: 00-a-b-01", "tracestate: c", "Authorization: Bearer a",
        )  # fmt: skip
        assert answer.fields == [("Set-Cookie", "a"), ("X-Keep", "2"), ("Set-Cookie", "b"), ("Content-Length", "2")]
    (asked,) = upstream.requests
    ours = {"Host", "Via", "X-Request-Id", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host"}
    passed = [field for field in asked.fields if field[0] not in ours and not field[0].startswith("X-Client-")]
    assert passed == [
        ("Accept", "a"), ("X-Keep", "1"), ("Accept", "b"), ("traceparent", "00-a-b-01"), ("tracestate", "c"),
        ("Authorization", "Bearer a"),
    ]  # fmt: skip


def test_who_asked_and_by_which_way_is_said_by_us_alone(served: Served, upstream: RecordingUpstream) -> None:
    with served.connect() as client:
        client.get(
            "/",
            "X-Forwarded-For: 1.2.3.4",
            "X-Forwarded-Proto: http",
            "X-Forwarded-Host: evil.test",
            "Forwarded: for=1.2.3.4",
            "Via: 1.0 cache",
        )
        client.get(host=f"PROXY.test:{served.port}")
    first, second = upstream.requests
    assert first.values("X-Forwarded-For") == ["127.0.0.1"]
    assert first.values("X-Forwarded-Proto") == ["https"]
    assert first.values("X-Forwarded-Host") == ["proxy.test"]
    assert first.values("Forwarded") == []
    assert first.values("Via") == ["1.0 cache, 1.1 mtlsproxy"]
    assert (first.values("Host"), second.values("Host")) == (["proxy.test"], [f"PROXY.test:{served.port}"])
    assert second.values("X-Forwarded-Host") == [f"PROXY.test:{served.port}"]


def test_request_ids_are_kept_or_made_and_logged(served: Served, upstream: RecordingUpstream) -> None:
    with served.connect() as client:
        client.get("/", "X-Request-Id: my-id.1_A")
        client.get("/", "X-Request-Id: not mine")
        client.get()
        client.get("/", "X-Request-Id: a", "X-Request-Id: b")
    ids = [asked.values("X-Request-Id") for asked in upstream.requests]
    assert ids[0] == ["my-id.1_A"]
    assert all(len(found) == 1 and 8 <= len(found[0]) <= 128 for found in ids[1:])
    assert len({found[0] for found in ids}) == 4
    assert [line["request_id"] for line in served.proxy.access(4)] == [found[0] for found in ids]


def test_host_server_sends_the_servers_own_name(config: Tree, upstream: RecordingUpstream, serve: Serve) -> None:
    config["upstreams"]["recorder"]["host"] = "server"
    with serve().connect() as client:
        for n in range(3):
            client.get("/", f"X-Mimic: Host: {n}")
    for asked in upstream.requests:
        assert asked.values("Host") == [f"127.0.0.1:{upstream.port}"]
        assert asked.values("X-Forwarded-Host") == ["proxy.test"]


@pytest.mark.parametrize(
    ("path", "forwarded"),
    [("/api", "/"), ("/api/", "/"), ("/api/a?b", "/a?b"), ("/api?b", "/?b"), ("/api/api/%41;c", "/api/%41;c")],
)
def test_strip_prefix(config: Tree, upstream: RecordingUpstream, serve: Serve, path: str, forwarded: str) -> None:
    config["routes"][0] |= {"paths": ["/api"], "strip_prefix": True}
    with serve().connect() as client:
        assert client.get(path).status == 200
    assert upstream.requests[0].line == f"GET {forwarded} HTTP/1.1"


def test_routes_lead_to_their_own_upstreams(
    config: Tree, upstream: RecordingUpstream, by_hand: Listening, start: Start, serve: Serve
) -> None:
    """On one client connection, one after the other."""
    config["upstreams"]["other"] = {"servers": [{"url": upstream.url}]}
    config["routes"].insert(0, {"name": "other", "paths": ["/other"], "allow": "any", "upstream": "other"})
    with serve().connect() as client:
        assert client.get("/other/a").status == 200
        client.send(request("/else"))
        peer = by_hand.accept()
        assert peer.answer().startswith(b"GET /else HTTP/1.1\r\n")
        assert client.response().status == 200
        assert client.get("/other/b").status == 200
    assert [asked.line for asked in upstream.requests] == ["GET /other/a HTTP/1.1", "GET /other/b HTTP/1.1"]


def test_connection_close_is_honoured_and_answered(served: Served, upstream: RecordingUpstream) -> None:
    with served.connect() as client:
        answer = client.get("/", "Connection: close")
        assert answer.values("Connection") == ["close"]
        assert client.ended()
    with served.connect() as client:
        client.get()
    assert len(upstream.received) == 1, "the upstream's connection is none of the client's business"


def test_an_upstream_that_says_close_gets_a_new_connection_each_time(
    served: Served, upstream: RecordingUpstream
) -> None:
    upstream.answer(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
    with served.connect() as client:
        for _ in range(3):
            assert client.get().values("Connection") == []
    assert len(upstream.received) == 3


def test_pythons_own_client(served: Served, upstream: RecordingUpstream) -> None:
    """http.client over one connection: lengths, chunks, HEAD and an empty answer."""
    upstream.script = lambda asked, _: b"HTTP/1.1 204 No Content\r\n\r\n" if asked.line.startswith("DELETE") else OK
    client = http.client.HTTPSConnection("localhost", served.port, context=served.context, timeout=PATIENCE)
    with contextlib.closing(client):
        for method, body, chunked, status in [
            ("GET", None, False, 200),
            ("POST", b"hello", False, 200),
            ("PUT", iter([b"hel", b"lo"]), True, 200),
            ("DELETE", None, False, 204),
            ("GET", None, False, 200),
        ]:
            client.request(
                method, "/", body, {"Transfer-Encoding": "chunked"} if chunked else {}, encode_chunked=chunked
            )
            answer = client.getresponse()
            assert (answer.status, answer.read()) == (status, b"" if status == 204 else b"ok")
    # Chunks that come together go on as one.
    whole = (b"5\r\nhello\r\n0\r\n\r\n", b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n")
    bodies = [asked.body for asked in upstream.requests]
    assert bodies.pop(2) in whole
    assert bodies == [b"", b"hello", b"", b""]
