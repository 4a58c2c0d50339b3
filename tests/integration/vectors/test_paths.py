"""Every path of tests/corpus/http1 that somebody reads in another way: it reaches its own route unchanged, or nothing.

Two hosts with the same routes, and a third way in: at `localhost` a route for `/` takes what no other does. What is
guarded must not be reached by a reading that the proxy did not see.
"""

import contextlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.corpus.http1.vectors import PathVector, path_vectors
from tests.integration.clients import Connection, client_context, tls
from tests.integration.conftest import Material
from tests.integration.harness import running_proxy
from tests.integration.vectors.recorder import Recorder, recording
from tests.integration.vectors.scene import as_sent, ends
from tests.integration.vectors.table import Table

from mtlsproxy.reasons import Reason, status_of

VECTORS = path_vectors()
ROUTES = {"public": "/public", "stripped": "/stripped", "admin": "/admin", "rest": "/"}
HOSTS = {"beside": "proxy.test", "under": "localhost"}


@dataclass(frozen=True)
class Site:
    """A proxy with an upstream for each route, and a client of its."""

    port: int
    context: ssl.SSLContext
    upstreams: dict[str, Recorder]
    client: Connection
    """Open all the time."""

    def reached(self) -> dict[str, list[bytes]]:
        """What each upstream has seen since the last time. Each is asked something first, so that nothing is late."""
        for route in ("public", "stripped", "rest"):
            path = f"{ROUTES[route]}/last".replace("//", "/")
            assert self.client.get(path, host="localhost").status == 200
        found = {}
        for route, upstream in self.upstreams.items():
            seen = [as_sent(asked) for _, asked in upstream.seen]
            found[route] = [asked for asked in seen if b"/last HTTP/1.1\r\n" not in asked]
            upstream.forget()
        return {route: seen for route, seen in found.items() if seen}


@pytest.fixture(scope="module")
def site(material: Material, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    certificate = {"certificate": str(material.server_certificate), "private_key": str(material.server_key)}
    with contextlib.ExitStack() as stack:
        upstreams = {route: stack.enter_context(recording()) for route in ROUTES}
        routes = [
            {
                "name": route,
                "hosts": ["localhost"] if route == "rest" else list(HOSTS.values()),
                "paths": [path],
                "allow": [{"dns": "nobody.test"}] if route == "admin" else "any",
                "upstream": route,
                "strip_prefix": route == "stripped",
            }
            for route, path in ROUTES.items()
        ]
        config = {
            "version": 1,
            "listeners": [
                {
                    "name": "internal",
                    "bind": "127.0.0.1:0",
                    "tls": {"certificates": [certificate]},
                    "client_auth": {"truststores": ["partners"]},
                }
            ],
            "truststores": {"partners": {"trust_anchors": [str(material.anchors)], "revocation": {"mode": "off"}}},
            "routes": routes,
            "upstreams": {name: {"servers": [{"url": upstream.url}]} for name, upstream in upstreams.items()},
            "admin": {"bind": "127.0.0.1:0"},
            "logging": {"access": "off"},
            "shutdown": {"drain": "200ms"},
        }
        proxy = stack.enter_context(running_proxy(config, tmp_path_factory.mktemp("paths")))
        context = client_context(material.root, material.client())
        yield Site(proxy.port(), context, upstreams, stack.enter_context(tls(proxy.port(), context)))
        assert upstreams["admin"].connections == 0


def test_the_corpus_is_as_large_as_it_should_be() -> None:
    """Vectors that are not found would hold."""
    assert len(VECTORS) >= 200
    assert sum(vector.beside == "bad_request" for vector in VECTORS) >= 100


@pytest.mark.parametrize("where", HOSTS)
@pytest.mark.parametrize("vector", VECTORS, ids=[vector.path.decode("latin-1") for vector in VECTORS])
def test_a_path_reaches_its_own_route_or_nothing(site: Site, table: Table, vector: PathVector, where: str) -> None:
    host = HOSTS[where]
    expected = getattr(vector, where)
    target = vector.path.replace(b"proxy.test", host.encode())
    with tls(site.port, site.context) as client:
        client.send(b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, host.encode()))
        answer = client.response()
        if expected in ROUTES:
            forwarded = target if vector.stripped is None else vector.stripped
            assert (answer.status, answer.body) == (200, b"GET " + forwarded)
            asked = b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (forwarded, host.encode())
            assert site.reached() == {expected: [asked]}
        else:
            reason = Reason(expected)
            assert (answer.status, answer.problem["reason"]) == (status_of(reason), reason)
            if reason is Reason.BAD_REQUEST:
                assert answer.values("Connection") == ["close"]
                ends(client)
            assert site.reached() == {}
    said = expected if expected in ROUTES else f"{status_of(Reason(expected))} {expected}"
    table.held(f"paths.yaml, {where}", vector.path.decode("latin-1"), vector.source, said, where)
