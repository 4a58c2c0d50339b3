"""Requests that two readers could read in two ways are refused: each vector beside its harmless sibling.

RFC 9112 §5 and §6 allow some of them to be mended; a proxy in front of unknown upstreams refuses instead.
"""

import pytest
from tests.unit.http1.heads import fields_of, head, parse

from mtlsproxy.http1.errors import BadMessage
from mtlsproxy.reasons import Reason

CL, TE = b"Content-Length: 5", b"Transfer-Encoding: chunked"

ACCEPTED = [
    ("a length", [CL], 5, False),
    ("no length", [], None, False),
    ("length 0", [b"Content-Length: 0"], 0, False),
    ("leading zeros", [b"Content-Length: 005"], 5, False),
    ("the name in any case", [b"cOnTeNt-LeNgTh: 5"], 5, False),
    ("chunked", [TE], None, True),
    ("chunked in any case", [b"TRANSFER-encoding: ChUnKeD"], None, True),
    ("white space before the value", [b"Content-Length: \t 5"], 5, False),
    ("eighteen digits", [b"Content-Length: 999999999999999999"], 999999999999999999, False),
]

REFUSED = [
    ("CL.TE", [CL, TE]),
    ("TE.CL", [TE, CL]),
    ("CL.TE with length 0", [b"Content-Length: 0", TE]),
    ("two lengths", [CL, b"Content-Length: 6"]),
    ("two equal lengths", [CL, CL]),
    ("a list of lengths", [b"Content-Length: 5, 5"]),
    ("a length with sign +", [b"Content-Length: +5"]),
    ("a length with sign -", [b"Content-Length: -5"]),
    ("a hexadecimal length", [b"Content-Length: 0x5"]),
    ("an octal length", [b"Content-Length: 0o5"]),
    ("a length with an underscore", [b"Content-Length: 1_0"]),
    ("a length with a space in it", [b"Content-Length: 1 0"]),
    ("a length with a fraction", [b"Content-Length: 5.0"]),
    ("a length with an exponent", [b"Content-Length: 1e1"]),
    ("no digits", [b"Content-Length:"]),
    ("letters", [b"Content-Length: a"]),
    ("Arabic-Indic digits", ["Content-Length: ٥".encode()]),
    ("a length beyond 64 bits", [b"Content-Length: 18446744073709551621"]),
    ("a length with a vertical tab", [b"Content-Length:\x0b5"]),
    ("a length with NUL", [b"Content-Length: 5\x00"]),
    ("a length with a comment", [b"Content-Length: 5;a"]),
    ("chunked twice", [b"Transfer-Encoding: chunked, chunked"]),
    ("chunked in two fields", [TE, TE]),
    ("chunked then identity", [b"Transfer-Encoding: chunked, identity"]),
    ("identity", [b"Transfer-Encoding: identity"]),
    ("chunked and identity in two fields", [TE, b"Transfer-Encoding: identity"]),
    ("identity and chunked in two fields", [b"Transfer-Encoding: identity", TE]),
    ("chunked is not last", [b"Transfer-Encoding: chunked, gzip"]),
    ("gzip alone", [b"Transfer-Encoding: gzip"]),
    ("xchunked", [b"Transfer-Encoding: xchunked"]),
    ("chunkedx", [b"Transfer-Encoding: chunkedx"]),
    ("x chunked", [b"Transfer-Encoding: x chunked"]),
    ("quoted", [b'Transfer-Encoding: "chunked"']),
    ("a parameter", [b"Transfer-Encoding: chunked;q=1"]),
    ("a trailing comma", [b"Transfer-Encoding: chunked,"]),
    ("empty", [b"Transfer-Encoding:"]),
    ("a vertical tab", [b"Transfer-Encoding:\x0bchunked"]),
    ("a form feed", [b"Transfer-Encoding: chunked\x0c"]),
    ("NUL", [b"Transfer-Encoding: chunked\x00"]),
    ("a bare CR", [b"Transfer-Encoding: chunked\rX: y"]),
    ("a Kelvin sign for k", ["Transfer-Encoding: chun\u212aed".encode()]),
    ("a space before the colon", [b"Transfer-Encoding : chunked"]),
    ("a tab before the colon", [b"Transfer-Encoding\t: chunked"]),
    ("a space before the colon of a length", [b"Content-Length : 5"]),
    ("a space before the name", [b" Transfer-Encoding: chunked"]),
    ("obs-fold of the value", [b"Transfer-Encoding:\r\n chunked"]),
    ("obs-fold behind another field", [b"X: y\r\n\tTransfer-Encoding: chunked"]),
    ("bare LF between fields", [b"X: y\nTransfer-Encoding: chunked"]),
    ("bare LF twice, an end for some", [b"X: y\n\nGET /smuggled HTTP/1.1", b"Host: a"]),
    ("CR CR LF", [b"X: y\r"]),
    ("bare CR between fields", [b"X: y\rTransfer-Encoding: chunked"]),
    ("an empty name", [b": chunked"]),
    ("no colon", [b"Transfer-Encoding chunked"]),
    ("a name that is no token", [b"Transfer-Encoding(: chunked"]),
    ("a name with NUL", [b"Transfer-Encoding\x00: chunked"]),
    ("a name with 0xFF", [b"Transfer-Encoding\xff: chunked"]),
    ("NUL in a value", [b"X: a\x00b"]),
    ("DEL in a value", [b"X: a\x7fb"]),
    ("ESC in a value", [b"X: a\x1bb"]),
]  # fmt: skip

