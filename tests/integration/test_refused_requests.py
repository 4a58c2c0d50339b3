"""Each reason that refuses a verified client's request: answer, log line, metric, and nothing at the upstream."""

import socket
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.integration.certificates import anchor_file, identity, issue, names
from tests.integration.clients import client_context, request, tls
from tests.integration.conftest import Material, Start
from tests.integration.harness import Tree, eventually
from tests.integration.refusals import (
    assert_counted,
    assert_logged,
    assert_nobody_left,
    assert_nothing_forwarded,
    assert_problem,
)
from tests.integration.upstream import RecordingUpstream

from mtlsproxy.reasons import Reason, status_of


@dataclass(frozen=True)
class Case:
    """What a client sends and why it is refused. route: which one the refusal is put down to.

    closes: whether the connection is of no more use. listener, route_settings: what differs from the default.
    """

    sends: bytes
    reason: Reason
    closes: bool = False
    route: str = ""
    listener: dict[str, Any] = field(default_factory=dict)
    route_settings: dict[str, Any] = field(default_factory=dict)


def raw(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode("latin-1")


CASES = {
    "not allowed": Case(request(), Reason.NOT_ALLOWED, route="all", route_settings={"allow": [{"dns": "bob.test"}]}),
    "nobody": Case(request(), Reason.NOT_ALLOWED, route="all", route_settings={"allow": []}),
    "denied": Case(request(), Reason.DENIED, route="all", route_settings={"deny": [{"common_name": "alice"}]}),
    "another host": Case(request(host="other.test"), Reason.MISDIRECTED),
    "another host in absolute form": Case(
        raw("GET https://other.test/ HTTP/1.1\nHost: other.test\n\n"), Reason.MISDIRECTED
    ),
    "no route for the path": Case(request("/b"), Reason.NO_ROUTE, route_settings={"paths": ["/a"]}),
    "no route for the host": Case(request(host="localhost"), Reason.NO_ROUTE, route_settings={"hosts": ["proxy.test"]}),
    "method": Case(request(method="DELETE"), Reason.METHOD_NOT_ALLOWED, route_settings={"methods": ["GET"]}),
    "CONNECT": Case(
        raw("CONNECT proxy.test:443 HTTP/1.1\nHost: proxy.test:443\n\n"), Reason.METHOD_NOT_ALLOWED, closes=True
    ),
    "no Host": Case(raw("GET / HTTP/1.1\n\n"), Reason.BAD_REQUEST, closes=True),
    "two lengths": Case(
        raw("POST / HTTP/1.1\nHost: proxy.test\nContent-Length: 1\nContent-Length: 2\n\nab"),
        Reason.BAD_REQUEST,
        closes=True,
    ),
    "length and chunks": Case(
        raw("POST / HTTP/1.1\nHost: proxy.test\nContent-Length: 3\nTransfer-Encoding: chunked\n\n0\n\n"),
        Reason.BAD_REQUEST,
        closes=True,
    ),
    "ambiguous path": Case(request("/a/..%2fadmin"), Reason.BAD_REQUEST, closes=True, route_settings={"paths": ["/a"]}),
    "long line": Case(
        request("/" + "a" * 600), Reason.URI_TOO_LONG, closes=True, listener={"limits": {"request_line": "512"}}
    ),
    "long field": Case(
        request("/", "X-Long: " + "a" * 600),
        Reason.HEADERS_TOO_LARGE,
        closes=True,
        listener={"limits": {"header_field": "512"}},
    ),
    "long headers": Case(
        request("/", *(f"X-{n}: {'a' * 100}" for n in range(10))),
        Reason.HEADERS_TOO_LARGE,
        closes=True,
        listener={"limits": {"headers": "800"}},
    ),
    "many headers": Case(
        request("/", *(f"X-{n}: a" for n in range(10))),
        Reason.HEADERS_TOO_LARGE,
        closes=True,
        listener={"limits": {"header_count": 10}},
    ),
    "large body": Case(
        request("/", "Content-Length: 11", method="POST", body=b"x" * 11),
        Reason.BODY_TOO_LARGE,
        closes=True,
        route="all",
        listener={"limits": {"body": "10"}},
    ),
    "slow headers": Case(
        b"GET / HTTP/1.1\r\nHost: pro",
        Reason.REQUEST_TIMEOUT,
        closes=True,
        listener={"timeouts": {"request_headers": "200ms"}},
    ),
    "expectation": Case(request("/", "Expect: magic"), Reason.EXPECTATION_FAILED, closes=True),
    "unknown method": Case(request(method="BREW"), Reason.NOT_IMPLEMENTED, closes=True),
    "unknown coding": Case(
        request("/", "Transfer-Encoding: gzip, chunked", method="POST", body=b"0\r\n\r\n"),
        Reason.NOT_IMPLEMENTED,
        closes=True,
    ),
    "HTTP/1.2": Case(raw("GET / HTTP/1.2\nHost: proxy.test\n\n"), Reason.VERSION_NOT_SUPPORTED, closes=True),
    "HTTP/2 preface": Case(raw("PRI * HTTP/2.0\n\nSM\n\n"), Reason.VERSION_NOT_SUPPORTED, closes=True),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_refused(case: Case, config: Tree, material: Material, upstream: RecordingUpstream, start: Start) -> None:
    """Answered as the case says; where the connection is still of use, the next request is served on it."""
    config["listeners"][0] |= case.listener
    config["routes"][0] |= case.route_settings
    config["routes"].append({"name": "ok", "paths": ["/fine"], "allow": "any", "upstream": "recorder"})
    config["routes"].reverse()
    proxy, alice = start(config), material.client()
    with tls(proxy.port(), client_context(material.root, alice)) as connection:
        connection.send(case.sends)
        assert_problem(connection.response(), case.reason, closes=case.closes)
        assert_logged(proxy, case.reason, alice, route=case.route or None)
        assert_counted(proxy, case.reason, route=case.route)
        assert_nothing_forwarded(upstream)
        (line,) = proxy.access()
        assert (line["status"], line["reason"]) == (status_of(case.reason), case.reason)
        if case.closes:
            assert connection.ended()
        else:
            assert connection.get("/fine").status == 200
    assert_nobody_left(proxy)


def test_method_not_allowed_names_the_methods(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start
) -> None:
    """RFC 9110 §15.5.6: Allow, with the methods of every route that would match."""
    config["routes"][0]["methods"] = ["GET", "POST"]
    proxy = start(config)
    with tls(proxy.port(), client_context(material.root, material.client())) as connection:
        connection.send(request(method="PUT"))
        answer = connection.response()
    assert answer.status == 405
    assert {method.strip() for method in answer.one("Allow").split(",")} == {"GET", "POST"}


def test_a_chunked_body_that_grows_too_large(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start
) -> None:
    """Its length is not announced, so the upstream saw a beginning: but never a whole request."""
    config["listeners"][0]["limits"] = {"body": "10"}
    proxy, alice = start(config), material.client()
    with tls(proxy.port(), client_context(material.root, alice)) as connection:
        connection.send(request("/", "Transfer-Encoding: chunked", method="POST", body=b"6\r\naaaaaa\r\n"))
        eventually(lambda: upstream.received and b"aaaaaa" in upstream.received[0])
        connection.send(b"6\r\nbbbbbb\r\n0\r\n\r\n")
        assert_problem(connection.response(), Reason.BODY_TOO_LARGE, closes=True)
        assert connection.ended()
    assert_logged(proxy, Reason.BODY_TOO_LARGE, alice, route="all")
    assert_counted(proxy, Reason.BODY_TOO_LARGE, route="all")
    eventually(lambda: not upstream.open)
    assert upstream.requests == []


def test_a_body_that_stops_coming(config: Tree, material: Material, upstream: RecordingUpstream, start: Start) -> None:
    """`request_body`: 408, and the upstream never gets a whole request."""
    config["listeners"][0]["timeouts"] = {"request_body": "200ms"}
    proxy, alice = start(config), material.client()
    with tls(proxy.port(), client_context(material.root, alice)) as connection:
        connection.send(request("/", "Content-Length: 10", method="POST", body=b"12345"))
        assert_problem(connection.response(), Reason.REQUEST_TIMEOUT, closes=True)
        assert connection.ended()
    assert_logged(proxy, Reason.REQUEST_TIMEOUT, alice, route="all")
    assert_counted(proxy, Reason.REQUEST_TIMEOUT, route="all")
    eventually(lambda: not upstream.open)
    assert upstream.requests == []


# -- truststores, revocation -------------------------------------------------------------------------------------------


def test_a_client_of_another_truststore(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start
) -> None:
    """Verified by the listener, but not by a truststore that this route accepts; another route does."""
    other = issue("Other CA", ca=True)
    config["truststores"]["others"] = {
        "trust_anchors": [str(anchor_file(material.folder, other))],
        "revocation": {"mode": "off"},
    }
    config["listeners"][0]["client_auth"]["truststores"] = ["partners", "others"]
    config["routes"][0] |= {"paths": ["/partners"], "truststores": ["partners"]}
    config["routes"].append({"name": "rest", "allow": "any", "upstream": "recorder"})
    proxy = start(config)
    visitor = identity(material.folder, issue("visitor", other, sans=names("DNS:visitor.test")))
    with tls(proxy.port(), client_context(material.root, visitor)) as connection:
        assert_problem(connection.get("/partners/1"), Reason.TRUSTSTORE_MISMATCH, closes=False)
        assert_logged(proxy, Reason.TRUSTSTORE_MISMATCH, visitor, route="all")
        assert_counted(proxy, Reason.TRUSTSTORE_MISMATCH, route="all")
        assert_nothing_forwarded(upstream)
        assert connection.get("/else").status == 200
    assert upstream.requests[0].values("X-Client-Truststore") == ["others"]


def with_crls(config: Tree, material: Material, *sources: str, mode: str = "hard_fail") -> Tree:
    """The development PKI's client CA, and these of its CRLs."""
    crls = [str(material.pki.directory / "crls" / source) for source in sources]
    config["truststores"]["partners"] = {
        "trust_anchors": [str(material.root)],
        "revocation": {"mode": mode, "crl": {"sources": crls}},
    }
    return config


def test_a_revoked_client(config: Tree, material: Material, upstream: RecordingUpstream, start: Start) -> None:
    """A CRL lists it: refused; another of the same CA is served."""
    mallory, alice = material.dev_client("mallory"), material.dev_client("dave")
    material.pki.revoke(mallory.leaf)
    proxy = start(with_crls(config, material, "client-ca.pem", "root.pem"))
    with tls(proxy.port(), client_context(material.root, mallory)) as connection:
        assert_problem(connection.get(), Reason.REVOKED, closes=True)
    assert_logged(proxy, Reason.REVOKED, mallory)
    assert_counted(proxy, Reason.REVOKED)
    assert_nothing_forwarded(upstream)
    assert proxy.series("revocation_decisions_total") == {("partners", "revoked", "crl"): 1}
    with tls(proxy.port(), client_context(material.root, alice)) as connection:
        assert connection.get().status == 200


def test_revocation_that_cannot_be_established(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start
) -> None:
    """hard_fail without a CRL of the client's issuer refuses; soft_fail lets pass."""
    erin = material.dev_client("erin")
    proxy = start(with_crls(config, material, "root.pem"))
    with tls(proxy.port(), client_context(material.root, erin)) as connection:
        assert_problem(connection.get(), Reason.REVOCATION_UNKNOWN, closes=True)
    assert_logged(proxy, Reason.REVOCATION_UNKNOWN, erin)
    assert_counted(proxy, Reason.REVOCATION_UNKNOWN)
    assert_nothing_forwarded(upstream)
    assert proxy.series("revocation_decisions_total") == {("partners", "unknown", "none"): 1}


def test_soft_fail_lets_the_unknown_pass_but_not_the_revoked(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start
) -> None:
    """The accepted case of the above."""
    frank, grace = material.dev_client("frank"), material.dev_client("grace")
    proxy = start(with_crls(config, material, "root.pem", mode="soft_fail"))
    with tls(proxy.port(), client_context(material.root, frank)) as connection:
        assert connection.get().status == 200
    material.pki.revoke(grace.leaf)
    other = start(with_crls(config, material, "root.pem", "client-ca.pem", mode="soft_fail"))
    with tls(other.port(), client_context(material.root, grace)) as connection:
        assert_problem(connection.get(), Reason.REVOKED, closes=True)


# -- shadow mode -------------------------------------------------------------------------------------------------------


def test_shadow_mode_lets_pass_and_says_so(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start
) -> None:
    """`enforce: false`: what allow refuses is forwarded, logged and counted as not enforced."""
    config["routes"][0] |= {"allow": [{"dns": "bob.test"}], "enforce": False}
    proxy = start(config)
    with tls(proxy.port(), client_context(material.root, material.client())) as connection:
        assert connection.get().status == 200
    line = proxy.refusal()
    assert (line["reason"], line["enforced"], line["status"]) == (Reason.NOT_ALLOWED, False, 200)
    assert proxy.series("rejections_total") == {("internal", "all", "not_allowed", "false"): 1}
    assert len(upstream.requests) == 1


# -- upstreams ---------------------------------------------------------------------------------------------------------


def test_an_upstream_that_refuses_connections(config: Tree, material: Material, start: Start) -> None:
    """upstream_unavailable: 503, and the connection stays."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        config["upstreams"]["recorder"]["servers"] = [{"url": f"http://127.0.0.1:{reserved.getsockname()[1]}"}]
        proxy, alice = start(config), material.client()
        with tls(proxy.port(), client_context(material.root, alice)) as connection:
            assert_problem(connection.get(), Reason.UPSTREAM_UNAVAILABLE, closes=False)
            assert_problem(connection.get(), Reason.UPSTREAM_UNAVAILABLE, closes=False)
    assert_logged(proxy, Reason.UPSTREAM_UNAVAILABLE, alice, route="all")
    assert proxy.series("rejections_total") == {("internal", "all", "upstream_unavailable", "true"): 2}
    assert proxy.series("requests_total") == {("internal", "all", "GET", "503", "HTTP/1.1"): 2}


BROKEN_ANSWERS: dict[str, bytes | None] = {
    "none": None,
    "no HTTP": b"hello\r\n\r\n",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "unknown coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nab",
    "101 unasked": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "33 interim answers": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 33,
    "large headers": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("answer", BROKEN_ANSWERS.values(), ids=BROKEN_ANSWERS)
def test_an_upstream_that_gives_no_usable_answer(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start, answer: bytes | None
) -> None:
    """upstream_error: 502, logged, counted; that upstream connection is not used again."""

    def script(_request: object, connection: Any) -> None:
        if answer is not None:
            connection.sendall(answer)

    upstream.script = script
    proxy, alice = start(config), material.client()
    with tls(proxy.port(), client_context(material.root, alice)) as connection:
        connection.send(request(method="POST"))
        assert_problem(connection.response(), Reason.UPSTREAM_ERROR, closes=False)
        assert_logged(proxy, Reason.UPSTREAM_ERROR, alice, route="all")
        assert_counted(proxy, Reason.UPSTREAM_ERROR, route="all")
        upstream.answer(b"HTTP/1.1 204 No Content\r\n\r\n")
        assert connection.get().status == 204
    assert len(upstream.received) == 2


def test_an_upstream_that_does_not_answer(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start
) -> None:
    """`timeouts.response`: 504, and the late answer goes to nobody."""
    config["routes"][0]["timeouts"] = {"response": "200ms"}

    def script(_request: object, connection: Any) -> bytes:
        time.sleep(0.6)
        return b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate"

    upstream.script = script
    proxy, alice = start(config), material.client()
    with tls(proxy.port(), client_context(material.root, alice)) as connection:
        assert_problem(connection.get(), Reason.UPSTREAM_TIMEOUT, closes=False)
        assert_logged(proxy, Reason.UPSTREAM_TIMEOUT, alice, route="all")
        assert_counted(proxy, Reason.UPSTREAM_TIMEOUT, route="all")
        upstream.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext")
        assert connection.get("/next").body == b"next"
