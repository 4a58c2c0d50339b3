"""An upstream's answer: what passes on, and what makes it upstream_error; never another exception."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlsproxy.http1.errors import BadMessage
from mtlsproxy.http1.response_head import ResponseHead, parse_response_head, passes_in_trailer
from mtlsproxy.reasons import Reason


def head(*lines: bytes, line: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([line, *lines]) + b"\r\n\r\n"


def fields_of(answer: ResponseHead) -> list[tuple[bytes, bytes]]:
    return list(zip(answer.fields[0::4], answer.fields[2::4], strict=True))


def refused(data: bytes) -> None:
    with pytest.raises(BadMessage) as caught:
        parse_response_head(data)
    assert caught.value.reason is Reason.UPSTREAM_ERROR
    assert caught.value.detail.startswith("the upstream's answer: ")


def test_a_plain_answer_is_read() -> None:
    answer = parse_response_head(
        head(b"Content-Type: text/plain", b"Set-Cookie: a", b"Set-Cookie: b", b"Content-Length: 5")
    )
    assert (answer.status, answer.phrase, answer.content_length, answer.chunked) == (200, b"OK", 5, False)
    assert fields_of(answer) == [(b"Content-Type", b"text/plain"), (b"Set-Cookie", b"a"), (b"Set-Cookie", b"b")]


@pytest.mark.parametrize(
    ("line", "status", "phrase"),
    [
        (b"HTTP/1.1 204 No Content", 204, b"No Content"),
        (b"HTTP/1.0 404 Not Found", 404, b"Not Found"),
        (b"HTTP/1.1 200 ", 200, b""),
        (b"HTTP/1.1 200", 200, b""),
        (b"HTTP/1.1 103 Early Hints", 103, b"Early Hints"),
        (b"HTTP/1.1 599 What", 599, b"What"),
        (b"HTTP/1.1 200 all\tis w\xfcll", 200, b"all\tis w\xfcll"),
    ],
)
def test_status_lines(line: bytes, status: int, phrase: bytes) -> None:
    answer = parse_response_head(head(line=line))
    assert (answer.status, answer.phrase) == (status, phrase)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"hello",
        b"HTTP/1.1",
        b"HTTP/1.1 ",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 099 OK",
        b"HTTP/1.1 -20 OK",
        b"HTTP/1.1 2x0 OK",
        b"HTTP/2.0 200 OK",
        b"HTTP/1.2 200 OK",
        b"HTTP/0.9 200 OK",
        b"HTTP/11 200 OK",
        b"http/1.1 200 OK",
        b"ICY 200 OK",
        b" HTTP/1.1 200 OK",
        b"HTTP/1.1 200 a\rb",
        b"HTTP/1.1 200 a\nb",
        b"HTTP/1.1 200 a\x00b",
        b"HTTP/1.1 200 a\x1b[31mb",
        b"HTTP/1.1 200 a\x7fb",
        b"HTTP/1.1 200 \x08",
        b"RTSP/1.0 200 OK",
        b"RTSP/1.1 200 OK",
        b"GET / HTTP/1.1",
    ],
)
def test_other_status_lines_are_refused(line: bytes) -> None:
    refused(head(line=line))


@pytest.mark.parametrize(
    ("lines", "length", "chunked"),
    [
        ([], None, False),
        ([b"Content-Length: 0"], 0, False),
        ([b"content-length: 7"], 7, False),
        ([b"Transfer-Encoding: chunked"], None, True),
        ([b"transfer-encoding: Chunked"], None, True),
        ([b"Content-Length: 5 \t"], 5, False),
        ([b"Transfer-Encoding: chunked "], None, True),
    ],
)
def test_framing(lines: list[bytes], length: int | None, chunked: bool) -> None:
    answer = parse_response_head(head(*lines))
    assert (answer.content_length, answer.chunked) == (length, chunked)
    assert answer.fields == []


@pytest.mark.parametrize(
    "lines",
    [
        [b"Content-Length: 5", b"Content-Length: 5"],
        [b"Content-Length: 5", b"Content-Length: 6"],
        [b"Content-Length: 5, 5"],
        [b"Content-Length: +5"],
        [b"Content-Length: -1"],
        [b"Content-Length: 0x5"],
        [b"Content-Length:"],
        [b"Content-Length: 99999999999999999999"],
        [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: chunked", b"Content-Length: 5"],
        [b"Transfer-Encoding: gzip"],
        [b"Transfer-Encoding: gzip, chunked"],
        [b"Transfer-Encoding: chunked, chunked"],
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"],
        [b"Transfer-Encoding: identity"],
        [b"Transfer-Encoding: xchunked"],
        [b"Transfer-Encoding:"],
        [b"X: a\r\n b"],
        [b"X : a"],
        [b": a"],
        [b"X"],
        [b"X: a\nY: b"],
        [b"X: a\rY: b"],
        [b"X: a\x00b"],
        [b"X: a\x1bb"],
        [b"X(: a"],
    ],
)
def test_ambiguous_or_malformed_answers_are_refused(lines: list[bytes]) -> None:
    """A client must not see an answer that it and we could read in two ways (response splitting)."""
    refused(head(*lines))


@pytest.mark.parametrize(
    ("line", "lines", "keep_alive"),
    [
        (b"HTTP/1.1 200 OK", [], True),
        (b"HTTP/1.1 200 OK", [b"Content-Length: 5"], True),
        (b"HTTP/1.1 200 OK", [b"Transfer-Encoding: chunked"], True),
        (b"HTTP/1.1 204 No Content", [], True),
        (b"HTTP/1.1 304 Not Modified", [b"Content-Length: 5"], True),
        (b"HTTP/1.1 200 OK", [b"Connection: keep-alive", b"Content-Length: 5"], True),
        (b"HTTP/1.1 200 OK", [b"Content-Length: 0"], True),
        (b"HTTP/1.1 200 OK", [b"Connection: x-enclosed", b"Content-Length: 5"], True),
        (b"HTTP/1.1 200 OK", [b"Connection: close"], False),
        (b"HTTP/1.1 200 OK", [b"Connection: x-a ,close "], False),
        (b"HTTP/1.1 200 OK", [b"Connection: Close", b"Content-Length: 5"], False),
        (b"HTTP/1.1 200 OK", [b"Connection: keep-alive", b"Connection: close", b"Content-Length: 5"], False),
        (b"HTTP/1.1 304 Not Modified", [b"Connection: close"], False),
        (b"HTTP/1.0 200 OK", [], False),
        (b"HTTP/1.0 200 OK", [b"Content-Length: 5"], False),
    ],
)
def test_what_is_used_again(line: bytes, lines: list[bytes], keep_alive: bool) -> None:
    """RFC 9112 §9.3. (An answer until close is never followed by another one: that is the origin's to know.)"""
    assert parse_response_head(head(*lines, line=line)).keep_alive is keep_alive


def test_white_space_around_a_value_is_not_part_of_it() -> None:
    """RFC 9112 §5."""
    assert fields_of(parse_response_head(head(b"X: \t a b \t", b"Y: "))) == [(b"X", b"a b"), (b"Y", b"")]


def test_hop_by_hop_fields_and_those_that_connection_names_do_not_pass() -> None:
    answer = parse_response_head(
        head(
            b"X-A: 1", b"Connection: x-a, close", b"X-Stays: 2", b"connection: X-B", b"x-b: 3", b"Keep-Alive: timeout=5"
        )
    )
    assert fields_of(answer) == [(b"X-Stays", b"2")]
    answer = parse_response_head(
        head(b"Connection: keep-alive", b"Proxy-Authenticate: Basic", b"Upgrade: h2c", b"X-A: 1")
    )
    assert fields_of(answer) == [(b"X-A", b"1")]


def test_an_answer_may_use_the_names_of_identity_headers() -> None:
    """They mean nothing in this direction."""
    assert fields_of(parse_response_head(head(b"X-Client-Id: a"))) == [(b"X-Client-Id", b"a")]


def test_trailers_that_come_too_late_do_not_pass() -> None:
    """RFC 9110 §6.5.1."""
    assert passes_in_trailer(b"Server-Timing")
    assert passes_in_trailer(b"grpc-status")
    for name in (b"Content-Length", b"transfer-encoding", b"Set-Cookie", b"Content-Type", b"Connection", b"Trailer"):
        assert not passes_in_trailer(name)


def test_answers_do_not_leak_into_each_other() -> None:
    parse_response_head(head(b"Content-Length: 5", b"Connection: close, x-a"))
    answer = parse_response_head(head(b"X-A: 1"))
    assert (answer.content_length, answer.keep_alive, fields_of(answer)) == (None, True, [(b"X-A", b"1")])


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_give_a_head_or_bad_message(junk: bytes) -> None:
    for data in (
        junk + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + junk + b"\r\n\r\n",
        head(b"X: " + junk),
        head(line=b"HTTP/1.1 200 " + junk),
    ):
        whole = data[: data.index(b"\r\n\r\n") + 4]
        try:
            answer = parse_response_head(whole)
        except BadMessage as error:
            assert error.reason is Reason.UPSTREAM_ERROR
            continue
        out = b"%b\r\n%b" % (answer.phrase, b"".join(answer.fields))
        assert out.count(b"\n") == out.count(b"\r\n") == out.count(b"\r") == 1 + len(answer.fields) // 4
