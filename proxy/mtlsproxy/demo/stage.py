"""The demo's folder: a development PKI, a certificate for the proxy, clients good and bad, a configuration."""

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from mtlsproxy.devpki import DevPki, create_pki

DAYS = 7
ORGANIZATION = "mtlsproxy demo"


@dataclass(frozen=True, slots=True)
class Stage:
    """The files of a folder, by what they are for. `certificate` and `key` find those of a client."""

    folder: Path
    port: int
    admin_port: int

    @property
    def config(self) -> Path:
        return self.folder / "demo.yaml"

    @property
    def root(self) -> Path:
        return self.folder / "pki" / "root.pem"

    def certificate(self, client: str) -> Path:
        return self.folder / f"{client}.pem"

    def key(self, client: str) -> Path:
        return self.folder / f"{client}.key"


def set_up(stage: Stage, upstream_port: int) -> None:
    """Fill the stage's folder. Raises PkiError."""
    pki = create_pki(stage.folder / "pki", ORGANIZATION)
    names = ["DNS:localhost", "IP:127.0.0.1", "IP:::1"]
    pki.issue("CN=localhost", names, "server", DAYS).write(stage.certificate("server"), stage.key("server"))
    _client(stage, pki, "alice", "CN=alice,OU=sales,O=Example", "EMAIL:alice@example.org")
    _client(stage, pki, "bob", "CN=bob,OU=sales,O=Example", "EMAIL:bob@example.org", revoked=True)
    # A CA slips: right issuer, wrong purpose. OpenSSL refuses the first in the handshake and lets the second through.
    _client(stage, pki, "web", "CN=web,O=Example", "DNS:web.example.org", usages=(ExtendedKeyUsageOID.SERVER_AUTH,))
    _client(stage, pki, "bare", "CN=bare,O=Example", "EMAIL:bare@example.org", usages=())
    stage.config.write_text(_configuration(stage, upstream_port), encoding="utf-8")


def _client(
    stage: Stage,
    pki: DevPki,
    name: str,
    subject: str,
    san: str,
    *,
    usages: tuple[x509.ObjectIdentifier, ...] | None = None,
    revoked: bool = False,
) -> None:
    issued = pki.issue(subject, [san], "client", DAYS, extended_key_usage=usages)
    issued.write(stage.certificate(name), stage.key(name))
    if revoked:
        pki.revoke(issued.certificate, x509.ReasonFlags.key_compromise)


def _configuration(stage: Stage, upstream_port: int) -> str:
    return f"""\
version: 1

listeners:
  - name: demo
    bind: 127.0.0.1:{stage.port}
    tls:
      certificates:
        - certificate: server.pem
          private_key: server.key
    client_auth:
      truststores: [example]
      missing_certificate: http_400     # an answer that says why; by default the handshake fails

truststores:
  example:
    trust_anchors: [pki/client-ca.pem]
    revocation:
      mode: hard_fail
      crl:
        sources: [pki/crls/client-ca.pem]

routes:                                 # the first that matches decides
  - name: admin
    paths: [/admin]
    allow:
      - organizational_unit: operations
    upstream: echo

  - name: orders
    paths: [/orders]
    allow:
      - email: "*@example.org"
      - dns: "*.example.org"
    upstream: echo

upstreams:
  echo:
    servers:
      - url: http://127.0.0.1:{upstream_port}

admin:
  bind: 127.0.0.1:{stage.admin_port}

state_dir: state                        # of its own: denials made on this machine are not the demo's

logging:
  level: error                          # refusals are shown by the demo itself, in fewer words
  access: access.jsonl

shutdown:
  drain: 1s
"""