UNKNOWN_CODING = [
    [b"Transfer-Encoding: ,chunked"],
    [b"Transfer-Encoding: gzip, chunked"],
    [b"Transfer-Encoding: x-what, Chunked"],
]


@pytest.mark.parametrize(("_name", "lines", "length", "chunked"), ACCEPTED, ids=[case[0] for case in ACCEPTED])
def test_plain_framing_is_accepted(_name: str, lines: list[bytes], length: int | None, chunked: bool) -> None:
    request = parse(head(*lines, line=b"POST / HTTP/1.1"))
    assert (request.content_length, request.chunked) == (length, chunked)
    assert request.fields == []


@pytest.mark.parametrize("method", [b"GET", b"POST", b"HEAD"])
@pytest.mark.parametrize(("_name", "lines"), REFUSED, ids=[case[0] for case in REFUSED])
def test_ambiguous_framing_is_a_bad_request(_name: str, lines: list[bytes], method: bytes) -> None:
    with pytest.raises(BadMessage) as caught:
        parse(head(*lines, line=method + b" / HTTP/1.1"))
    assert caught.value.reason is Reason.BAD_REQUEST


@pytest.mark.parametrize("lines", UNKNOWN_CODING)
def test_a_coding_that_we_do_not_know_is_not_implemented(lines: list[bytes]) -> None:
    with pytest.raises(BadMessage) as caught:
        parse(head(*lines, line=b"POST / HTTP/1.1"))
    assert caught.value.reason is Reason.NOT_IMPLEMENTED


def test_http_1_0_has_no_transfer_codings() -> None:
    """RFC 9112 §6.1: an HTTP/1.0 reader in between may not have understood it."""
    assert parse(head(CL, line=b"POST / HTTP/1.0")).content_length == 5
    with pytest.raises(BadMessage) as caught:
        parse(head(TE, line=b"POST / HTTP/1.0"))
    assert caught.value.reason is Reason.BAD_REQUEST


@pytest.mark.parametrize("name", [b"Transfer_Encoding", b"Transfer.Encoding", b"Content_Length", b"Content.Length"])
def test_framing_in_another_folding_is_dropped(name: bytes) -> None:
    """An upstream that folds names (CGI, WSGI) must not see a framing that we did not."""
    request = parse(head(name + b": 5", b"X-Stays: 1", line=b"POST / HTTP/1.1"))
    assert (request.content_length, request.chunked) == (None, False)
    assert fields_of(request) == [(b"X-Stays", b"1")]


@pytest.mark.parametrize(
    "token", [b"Content-Length", b"Transfer-Encoding", b"Host", b"Via", b"X-Request-Id", b"Expect"]
)
def test_connection_cannot_take_the_framing_out(token: bytes) -> None:
    """A Connection token names a field of ours: it is set all the same."""
    request = parse(
        head(
            b"Connection: " + token,
            CL,
            b"Via: 1.1 a",
            b"X-Request-Id: a",
            b"Expect: 100-continue",
            line=b"POST / HTTP/1.1",
        )
    )
    assert (request.content_length, request.host, request.via, request.request_id) == (
        5,
        "example.test",
        b"1.1 a",
        b"a",
    )
    assert request.expects_continue
