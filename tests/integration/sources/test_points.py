"""Distribution points and responders that certificates name: asked where it is allowed, and nowhere else (SSRF)."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography import x509
from tests.integration.certificates import Identity, identity, issue
from tests.integration.clients import PATIENCE
from tests.integration.harness import Tree, eventually
from tests.integration.refusals import assert_counted, assert_logged
from tests.integration.sources.conftest import Ca, Run, Site, points, responders
from tests.integration.sources.web import Web

from mtlsproxy.reasons import Reason

Named = Callable[..., tuple[x509.ExtensionType, bool]]


@pytest.fixture
def named(revocation: Tree, server: Web) -> Tree:
    """Lists come from distribution points."""
    revocation["crl"] = {"distribution_points": True, "refresh": "1h"}
    options: Tree = revocation["crl"]
    return options


# -- distribution points -----------------------------------------------------------------------------------------------


def test_a_distribution_point_is_fetched_once_while_all_who_name_it_wait(
    run: Run, tree: Tree, ca: Ca, named: Tree, bob: Identity, server: Web
) -> None:
    server.give("/ca.crl", ca.crl(number=1))
    released = server.hold("/ca.crl")
    clients = [ca.client(f"client{number}", points(server.url("/ca.crl"))) for number in range(6)]
    site = run(tree)
    assert site.readiness() == (200, [])
    with ThreadPoolExecutor(6) as pool:
        waiting = [pool.submit(site.outcome, client) for client in clients]
        eventually(lambda: site.proxy.series("connections") == {("internal",): 6})
        eventually(lambda: server.asked)
        assert site.outcome(bob) == "revocation_unknown"  # it names none, and is answered at once
        assert not any(one.done() for one in waiting)
        released.set()
        assert {one.result(PATIENCE) for one in waiting} == {"ok"}
    assert site.outcome(bob) == "ok"  # its issuer's list is here now
    assert server.paths() == ["/ca.crl"]


def test_who_is_revoked_by_its_distribution_point_is_refused_at_its_first_request(
    run: Run, tree: Tree, ca: Ca, named: Tree, server: Web
) -> None:
    alice = ca.client("alice", points(server.url("/ca.crl")))
    server.give("/ca.crl", ca.crl(alice, number=1))
    site = run(tree)
    assert site.outcome(alice) == "revoked"
    assert server.url("/ca.crl") in site.proxy.refusal()["detail"]


def test_every_certificate_of_a_chain_names_its_own(run: Run, tree: Tree, ca: Ca, named: Tree, server: Web) -> None:
    """The intermediate is met in the chain alone; its list is fetched and verified all the same."""
    between = Ca(ca.folder, issued=issue("Between", ca.issued, ca=True, extra=[points(server.url("/root.crl"))]))
    clients = [
        identity(ca.folder, issue(name, between.issued, extra=[points(server.url("/between.crl"))]), between.issued)
        for name in ("alice", "revoked")
    ]
    server.give("/root.crl", ca.crl(number=1))
    server.give("/between.crl", between.crl(clients[1], number=1))
    site = run(tree)
    assert [site.outcome(client) for client in clients] == ["ok", "revoked"]
    assert sorted(server.paths()) == ["/between.crl", "/root.crl"]


@pytest.mark.parametrize("first", [0, 1])
def test_two_cas_that_name_one_url_do_not_lock_each_other_out(
    run: Run, tree: Tree, ca: Ca, named: Tree, server: Web, first: int
) -> None:
    """Who comes first must not decide whose lists may come from a URL: here it holds those of one CA alone."""
    other = Ca(ca.folder, "Other CA")
    tree["truststores"]["partners"]["trust_anchors"].append(str(other.anchors))
    url = server.url("/shared.crl")
    server.give("/shared.crl", ca.crl(number=1))
    clients = [ca.client("alice", points(url)), other.client("olga", points(url))]
    site = run(tree)
    for client in (clients[first], clients[1 - first]):
        assert site.outcome(client) == ("ok" if client is clients[0] else "revocation_unknown")


def test_a_dead_distribution_point_refuses_those_who_name_it_and_heals(
    run: Run, tree: Tree, ca: Ca, named: Tree, server: Web
) -> None:
    alice = ca.client("alice", points(server.url("/ca.crl")))
    named["refresh"] = "200ms"
    server.down()
    site = run(tree)
    assert site.outcome(alice) == "revocation_unknown"
    server.give("/ca.crl", ca.crl(number=1))
    server.up()
    eventually(lambda: site.outcome(alice) == "ok")


def test_a_slow_distribution_point_is_waited_for_once(
    run: Run, tree: Tree, ca: Ca, named: Tree, revocation: Tree, server: Web
) -> None:
    revocation["fetch"]["timeout"] = "300ms"
    alice = ca.client("alice", points(server.url("/ca.crl")))
    server.give("/ca.crl", ca.crl(number=1))
    server.hold("/ca.crl")
    site = run(tree)
    assert site.outcome(alice) == "revocation_unknown"
    assert not site.verdict(alice).wanted


def test_lists_and_ocsp_together_one_that_says_revoked_decides(
    run: Run, tree: Tree, ca: Ca, named: Tree, revocation: Tree, server: Web
) -> None:
    revocation["ocsp"] = {"enabled": True}
    ca.answer_at(server, "/ocsp")
    extra = (points(server.url("/ca.crl")), responders(server.url("/ocsp")))
    good, by_list, by_ocsp = (ca.client(name, *extra) for name in ("good", "by-list", "by-ocsp"))
    ca.status[by_ocsp.leaf.serial_number] = "revoked"
    server.give("/ca.crl", ca.crl(by_list, number=1))
    site = run(tree)
    assert [site.outcome(client) for client in (good, by_list, by_ocsp)] == ["ok", "revoked", "revoked"]
    assert "(also: CN=good " in site.seen(good)
    assert site.verdict(by_list).revocation_source == "crl"
    assert site.verdict(by_ocsp).revocation_source == "ocsp"


# -- what a certificate must not make the proxy do ---------------------------------------------------------------------


HOSTILE: dict[str, tuple[Callable[[Web], str], str]] = {
    "another-host": (lambda server: f"http://localhost:{server.port}/secret", "not in revocation.fetch.allowed_hosts"),
    "a-form-of-the-host": (lambda server: f"http://2130706433:{server.port}/secret", "allowed_hosts"),
    "a-mapped-address": (lambda server: f"http://[::ffff:127.0.0.1]:{server.port}/secret", "allowed_hosts"),
    "a-user-before-the-host": (lambda server: f"http://127.0.0.1@localhost:{server.port}/secret", "not fetched"),
    "link-local": (lambda _: "http://169.254.169.254/latest/meta-data/", "not in revocation.fetch.allowed_hosts"),
    "link-local-by-name": (lambda _: "http://metadata.google.internal/", "not in revocation.fetch.allowed_hosts"),
    "file": (lambda _: "file:///etc/passwd", "its scheme is file"),
    "ftp": (lambda server: f"ftp://127.0.0.1:{server.port}/secret", "only http and https"),
    "https-without-anchors": (lambda server: f"https://127.0.0.1:{server.port}/secret", "trust_anchors"),
    "redirect-to-another-host": (
        lambda server: server.url("/to-another-host"),
        "a redirect names the host 'localhost'",
    ),
    "redirect-to-a-file": (lambda server: server.url("/to-a-file"), "only http and https"),
    "redirect-for-ever": (lambda server: server.url("/to-itself"), "redirects"),
    "huge": (lambda server: server.url("/huge"), "larger than revocation.fetch.max_size"),
    "endless": (lambda server: server.url("/endless"), "no complete answer within"),
    "no-url": (lambda _: "http://", "no URL"),
    "a-broken-port": (lambda _: "http://127.0.0.1:99999/secret", "no URL"),
}
"""A URL in a certificate, and words of why nothing comes of it."""


def _lay_traps(server: Web) -> None:
    server.redirect("/to-another-host", f"http://localhost:{server.port}/secret", 307)
    server.redirect("/to-a-file", "file:///etc/passwd", 307)
    server.redirect("/to-itself", server.url("/to-itself"), 307)
    server.give("/huge", b"\0" * 200_000)
    server.drip("/endless", b"\x30", 0.01)


@pytest.fixture
def trapped(revocation: Tree, server: Web) -> Tree:
    revocation["fetch"] |= {"max_size": "64KiB", "timeout": "1s"}
    _lay_traps(server)
    return revocation


def test_no_distribution_point_leads_the_proxy_astray(
    run: Run, tree: Tree, ca: Ca, named: Tree, trapped: Tree, server: Web
) -> None:
    """Refused, counted and logged, each for itself, while another client is served."""
    named["sources"] = [server.url("/nothing.crl")]  # so that the helper runs before anybody waits for it
    server.give("/ca.crl", ca.crl(number=1))
    other = Ca(ca.folder, "Honest CA")
    tree["truststores"]["partners"]["trust_anchors"].append(str(other.anchors))
    server.give("/honest.crl", other.crl(number=1))
    honest = other.client("honest", points(server.url("/honest.crl")))
    site = run(tree)
    with site.connect(honest) as connection:
        assert connection.get().status == 200
        for kind, (url, words) in HOSTILE.items():
            mallory = ca.client(f"mallory-{kind}", points(url(server)))
            assert site.outcome(mallory) == "revocation_unknown", kind
            assert connection.get().status == 200
            eventually(lambda words=words, url=url: _logged(site, words, url(server)))
    assert site.proxy.series("rejections_total") == {
        ("internal", "", Reason.REVOCATION_UNKNOWN, "true"): len(HOSTILE),
    }
    assert site.proxy.series("crl_refresh_total")[("partners", "", "", "failure")] >= len(HOSTILE)
    assert "/secret" not in server.paths()


def _logged(site: Site, words: str, url: str) -> bool:
    return any(words in line and url in line for line in site.said("; next try at "))


@pytest.mark.parametrize("kind", HOSTILE)
def test_no_responder_leads_the_proxy_astray(
    run: Run, tree: Tree, ca: Ca, trapped: Tree, server: Web, kind: str
) -> None:
    trapped["ocsp"] = {"enabled": True, "timeout": "300ms" if kind == "endless" else "10s"}
    ca.answer_at(server, "/ocsp")
    url, words = HOSTILE[kind]
    mallory = ca.client("mallory", responders(url(server)))
    honest = ca.client("honest", responders(server.url("/ocsp")))
    site = run(tree)
    with site.connect(honest) as connection:
        assert connection.get().status == 200
        assert site.outcome(mallory) == "revocation_unknown"
        assert connection.get().status == 200
    line = assert_logged(site.proxy, Reason.REVOCATION_UNKNOWN, mallory)
    assert words in line["detail"]
    assert_counted(site.proxy, Reason.REVOCATION_UNKNOWN)
    assert site.proxy.series("ocsp_requests_total") == {("partners", "good"): 1, ("partners", "failure"): 1}
    assert "/secret" not in server.paths()


def test_a_certificate_that_names_hundreds_of_points_delays_nobody_else(
    run: Run, tree: Tree, ca: Ca, named: Tree, trapped: Tree, server: Web
) -> None:
    """The helper asks few at a time; the others are given up, and whoever is known is served all along."""
    named["sources"] = [server.url("/nothing.crl")]  # so that the helper runs before anybody waits for it
    server.give("/ca.crl", ca.crl(number=1))
    honest = ca.client("honest", points(server.url("/ca.crl")))
    site = run(tree)
    assert site.outcome(honest) == "ok"
    greedy = ca.client("greedy", points(*(server.url(f"/endless?{number}") for number in range(300))))
    with ThreadPoolExecutor(1) as pool, site.connect(honest) as connection:
        waiting = pool.submit(site.outcome, greedy)
        for _ in range(20):
            assert connection.get().status == 200
        assert waiting.result(PATIENCE) == "ok"  # the list of its issuer is here: the points bring nothing new
