"""`mtlsproxy explain --request-id`: a refusal of a running proxy, as it recorded it and judged again."""

import json
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from tests.integration.certificates import Identity
from tests.integration.clients import alert, client_context, tls
from tests.integration.conftest import Material, Start
from tests.integration.harness import COMMAND, RunningProxy, Tree, eventually

from mtlsproxy.cli.mends import MENDS
from mtlsproxy.reasons import Reason
from mtlsproxy.x509.policy import SERVER_AUTH

TOKEN = "explain-tests-token-0123456789"


def explain(*arguments: object) -> tuple[int, str, str]:
    """Exit status, output, errors."""
    done = subprocess.run([COMMAND, "explain", *map(str, arguments)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def explained(*arguments: object) -> tuple[int, Tree]:
    status, output, _ = explain(*arguments, "--format", "json")
    said: Tree = json.loads(output)
    return status, said


@pytest.fixture
def proxy(config: Tree, start: Start) -> RunningProxy:
    config["routes"][0] |= {"paths": ["/orders"], "allow": [{"common_name": "alice"}]}
    return start(config)


def refused(proxy: RunningProxy, material: Material, client: Identity, path: str = "/orders/1") -> str:
    """The id of the refusal of its request."""
    with tls(proxy.port(), client_context(material.root, client)) as connection:
        problem = connection.get(path).problem
    return str(problem["request_id"])


def admin(proxy: RunningProxy) -> str:
    return f"http://127.0.0.1:{proxy.admin_port}"


def test_every_reason_has_a_mend() -> None:
    assert set(MENDS) == set(Reason)


def test_without_a_configuration_it_is_what_the_proxy_recorded(proxy: RunningProxy, material: Material) -> None:
    ident = refused(proxy, material, material.client("bob", ("DNS:bob.clients.test",)))
    status, said = explained("--request-id", ident, "--admin", admin(proxy))
    assert status == 1
    assert (said["accepted"], said["reason"], said["subject"]) == (False, "not_allowed", "CN=bob")
    assert said["checks"] == []
    recorded = said["recorded"]
    assert (recorded["method"], recorded["path"], recorded["status"]) == ("GET", "/orders/1", 403)
    assert recorded["presented"].startswith("-----BEGIN CERTIFICATE-----")
    status, output, _ = explain("--request-id", ident, "--admin", admin(proxy))
    assert status == 1
    assert output.startswith("refused not_allowed - ")
    for words in ("GET ", "/orders/1, answered 403", "CN=bob", "fix", "With --config CONFIG"):
        assert words in output


def test_with_the_configuration_every_check_is_made_again(
    proxy: RunningProxy, material: Material, tmp_path: Path
) -> None:
    ident = refused(proxy, material, material.client("bob", ("DNS:bob.clients.test",)))
    given = ("--request-id", ident, "--admin", admin(proxy), "--config", tmp_path / "proxy.yaml")
    status, said = explained(*given)
    assert (status, said["reason"], said["listener"]) == (1, "not_allowed", "internal")
    access = said["checks"][-1]
    assert access["result"] == "fail"
    assert "allow[0] {common_name: alice}" in access["rule"]
    assert "such as {dns: bob.clients.test}" in access["fix"]
    assert "paths [/orders]" in said["checks"][-2]["rule"]
    assert said["at"][:16] == said["recorded"]["time"][:16]
    _, output, _ = explain(*given)
    assert "Judged again" in output


def test_a_configuration_that_was_mended_accepts_and_says_that_it_differs(
    proxy: RunningProxy, material: Material, tmp_path: Path
) -> None:
    ident = refused(proxy, material, material.client("bob", ("DNS:bob.clients.test",)))
    file = tmp_path / "mended.yaml"
    file.write_text((tmp_path / "proxy.yaml").read_text().replace("common_name: alice", "common_name: bob"))
    status, output, _ = explain("--request-id", ident, "--admin", admin(proxy), "--config", file)
    assert status == 0
    assert output.startswith("refused not_allowed")
    assert "say something else" in output
    assert "\naccepted by truststore partners" in output


def test_a_handshake_that_was_refused_has_an_id_too(proxy: RunningProxy, material: Material, tmp_path: Path) -> None:
    server = material.client("web", eku=(SERVER_AUTH,))
    assert alert(proxy.port(), client_context(material.root, server))
    (line,) = eventually(proxy.rejections)
    given = ("--request-id", line["request_id"], "--admin", admin(proxy), "--config", tmp_path / "proxy.yaml")
    status, said = explained(*given)
    assert (status, said["reason"], said["route"]) == (1, "eku_mismatch", None)
    assert [check["result"] for check in said["checks"][-2:]] == ["skipped", "skipped"]


def test_what_is_not_the_clients_fault_stays_refused(proxy: RunningProxy, material: Material, tmp_path: Path) -> None:
    """Its certificate would be accepted: that is no answer to why the request failed."""
    ident = refused(proxy, material, material.client("alice"), "/orders/%2e%2e/x")
    given = ("--request-id", ident, "--admin", admin(proxy), "--config", tmp_path / "proxy.yaml")
    status, output, _ = explain(*given)
    assert status == 1
    assert output.startswith("refused bad_request")
    assert "Neither certificate nor policy was the reason" in output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--request-id", "nosuchid"), "knows no refusal nosuchid"),
        (("--request-id", "a/../b"), "is not the id of a request"),
        (("--request-id", "x", "--cert", "a.pem"), "give --config and --at alone"),
        (("--request-id", "x", "--path", "/"), "give --config and --at alone"),
        (("--cert", "a.pem", "--token-file", "t"), "go with --request-id"),
    ],
)
def test_what_is_wrong_is_said(proxy: RunningProxy, arguments: tuple[str, ...], words: str) -> None:
    where = ("--admin", admin(proxy)) if "--request-id" in arguments else ()
    status, _, errors = explain(*arguments, *where)
    assert (status, words in " ".join(errors.split())) == (2, True), errors


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:1", "cannot be asked"),
        ("127.0.0.1:9901", "is not a URL"),
        ("file:///etc/passwd", "is not a URL"),
        ("https://127.0.0.1:9901", "through a tunnel"),
    ],
)
def test_an_admin_that_is_not_there(url: str, words: str) -> None:
    status, _, errors = explain("--request-id", "x", "--admin", url)
    assert (status, words in errors) == (2, True), errors


