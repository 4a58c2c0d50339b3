"""A proxy with one verified client, and an upstream: scripted (`upstream`) or played by the test itself (`by_hand`)."""

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from tests.integration.certificates import Identity
from tests.integration.clients import PATIENCE, Connection, client_context, tls
from tests.integration.conftest import Material, Start
from tests.integration.harness import RunningProxy, Tree
from tests.integration.http.peers import Listening, listening
from tests.integration.upstream import RecordingUpstream, recording_upstream


@dataclass(frozen=True)
class Served:
    """A running proxy, and the way in."""

    proxy: RunningProxy
    context: ssl.SSLContext

    @property
    def port(self) -> int:
        return self.proxy.port()

    @contextlib.contextmanager
    def connect(self) -> Iterator[Connection]:
        with tls(self.port, self.context) as connection:
            yield connection

    @contextlib.contextmanager
    def connect_narrowly(self, takes: int = 8192) -> Iterator[Connection]:
        """A client whose kernel takes about `takes` bytes that it has not read, and the proxy's for it as many."""
        for accepting in self.proxy.proxy.listeners["internal"].acceptor._sockets:
            accepting.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, takes)  # what is accepted inherits it
        with socket.socket() as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, takes)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)  # else it announces no room before all is free
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            raw.settimeout(PATIENCE)
            raw.connect(("127.0.0.1", self.port))
            with self.context.wrap_socket(raw, server_hostname="proxy.test", suppress_ragged_eofs=False) as sock:
                yield Connection(sock)

    @property
    def unsent(self) -> int:
        """Bytes that the proxy keeps for its clients."""
        service = self.proxy.proxy.listeners["internal"].service
        return self.proxy.call(lambda: sum(connection._stream.unsent for connection in service.connections))


@pytest.fixture(scope="session")
def alice(material: Material) -> Identity:
    return material.client()


@pytest.fixture
def context(material: Material, alice: Identity) -> ssl.SSLContext:
    return client_context(material.root, alice)


Serve = Callable[[], Served]


@pytest.fixture
def serve(config: Tree, start: Start, context: ssl.SSLContext) -> Serve:
    """Starts the proxy with `config` as it is then."""
    return lambda: Served(start(config), context)


@pytest.fixture
def served(serve: Serve) -> Served:
    """A proxy with the default configuration in front of `upstream`."""
    return serve()


@pytest.fixture
def other() -> Iterator[RecordingUpstream]:
    """A second server."""
    with recording_upstream() as running:
        yield running


@pytest.fixture
def by_hand(config: Tree) -> Iterator[Listening]:
    """The upstream, played by the test: put into `config` in the recorder's place."""
    with listening() as server:
        config["upstreams"]["recorder"]["servers"] = [{"url": server.url}]
        yield server
