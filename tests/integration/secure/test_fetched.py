"""Revocation of servers that is heard of over the network: lists and OCSP, as for clients."""

from collections.abc import Iterator

import pytest
from tests.integration.certificates import Identity, identity, issue
from tests.integration.clients import request, tls
from tests.integration.harness import Tree, eventually
from tests.integration.http.peers import reset
from tests.integration.secure.conftest import NAME, Serve, host_names, server_context
from tests.integration.sources.conftest import Ca, points, responders
from tests.integration.sources.web import Web, running_web
from tests.integration.upstream import RecordingUpstream

from mtlsproxy.x509.policy import SERVER_AUTH


@pytest.fixture
def server() -> Iterator[Web]:
    with running_web() as running:
        yield running


@pytest.fixture(scope="session")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Ca:
    return Ca(tmp_path_factory.mktemp("online"), "Online Upstream CA")


@pytest.fixture
def revocation(to_tls: Tree, ca: Ca) -> Tree:
    """The upstream's `tls.revocation`: a test says what is asked."""
    asked: Tree = {"mode": "hard_fail", "fetch": {"allowed_hosts": ["127.0.0.1"], "timeout": "5s"}}
    to_tls["upstreams"]["recorder"]["tls"] |= {"trust_anchors": [str(ca.anchors)], "revocation": asked}
    to_tls["state_dir"] = "state"
    return asked


def server_of(ca: Ca, upstream: RecordingUpstream, *extra: object) -> Identity:
    """The upstream has a certificate of the CA that names these."""
    made = issue("an upstream", ca.issued, sans=host_names(NAME), eku=[SERVER_AUTH], extra=extra)
    ca.remember(made.certificate)
    found = identity(ca.folder, made)
    upstream.context = server_context(found)
    return found


@pytest.mark.parametrize("revoked", [False, True])
@pytest.mark.parametrize("named_by", ["configuration", "certificate"])
def test_a_list_from_a_url_decides(
    serve: Serve, revocation: Tree, ca: Ca, server: Web, upstream: RecordingUpstream, named_by: str, revoked: bool
) -> None:
    if named_by == "configuration":
        revocation["crl"] = {"sources": [server.url("/ca.crl")]}
        it = server_of(ca, upstream)
    else:
        revocation["crl"] = {"distribution_points": True}
        it = server_of(ca, upstream, points(server.url("/ca.crl")))
    server.give("/ca.crl", ca.crl(it) if revoked else ca.crl())
    served = serve()
    assert served.get().status == (502 if revoked else 200)
    if revoked:
        assert ": the server's certificate is revoked: " in served.proxy.refusal()["detail"]
        assert not any(upstream.received)


@pytest.mark.parametrize(
    ("status", "mode", "expected", "said"),
    [
        ("good", "hard_fail", 200, ""),
        ("revoked", "hard_fail", 502, "is revoked"),
        ("revoked", "soft_fail", 502, "is revoked"),
        ("unknown", "hard_fail", 502, "is not accepted (revocation_unknown)"),
        ("unknown", "soft_fail", 200, ""),
        ("dead", "hard_fail", 502, "is not accepted (revocation_unknown)"),
        ("dead", "soft_fail", 200, ""),
    ],
)
def test_an_ocsp_answer_decides(
    serve: Serve, revocation: Tree, ca: Ca, server: Web, upstream: RecordingUpstream,
    status: str, mode: str, expected: int, said: str,
) -> None:  # fmt: skip
    """The request waits for the answer; what has been heard serves further connections."""
    revocation |= {"mode": mode, "ocsp": {"enabled": True}}
    it = server_of(ca, upstream, responders(server.url("/ocsp")))
    ca.status[it.leaf.serial_number] = status
    if status == "dead":
        server.down()
    else:
        ca.answer_at(server, "/ocsp")
    served = serve()
    assert served.get().status == expected
    if said:
        assert said in served.proxy.refusal()["detail"]
        assert not any(upstream.received)
    assert {labels[0] for labels in served.proxy.series("ocsp_requests_total")} == {"upstream:recorder"}


def test_an_answer_that_does_not_come_costs_no_more_than_the_connect_timeout(
    serve: Serve, revocation: Tree, to_tls: Tree, ca: Ca, server: Web, upstream: RecordingUpstream
) -> None:
    revocation |= {"ocsp": {"enabled": True, "timeout": "20s"}}
    to_tls["upstreams"]["recorder"]["connect_timeout"] = "300ms"
    server_of(ca, upstream, responders(server.url("/ocsp")))
    ca.answer_at(server, "/ocsp")
    released = server.hold("/ocsp")
    served = serve()
    answer = served.get()
    assert (answer.status, answer.problem["reason"]) == (504, "upstream_timeout")
    assert not any(upstream.received)
    released.set()
    eventually(lambda: served.get().status == 200)


def test_a_client_that_leaves_while_the_answer_is_awaited_leaves_nothing_behind(
    serve: Serve, revocation: Tree, ca: Ca, server: Web, upstream: RecordingUpstream
) -> None:
    revocation |= {"ocsp": {"enabled": True}}
    server_of(ca, upstream, responders(server.url("/ocsp")))
    ca.answer_at(server, "/ocsp")
    released = server.hold("/ocsp")
    served = serve()
    with tls(served.proxy.port(), served.client) as connection:
        connection.send(request("/"))
        eventually(lambda: upstream.tls)
        reset(connection.sock)
    eventually(lambda: not served.proxy.series("requests_in_flight"))
    released.set()
    assert served.get().status == 200
    assert len(upstream.requests) == 1
