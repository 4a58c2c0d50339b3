"""A server that does not prove what it has to is sent no byte of a request: 502, and log and metric say so."""

import hashlib
import socket
import ssl
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from tests.integration.certificates import NOW, Identity, anchor_file, identity, issue
from tests.integration.clients import VERSIONS
from tests.integration.harness import Tree, eventually
from tests.integration.secure.conftest import NAME, Authority, Secured, Serve, host_names, server_context
from tests.integration.upstream import RecordingUpstream, recording_upstream
from tests.unit.x509.build import key_usage

from mtlsproxy.x509.policy import CLIENT_AUTH, SERVER_AUTH

DAY = timedelta(days=1)


def refused(served: Secured) -> str:
    """The detail with which the one request was refused."""
    answer = served.get()
    assert answer.status == 502
    assert answer.problem["reason"] == "upstream_error"
    assert "certificate" not in answer.body.decode()  # what is behind the proxy is not told to clients
    line = served.proxy.refusal()
    assert line["reason"] == "upstream_error"
    assert served.failures == 1
    assert served.proxy.series("rejections_total") == {("internal", "all", "upstream_error", "true"): 1}
    assert not any(served.upstream.received)
    server, _, detail = line["detail"].partition(": ")
    assert server.startswith("https://"), "which of the upstream's servers"
    return str(detail)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_good_server_is_sent_the_request(
    serve: Serve, upstream: RecordingUpstream, good: Identity, version: str
) -> None:
    assert upstream.context is not None
    upstream.context.maximum_version = VERSIONS[version]
    served = serve()
    assert served.get().status == 200
    assert upstream.tls[0].version() == version
    said = served.said("verified until")
    for words in ("CN=an upstream", "CN=Upstream CA", hashlib.sha256(good.der).hexdigest()):
        assert words in said


def test_one_connection_serves_many_requests(serve: Serve, upstream: RecordingUpstream) -> None:
    """Session tickets that the server sends behind its handshake do not make a connection stale."""
    served = serve()
    for _ in range(5):
        assert served.get().status == 200
    assert len(upstream.tls) == 1


Make = Callable[[Authority], Identity]


def of_another_ca(a: Authority) -> Identity:
    """Of the same name."""
    other = issue("Upstream CA", ca=True)
    return identity(a.folder, issue("stranger", other, sans=host_names(NAME), eku=[SERVER_AUTH]))


