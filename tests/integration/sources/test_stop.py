"""A stop takes its time, and who comes or is served meanwhile may still need an answer about a certificate."""

import asyncio
import ssl
import threading

import pytest
from tests.integration.clients import PATIENCE, request
from tests.integration.harness import Tree, eventually
from tests.integration.sources.conftest import Ca, Run, Site, points
from tests.integration.sources.web import Web


@pytest.mark.parametrize("kind", ["ocsp", "points"])
def test_who_comes_while_the_proxy_waits_to_stop_is_still_judged(
    run: Run, tree: Tree, ca: Ca, revocation: Tree, server: Web, kind: str
) -> None:
    """shutdown.delay: it keeps accepting while /readyz already fails."""
    tree["shutdown"] = {"delay": "60s", "drain": "200ms"}
    ca.answer_at(server, "/ocsp")
    server.give("/ca.crl", ca.crl())
    if kind == "ocsp":
        revocation["ocsp"] = {"enabled": True, "responder": server.url("/ocsp")}
    else:
        revocation["crl"] = {"distribution_points": True}
    alice = ca.client("alice", points(server.url("/ca.crl")))
    site = run(tree)
    stopping = asyncio.run_coroutine_threadsafe(site.proxy.proxy.stop(), site.proxy.loop)
    eventually(lambda: site.readiness()[0] == 503)
    with site.connect(alice) as client:
        assert client.get().status == 200
    assert not stopping.done()
    site.proxy.call(site.proxy.proxy.hurry)
    stopping.result(PATIENCE)


@pytest.fixture
def waiting_for_ocsp(tree: Tree, ca: Ca, revocation: Tree, server: Web) -> threading.Event:
    """Every client waits for an OCSP answer until this is set."""
    revocation["ocsp"] = {"enabled": True, "responder": server.url("/ocsp"), "timeout": "20s"}
    ca.answer_at(server, "/ocsp")
    return server.hold("/ocsp")


def unjudged(site: Site) -> int:
    return site.proxy.call(lambda: len(site.proxy.proxy.listeners["internal"]._unjudged))


def test_who_waits_for_a_verdict_when_the_proxy_stops_is_judged_and_answered(
    run: Run, tree: Tree, ca: Ca, waiting_for_ocsp: threading.Event
) -> None:
    """Its request may be here already: it is in flight."""
    tree["shutdown"] = {"drain": "20s"}
    site = run(tree)
    with site.connect(ca.client("waits")) as client:
        client.send(request())
        eventually(lambda: unjudged(site))
        stopping = asyncio.run_coroutine_threadsafe(site.proxy.proxy.stop(), site.proxy.loop)
        eventually(lambda: not site.proxy.call(lambda: site.proxy.proxy.listeners["internal"].acceptor._sockets))
        waiting_for_ocsp.set()
        answer = client.response()
        assert (answer.status, answer.values("Connection")) == (200, ["close"])
        assert client.ended()
    stopping.result(PATIENCE)


def test_who_waits_for_a_verdict_longer_than_drain_is_cut_off(
    run: Run, tree: Tree, ca: Ca, waiting_for_ocsp: threading.Event
) -> None:
    tree["shutdown"] = {"drain": "200ms"}
    site = run(tree)
    with site.connect(ca.client("waits")) as client:
        client.send(request())
        eventually(lambda: unjudged(site))
        stopping = asyncio.run_coroutine_threadsafe(site.proxy.proxy.stop(), site.proxy.loop)
        with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
            client.sock.recv(1)
        waiting_for_ocsp.set()
    stopping.result(PATIENCE)
    assert site.proxy.call(lambda: site.proxy.proxy.listeners["internal"].acceptor.connections) == 0
