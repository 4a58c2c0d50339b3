"""What to type, and what it shows. Every command is one line that works in any folder."""

import shlex
from dataclasses import dataclass

from mtlsproxy.demo.stage import Stage


@dataclass(frozen=True, slots=True)
class Scene:
    """title: who does what. shows: what to expect of it. command: a line for a shell."""

    title: str
    shows: str
    command: str


def scenes(stage: Stage, program: str, *, no_proxy: bool) -> tuple[Scene, ...]:
    """program: how to call mtlsproxy. no_proxy: the environment has an HTTP proxy, which curl must leave aside."""
    curl = ["curl", "-sS", *(["--noproxy", "*"] if no_proxy else [])]
    admin = f"http://127.0.0.1:{stage.admin_port}"

    def request(client: str | None, path: str, *options: str) -> str:
        credential = (
            [] if client is None else ["--cert", str(stage.certificate(client)), "--key", str(stage.key(client))]
        )
        url = f"https://localhost:{stage.port}{path}"
        return shlex.join([*curl, "--cacert", str(stage.root), *credential, *options, url])

    explain = [program, "explain", "--cert", str(stage.certificate("bare")), "--config", str(stage.config)]
    return (
        Scene(
            "accepted: alice, who may use /orders",
            "what the upstream received, with X-Client-Id: alice@example.org among its headers",
            request("alice", "/orders/42"),
        ),
        Scene(
            "accepted, but not as she wishes: alice claims to be root",
            "X-Client-Id: alice@example.org still: what clients send under the proxy's names is removed",
            request("alice", "/orders/42", "-H", "X-Client-Id: root", "-H", "x_client_id: root"),
        ),
        Scene("refused: no certificate", "400, reason no_certificate", request(None, "/orders/42")),
        Scene(
            "refused: a server's certificate (EKU serverAuth)",
            "a TLS alert (unsupported certificate): OpenSSL ends the handshake; the reason, eku_mismatch, comes below",
            request("web", "/orders/42"),
        ),
        Scene(
            "refused: a certificate that does not say what it is for (no EKU), which OpenSSL lets through",
            "403, reason eku_missing",
            request("bare", "/orders/42"),
        ),
        Scene("refused: bob, whose certificate was revoked", "403, reason revoked", request("bob", "/orders/42")),
        Scene(
            "refused: alice at /admin, which is for operations",
            "403, reason not_allowed",
            request("alice", "/admin"),
        ),
        Scene(
            "why? Every check of a refused certificate",
            "refused eku_missing, with what was seen, the rule and how to fix it",
            shlex.join([*explain, "--path", "/orders/42", "--host", "localhost"]),
        ),
        Scene(
            "how often? Metrics for Prometheus",
            "mtlsproxy_rejections_total by listener, route and reason",
            f"{shlex.join([*curl, f'{admin}/metrics'])} | grep ^mtlsproxy_rejections_total",
        ),
    )


def introduction(stage: Stage, upstream_port: int) -> str:
    return f"""\
mtlsproxy demo

  proxy     https://localhost:{stage.port}, for clients of the CA {stage.folder / "pki" / "client-ca.pem"}
  upstream  http://127.0.0.1:{upstream_port}, answers with what it received
  admin     http://127.0.0.1:{stage.admin_port}, status page and metrics
  files     {stage.folder}, removed at the end

Without a certificate this listener answers 400, so that curl shows the reason (missing_certificate: http_400).
By default the handshake fails instead, and the client sees a TLS alert alone.

Copy these into another terminal:
"""


def show(number: int, scene: Scene) -> str:
    return f"# {number}. {scene.title}\n#    shows: {scene.shows}\n{scene.command}\n"
