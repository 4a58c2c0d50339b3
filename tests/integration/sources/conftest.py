"""A CA whose CRLs and OCSP answers come from a real web server, a proxy that asks it, and clients of that CA."""

import json
import socket
import ssl
import urllib.error
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID
from tests.integration.certificates import Identity, identity, issue, names, pem
from tests.integration.clients import PATIENCE, Connection, Response, client_context, tls
from tests.integration.conftest import Material, Start
from tests.integration.harness import RunningProxy, Tree
from tests.integration.sources.web import Web, running_web
from tests.unit.fetch.lists import list_of
from tests.unit.revocation.build import Authority
from tests.unit.revocation.responder import respond
from tests.unit.x509.build import Issued

from mtlsproxy.runtime import feeds
from mtlsproxy.verdict.judge import Verdict
from mtlsproxy.x509.certificate import Certificate, parse_certificate

HOUR = timedelta(hours=1)
OCSP_TYPE = "application/ocsp-response"
_numbers = count()


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def points(*urls: str) -> tuple[x509.ExtensionType, bool]:
    """CRL distribution points, one for each URL (RFC 5280 §4.2.1.13)."""
    made = [x509.DistributionPoint([x509.UniformResourceIdentifier(url)], None, None, None) for url in urls]
    return x509.CRLDistributionPoints(made), False


def responders(*urls: str) -> tuple[x509.ExtensionType, bool]:
    """Authority information access that names OCSP responders (RFC 5280 §4.2.2.1)."""
    oid = AuthorityInformationAccessOID.OCSP
    made = [x509.AccessDescription(oid, x509.UniformResourceIdentifier(url)) for url in urls]
    return x509.AuthorityInformationAccess(made), False


class Ca:
    """A certificate authority: it issues clients, publishes lists, and tells OCSP what it thinks of each client.

    status: by serial number, `good` where it says nothing. answers: what its OCSP responses have besides.
    """

    def __init__(self, folder: Path, name: str = "Online CA", issued: Issued | None = None) -> None:
        self.issued = issued or issue(name, ca=True)
        self.authority = Authority(self.issued.key, self.issued.certificate)
        self.folder = folder
        self.anchors = folder / f"online-ca-{next(_numbers)}.pem"
        self.anchors.write_bytes(pem(self.issued))
        self.status: dict[int, str] = {}
        self._clients: dict[int, Certificate] = {}

    def client(self, name: str, *extra: tuple[x509.ExtensionType, bool], **what: Any) -> Identity:
        issued = issue(name, self.issued, sans=names(f"DNS:{name}.clients.test"), extra=extra, **what)
        self.remember(issued.certificate)
        return identity(self.folder, issued)

    def remember(self, certificate: Certificate) -> None:
        """OCSP answers for it, too."""
        self._clients[certificate.serial] = certificate

    def crl(self, *revoked: Identity, **options: Any) -> bytes:
        """DER; options as of tests.unit.fetch.lists.list_of."""
        return list_of(self.authority, *(one.leaf.serial_number for one in revoked), **{"at": now(), **options})

    def respond(self, der: bytes, **options: Any) -> bytes:
        """The OCSP response to a request in DER; options as of tests.unit.revocation.responder.respond."""
        serial = ocsp.load_der_ocsp_request(der).serial_number
        status = self.status.get(serial, "good")
        times = {"this_update": now() - timedelta(minutes=1), "next_update": now() + HOUR}
        return respond(self._clients[serial], self.authority, status, **{**times, **options})

    def answer_at(self, server: Web, path: str, **options: Any) -> None:
        """Answer OCSP requests there."""

        async def answer(request: web.Request) -> web.Response:
            return web.Response(body=self.respond(await request.read(), **options), content_type=OCSP_TYPE)

        server.answers[path] = answer


@dataclass
class Site:
    """A running proxy and what a test asks of it."""

    proxy: RunningProxy
    material: Material

    @property
    def port(self) -> int:
        return self.proxy.port()

    def context(self, client: Identity, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        return client_context(self.material.root, client, version)

    def connect(self, client: Identity, version: ssl.TLSVersion | None = None) -> Any:
        return tls(self.port, self.context(client, version))

    def ask(self, client: Identity) -> Response:
        """The answer on a connection of its own."""
        connection: Connection
        with self.connect(client) as connection:
            return connection.get()

    def outcome(self, client: Identity) -> str:
        """`ok`, or the reason of the refusal."""
        answer = self.ask(client)
        return "ok" if answer.status == 200 else str(answer.problem["reason"])

    def verdict(self, client: Identity) -> Verdict:
        """What the proxy thinks of the client now, with all its evidence: what `explain` would show."""
        return self.proxy.call(lambda: self.proxy.proxy.snapshot.listeners["internal"].rules.judge((client.der,)))

    def seen(self, client: Identity) -> str:
        """The evidence of the check `revocation`."""
        (check,) = [check for check in self.verdict(client).checks if check.name == "revocation"]
        return check.seen

    def readiness(self) -> tuple[int, list[str]]:
        """Status and reasons of /readyz."""
        try:
            return 200, json.loads(self.proxy.admin("/readyz"))["reasons"]
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())["reasons"]

    def lasting(self) -> list[Tree]:
        """What /readyz says of how long revocation data still lasts."""
        try:
            body = self.proxy.admin("/readyz")
        except urllib.error.HTTPError as error:
            with error:
                body = error.read()
        found: list[Tree] = json.loads(body)["revocation"]
        return found

    def truststore(self, name: str = "partners") -> Tree:
        """From /api/status."""
        found: list[Tree] = json.loads(self.proxy.admin("/api/status"))["truststores"]
        return next(one for one in found if one["name"] == name)

    def said(self, words: str, level: str = "warning") -> list[str]:
        """Messages of that level which have these words."""
        messages = (line["message"] for line in self.proxy.messages() if line["level"] == level)
        return [message for message in messages if words in message]


@pytest.fixture(autouse=True)
def patience_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine needs longer for a helper process than a start waits; what comes late has tests of its own."""
    monkeypatch.setattr(feeds, "FIRST_FETCH", PATIENCE)


@pytest.fixture
def server() -> Iterator[Web]:
    with running_web() as running:
        yield running


@pytest.fixture
def closed_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="session")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Ca:
    """For tests that leave its clients' status as it is, or change that of clients of their own."""
    return Ca(tmp_path_factory.mktemp("online"))


@pytest.fixture(scope="session")
def bob(ca: Ca) -> Identity:
    """A client that names neither responders nor distribution points."""
    return ca.client("bob")


@pytest.fixture
def revocation() -> Tree:
    """The truststore's `revocation`: a test says what is asked."""
    return {"mode": "hard_fail", "fetch": {"allowed_hosts": ["127.0.0.1"], "timeout": "5s"}}


@pytest.fixture
def tree(config: Tree, ca: Ca, revocation: Tree) -> Tree:
    config["truststores"]["partners"] = {"trust_anchors": [str(ca.anchors)], "revocation": revocation}
    config["state_dir"] = "state"
    return config


Run = Callable[[Tree], Site]


@pytest.fixture
def run(start: Start, material: Material) -> Run:
    return lambda tree: Site(start(tree), material)


def leaf_of(client: Identity) -> Certificate:
    return parse_certificate(client.der)
