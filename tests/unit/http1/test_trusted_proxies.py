"""What a trusted proxy says of its clients is kept and its own address put behind; what it may not say goes as ever."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.http1.heads import LIMITS, fields_of, head
from tests.unit.http1.test_forwarding import IDENTITY, admission, lines

from mtlsproxy.http1.fields import trusted_request_rules
from mtlsproxy.http1.forwarding import MAX_FORWARDED_FOR, TrustedForwarding
from mtlsproxy.http1.request_head import RequestHead, RequestHeadParser
from mtlsproxy.identity.strip import StripRules

PROXY = "10.0.0.5"


class Prefix:
    prefix = "X-Client-"


def parser() -> RequestHeadParser:
    return RequestHeadParser(LIMITS, trusted_request_rules(StripRules([Prefix()]).strips))


def parse(*sent: bytes, host: bytes | None = b"example.test", line: bytes = b"GET / HTTP/1.1") -> RequestHead:
    return parser().parse(head(*sent, host=host, line=line))


def forwarded(*sent: bytes, host: bytes | None = b"example.test", line: bytes = b"GET / HTTP/1.1") -> list[bytes]:
    """The X-Forwarded-* lines that the upstream gets."""
    request = TrustedForwarding(PROXY).request(parse(*sent, host=host, line=line), admission(), b"i")
    return [line for line in lines(request) if line.lower().startswith(b"x-forwarded")]


OURS = [b"X-Forwarded-For: 10.0.0.5", b"X-Forwarded-Proto: https", b"X-Forwarded-Host: example.test"]


def test_a_trusted_proxy_that_says_nothing_is_a_client_like_others() -> None:
    assert forwarded() == OURS


def test_what_it_says_is_kept_and_appended_to() -> None:
    assert forwarded(
        b"x-forwarded-for: 192.0.2.1", b"X-Forwarded-Proto: http", b"X-FORWARDED-HOST: shop.example:8443"
    ) == [
        b"X-Forwarded-For: 192.0.2.1, 10.0.0.5",
        b"X-Forwarded-Proto: http",
        b"X-Forwarded-Host: shop.example:8443",
    ]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ([b"192.0.2.1", b"198.51.100.2"], b"192.0.2.1, 198.51.100.2"),
        ([b"192.0.2.1,\t198.51.100.2"], b"192.0.2.1,\t198.51.100.2"),
        ([b'"[2001:db8::1]:80"', b"unknown, _x"], b'"[2001:db8::1]:80", unknown, _x'),
        ([b"a" * MAX_FORWARDED_FOR], b"a" * MAX_FORWARDED_FOR),
        ([b"a" * (MAX_FORWARDED_FOR + 1)], None),
        ([b"a" * 2500, b"b" * 2500], b"b" * 2500),
        ([b"a" * 5000 + b", 192.0.2.1"], b"192.0.2.1"),
        ([b"a," * 3000 + b" 192.0.2.1"], b"a, " * ((MAX_FORWARDED_FOR - 11) // 3) + b"192.0.2.1"),
        ([b"," * 5000 + b"192.0.2.1"], b"192.0.2.1"),
        ([b"10.0.0.1\xff", b"192.0.2.1, 192.0.2.2"], b"192.0.2.1, 192.0.2.2"),
        ([b"10.0.0.1, \xff", b"192.0.2.1"], b"192.0.2.1"),
        ([b"10.0.0.1, \xe2\x80\x8b,192.0.2.1,"], b"192.0.2.1"),
        ([b"192.0.2.1, \xff"], None),
        ([b"x" * 5000], None),
        ([b"192.0.2.1\xff"], None),
        ([b"192.0.2.1\xc2\x80"], None),
        ([b""], None),
    ],
)
def test_the_list_of_addresses(sent: list[bytes], kept: bytes | None) -> None:
    """Several lines are one list. Of one that is malformed or absurdly long its good end is kept: that is what the
    trusted proxy has put behind its client's words, who else could hide its address with them."""
    (line, *_) = forwarded(*[b"X-Forwarded-For: %b" % value for value in sent])
    assert line == (OURS[0] if kept is None else b"X-Forwarded-For: %b, 10.0.0.5" % kept)


