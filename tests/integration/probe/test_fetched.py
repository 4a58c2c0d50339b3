"""With --fetch, the CRL and OCSP servers that the server's own certificate names are asked; without, nobody is."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from tests.integration.certificates import Identity, identity, issue
from tests.integration.probe.conftest import NAME, Answer, StartNginx, probe
from tests.integration.secure.conftest import host_names
from tests.integration.sources.conftest import Ca, points, responders
from tests.integration.sources.web import Web, running_web

from mtlsproxy.x509.policy import SERVER_AUTH


@pytest.fixture
def web() -> Iterator[Web]:
    with running_web() as server:
        yield server


@pytest.fixture
def ca(tmp_path: Path) -> Ca:
    return Ca(tmp_path)


def server_of(ca: Ca, *extra: tuple[x509.ExtensionType, bool]) -> Identity:
    issued = issue("a server", ca.issued, sans=host_names(NAME), eku=[SERVER_AUTH], extra=extra)
    ca.remember(issued.certificate)
    return identity(ca.folder, issued)


def revocation(answer: Answer) -> tuple[str, str]:
    check = answer.json["checks"][3]
    return check["result"], check["seen"]


@pytest.mark.parametrize(("revoked", "result"), [(False, "pass"), (True, "fail")])
def test_the_list_that_it_names_is_fetched(nginx: StartNginx, ca: Ca, web: Web, revoked: bool, result: str) -> None:
    server = server_of(ca, points(web.url("/ca.crl")))
    web.give("/ca.crl", ca.crl(*([server] if revoked else []), number=1))
    answer = probe(nginx("", server=server), "--ca", ca.anchors, "--fetch")
    assert answer.status == 0
    assert revocation(answer)[0] == result
    (source,) = answer.json["sources"]
    assert (source["kind"], source["state"], source["url"]) == ("crl", "fetched", web.url("/ca.crl"))
    assert web.paths() == ["/ca.crl"]


@pytest.mark.parametrize(("status", "result"), [("good", "pass"), ("revoked", "fail")])
def test_the_responder_that_it_names_is_asked(nginx: StartNginx, ca: Ca, web: Web, status: str, result: str) -> None:
    server = server_of(ca, responders(web.url("/ocsp")))
    ca.status[server.leaf.serial_number] = status
    ca.answer_at(web, "/ocsp")
    answer = probe(nginx("", server=server), "--ca", ca.anchors, "--fetch")
    assert revocation(answer)[0] == result
    assert [source["kind"] for source in answer.json["sources"]] == ["ocsp"]


def test_without_fetch_nobody_is_asked(nginx: StartNginx, ca: Ca, web: Web) -> None:
    server = server_of(ca, points(web.url("/ca.crl")), responders(web.url("/ocsp")))
    answer = probe(nginx("", server=server), "--ca", ca.anchors)
    assert revocation(answer)[0] == "skipped"
    assert answer.json["sources"] == []
    assert web.asked == []


def test_nobody_is_asked_on_a_stranger_s_word(nginx: StartNginx, ca: Ca, web: Web, tmp_path: Path) -> None:
    """What a certificate names counts once the chain is verified: else any server could send us anywhere."""
    server = server_of(ca, points(web.url("/ca.crl")), responders(web.url("/ocsp")))
    answer = probe(nginx("", server=server), "--ca", Ca(tmp_path, "Another CA").anchors, "--fetch")
    assert [check["result"] for check in answer.json["checks"]] == ["fail", "pass", "pass", "skipped"]
    assert web.asked == []


def test_a_server_that_does_not_answer_leaves_it_unknown_and_says_why(nginx: StartNginx, ca: Ca, web: Web) -> None:
    server = server_of(ca, points(web.url("/gone.crl")))
    answer = probe(nginx("", server=server), "--ca", ca.anchors, "--fetch")
    assert revocation(answer)[0] == "fail"
    (source,) = answer.json["sources"]
    assert (source["state"], "404" in source["detail"]) == ("failed", True)
    shown = probe(nginx("", server=server), "--ca", ca.anchors, "--fetch", text=True).stdout
    assert "revocation data over the network" in shown and "404" in shown


def test_who_names_nobody_is_not_known_to_be_good(nginx: StartNginx, ca: Ca) -> None:
    result, seen = revocation(probe(nginx("", server=server_of(ca)), "--ca", ca.anchors, "--fetch"))
    assert result == "fail"
    assert "no CRL" in seen and "no OCSP responder" in seen
