"""What `probe` says of this proxy's own listeners, in both of their modes."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tests.integration.certificates import identity, issue
from tests.integration.clients import VERSIONS
from tests.integration.conftest import Material, Start
from tests.integration.harness import Tree, eventually
from tests.integration.probe.conftest import Answer, probe, public_roots
from tests.integration.upstream import RecordingUpstream


def asked(port: int, *arguments: object) -> Answer:
    return probe(port, "--server-name", "proxy.test", *arguments)


@pytest.mark.parametrize(("missing_certificate", "by"), [("handshake_failure", "handshake"), ("http_400", "http")])
@pytest.mark.parametrize("minimum", VERSIONS)
def test_it_requires_a_certificate_and_says_how(
    config: Tree, start: Start, material: Material, missing_certificate: str, by: str, minimum: str
) -> None:
    config["listeners"][0]["client_auth"]["missing_certificate"] = missing_certificate
    config["listeners"][0]["tls"]["minimum_version"] = minimum
    answer = asked(start(config).port(), "--expect", "required", "--ca", material.root)
    found = answer.json
    assert answer.status == 0
    assert {v["client_certificate"] for v in found["versions"]} == {"required"}
    assert {v["refused_by"] for v in found["versions"]} == {by}
    assert {v["protocol"] for v in found["versions"]} == set(VERSIONS) - (
        {"TLSv1.2"} if minimum == "TLSv1.3" else set()
    )
    assert found["acceptable_ca_names"] == ["CN=Partner CA"]
    assert answer.checks() == {"chain": "pass", "validity": "pass", "hostname": "pass", "revocation": "skipped"}
    if by == "http":
        assert "no_certificate" in found["detail"]


def test_its_public_roots_are_among_the_names(config: Tree, start: Start, tmp_path: Path) -> None:
    """As a partner's client would find them: the DigiCert Assured ID roots, G2 and G3, in RFC 4514."""
    roots = [root for root in public_roots() if "DigiCert Assured ID Root G" in root.subject]
    for number, root in enumerate(roots):
        file = tmp_path / f"root-{number}.pem"
        file.write_bytes(root.x509.public_bytes(Encoding.PEM))
        config["truststores"]["partners"]["trust_anchors"].append(str(file))
    found = asked(start(config).port()).json
    assert found["acceptable_ca_names"] == [
        "CN=Partner CA",
        "CN=DigiCert Assured ID Root G2,OU=www.digicert.com,O=DigiCert Inc,C=US",
        "CN=DigiCert Assured ID Root G3,OU=www.digicert.com,O=DigiCert Inc,C=US",
    ]


@pytest.mark.parametrize("missing_certificate", ["handshake_failure", "http_400"])
def test_a_good_client_is_accepted_and_a_stranger_is_not(
    config: Tree, start: Start, material: Material, missing_certificate: str
) -> None:
    config["listeners"][0]["client_auth"]["missing_certificate"] = missing_certificate
    port = start(config).port()
    alice = material.client()
    answer = asked(port, "--cert", alice.certificate, "--key", alice.key)
    assert (answer.status, answer.json["client_certificate_accepted"]) == (0, True)
    stranger = identity(material.folder, issue("mallory", issue("Other CA", ca=True)))
    answer = asked(port, "--cert", stranger.certificate, "--key", stranger.key)
    assert (answer.status, answer.json["client_certificate_accepted"]) == (1, False)


def test_what_the_proxy_finds_after_the_handshake_is_its_reason(config: Tree, start: Start, material: Material) -> None:
    """A denied client passes TLS, and is answered 403."""
    alice = material.client()
    config["truststores"]["partners"]["deny"] = [{"serial": f"{alice.leaf.serial_number:X}", "issuer": "CN=Partner CA"}]
    answer = asked(start(config).port(), "--cert", alice.certificate, "--key", alice.key)
    assert answer.status == 1
    assert answer.json["client_certificate_accepted"] is False
    assert "403 Forbidden (denied)" in answer.json["client_certificate_detail"]


def test_a_route_that_is_not_its_is_no_refusal_of_the_certificate(
    config: Tree, start: Start, material: Material
) -> None:
    config["routes"][0]["allow"] = [{"common_name": "bob"}]
    alice = material.client()
    answer = asked(start(config).port(), "--cert", alice.certificate, "--key", alice.key)
    assert (answer.status, answer.json["client_certificate_accepted"]) == (0, True)
    assert "403 Forbidden (not_allowed)" in answer.json["client_certificate_detail"]


def test_nothing_reaches_the_upstream_without_a_certificate(
    config: Tree, start: Start, upstream: RecordingUpstream
) -> None:
    config["listeners"][0]["client_auth"]["missing_certificate"] = "http_400"
    proxy = start(config)
    asked(proxy.port())
    assert eventually(lambda: len(proxy.rejections()) >= 2)
    assert not upstream.requests