@pytest.mark.parametrize(
    ("name", "sent", "kept"),
    [
        (b"X-Forwarded-Proto", [b"https"], b"https"),
        (b"X-Forwarded-Proto", [b"wss"], b"wss"),
        (b"X-Forwarded-Proto", [b"http", b"https"], None),
        (b"X-Forwarded-Proto", [b"http,https"], None),
        (b"X-Forwarded-Proto", [b""], None),
        (b"X-Forwarded-Proto", [b"a" * 33], None),
        (b"X-Forwarded-Proto", [b"4a"], None),
        (b"X-Forwarded-Host", [b"Shop.Example"], b"Shop.Example"),
        (b"X-Forwarded-Host", [b"[2001:db8::1]:1"], b"[2001:db8::1]:1"),
        (b"X-Forwarded-Host", [b"a", b"b"], None),
        (b"X-Forwarded-Host", [b"a/b"], None),
        (b"X-Forwarded-Host", [b"a..b"], None),
        (b"X-Forwarded-Host", [b"a:65536"], None),
        (b"X-Forwarded-Host", [b"user@a"], None),
        (b"X-Forwarded-Host", [b""], None),
    ],
)
def test_scheme_and_host_are_kept_when_there_is_one_and_it_is_well_formed(
    name: bytes, sent: list[bytes], kept: bytes | None
) -> None:
    expected = [b"%b: %b" % (name, kept) if kept and line.startswith(name) else line for line in OURS]
    assert forwarded(*[b"%b: %b" % (name, value) for value in sent]) == expected


def test_its_host_stands_where_the_request_has_none() -> None:
    assert forwarded(b"X-Forwarded-Host: shop.example", host=None, line=b"GET / HTTP/1.0") == [
        *OURS[:2],
        b"X-Forwarded-Host: shop.example",
    ]
    assert forwarded(host=None, line=b"GET / HTTP/1.0") == OURS[:2]


def test_its_forwarded_and_real_ip_pass_unchanged() -> None:
    sent = [(b"Forwarded", b"for=192.0.2.1"), (b"forwarded", b"for=198.51.100.2"), (b"X-Real-IP", b"192.0.2.1")]
    assert fields_of(parse(*[b"%b: %b" % field for field in sent])) == sent


@pytest.mark.parametrize(
    "name",
    [
        b"X-Client-Id",
        b"x_client.id",
        b"Client-Cert",
        b"X-Forwarded-Client-Cert",
        b"X_Forwarded_For",
        b"X.Forwarded.Host",
    ],
)
def test_identity_and_other_spellings_are_kept_from_nobody(name: bytes) -> None:
    request = parse(b"%b: forged" % name)
    assert fields_of(request) == []
    assert b"forged" not in TrustedForwarding(PROXY).request(request, admission(), b"i")


def test_connection_cannot_name_ours_away() -> None:
    assert forwarded(b"X-Forwarded-For: 192.0.2.1", b"Connection: x-forwarded-for, x-forwarded-proto") == [
        b"X-Forwarded-For: 192.0.2.1, 10.0.0.5",
        *OURS[1:],
    ]


SENT = st.lists(
    st.tuples(
        st.sampled_from([b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host", b"Accept"]),
        st.sampled_from([b"192.0.2.1", b"198.51.100.2", b"http", b"a.example", b"", b"\xff"]),
    ),
    max_size=4,
)


@given(st.lists(st.tuples(SENT, st.sampled_from([b"a.test", b"b.test"]), st.booleans()), min_size=2, max_size=6))
@settings(max_examples=200, deadline=None)
def test_nothing_that_is_said_of_one_client_stays_for_another(requests) -> None:  # type: ignore[no-untyped-def]
    """A connection of a trusted proxy carries many clients' requests, some of them the same byte for byte."""
    reading, forwarding = parser(), TrustedForwarding(PROXY)
    who = {False: admission(), True: admission(identity=IDENTITY + b"X-Client-San: x\r\n")}
    for sent, host, other in [*requests, *requests]:
        data = head(*[b"%b: %b" % field for field in sent], host=host)
        fresh = TrustedForwarding(PROXY).request(parser().parse(data), who[other], b"i")
        assert forwarding.request(reading.parse(data), who[other], b"i") == fresh
