"""Connections that are open when their client is revoked by what comes over the network: let go of in time."""

import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml
from aiohttp import web
from tests.integration.certificates import Identity
from tests.integration.clients import PATIENCE, VERSIONS, Connection, tls
from tests.integration.harness import Tree, eventually
from tests.integration.sources.conftest import OCSP_TYPE, Ca, Run, Site, now
from tests.integration.sources.web import Web

from mtlsproxy.reasons import Reason

Revoke = Callable[[Identity], None]


@pytest.fixture(params=["CRL URL", "OCSP"])
def revoke(request: pytest.FixtureRequest, tree: Tree, revocation: Tree, ca: Ca, server: Web) -> Revoke:
    """The proxy hears of revocations from there, within a second; revokes a client."""
    if request.param == "CRL URL":
        revocation["crl"] = {"sources": [server.url("/ca.crl")], "refresh": "300ms"}
        server.give("/ca.crl", ca.crl(number=1))
        return lambda client: server.give("/ca.crl", ca.crl(client, number=2))

    async def answer(asked: web.Request) -> web.Response:
        body = ca.respond(await asked.read(), this_update=now(), next_update=None)
        return web.Response(body=body, content_type=OCSP_TYPE)

    server.answers["/ocsp"] = answer
    revocation["ocsp"] = {"enabled": True, "responder": server.url("/ocsp"), "max_age": "2s"}
    return lambda client: ca.status.update({client.leaf.serial_number: "revoked"})


def test_an_idle_connection_is_closed_and_a_new_one_refused(run: Run, tree: Tree, ca: Ca, revoke: Revoke) -> None:
    alice, carol = ca.client("alice"), ca.client("carol")
    site = run(tree)
    with site.connect(alice) as hers, site.connect(carol) as others:
        assert (hers.get().status, others.get().status) == (200, 200)
        revoke(alice)
        assert hers.ended()
        assert others.get().status == 200
    assert site.outcome(alice) == "revoked"
    assert {line["reason"] for line in site.proxy.rejections()} == {"revoked"}


def test_a_connection_that_asks_on_and_on_is_refused_soon(run: Run, tree: Tree, ca: Ca, revoke: Revoke) -> None:
    """Its requests are served until the news come, and not one of them afterwards."""
    alice, carol = ca.client("alice"), ca.client("carol")
    site = run(tree)
    with site.connect(alice) as hers, site.connect(carol) as others:
        assert hers.get().status == 200
        revoke(alice)
        eventually(lambda: _is_let_go(hers))
        assert others.get().status == 200
    assert site.verdict(alice).reason is Reason.REVOKED


def _is_let_go(connection: Connection) -> bool:
    try:
        answer = connection.get()
    except (EOFError, OSError):  # between two requests it is closed without an answer
        return True
    if answer.status == 403:
        assert answer.problem["reason"] == "revoked"
        return True
    assert answer.status == 200
    return False


@pytest.mark.parametrize("version", VERSIONS)
def test_a_resumed_connection_is_let_go_and_its_session_is_of_no_more_use(
    run: Run, tree: Tree, ca: Ca, revoke: Revoke, version: str
) -> None:
    alice = ca.client("alice")
    tree["listeners"][0]["tls"]["session_resumption"] = True
    site = run(tree)
    context = site.context(alice, VERSIONS[version])
    with tls(site.port, context) as full:
        assert full.get().status == 200
        session = full.sock.session
    with tls(site.port, context, session=session) as resumed:
        assert resumed.sock.session_reused
        assert resumed.get().status == 200
        session = resumed.sock.session
        revoke(alice)
        assert resumed.ended()
    assert _refused_when_resumed(site, context, session) == "revoked"


def _refused_when_resumed(site: Site, context: ssl.SSLContext, session: ssl.SSLSession | None) -> str:
    with tls(site.port, context, session=session) as again:
        answer = again.get()
        assert again.sock.session_reused
        assert answer.status == 403
        return str(answer.problem["reason"])


def test_who_was_let_in_unknown_is_let_go_when_ocsp_says_revoked(
    run: Run, tree: Tree, ca: Ca, revocation: Tree, server: Web
) -> None:
    """soft_fail. Of a list that comes late, see test_crl_urls."""

    async def answer(asked: web.Request) -> web.Response:
        body = ca.respond(await asked.read(), this_update=now(), next_update=None)
        return web.Response(body=body, content_type=OCSP_TYPE)

    server.answers["/ocsp"] = answer
    revocation |= {"mode": "soft_fail", "ocsp": {"enabled": True, "responder": server.url("/ocsp"), "max_age": "2s"}}
    alice, carol = ca.client("alice"), ca.client("carol")
    ca.status |= {alice.leaf.serial_number: "unknown", carol.leaf.serial_number: "unknown"}
    site = run(tree)
    with site.connect(alice) as hers, site.connect(carol) as others:
        assert (hers.get().status, others.get().status) == (200, 200)
        ca.status[alice.leaf.serial_number] = "revoked"
        assert hers.ended()
        assert others.get().status == 200
    assert site.outcome(alice) == "revoked"


# -- a reload ----------------------------------------------------------------------------------------------------------


def test_a_reload_of_other_settings_asks_nobody_to_leave(run: Run, tree: Tree, ca: Ca, revoke: Revoke) -> None:
    """What is known counts on until the new settings' own fetches have brought something."""
    alice = ca.client("alice")
    site = run(tree)
    with site.connect(alice) as hers:
        assert hers.get().status == 200
        for seconds in (50, 51, 52):
            tree["truststores"]["partners"]["revocation"]["fetch"]["timeout"] = f"{seconds}s"
            tree["truststores"]["partners"]["revocation"].setdefault("crl", {})["grace"] = f"{seconds}s"
            before = site.proxy.proxy.snapshot.generation
            _rewrite(site, tree)
            eventually(lambda before=before: site.proxy.proxy.snapshot.generation > before)
            assert hers.get().status == 200
            assert site.outcome(alice) == "ok"
        revoke(alice)
        assert hers.ended()
    assert site.proxy.series("handshakes_total").keys() <= {
        ("internal", result, "TLSv1.3") for result in ("ok", "revoked")
    }


def _rewrite(site: Site, tree: Tree) -> None:
    file = site.proxy.error_file.parent / "proxy.yaml"
    fresh = file.with_suffix(".new")
    fresh.write_text(yaml.safe_dump(tree, sort_keys=False))
    fresh.replace(file)


def test_a_request_that_waits_for_an_answer_survives_a_reload(
    run: Run, tree: Tree, ca: Ca, revocation: Tree, server: Web
) -> None:
    ca.answer_at(server, "/ocsp")
    released = server.hold("/ocsp")
    revocation["ocsp"] = {"enabled": True, "responder": server.url("/ocsp"), "timeout": "8s"}
    alice = ca.client("alice")
    site = run(tree)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(site.outcome, alice)
        eventually(lambda: server.asked)
        revocation["ocsp"]["timeout"] = "9s"
        before = site.proxy.proxy.snapshot.generation
        _rewrite(site, tree)
        eventually(lambda: site.proxy.proxy.snapshot.generation > before)
        released.set()
        assert waiting.result(PATIENCE) == "ok"