def _refusal(**odd: object) -> bytes:
    said = {"time": "2030-01-01T00:00:00Z", "reason": "not_allowed", "presented": "", "method": "GET", "path": "/"}
    return json.dumps(said | odd).encode()


class Stub(BaseHTTPRequestHandler):
    """An admin that answers as its path says; what it was sent is kept."""

    seen: list[str | None]

    def do_GET(self) -> None:
        self.seen.append(self.headers["Authorization"])
        status, body = {
            "/odd": (200, b"[1]"),
            "/html": (200, b"<p>"),
            "/away": (302, b""),
            "/no": (401, b'{"detail": "why"}'),
            "/deep": (200, b"[" * 100_000),
            "/deep-no": (500, b"[" * 100_000),
            "/naive": (200, _refusal(time="2030-01-01T00:00:00")),
            "/typed": (200, _refusal(path=[5])),
            "/torn": (200, _refusal(path="/\ud800")),
        }[self.path.removesuffix("/api/rejections/x")]
        self.send_response(status)
        self.send_header("Location", "/odd/api/rejections/x")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def stub() -> Iterator[ThreadingHTTPServer]:
    Stub.seen = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Stub) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("odd", "does not answer as an admin"),
        ("html", "does not answer as an admin"),
        ("away", "answers 302"),
        ("no", "refuses: why. --token-file F"),
        ("deep", "does not answer as an admin"),
        ("deep-no", "answers 500"),
        ("naive", "does not answer as an admin"),
        ("typed", "does not answer as an admin"),
        ("torn", "does not answer as an admin"),
    ],
)
def test_a_server_that_is_no_admin(stub: ThreadingHTTPServer, path: str, words: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text(TOKEN + "\n")
    url = f"http://127.0.0.1:{stub.server_address[1]}/{path}"
    status, _, errors = explain("--request-id", "x", "--admin", url, "--token-file", token)
    assert (status, words in errors) == (2, True), errors
    assert Stub.seen == [f"Bearer {TOKEN}"], "once, and no redirect was followed"
