"""TLS to upstreams that cannot work is refused at start, each at its line, all at once; `check` shows what there is."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from tests.integration.certificates import DAY, NOW, Identity, identity, issue
from tests.integration.harness import Tree
from tests.integration.secure.conftest import Authority

from mtlsproxy.cli import cli
from mtlsproxy.x509.policy import CLIENT_AUTH, SERVER_AUTH


@pytest.fixture
def own(tmp_path: Path) -> Identity:
    return identity(tmp_path, issue("this proxy", issue("Proxies CA", ca=True), eku=[CLIENT_AUTH]))


def check(tree: Tree, folder: Path) -> dict[str, Any]:
    """What `mtlsproxy check` finds."""
    file = folder / "proxy.yaml"
    file.write_text(yaml.safe_dump(tree, sort_keys=False))
    done = CliRunner().invoke(cli, ["check", "--format", "json", str(file)])
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.exit_code == (0 if found["ok"] else 2)
    return found


def errors(tree: Tree, folder: Path) -> dict[str, str]:
    return {error["path"]: error["message"] for error in check(tree, folder)["errors"]}


TLS = "upstreams.recorder.tls"


def test_everything_that_is_wrong_is_said_at_once(to_tls: Tree, tmp_path: Path, own: Identity, good: Identity) -> None:
    to_tls["upstreams"]["recorder"]["tls"] = {
        "trust_anchors": ["nowhere.pem", str(good.certificate)],
        "server_name": "my_server",
        "certificate": str(own.certificate),
        "private_key": str(good.key),
        "revocation": {"crl": {"sources": ["nowhere.crl"]}, "fetch": {"trust_anchors": ["nothing.pem"]}},
    }
    found = errors(to_tls, tmp_path)
    assert "cannot read" in found[f"{TLS}.trust_anchors[0]"]
    assert "name the certificate of the CA that issues the servers'" in found[f"{TLS}.trust_anchors[1]"]
    assert "is neither a DNS name nor an IP address" in found[f"{TLS}.server_name"]
    assert "does not match the certificate" in found[f"{TLS}.private_key"]
    assert "nowhere.crl" in found[f"{TLS}.revocation.crl.sources"]
    assert "cannot read" in found[f"{TLS}.revocation.fetch.trust_anchors[0]"]
    assert len(found) == 6


def test_an_https_server_needs_trust_anchors(to_tls: Tree, tmp_path: Path) -> None:
    del to_tls["upstreams"]["recorder"]["tls"]
    (message,) = errors(to_tls, tmp_path).values()
    assert "no tls.trust_anchors: the system's CAs are never used" in message


def test_a_url_whose_host_no_certificate_can_name_needs_a_server_name(to_tls: Tree, tmp_path: Path) -> None:
    settings = to_tls["upstreams"]["recorder"]
    settings["servers"] = [{"url": "https://my_server:8443"}]
    settings["tls"]["server_name"] = None
    found = errors(to_tls, tmp_path)
    assert "set tls.server_name" in found["upstreams.recorder.servers[0].url"]
    settings["tls"]["server_name"] = "my.server"
    assert errors(to_tls, tmp_path) == {}


@pytest.mark.parametrize("lonely", ["certificate", "private_key", "private_key_password_file"])
def test_certificate_and_key_belong_together(to_tls: Tree, tmp_path: Path, own: Identity, lonely: str) -> None:
    to_tls["upstreams"]["recorder"]["tls"][lonely] = str(own.certificate)
    assert list(errors(to_tls, tmp_path)) == [TLS]


def test_what_will_soon_be_a_problem_is_a_warning(to_tls: Tree, tmp_path: Path) -> None:
    """Of our own certificate as of the trust anchors."""
    mine = identity(tmp_path, issue("this proxy", issue("Proxies CA", ca=True), eku=[SERVER_AUTH], end=NOW - DAY / 2))
    to_tls["upstreams"]["recorder"]["tls"] |= {"certificate": str(mine.certificate), "private_key": str(mine.key)}
    said = {w["message"] for w in check(to_tls, tmp_path)["warnings"] if w["path"] == f"{TLS}.certificate"}
    assert any("the client certificate CN=this proxy expired on" in message for message in said)
    assert any("has no extended key usage clientAuth: servers will refuse it" in message for message in said)


def test_check_shows_what_there_is(to_tls: Tree, tmp_path: Path, own: Identity, authority: Authority) -> None:
    to_tls["upstreams"]["recorder"]["tls"] |= {"certificate": str(own.certificate), "private_key": str(own.key)}
    (upstream,) = check(to_tls, tmp_path)["upstreams"]
    tls = upstream["tls"]
    assert [anchor["subject"] for anchor in tls["trust_anchors"]] == ["CN=Upstream CA"]
    assert tls["certificate"]["subject"] == "CN=this proxy"
    assert tls["revocation"] == {"mode": "off", "scope": "chain"}
    file = tmp_path / "proxy.yaml"
    shown = CliRunner().invoke(cli, ["check", str(file)]).stdout
    assert "servers of CN=Upstream CA" in shown
    assert "shows them CN=this proxy" in shown
