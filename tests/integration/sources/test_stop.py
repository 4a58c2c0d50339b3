"""Red: the feeds end before the listeners do."""

import asyncio
import resource
import time

import pytest
from tests.integration.harness import eventually
from tests.integration.sources.conftest import *


@pytest.mark.parametrize("kind", ["ocsp", "points"])
def test_who_comes_while_the_proxy_waits_to_stop_is_still_judged(run, tree, ca, revocation, server, kind):
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
    time.sleep(0.3)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    try:
        with site.connect(alice) as c:
            c.sock.settimeout(1.5)
            assert c.get().status == 200
    finally:
        print("cpu", resource.getrusage(resource.RUSAGE_SELF).ru_utime - before)
