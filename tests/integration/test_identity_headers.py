"""No spelling of a header of ours that a client sends reaches an upstream, in headers or trailers; ours always do."""

import base64
import hashlib
from collections.abc import Callable

import pytest
from tests.integration.clients import client_context, request, tls
from tests.integration.conftest import Material, Start
from tests.integration.harness import Tree
from tests.integration.upstream import RecordingUpstream
from tests.integration.whois import serial_of

FORGERY = "forged-by-the-client"

OURS = [
    "X-Client-Verify",
    "X-Client-Id",
    "X-Client-Subject",
    "X-Client-Issuer",
    "X-Client-Serial",
    "X-Client-Fingerprint",
    "X-Client-San",
    "X-Client-Not-After",
    "X-Client-Truststore",
    "X-Client-Invented",
    "Client-Cert",
    "Client-Cert-Chain",
    "X-Forwarded-Client-Cert",
    "X-SSL-Client-Verify",
    "X-SSL-Anything",
    "SSL-Client-Cert",
    "SSL-Client-S-DN",
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "Forwarded",
    "X-Legacy-Id",
    "X-Legacy-Invented",
]
"""Of every form, of the prefix of an identity that this route does not use, and what else only a proxy may say."""

SPELLINGS = {
    "as it is": lambda name: name,
    "lower": str.lower,
    "upper": str.upper,
    "swapped": str.swapcase,
    "underscores": lambda name: name.replace("-", "_"),
    "dots": lambda name: name.replace("-", "."),
    "mixed": lambda name: name.replace("-", "_", 1).replace("-", ".").title(),
    "last only": lambda name: "_".join(name.rsplit("-", 1)).lower(),
}

FORGED_NAMES = sorted({spell(name) for name in OURS for spell in SPELLINGS.values()})


@pytest.fixture
def two_identities(config: Tree) -> Tree:
    """The default form on the route, and another identity with its own prefix and forms that it does not use."""
    config["identities"] = {
        "default": {"forms": ["fields"]},
        "legacy": {"forms": ["fields", "client_cert", "client_cert_chain", "xfcc"], "prefix": "X-Legacy-"},
    }
    config["listeners"][0]["limits"] = {"header_count": 1000, "headers": "64KiB"}
    return config


def assert_unforged(upstream: RecordingUpstream) -> None:
    (recorded,) = upstream.requests
    assert FORGERY.encode() not in recorded.head + recorded.body
    assert recorded.values("X-Client-Verify") == ["SUCCESS"]
    assert recorded.values("X-Client-Id") == ["alice.clients.test"]
    assert recorded.values("X-Client-Invented") == []
    assert recorded.values("X-Forwarded-For") == ["127.0.0.1"]
    assert recorded.values("X-Forwarded-Proto") == ["https"]
    assert recorded.values("X-Forwarded-Host") == ["proxy.test"]
    names = [name.lower() for name, _ in recorded.fields]
    assert len(names) == len(set(names)), "a header of ours came twice"


def test_no_spelling_reaches_the_upstream(
    two_identities: Tree, material: Material, upstream: RecordingUpstream, start: Start
) -> None:
    """Every spelling in one request; what is not ours arrives."""
    proxy = start(two_identities)
    lines = [f"{name}: {FORGERY}" for name in FORGED_NAMES]
    with tls(proxy.port(), client_context(material.root, material.client())) as connection:
        assert connection.get("/", *lines, "X-Clientele: kept", "My-X-Client-Id: kept", "Cookie: kept").status == 200
    assert_unforged(upstream)
    for name in ("X-Clientele", "My-X-Client-Id", "Cookie"):
        assert upstream.requests[0].values(name) == ["kept"]


