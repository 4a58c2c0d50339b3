"""A request is written anew: one framing, one Host, and what we vouch for set by us alone."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.http1.heads import head, parse

from mtlsproxy.http1.errors import BadMessage
from mtlsproxy.http1.forwarding import Forwarding
from mtlsproxy.http1.visitor import Admission

IDENTITY = b"X-Client-Verify: SUCCESS\r\nX-Client-Id: alice\r\n"


class Place:
    """What forwarding knows of a target."""

    def __init__(self, host_of_server: bool = False) -> None:
        self.host_of_server = host_of_server


def admission(host_of_server: bool = False, identity: bytes = IDENTITY) -> Admission:
    return Admission(Place(host_of_server), None, "", None, identity, "alice", "partners")  # type: ignore[arg-type]


def forwarded(data: bytes, request_id: bytes = b"id-1") -> bytes:
    return Forwarding("192.0.2.1").request(parse(data), admission(), request_id)


def lines(data: bytes) -> list[bytes]:
    assert data.endswith(b"\r\n\r\n")
    return data[:-4].split(b"\r\n")


def test_a_request_as_the_upstream_gets_it() -> None:
    assert lines(forwarded(head(b"Accept: */*", line=b"GET http://EXAMPLE.test/a?b HTTP/1.1"))) == [
        b"GET /a?b HTTP/1.1",
        b"Host: EXAMPLE.test",
        b"X-Forwarded-For: 192.0.2.1",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: EXAMPLE.test",
        b"X-Client-Verify: SUCCESS",
        b"X-Client-Id: alice",
        b"Accept: */*",
        b"Via: 1.1 mtlsproxy",
        b"X-Request-Id: id-1",
    ]


@pytest.mark.parametrize(
    ("sent", "framing"),
    [
        ([], []),
        ([b"Content-Length: 007"], [b"Content-Length: 7"]),
        ([b"Content-Length: 0"], [b"Content-Length: 0"]),
        ([b"transfer-encoding: Chunked"], [b"Transfer-Encoding: chunked"]),
        ([b"TE: trailers, gzip"], [b"TE: trailers", b"Connection: TE"]),
        ([b"Expect: 100-continue", b"Content-Length: 1"], [b"Content-Length: 1", b"Expect: 100-continue"]),
        ([b"Expect: 100-continue"], []),
        ([b"Connection: close"], []),
    ],
)
def test_framing_is_ours(sent: list[bytes], framing: list[bytes]) -> None:
    """Expect without a body asks for nothing."""
    plain = lines(forwarded(head()))
    assert lines(forwarded(head(*sent))) == plain + framing


def test_via_is_appended_to() -> None:
    assert b"Via: 1.0 a, 1.1 b, 1.1 mtlsproxy" in lines(forwarded(head(b"Via: 1.0 a", b"Via: 1.1 b")))


def test_via_says_by_which_version_it_was_asked() -> None:
    """RFC 9110 §7.6.3: received-protocol is the client's."""
    for sent, via in (([], b"Via: 1.0 mtlsproxy"), ([b"Via: 1.1 a"], b"Via: 1.1 a, 1.0 mtlsproxy")):
        assert via in lines(forwarded(head(*sent, line=b"GET / HTTP/1.0")))


def test_the_host_of_the_server_is_left_to_who_knows_it() -> None:
    request = Forwarding("192.0.2.1").request(parse(head()), admission(host_of_server=True), b"i")
    assert lines(request)[1] == b"Host: "
    assert b"X-Forwarded-Host: example.test" in lines(request)


def test_a_request_without_host_has_an_empty_one() -> None:
    """HTTP/1.0: RFC 9112 §3.2 wants a Host in what we send, empty where there is no authority."""
    out = lines(forwarded(head(line=b"GET / HTTP/1.0", host=None)))
    assert out[:2] == [b"GET / HTTP/1.1", b"Host: "]
    assert not any(line.startswith(b"X-Forwarded-Host") for line in out)


def test_what_is_remembered_of_one_request_does_not_stay_for_another() -> None:
    """Another host, another identity, and back."""
    forwarding = Forwarding("192.0.2.1")
    one, other = admission(), admission(identity=b"X-Client-Id: bob\r\n")
    for who, host in [(one, b"a.test"), (one, b"b.test"), (other, b"b.test"), (one, b"a.test"), (one, None)]:
        request = parse(head(host=host, line=b"GET / HTTP/1.0"))
        fresh = Forwarding("192.0.2.1").request(request, who, b"i")
        assert forwarding.request(request, who, b"i") == fresh


NAMES = st.sampled_from(
    [
        b"X-Client-Id",
        b"x_client_verify",
        b"Via",
        b"X-Request-Id",
        b"X-Forwarded-For",
        b"Forwarded",
        b"Client-Cert",
        b"Accept",
        b"Connection",
        b"Content-Length",
        b"Transfer-Encoding",
        b"TE",
        b"Host",
        b"Upgrade",
        b"X-Client.San",
    ]
)
VALUES = st.sampled_from([b"a", b"", b"x-client-id, x-request-id, host, via", b"7", b"chunked", b"trailers", b"close"])


@given(st.lists(st.tuples(NAMES, VALUES), max_size=6))
@settings(max_examples=200, deadline=None)
def test_whatever_a_client_sends_ours_are_there_once(sent: list[tuple[bytes, bytes]]) -> None:
    try:
        request = parse(head(*[b"%b: %b" % field for field in sent]))
    except BadMessage:
        return
    out = lines(Forwarding("192.0.2.1").request(request, admission(), b"id-1"))
    folded = [line.split(b":")[0].lower().replace(b"_", b"-").replace(b".", b"-") for line in out[1:]]
    for name in (b"host", b"x-client-id", b"x-client-verify", b"x-forwarded-for", b"via", b"x-request-id"):
        assert folded.count(name) == 1
    assert folded.count(b"content-length") + folded.count(b"transfer-encoding") <= 1
    assert b"X-Client-Id: alice" in out
    assert not {b"client-cert", b"x-client-san", b"forwarded", b"upgrade"} & set(folded)
