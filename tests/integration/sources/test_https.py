"""Lists and OCSP answers over https: from servers that `revocation.fetch.trust_anchors` vouches for, and no others."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from tests.integration.certificates import Identity
from tests.integration.harness import Tree, eventually
from tests.integration.sources.conftest import Ca, Run, Site, points
from tests.integration.sources.web import Web, running_web


@pytest.fixture(scope="module")
def authorities() -> dict[str, trustme.CA]:
    return {"right": trustme.CA(), "wrong": trustme.CA()}


@pytest.fixture
def secure(authorities: dict[str, trustme.CA]) -> Iterator[Web]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authorities["right"].issue_cert("localhost").configure_cert(context)
    with running_web(context) as running:
        yield running


@pytest.fixture(params=["right", "wrong"])
def anchors(
    request: pytest.FixtureRequest, authorities: dict[str, trustme.CA], revocation: Tree, tmp_path: Path
) -> str:
    """Of the CA that certified the server, or of another one."""
    file = tmp_path / "web-ca.pem"
    authorities[request.param].cert_pem.write_to_path(str(file))
    revocation["fetch"] |= {"trust_anchors": [str(file)], "allowed_hosts": ["localhost"]}
    return str(request.param)


def at(server: Web, path: str, host: str = "localhost") -> str:
    return f"https://{host}:{server.port}{path}"


def assert_judged_by(site: Site, anchors: str, good: Identity, revoked: Identity) -> None:
    """By what came from the server that the right anchors vouch for; with the wrong ones nothing came."""
    if anchors == "right":
        assert (site.outcome(good), site.outcome(revoked)) == ("ok", "revoked")
    else:
        assert (site.outcome(good), site.outcome(revoked)) == ("revocation_unknown", "revocation_unknown")


@pytest.mark.parametrize("by", ["sources", "distribution_points"])
def test_a_list_over_https(run: Run, tree: Tree, ca: Ca, revocation: Tree, secure: Web, anchors: str, by: str) -> None:
    url = at(secure, "/ca.crl")
    revocation["crl"] = {"sources": [url]} if by == "sources" else {"distribution_points": True}
    good, revoked = (ca.client(name, points(url)) for name in ("good", "revoked"))
    secure.give("/ca.crl", ca.crl(revoked, number=1))
    site = run(tree)
    assert_judged_by(site, anchors, good, revoked)
    if anchors == "wrong":
        assert secure.asked == []
        eventually(lambda: [line for line in site.said(f"{url}: TLS failed") if "certificate verify failed" in line])
        assert site.proxy.series("crl_refresh_total")[("partners", "", "", "failure")] >= 1
        assert site.readiness()[0] == (503 if by == "sources" else 200)


def test_an_answer_over_https(run: Run, tree: Tree, ca: Ca, revocation: Tree, secure: Web, anchors: str) -> None:
    url = at(secure, "/ocsp")
    revocation["ocsp"] = {"enabled": True, "responder": url}
    good, revoked = ca.client("good"), ca.client("revoked")
    ca.status[revoked.leaf.serial_number] = "revoked"
    ca.answer_at(secure, "/ocsp")
    site = run(tree)
    assert_judged_by(site, anchors, good, revoked)
    if anchors == "wrong":
        assert secure.asked == []
        first, *_ = eventually(site.proxy.refusals)  # both are refused, and another thread writes the lines
        assert f"{url}: TLS failed" in first["detail"]


@pytest.mark.parametrize("anchors", ["right"], indirect=True)
def test_a_server_of_another_name_is_not_believed(
    run: Run, tree: Tree, ca: Ca, revocation: Tree, secure: Web, anchors: str
) -> None:
    """RFC 9525 §6: its certificate is localhost's, and the URL names an address."""
    url = at(secure, "/ca.crl", "127.0.0.1")
    revocation["crl"] = {"sources": [url]}
    secure.give("/ca.crl", ca.crl(number=1))
    site = run(tree)
    assert site.outcome(ca.client("alice")) == "revocation_unknown"
    assert secure.asked == []
    eventually(lambda: site.said(f"{url}: TLS failed"))


def test_without_trust_anchors_https_is_not_asked(run: Run, tree: Tree, ca: Ca, revocation: Tree, secure: Web) -> None:
    revocation["crl"] = {"sources": [at(secure, "/ca.crl")]}
    secure.give("/ca.crl", ca.crl(number=1))
    site = run(tree)
    assert site.outcome(ca.client("alice")) == "revocation_unknown"
    assert secure.asked == []
    eventually(lambda: site.said("https needs revocation.fetch.trust_anchors"))
