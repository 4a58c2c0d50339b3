"""What every scenario starts from: a PKI made once a session, an upstream that records, and a small configuration."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tests.integration.certificates import Identity, anchor_file, identity, issue, names, write_key
from tests.integration.harness import RunningProxy, Tree, running_proxy
from tests.integration.upstream import RecordingUpstream, recording_upstream
from tests.unit.x509.build import Issued

from mtlsproxy.devpki import DevPki, KeyType, create_pki
from mtlsproxy.telemetry import access_log


@dataclass(frozen=True)
class Material:
    """Made once: the development PKI, a server certificate of its, and a self-signed CA for clients of all kinds."""

    folder: Path
    pki: DevPki
    root: Path
    server_certificate: Path
    server_key: Path
    ca: Issued
    anchors: Path

    def client(self, name: str = "alice", sans: tuple[str, ...] = ("DNS:alice.clients.test",), **what: Any) -> Identity:
        """A client of `ca`: good, unless `what` (see tests.unit.x509.build.issue) says otherwise."""
        return identity(self.folder, issue(name, self.ca, **{"sans": names(*sans), **what}))

    def dev_client(self, name: str, *sans: str, key_type: KeyType = KeyType.EC, **what: Any) -> Identity:
        """A client of the development PKI's client CA, its chain sent along."""
        issued = self.pki.issue(f"CN={name}", sans, "client", key_type=key_type, **what)
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate.write_bytes(issued.chain_pem)
        write_key(key, issued.key_pem)
        return Identity(certificate, key, issued.certificate.public_bytes(Encoding.DER))


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    folder = tmp_path_factory.mktemp("material")
    pki = create_pki(folder / "pki")
    issued = pki.issue("CN=proxy.test", ["DNS:proxy.test", "DNS:localhost", "IP:127.0.0.1"], "server")
    certificate, key = folder / "server.pem", folder / "server.key"
    issued.write(certificate, key)
    ca = issue("Partner CA", ca=True)
    return Material(folder, pki, folder / "pki" / "root.pem", certificate, key, ca, anchor_file(folder, ca))


@pytest.fixture(scope="session", autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Proxies without state_dir keep theirs here: what is denied on this machine is denied in no test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def _state_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Proxies without a state_dir keep it in the user's cache: what one test denies must not be denied in another."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def _prompt_access_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies in this process write their batches sooner than in operation: many tests wait for a line."""
    monkeypatch.setattr(access_log, "FLUSH_SECONDS", 0.01)


@pytest.fixture
def upstream() -> Iterator[RecordingUpstream]:
    with recording_upstream() as running:
        yield running


@pytest.fixture
def config(material: Material, upstream: RecordingUpstream, tmp_path: Path) -> Tree:
    """One listener, one truststore, one route for everybody; a test changes what it is about."""
    return {
        "version": 1,
        "listeners": [
            {
                "name": "internal",
                "bind": "127.0.0.1:0",
                "tls": {
                    "certificates": [
                        {"certificate": str(material.server_certificate), "private_key": str(material.server_key)}
                    ]
                },
                "client_auth": {"truststores": ["partners"]},
            }
        ],
        "truststores": {"partners": {"trust_anchors": [str(material.anchors)], "revocation": {"mode": "off"}}},
        "routes": [{"name": "all", "allow": "any", "upstream": "recorder"}],
        "upstreams": {"recorder": {"servers": [{"url": upstream.url}]}},
        "admin": {"bind": "127.0.0.1:0"},
        "logging": {"access": str(tmp_path / "access.log")},
        "shutdown": {"drain": "200ms"},
    }


Start = Callable[[Tree], RunningProxy]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts proxies that run until the test ends."""
    with contextlib.ExitStack() as stack:
        yield lambda tree: stack.enter_context(running_proxy(tree, tmp_path))
