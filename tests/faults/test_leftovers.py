"""Whatever a server did, and however a client left: nothing of the request stays behind."""

import contextlib
import gc
from collections import Counter

import pytest
from tests.faults.conftest import Onward
from tests.faults.crowd import BROKEN
from tests.faults.test_sockets import BEFORE, WITHIN_BODY, behind
from tests.integration.clients import Connection, request
from tests.integration.harness import Tree, eventually
from tests.integration.http.conftest import Serve
from tests.integration.http.peers import reset
from tests.integration.secure.conftest import server_context
from tests.integration.upstream import RecordingUpstream

from mtlsproxy.http1.downstream import Downstream
from mtlsproxy.http1.exchange import Exchange
from mtlsproxy.http1.origin import Origin
from mtlsproxy.http1.tunnel import Tunnel
from mtlsproxy.tls.stream import TlsStream
from mtlsproxy.transport.stream import SocketStream
from mtlsproxy.upstream.connect import Connecting
from mtlsproxy.upstream.secure import Securing

KEPT_FOR_A_WHILE = (Downstream, Exchange, Origin, Tunnel, TlsStream, SocketStream, Connecting, Securing)


def kept() -> Counter[str]:
    """Objects of the data plane that are alive, by kind."""
    gc.collect()
    return Counter(type(each).__name__ for each in gc.get_objects() if isinstance(each, KEPT_FOR_A_WHILE))


def hear(client: Connection) -> None:
    """To the end, whatever it is."""
    while client.response().status < 200:
        pass


def part(client: Connection) -> None:
    """In the middle, with a reset."""
    reset(client.sock)


def finish(client: Connection) -> None:
    """Sends no more, and waits for what comes."""
    client.end()
    with contextlib.suppress(EOFError):
        hear(client)


@pytest.mark.parametrize("secure", [False, True])
def test_nothing_is_kept_of_what_failed(
    config: Tree, serve: Serve, upstream: RecordingUpstream, onward: Onward, secure: bool
) -> None:
    """Every fault, heard to its end, reset by the client, and left in the middle."""
    behind(config, upstream, retries=1, idle_timeout="200ms", circuit_breaker={"failures": 1000, "open_for": "1s"})
    config["routes"][0]["timeouts"] = {"response": "200ms", "response_body": "200ms"}
    if secure:
        upstream.context = server_context(onward.files[0])
        config["upstreams"]["recorder"] |= {"servers": [{"url": upstream.url}], "tls": onward.settings}
    before = kept()
    served = serve()
    for fault in [*BEFORE.values(), *WITHIN_BODY.values()]:
        upstream.script = fault.script
        for leave in (hear, part, finish):
            with served.connect() as client, contextlib.suppress(*BROKEN):
                client.send(request("/asked", "Content-Length: 5", method="POST", body=b"hello"))
                leave(client)
    gauges = ("connections", "requests_in_flight", "upstream_connections")
    eventually(lambda: not any(served.proxy.series(gauge) for gauge in gauges))
    (server,) = served.proxy.proxy.pools.upstreams["recorder"].servers
    assert (server.open, server.idle, server.connecting, server.connections) == (0, [], set(), set())
    assert eventually(lambda: not kept() - before), kept() - before