def test_no_spelling_reaches_the_upstream_in_trailers(
    two_identities: Tree, material: Material, upstream: RecordingUpstream, start: Start
) -> None:
    """RFC 9110 §6.5.1: a trailer may be merged into the headers, so it is stripped alike; others pass."""
    proxy = start(two_identities)
    names = [name for name in FORGED_NAMES if len(name) < 40]
    for begin in range(0, len(names), 90):  # the parser takes 100 trailers
        trailers = "".join(f"{name}: {FORGERY}\r\n" for name in names[begin : begin + 90])
        body = b"2\r\nhi\r\n0\r\nX-Checksum: kept\r\n" + trailers.encode() + b"\r\n"
        with tls(proxy.port(), client_context(material.root, material.client())) as connection:
            connection.send(request("/", "Transfer-Encoding: chunked", "TE: trailers", method="POST", body=body))
            assert connection.response().status == 200
        assert_unforged(upstream)
        assert upstream.requests[0].body == b"2\r\nhi\r\n0\r\nX-Checksum: kept\r\n\r\n"
        upstream.requests.clear()


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
def test_connection_cannot_take_ours_away(
    two_identities: Tree, material: Material, upstream: RecordingUpstream, start: Start, spell: Callable[[str], str]
) -> None:
    """RFC 9110 §7.6.1 lets a client name fields to drop, but not those that we set; it may drop its own."""
    proxy = start(two_identities)
    tokens = ", ".join(["keep-alive", *map(spell, OURS), "host", "via", "x-request-id", "X-Own"])
    with tls(proxy.port(), client_context(material.root, material.client())) as connection:
        assert connection.get("/", f"Connection: {tokens}", "X-Own: dropped", "X-Other: kept").status == 200
    assert_unforged(upstream)
    recorded = upstream.requests[0]
    assert [recorded.values(name) for name in ("Host", "X-Own", "X-Other")] == [["proxy.test"], [], ["kept"]]
    assert recorded.values("Via") == ["1.1 mtlsproxy"]
    assert len(recorded.values("X-Request-Id")) == 1


@pytest.mark.parametrize(
    "line",
    [
        "X-Client-Id : x",
        " X-Client-Id: x",
        "X-Client-Id\t: x",
        "X-Client-Id",
        ": x",
        "X-Client\x00-Id: x",
        "X-Client-Id: a\r\n b",
        "X-Client-Id: a\nX-Client-Verify: SUCCESS",
        "X-Client-Id: a\rX-Client-Verify: SUCCESS",
        "X-Cliént-Id: x",
    ],
)
def test_a_malformed_line_refuses_the_request(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start, line: str
) -> None:
    """White space, folding, NUL, bare CR and LF: none is mended, each is a 400."""
    proxy = start(config)
    with tls(proxy.port(), client_context(material.root, material.client())) as connection:
        assert connection.get("/", line).status == 400
        assert connection.ended()
    assert upstream.untouched


def test_every_form_arrives_as_documented(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start
) -> None:
    """All four forms on one route, each once, with the values of the certificate that was shown."""
    config["identities"] = {"default": {"forms": ["fields", "client_cert", "client_cert_chain", "xfcc"]}}
    proxy, alice = start(config), material.client()
    with tls(proxy.port(), client_context(material.root, alice)) as connection:
        assert connection.get().status == 200
    recorded = upstream.requests[0]
    leaf, fingerprint = alice.leaf, hashlib.sha256(alice.der).hexdigest()
    expected = {
        "X-Client-Verify": "SUCCESS",
        "X-Client-Subject": "CN=alice",
        "X-Client-Issuer": "CN=Partner CA",
        "X-Client-Serial": serial_of(leaf),
        "X-Client-Fingerprint": fingerprint,
        "X-Client-San": '"DNS:alice.clients.test"',
        "X-Client-Not-After": leaf.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "Client-Cert": f":{base64.b64encode(alice.der).decode()}:",
        "Client-Cert-Chain": "",
    }
    assert {name: "".join(recorded.values(name)) for name in expected} == expected
    (xfcc,) = recorded.values("X-Forwarded-Client-Cert")
    assert xfcc.startswith(f'Hash={fingerprint};Subject="CN=alice"')


def test_one_connection_s_identity_is_never_another_s(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start
) -> None:
    """Two clients share the pooled upstream connection, and each is itself."""
    proxy = start(config)
    people = [material.client(name, (f"DNS:{name}.test",)) for name in ("ann", "ben")]
    contexts = [client_context(material.root, person) for person in people]
    with tls(proxy.port(), contexts[0]) as first, tls(proxy.port(), contexts[1]) as second:
        for _ in range(3):
            first.get("/ann")
            second.get("/ben")
    assert len(upstream.received) == 1
    assert [(r.line.split()[1], r.values("X-Client-Id")) for r in upstream.requests] == [
        ("/ann", ["ann.test"]),
        ("/ben", ["ben.test"]),
    ] * 3
