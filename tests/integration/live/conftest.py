"""A proxy whose files change while it runs: with CRL, deny file, token and state of its own."""

import contextlib
import http.client
import json
import os
import shutil
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from tests.integration.certificates import NOW, Identity
from tests.integration.clients import PATIENCE, Connection, client_context, tls
from tests.integration.conftest import Material, Start
from tests.integration.harness import RunningProxy, Tree, eventually
from tests.unit.x509.build import Issued

from mtlsproxy.runtime import reload

TOKEN = "live-tests-token-0123456789"


def replace(file: Path, data: bytes) -> None:
    """As an operator should: a new file in the place of the old one."""
    fresh = file.with_name(f".{file.name}.new")
    fresh.write_bytes(data)
    fresh.chmod(0o600)
    fresh.replace(file)


def crl(ca: Issued, number: int, *revoked: Identity) -> bytes:
    builder = x509.CertificateRevocationListBuilder(
        ca.certificate.x509.subject, NOW - timedelta(hours=1), NOW + timedelta(days=1)
    )
    for one in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(one.leaf.serial_number).revocation_date(NOW)
        builder = builder.add_revoked_certificate(entry.build())
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key())
    builder = builder.add_extension(x509.CRLNumber(number), critical=False).add_extension(identifier, critical=False)
    return builder.sign(ca.key, hashes.SHA256()).public_bytes(Encoding.PEM)  # type: ignore[arg-type]


@dataclass
class Live:
    """A running proxy and its files. `config` is what its configuration file holds."""

    proxy: RunningProxy
    material: Material
    config: Tree
    folder: Path
    numbers: Iterator[int] = field(default_factory=lambda: count(2))

    @property
    def port(self) -> int:
        return self.proxy.port()

    def context(self, client: Identity | None, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        return client_context(self.material.root, client, version)

    @contextlib.contextmanager
    def connect(self, client: Identity, version: ssl.TLSVersion | None = None) -> Iterator[Connection]:
        with tls(self.port, self.context(client, version)) as connection:
            yield connection

    def refused(self, client: Identity) -> str:
        """The reason with which a new connection of the client is refused."""
        with self.connect(client) as connection:
            answer = connection.get()
        assert answer.status == 403
        reason: str = answer.problem["reason"]
        return reason

    # -- what the admin says and does --------------------------------------------------------------------------------

    def call(
        self, method: str, path: str, said: object = None, token: str = TOKEN
    ) -> tuple[int, dict[str, Any], http.client.HTTPMessage]:
        connection = http.client.HTTPConnection("127.0.0.1", self.proxy.admin_port, timeout=PATIENCE)
        headers = {"Authorization": f"Bearer {token}"}
        if said is not None:
            headers["Content-Type"] = "application/json"
        with contextlib.closing(connection):
            connection.request(method, path, None if said is None else json.dumps(said), headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read()), answer.headers

    @property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.proxy.admin("/api/status"))
        return found

    @property
    def generation(self) -> int:
        number: int = self.status["configuration"]["generation"]
        return number

    @contextlib.contextmanager
    def reloaded(self) -> Iterator[None]:
        """What is changed within is in force at the end, because the proxy saw it by itself."""
        before = self.generation
        yield
        eventually(lambda: self.generation > before)

    @contextlib.contextmanager
    def reload_refused(self) -> Iterator[None]:
        """What is changed within is refused by a reload that the proxy makes by itself."""
        before = self.reloads("failure")
        yield
        eventually(lambda: self.reloads("failure") > before)

    def reloads(self, result: str) -> float:
        return self.proxy.series("config_reloads_total").get((result,), 0)

    # -- files -------------------------------------------------------------------------------------------------------

    def write_config(self) -> None:
        replace(self.folder / "proxy.yaml", yaml.safe_dump(self.config, sort_keys=False).encode())

    def deny_in_file(self, *entries: Tree) -> None:
        replace(self.folder / "deny.yaml", yaml.safe_dump(list(entries)).encode())

    def revoke(self, *clients: Identity) -> None:
        replace(self.folder / "partners.crl", crl(self.material.ca, next(self.numbers), *clients))


@pytest.fixture
def live_config(config: Tree, material: Material, tmp_path: Path) -> Tree:
    """Files of the test's own beside the configuration; names are relative to it."""
    shutil.copy(material.server_certificate, tmp_path / "server.pem")
    shutil.copy(material.server_key, tmp_path / "server.key")
    shutil.copy(material.anchors, tmp_path / "anchors.pem")
    (tmp_path / "partners.crl").write_bytes(crl(material.ca, 1))
    (tmp_path / "deny.yaml").write_bytes(b"[]\n")
    (tmp_path / "token").touch(mode=0o600)
    (tmp_path / "token").write_text(TOKEN)
    config["listeners"][0]["tls"]["certificates"] = [{"certificate": "server.pem", "private_key": "server.key"}]
    config["truststores"]["partners"] = {
        "trust_anchors": ["anchors.pem"],
        "revocation": {"mode": "hard_fail", "crl": {"sources": ["partners.crl"]}},
        "deny_file": "deny.yaml",
    }
    config["admin"]["token_file"] = "token"
    config["state_dir"] = "state"
    return config


Run = Callable[[Tree], Live]


@pytest.fixture
def run(start: Start, material: Material, tmp_path: Path) -> Run:
    return lambda tree: Live(start(tree), material, tree, tmp_path)


@pytest.fixture
def live(run: Run, live_config: Tree) -> Live:
    return run(live_config)


@pytest.fixture(scope="session")
def alice(material: Material) -> Identity:
    return material.client("alice")


@pytest.fixture(scope="session")
def bob(material: Material) -> Identity:
    return material.client("bob", ("DNS:bob.clients.test",))


@pytest.fixture
def looking_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that are not about how soon a change is seen."""
    monkeypatch.setattr(reload, "LOOK_EVERY", 0.1)


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
