"""Attacks on trust by what surrounds the proxy: nothing but the configuration names a trust anchor."""

import ssl
from pathlib import Path

import pytest
from tests.integration.certificates import anchor_file, identity, issue
from tests.integration.clients import alert, client_context, tls
from tests.integration.conftest import Material, Start
from tests.integration.harness import RunningProxy, Tree, eventually
from tests.integration.refusals import assert_nothing_forwarded
from tests.integration.upstream import RecordingUpstream
from tests.unit.x509.build import Issued

from mtlsproxy.reasons import Reason


@pytest.fixture
def system_ca(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Issued:
    """A CA that this system trusts for everything, as OpenSSL finds it."""
    ca = issue("System CA", ca=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(anchor_file(tmp_path, ca)))
    control = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    control.set_default_verify_paths()
    assert control.cert_store_stats()["x509_ca"] == 1
    return ca


def test_what_the_system_trusts_is_nobody_here(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start, system_ca: Issued
) -> None:
    stranger = identity(material.folder, issue("stranger", system_ca))
    proxy = start(config)
    assert alert(proxy.port(), client_context(material.root, stranger)) == "unknown_ca"
    assert proxy.refusal()["reason"] == Reason.UNTRUSTED_ISSUER
    assert_nothing_forwarded(upstream)


def assert_reload_fails(proxy: RunningProxy) -> None:
    proxy.proxy.loop.call_soon_threadsafe(proxy.proxy.reloader.reload_soon)
    eventually(lambda: proxy.series("config_reloads_total").get(("failure",)))


@pytest.mark.parametrize("content", [None, b"", b"no certificate"], ids=["gone", "empty", "rubbish"])
def test_anchors_that_are_lost_while_it_runs_change_nobody_s_trust(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start, system_ca: Issued, tmp_path: Path,
    content: bytes | None,
) -> None:  # fmt: skip
    """Caddy CVE-2026-27586 at a reload: what was trusted stays trusted, and nothing else is."""
    anchors = tmp_path / "ca.pem"
    anchors.write_bytes(material.anchors.read_bytes())
    config["truststores"]["partners"]["trust_anchors"] = ["ca.pem"]
    proxy = start(config)
    anchors.unlink() if content is None else anchors.write_bytes(content)
    assert_reload_fails(proxy)
    stranger = identity(material.folder, issue("stranger", system_ca))
    assert alert(proxy.port(), client_context(material.root, stranger)) == "unknown_ca"
    assert_nothing_forwarded(upstream)
    with tls(proxy.port(), client_context(material.root, material.client())) as client:
        assert client.get().status == 200
