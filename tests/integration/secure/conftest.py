"""An upstream that speaks TLS, with certificates of a CA of its own, behind a proxy that verifies it."""

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from tests.integration.certificates import Identity, anchor_file, identity, issue
from tests.integration.clients import Response, client_context, tls
from tests.integration.conftest import Material, Start
from tests.integration.harness import RunningProxy, Tree, eventually
from tests.integration.upstream import RecordingUpstream
from tests.unit.x509.build import Issued

from mtlsproxy.x509.policy import SERVER_AUTH

NAME = "upstream.test"


def host_names(*texts: str) -> Sequence[x509.GeneralName]:
    """DNS names and addresses."""
    out: list[x509.GeneralName] = []
    for text in texts:
        try:
            out.append(x509.IPAddress(ip_address(text)))
        except ValueError:
            out.append(x509.DNSName(text))
    return out


@dataclass(frozen=True)
class Authority:
    """The CA of upstreams."""

    folder: Path
    ca: Issued
    anchors: Path

    def server(self, *names: str, by: Sequence[Issued] = (), **what: Any) -> Identity:
        """A server's certificate: good, unless `what` says otherwise. by: issuer and CAs above it, sent along."""
        eku = {"eku": [SERVER_AUTH]}
        issuer = by[0] if by else self.ca
        issued = issue("an upstream", issuer, sans=host_names(*(names or (NAME,))), **{**eku, **what})
        return identity(self.folder, issued, *by)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    folder = tmp_path_factory.mktemp("upstream")
    ca = issue("Upstream CA", ca=True)
    return Authority(folder, ca, anchor_file(folder, ca))


@pytest.fixture(scope="session")
def good(authority: Authority) -> Identity:
    return authority.server()


def server_context(server: Identity) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.key)
    return context


def with_clients_of(server: Identity, anchors: Path) -> ssl.SSLContext:
    """It requires a client certificate."""
    context = server_context(server)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(anchors)
    return context


@dataclass
class Secured:
    """A running proxy in front of an upstream with TLS, and a client of it."""

    proxy: RunningProxy
    upstream: RecordingUpstream
    client: ssl.SSLContext

    def get(self) -> Response:
        with tls(self.proxy.port(), self.client) as connection:
            return connection.get()

    def said(self, words: str) -> str:
        """The one message of the log that has these words."""
        found = eventually(lambda: [m["message"] for m in self.proxy.messages() if words in m["message"]])
        assert len(found) == 1
        message: str = found[0]
        return message

    @property
    def failures(self) -> float:
        return sum(self.proxy.series("upstream_failures_total").values())


@pytest.fixture
def to_tls(config: Tree, authority: Authority, upstream: RecordingUpstream, good: Identity) -> Tree:
    """`config` with TLS to its upstream, which has the `good` certificate; a test changes what it is about."""
    upstream.context = server_context(good)
    config["upstreams"]["recorder"] = {
        "servers": [{"url": upstream.url}],
        "tls": {"trust_anchors": [str(authority.anchors)], "server_name": NAME, "revocation": {"mode": "off"}},
        "retries": 0,
    }
    return config


Serve = Callable[[], Secured]


@pytest.fixture
def serve(to_tls: Tree, start: Start, upstream: RecordingUpstream, material: Material) -> Serve:
    """Starts the proxy with `to_tls` as it is then."""
    return lambda: Secured(start(to_tls), upstream, client_context(material.root, material.client()))
