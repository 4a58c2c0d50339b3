"""Limits of a request's head: each is inclusive, has a reason of its own, and holds before the head is whole."""

import pytest
from tests.unit.http1.heads import fields_of, head, parse, parser

from mtlsproxy.http1.errors import BadMessage
from mtlsproxy.http1.request_head import HeadLimits
from mtlsproxy.reasons import Reason

SMALL = HeadLimits(request_line=40, header_field=50, headers=120, header_count=5)


def refused(data: bytes, limits: HeadLimits) -> Reason:
    with pytest.raises(BadMessage) as caught:
        parse(data, limits)
    assert caught.value.detail
    return caught.value.reason


def test_each_limit_is_inclusive() -> None:
    """Exactly the limit is accepted, one more is refused with the limit's own reason."""
    base = len(b"GET / HTTP/1.1")
    at = b"GET /" + b"a" * (40 - base) + b" HTTP/1.1"
    assert parse(head(line=at), SMALL).path == at.split()[1]
    assert refused(head(line=at.replace(b"/", b"/a", 1)), SMALL) is Reason.URI_TOO_LONG

    field = b"X: " + b"a" * 47
    assert len(field) == 50
    assert parse(head(field), SMALL).fields[2] == b"a" * 47
    assert refused(head(field + b"a"), SMALL) is Reason.HEADERS_TOO_LARGE

    host = len(b"Host: example.test\r\n")
    rest = [b"A: " + b"a" * 45, b"B: " + b"b" * (120 - host - 50 - 5)]
    assert host + sum(len(line) + 2 for line in rest) == 120
    assert len(fields_of(parse(head(*rest), SMALL))) == 2
    assert refused(head(rest[0], rest[1] + b"b"), SMALL) is Reason.HEADERS_TOO_LARGE

    assert len(fields_of(parse(head(*[b"X: 1"] * 4), SMALL))) == 4
    assert refused(head(*[b"X: 1"] * 5), SMALL) is Reason.HEADERS_TOO_LARGE


def test_limits_do_not_depend_on_how_a_head_is_cut() -> None:
    """Fields of exactly the limit pass however they come; one byte more is refused, at the latest when all is there."""
    host = len(b"Host: example.test\r\n")
    rest = [b"A: " + b"a" * 45, b"B: " + b"b" * (120 - host - 50 - 5)]
    data = head(*rest)
    parse(data, SMALL)
    for end in range(len(data)):
        parser(SMALL).check_partial(data[:end])
    assert refused(head(rest[0], rest[1] + b"b"), SMALL) is Reason.HEADERS_TOO_LARGE


def test_the_request_line_is_no_header_field() -> None:
    """header_field is not for it, also where the fields together are longer than one may be."""
    limits = HeadLimits(request_line=200, header_field=50, headers=120, header_count=5)
    line = b"GET /" + b"a" * 100 + b" HTTP/1.1"
    assert parse(head(b"A: " + b"a" * 45, line=line), limits).path == line.split()[1]
    assert refused(head(b"A: " + b"a" * 48, line=line), limits) is Reason.HEADERS_TOO_LARGE


def test_fields_that_are_dropped_count_too() -> None:
    assert refused(head(*[b"X-Client-Id: 1"] * 5), SMALL) is Reason.HEADERS_TOO_LARGE


def test_a_head_is_refused_before_it_is_whole_when_it_cannot_become_one() -> None:
    """What a client sends without ever ending its head stays bounded."""
    check = parser(SMALL).check_partial
    check(b"")
    check(b"GET /" + b"a" * 35)
    check(b"GET / HTTP/1.1\r\nX: " + b"a" * 60 + b"\r")
    for data, reason in [
        (b"GET /" + b"a" * 36, Reason.URI_TOO_LONG),
        (b"GET /" + b"a" * 36 + b"\r\n", Reason.URI_TOO_LONG),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 130, Reason.HEADERS_TOO_LARGE),
        (b"GET / HTTP/1.1\nHost: a\n\n", Reason.BAD_REQUEST),
        (b"\nGET / HTTP/1.1\r\n", Reason.BAD_REQUEST),
        (b"GET / HTTP/1.1\r\nHost: a\n", Reason.BAD_REQUEST),
    ]:
        with pytest.raises(BadMessage) as caught:
            check(data)
        assert caught.value.reason is reason


def test_no_prefix_of_an_ordinary_head_is_refused() -> None:
    """Byte by byte: what is accepted whole is accepted however it is cut."""
    data = head(b"Accept: */*", b"X-Empty:", b"Content-Length: 10")
    check = parser().check_partial
    for end in range(len(data)):
        check(data[:end])
        check(bytearray(data[:end]))
