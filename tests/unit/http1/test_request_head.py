"""A request's head becomes what is forwarded, or BadMessage with the reason that answers it; nothing else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.http1.heads import fields_of, head, parse, parser

from mtlsproxy.http1.errors import BadMessage
from mtlsproxy.http1.request_head import RequestHead
from mtlsproxy.reasons import Reason

B = Reason.BAD_REQUEST


def refused(data: bytes) -> Reason:
    with pytest.raises(BadMessage) as caught:
        parse(data)
    assert caught.value.detail
    return caught.value.reason


def facts(request: RequestHead) -> dict[str, object]:
    names = ("method", "target", "path", "host", "host_field", "version_1_1", "fields", "content_length", "chunked")
    more = ("keep_alive", "expects_continue", "te_trailers", "request_id", "via")
    return {name: getattr(request, name) for name in names + more}


def test_a_plain_request_is_read() -> None:
    request = parse(head(b"Accept: */*", b"X-Empty:", b"Cookie: a=b", line=b"GET /a/b?c=d?e HTTP/1.1"))
    assert (request.method, request.method_bytes) == ("GET", b"GET")
    assert (request.target, request.path) == (b"/a/b?c=d?e", b"/a/b")
    assert (request.host, request.host_field) == ("example.test", b"example.test")
    assert fields_of(request) == [(b"Accept", b"*/*"), (b"X-Empty", b""), (b"Cookie", b"a=b")]
    assert (request.content_length, request.chunked, request.has_body) == (None, False, False)
    assert request.keep_alive
    assert request.version_1_1


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND"])
def test_known_methods_are_accepted(method: str) -> None:
    assert parse(head(line=f"{method} / HTTP/1.1".encode())).method == method


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"get / HTTP/1.1", Reason.NOT_IMPLEMENTED),
        (b"Get / HTTP/1.1", Reason.NOT_IMPLEMENTED),
        (b"BREW / HTTP/1.1", Reason.NOT_IMPLEMENTED),
        (b"GETT / HTTP/1.1", Reason.NOT_IMPLEMENTED),
        (b"CONNECT example.test:443 HTTP/1.1", Reason.METHOD_NOT_ALLOWED),
        (b"GET / HTTP/2.0", Reason.VERSION_NOT_SUPPORTED),
        (b"PRI * HTTP/2.0", Reason.VERSION_NOT_SUPPORTED),
        (b"GET / HTTP/1.2", Reason.VERSION_NOT_SUPPORTED),
        (b"GET / HTTP/0.9", Reason.VERSION_NOT_SUPPORTED),
        (b"GET / HTTP/1.10", B),
        (b"GET / HTTP/1", B),
        (b"GET / HTTP/+1.1", B),
        (b"GET / http/1.1", B),
        (b"GET / HTTPS/1.1", B),
        (b"GET / RTSP/1.0", B),
        (b"GET /", B),
        (b"GET", B),
        (b"", B),
        (b" GET / HTTP/1.1", B),
        (b"GET  / HTTP/1.1", B),
        (b"GET /  HTTP/1.1", B),
        (b"GET / HTTP/1.1 ", B),
        (b"GET\t/ HTTP/1.1", B),
        (b"GET /\tHTTP/1.1", B),
        (b"GET /a b HTTP/1.1", B),
        (b"GET /\x00 HTTP/1.1", B),
        (b"GET /\x7f HTTP/1.1", B),
        (b"GET /\xc3\xa9 HTTP/1.1", B),
        (b"GET /a\nX: b HTTP/1.1", B),
        (b"GET /a\rX: b HTTP/1.1", B),
        (b"G(T / HTTP/1.1", B),
    ],
)
def test_a_request_line_is_method_target_version_and_nothing_else(line: bytes, reason: Reason) -> None:
    """RFC 9112 §3; HTTP/0.9, 1.10 and 2.0 among them."""
    assert refused(head(line=line)) is reason


@pytest.mark.parametrize(
    "target", [b"/", b"//a", b"/a;b=c", b"/%41", b"/a/../b", b'/{}|^"<>', b"/?", b"/a?b#".rstrip(b"#")]
)
def test_a_path_stays_as_it_was_sent(target: bytes) -> None:
    request = parse(head(line=b"GET %b HTTP/1.1" % target))
    assert request.target == target
    assert request.path == target.partition(b"?")[0]


@pytest.mark.parametrize(
    "target", [b"/a#b", b"a", b"example.test/a", b"?a", b"*", b"ftp://example.test/", b"http:/a", b"http:///a"]
)
def test_other_targets_are_refused(target: bytes) -> None:
    """RFC 9112 §3.2: authority-form is CONNECT's, `*` is OPTIONS'; fragments are never sent."""
    assert refused(head(line=b"GET %b HTTP/1.1" % target)) is B


def test_the_asterisk_is_for_options_alone() -> None:
    request = parse(head(line=b"OPTIONS * HTTP/1.1"))
    assert (request.target, request.path, request.host) == (b"*", b"*", "example.test")


@pytest.mark.parametrize(
    ("target", "forwarded", "path"),
    [
        (b"http://example.test/a?b", b"/a?b", b"/a"),
        (b"HTTPS://EXAMPLE.test/a", b"/a", b"/a"),
        (b"https://example.test", b"/", b"/"),
        (b"https://example.test?a/b", b"/?a/b", b"/"),
    ],
)
def test_absolute_form_that_agrees_with_host_becomes_origin_form(target: bytes, forwarded: bytes, path: bytes) -> None:
    """RFC 9112 §3.2.2."""
    request = parse(head(line=b"GET %b HTTP/1.1" % target))
    assert (request.target, request.path, request.host) == (forwarded, path, "example.test")


@pytest.mark.parametrize(
    "target",
    [
        b"http://other.test/",
        b"http://example.test:8443/",
        b"http://user@example.test/",
        b"http://example.test:99999/",
        b"http://example.test/a#b",
        b"http://example.test#a",
        b"http://example.test\\@other.test/",
    ],
)
def test_absolute_form_that_names_another_place_is_refused(target: bytes) -> None:
    """Which of the two an upstream believes must not matter (RFC 9112 §3.2.2 prefers the target, many do not)."""
    assert refused(head(line=b"GET %b HTTP/1.1" % target)) is B


def test_an_http_1_0_request_needs_no_host() -> None:
    request = parse(head(line=b"GET / HTTP/1.0", host=None))
    assert (request.host, request.host_field, request.version_1_1) == (None, None, False)
    assert parse(head(line=b"GET http://a.test/ HTTP/1.0", host=None)).host == "a.test"


@pytest.mark.parametrize(
    ("value", "host"),
    [
        (b"example.test", "example.test"),
        (b"EXAMPLE.test:8443", "example.test"),
        (b"example.test.", "example.test"),
        (b"a", "a"),
        (b"a_b.test", "a_b.test"),
        (b"127.0.0.1:1", "127.0.0.1"),
        (b"[::1]:443", "::1"),
        (b"[2001:DB8::1]", "2001:db8::1"),
        (b"a.test:65535", "a.test"),
        (b"a.test:0", "a.test"),
    ],
)
def test_a_host_is_a_name_or_an_address_and_perhaps_a_port(value: bytes, host: str) -> None:
    request = parse(head(host=value))
    assert (request.host, request.host_field) == (host, value)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"user@example.test",
        b"user:password@example.test",
        b"example.test/",
        b"example.test?",
        b"example.test#",
        b"example.test\\",
        b"exa mple.test",
        b"example.test,other.test",
        b"example.test:",
        b"example.test:a",
        b"example.test:+1",
        b"example.test:65536",
        b"example.test:1:2",
        b".example.test",
        b"-example.test",
        b"example..test",
        b"ex%61mple.test",
        b"\xc3\xa9xample.test",
        b"[::1",
        b"::1",
        b"[::1]a",
        b"[v1.a]",
        b"[]",
        b"http://example.test",
        b"'example.test'",
        b"a" * 300,
    ],
)
def test_any_other_host_is_refused(value: bytes) -> None:
    assert refused(head(host=value)) is B


def test_white_space_behind_a_value_is_not_part_of_it() -> None:
    """RFC 9112 §5: also where we read the value ourselves."""
    assert fields_of(parse(head(b"X: \t a b \t", b"Y: "))) == [(b"X", b"a b"), (b"Y", b"")]
    assert parse(head(host=b"a.test \t")).host_field == b"a.test"
    assert parse(head(b"Content-Length: 5 \t")).content_length == 5
    assert parse(head(b"Transfer-Encoding: chunked ")).chunked
    assert parse(head(b"Expect: 100-continue ", b"Content-Length: 1")).expects_continue
    assert not parse(head(b"Connection: close ")).keep_alive


def test_one_host_is_the_rule() -> None:
    """RFC 9112 §3.2: none and two are errors, equal ones too."""
    assert refused(head(host=None)) is B
    assert refused(head(b"Host: example.test")) is B
    assert refused(head(b"host: other.test")) is B


def test_a_parser_remembers_hosts_and_forgets_requests() -> None:
    """The heads of a connection do not leak into each other, and many hosts do not pile up."""
    several = parser()
    first = several.parse(
        head(b"Via: 1.1 a", b"Expect: 100-continue", b"Content-Length: 3", b"TE: trailers", b"X-Request-Id: a")
    )
    assert (first.via, first.expects_continue, first.content_length) == (b"1.1 a", True, 3)
    for n in range(200):
        request = several.parse(head(host=b"h%d.test" % n))
        assert facts(request) == facts(parse(head(host=b"h%d.test" % n)))


@pytest.mark.parametrize("line", [b"GET / HTTP/1.1", b"POST / HTTP/1.1", b"OPTIONS * HTTP/1.1"])
@pytest.mark.parametrize(
    "field",
    [
        b"Connection: upgrade\r\nUpgrade: spdy/3.1",
        b"Content-Length: 0",
        b"Content-Length: 7",
        b"Transfer-Encoding: chunked",
    ],
)
def test_a_parser_reads_the_next_head_after_any(line: bytes, field: bytes) -> None:
    """Whatever llhttp believes to come next, a body or another protocol, we frame it ourselves."""
    several = parser()
    several.parse(head(field, line=line))
    assert facts(several.parse(head(b"X-A: 1"))) == facts(parse(head(b"X-A: 1")))


@pytest.mark.parametrize(
    ("lines", "keep_alive"),
    [
        ([], True),
        ([b"Connection: keep-alive"], True),
        ([b"Connection: close"], False),
        ([b"Connection: Close"], False),
        ([b"Connection: keep-alive, close"], False),
        ([b"Connection: keep-alive", b"connection: CLOSE"], False),
        ([b"Connection: closed"], True),
    ],
)
def test_connection_close_is_honoured(lines: list[bytes], keep_alive: bool) -> None:
    assert parse(head(*lines)).keep_alive is keep_alive
    assert parse(head(*lines, line=b"GET / HTTP/1.0")).keep_alive is False


def test_fields_named_by_connection_are_between_us_and_the_client() -> None:
    """RFC 9110 §7.6.1, over all Connection fields and in any case; ones before and after it."""
    request = parse(
        head(
            b"X-Before: 1",
            b"Connection: x-before, Keep-Alive",
            b"X-Stays: 2",
            b"Connection: , X-AFTER ,",
            b"x-after: 3",
        )
    )
    assert fields_of(request) == [(b"X-Stays", b"2")]


@pytest.mark.parametrize(
    "name",
    [b"Connection", b"Keep-Alive", b"TE", b"Upgrade", b"HTTP2-Settings", b"Proxy-Connection", b"proxy-authorization"],
)  # fmt: skip
def test_hop_by_hop_fields_do_not_pass(name: bytes) -> None:
    assert fields_of(parse(head(name + b": a", b"X-Stays: b"))) == [(b"X-Stays", b"b")]


@pytest.mark.parametrize(
    "name",
    [
        b"X-Client-Id",
        b"x_client_id",
        b"X.Client.San",
        b"Client-Cert",
        b"X-Forwarded-For",
        b"Forwarded",
        b"X-SSL-Client-DN",
        b"Transfer_Encoding",
        b"Content_Length",
        b"X_Request_Id",
    ],
)
def test_names_that_only_we_may_send_do_not_pass(name: bytes) -> None:
    assert fields_of(parse(head(name + b": 5", b"X-Stays: b"))) == [(b"X-Stays", b"b")]


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        ([], None),
        ([b"X-Request-Id: a-Z_0.9"], b"a-Z_0.9"),
        ([b"X-Request-Id: " + b"a" * 128], b"a" * 128),
        ([b"X-Request-Id: " + b"a" * 129], None),
        ([b"X-Request-Id: a b"], None),
        ([b'X-Request-Id: a"b'], None),
        ([b"X-Request-Id:"], None),
        ([b"X-Request-Id: a", b"X-Request-Id: b"], None),
    ],
)
def test_a_request_id_is_kept_when_it_is_one_plain_word(lines: list[bytes], kept: bytes | None) -> None:
    request = parse(head(*lines))
    assert request.request_id == kept
    assert request.fields == []


def test_via_is_joined_and_te_and_expect_are_taken_out() -> None:
    request = parse(
        head(b"Via: 1.1 a", b"via: 1.0 b", b"TE: gzip, Trailers", b"Expect: 100-Continue", b"Content-Length: 1")
    )
    assert (request.via, request.te_trailers, request.expects_continue) == (b"1.1 a, 1.0 b", True, True)
    assert request.fields == []
    assert not parse(head(b"TE: gzip")).te_trailers


@pytest.mark.parametrize("value", [b"", b"200-ok", b"100-continue, 200-ok", b"100-continued"])
def test_another_expectation_fails(value: bytes) -> None:
    assert refused(head(b"Expect: " + value)) is Reason.EXPECTATION_FAILED


# -- fuzz --------------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_give_a_head_or_bad_message(junk: bytes) -> None:
    for data in (
        junk + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + junk + b"\r\n\r\n",
        head(b"X: " + junk),
        head(junk + b": a"),
        head(host=junk),
    ):
        whole = data[: data.index(b"\r\n\r\n") + 4]
        try:
            request = parse(whole)
        except BadMessage:
            continue
        out = b"".join(request.fields)
        assert b"\0" not in out
        assert out.count(b"\n") == out.count(b"\r\n") == out.count(b"\r") == len(request.fields) // 4


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_mutated_head_gives_a_head_or_bad_message(data: st.DataObject) -> None:
    """Bytes replaced, removed and inserted in a head that has everything."""
    raw = bytearray(
        head(
            b"Content-Length: 5",
            b"Connection: close, x-a",
            b"X-A: 1",
            b"TE: trailers",
            b"Via: 1.1 b",
            line=b"POST http://example.test/a?b HTTP/1.1",
        )
    )
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 5))
        match data.draw(st.sampled_from("rid")):
            case "r":
                raw[at] = data.draw(st.sampled_from(b"\0\t\n\r :,;+0aA\x7f\xff"))
            case "i":
                raw.insert(at, data.draw(st.sampled_from(b"\0\t\n\r :,;+0aA\x7f\xff")))
            case _:
                del raw[at]
    whole = bytes(raw[: raw.index(b"\r\n\r\n") + 4])
    try:
        request = parse(whole)
    except BadMessage:
        return
    assert request.target.startswith(b"/")
    assert request.host
    assert not (request.chunked and request.content_length is not None)
