"""A stop takes its time, and who comes or is served meanwhile may still need an answer about a certificate."""

import asyncio

import pytest
from tests.integration.harness import Tree, eventually
from tests.integration.sources.conftest import Ca, Run, points
from tests.integration.sources.web import Web


@pytest.mark.parametrize("kind", ["ocsp", "points"])
def test_who_comes_while_the_proxy_waits_to_stop_is_still_judged(
    run: Run, tree: Tree, ca: Ca, revocation: Tree, server: Web, kind: str
) -> None:
    """shutdown.delay: it keeps accepting while /readyz already fails."""
    tree["shutdown"] = {"delay": "3s", "drain": "200ms"}
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