BAD: dict[str, tuple[Make, str]] = {
    "of another CA": (of_another_ca, "untrusted_issuer"),
    "self-signed": (
        lambda a: identity(a.folder, issue("self", sans=host_names(NAME), eku=[SERVER_AUTH])), "untrusted_issuer",
    ),
    "expired": (lambda a: a.server(start=NOW - 3 * DAY, end=NOW - DAY), "expired"),
    "not valid yet": (lambda a: a.server(start=NOW + DAY, end=NOW + 2 * DAY), "not_yet_valid"),
    "of a client": (lambda a: a.server(eku=[CLIENT_AUTH]), "eku_mismatch"),
    "without extended key usage": (lambda a: a.server(eku=None), "eku_missing"),
    "that may not sign": (lambda a: a.server(usage=key_usage("key_encipherment")), "key_usage"),
    "that is a CA": (lambda a: a.server(ca=True, eku=[SERVER_AUTH]), "ca_as_leaf"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_a_certificate_that_does_not_pass_is_refused_and_named(
    serve: Serve, authority: Authority, upstream: RecordingUpstream, what: str
) -> None:
    make, reason = BAD[what]
    bad = make(authority)
    upstream.context = server_context(bad)
    served = serve()
    detail = refused(served)
    assert detail.startswith(f"the server's certificate is not accepted ({reason}): ")
    assert f"subject {bad.leaf.subject.rfc4514_string()}, issuer " in detail
    assert served.said("to mend it").startswith(f"upstream recorder, {upstream.url}: the server's certificate")


def test_the_systems_cas_count_for_nothing(
    serve: Serve, authority: Authority, upstream: RecordingUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However OpenSSL is told about them."""
    other = issue("Public CA", ca=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(anchor_file(authority.folder, other)))
    upstream.context = server_context(authority.server(by=[other]))
    assert "(untrusted_issuer)" in refused(serve())


@pytest.mark.parametrize(
    ("names", "asked", "seen"),
    [
        (("other.test",), "upstream.test", "is for other.test, not upstream.test"),
        (("*.upstream.test",), "upstream.test", "is for *.upstream.test, not upstream.test"),
        (("*.test",), "upstream.test", "is for *.test, not upstream.test"),
        (("*.b.test",), "a.a.b.test", "is for *.b.test, not a.a.b.test"),
        (("127.0.0.2",), "127.0.0.1", "is for 127.0.0.2, not 127.0.0.1"),
        (("127.0.0.1",), "upstream.test", "is for 127.0.0.1, not upstream.test"),
        ((), "an.upstream", "is for no host"),
    ],
)  # fmt: skip
def test_a_certificate_for_another_name_is_refused(
    serve: Serve, to_tls: Tree, authority: Authority, upstream: RecordingUpstream,
    names: tuple[str, ...], asked: str, seen: str,
) -> None:  # fmt: skip
    """The common name never counts."""
    made = issue("an.upstream", authority.ca, sans=host_names(*names), eku=[SERVER_AUTH])
    upstream.context = server_context(identity(authority.folder, made))
    to_tls["upstreams"]["recorder"]["tls"]["server_name"] = asked
    detail = refused(serve())
    assert detail.startswith(f"the server's certificate {seen}")


@pytest.mark.parametrize(
    ("names", "asked", "sni"),
    [
        (("upstream.test",), "UPSTREAM.test", "upstream.test"),
        (("*.b.test",), "a.b.test", "a.b.test"),
        (("127.0.0.1",), None, None),
    ],
)
def test_a_certificate_for_the_name_is_accepted_and_the_name_is_sent(
    serve: Serve, to_tls: Tree, authority: Authority, upstream: RecordingUpstream,
    names: tuple[str, ...], asked: str | None, sni: str | None,
) -> None:  # fmt: skip
    """Without server_name it is the URL's host; an address is never sent (RFC 6066 §3)."""
    seen: list[str | None] = []
    upstream.context = server_context(authority.server(*names))
    upstream.context.sni_callback = lambda _, name, __: seen.append(name and name.lower())
    to_tls["upstreams"]["recorder"]["tls"]["server_name"] = asked
    assert serve().get().status == 200
    assert seen == [sni]


def test_a_chain_through_an_intermediate_is_followed(
    serve: Serve, authority: Authority, upstream: RecordingUpstream
) -> None:
    between = issue("Upstream Issuing CA", authority.ca, ca=True)
    upstream.context = server_context(authority.server(by=[between]))
    assert serve().get().status == 200


def test_an_intermediate_may_be_the_trust_anchor(
    serve: Serve, to_tls: Tree, authority: Authority, upstream: RecordingUpstream
) -> None:
    between = issue("Upstream Issuing CA", authority.ca, ca=True)
    upstream.context = server_context(authority.server(by=[between]))
    others = issue("Another CA", ca=True)
    to_tls["upstreams"]["recorder"]["tls"]["trust_anchors"] = [str(anchor_file(authority.folder, others, between))]
    assert serve().get().status == 200


def test_a_certificate_without_extended_key_usage_passes_where_that_is_allowed(
    serve: Serve, to_tls: Tree, authority: Authority, upstream: RecordingUpstream
) -> None:
    upstream.context = server_context(authority.server(eku=None))
    to_tls["upstreams"]["recorder"]["tls"]["extended_key_usage"] = {"allow_absent": True}
    assert serve().get().status == 200


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "does it speak TLS on this port"),
        (b"", "closed the connection during the TLS handshake"),
    ],
)
def test_a_server_that_speaks_no_tls_is_refused(serve: Serve, to_tls: Tree, answer: bytes, said: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def play() -> None:
            connection, _ = plain.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        threading.Thread(target=play, daemon=True).start()
        to_tls["upstreams"]["recorder"]["servers"] = [{"url": f"https://127.0.0.1:{plain.getsockname()[1]}"}]
        served = serve()
        assert served.get().status == 502
    assert said in served.proxy.refusal()["detail"]


def test_a_server_that_closes_within_the_handshake_is_refused(serve: Serve, upstream: RecordingUpstream) -> None:
    served = serve()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # no certificate: it ends the handshake with an alert
    upstream.context = context
    assert served.get().status == 502
    assert "TLS with the server failed: OpenSSL: " in served.proxy.refusal()["detail"]


def test_a_server_below_tls_1_2_is_refused(serve: Serve, upstream: RecordingUpstream) -> None:
    assert upstream.context is not None
    upstream.context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        upstream.context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning):
        upstream.context.maximum_version = ssl.TLSVersion.TLSv1_1
    assert serve().get().status == 502
    assert not any(upstream.received)


def test_a_silent_server_costs_the_connect_timeout(serve: Serve, to_tls: Tree, upstream: RecordingUpstream) -> None:
    """It accepts, and never answers the ClientHello."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = to_tls["upstreams"]["recorder"]
        settings["servers"] = [{"url": f"https://127.0.0.1:{silent.getsockname()[1]}"}]
        settings["connect_timeout"] = "300ms"
        served = serve()
        answer = served.get()
    assert (answer.status, answer.problem["reason"]) == (504, "upstream_timeout")


def test_another_server_is_asked_where_one_is_not_trusted(
    serve: Serve, to_tls: Tree, upstream: RecordingUpstream, authority: Authority
) -> None:
    """No byte of the request was sent, so that it may be repeated whatever its method."""
    with recording_upstream() as bad:
        bad.context = server_context(authority.server("other.test"))
        to_tls["upstreams"]["recorder"] |= {"servers": [{"url": bad.url}, {"url": upstream.url}], "retries": 1}
        served = serve()
        for _ in range(3):
            assert served.get().status == 200
        assert not any(bad.received)
        eventually(lambda: served.failures >= 1)


def test_an_answer_that_ends_with_the_connection_needs_the_servers_word_for_it(
    serve: Serve, upstream: RecordingUpstream
) -> None:
    """Without close_notify anybody on the way may have cut it short (RFC 9112 §9.8)."""
    body = b"HTTP/1.1 200 OK\r\n\r\nhalf of it"

    def cut(_: object, connection: object) -> None:
        assert isinstance(connection, ssl.SSLSocket)
        connection.sendall(body)

    def end(_: object, connection: object) -> None:
        cut(_, connection)
        assert isinstance(connection, ssl.SSLSocket)
        connection.unwrap()

    served = serve()
    upstream.script = end
    assert served.get().body == b"half of it"
    upstream.script = cut
    with pytest.raises(ssl.SSLEOFError):
        served.get()
    assert "close_notify" in served.proxy.refusal()["detail"]
