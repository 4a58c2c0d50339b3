"""CRL URLs of the configuration: fetched, refreshed, refused where they are wrong, and kept on disk."""

import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from aiohttp import web
from tests.integration.certificates import Identity
from tests.integration.harness import Tree, eventually
from tests.integration.sources.conftest import HOUR, Ca, Run, Site, now
from tests.integration.sources.web import Web
from tests.unit.fetch.lists import list_of
from tests.unit.revocation.build import INDIRECT, Authority, authority, delta_of, distribution_point, extension
from tests.unit.x509.build import new_key

from mtlsproxy.reasons import Reason

UNKNOWN_CRITICAL = extension(b"\x06\x03\x2a\x03\x04", b"\x05\x00", critical=True)


@pytest.fixture
def crl(revocation: Tree, server: Web) -> Tree:
    """Asked several times a second."""
    revocation["crl"] = {"sources": [server.url("/ca.crl")], "refresh": "200ms"}
    options: Tree = revocation["crl"]
    return options


def refreshes(site: Site, result: str) -> float:
    return sum(value for key, value in site.proxy.series("crl_refresh_total").items() if key[-1] == result)


def number(site: Site) -> int:
    """Of the list in use."""
    (found,) = site.truststore()["crls"]
    return int(found["number"])


def eventually_revoked(site: Site, client: Identity) -> None:
    """Asked only then: a connection that is open when the news come is closed without an answer."""
    eventually(lambda: site.verdict(client).reason is Reason.REVOKED)
    assert site.outcome(client) == "revoked"


# -- what it brings ----------------------------------------------------------------------------------------------------


def test_a_list_is_fetched_at_start_and_decides(run: Run, tree: Tree, ca: Ca, crl: Tree, server: Web) -> None:
    alice, revoked = ca.client("alice"), ca.client("revoked")
    server.give("/ca.crl", ca.crl(revoked, number=7))
    crl["refresh"] = "1h"
    site = run(tree)
    assert site.readiness() == (200, [])
    assert (site.outcome(alice), site.outcome(revoked)) == ("ok", "revoked")
    assert f"CRL number 7 from {server.url('/ca.crl')}" in site.seen(alice)
    assert f"CRL number 7 from {server.url('/ca.crl')}" in site.seen(revoked)
    labels = ("partners", "CN=Online CA", ca.issued.certificate.subject_key_id.hex())
    assert site.proxy.series("crl_refresh_total") == {(*labels, "success"): 1}
    assert site.proxy.series("crl_entries") == {labels: 1}
    assert site.proxy.series("revocation_decisions_total") == {
        ("partners", "good", "crl"): 1,
        ("partners", "revoked", "crl"): 1,
    }
    assert server.paths() == ["/ca.crl"]


def test_a_revocation_published_later_is_heard_of(run: Run, tree: Tree, ca: Ca, crl: Tree, server: Web) -> None:
    alice, carol = ca.client("alice"), ca.client("carol")
    server.give("/ca.crl", ca.crl(number=1))
    site = run(tree)
    assert site.outcome(alice) == "ok"
    server.give("/ca.crl", ca.crl(alice, number=2))
    eventually_revoked(site, alice)
    assert site.outcome(carol) == "ok"
    assert number(site) == 2


@pytest.mark.parametrize("way", ["SIGHUP", "API"])
def test_whoever_has_just_published_a_list_can_have_it_asked_for_now(
    run: Run, tree: Tree, ca: Ca, crl: Tree, server: Web, tmp_path: Path, way: str
) -> None:
    """`refresh` is an hour; a revocation must not wait for that while somebody sits there."""
    token = "0123456789abcdef"
    (tmp_path / "token").write_text(token)
    tree["admin"]["token_file"] = str(tmp_path / "token")
    alice = ca.client("alice")
    crl["refresh"] = "1h"
    server.give("/ca.crl", ca.crl(number=1))
    site = run(tree)
    with site.connect(alice) as hers:
        assert hers.get().status == 200
        server.give("/ca.crl", ca.crl(alice, number=2))
        if way == "SIGHUP":
            site.proxy.call(site.proxy.proxy.reloader.reload_soon)
        else:
            url = f"http://127.0.0.1:{site.proxy.admin_port}/api/reload"
            asked = urllib.request.Request(url, method="POST", headers={"Authorization": f"Bearer {token}"})
            with urllib.request.urlopen(asked) as answer:
                assert answer.status == 200
        assert hers.ended()
    assert site.outcome(alice) == "revoked"
    (shown,) = site.truststore()["crl_urls"]
    assert (shown["url"], shown["named_by"], shown["last_try"]) == (server.url("/ca.crl"), "configuration", "ok")


def test_what_has_not_changed_is_not_sent_again_and_nothing_is_judged_again(
    run: Run, tree: Tree, ca: Ca, crl: Tree, server: Web
) -> None:
    server.tagged("/ca.crl", ca.crl(number=1), '"one"')
    site = run(tree)
    generation = site.proxy.proxy.snapshot.generation
    eventually(lambda: len(server.asked) >= 3)
    assert [asked.headers.get("If-None-Match") for asked in server.asked[:3]] == [None, '"one"', '"one"']
    eventually(lambda: refreshes(site, "success") >= 3)
    assert refreshes(site, "failure") == 0
    assert site.proxy.proxy.snapshot.generation == generation
    assert site.outcome(ca.client("alice")) == "ok"


def test_a_delta_from_a_url_revokes_and_lifts_holds(run: Run, tree: Tree, ca: Ca, crl: Tree, server: Web) -> None:
    """RFC 5280 §5.2.4."""
    alice, carol = ca.client("alice"), ca.client("carol")
    crl["sources"].append(server.url("/delta.crl"))
    server.give("/ca.crl", ca.crl(carol, number=1))
    server.give("/delta.crl", ca.crl(number=2, extensions=(delta_of(1),)))
    site = run(tree)
    assert (site.outcome(alice), site.outcome(carol)) == ("ok", "revoked")
    server.give("/delta.crl", ca.crl(alice, number=3, extensions=(delta_of(1),)))
    eventually_revoked(site, alice)
    assert site.outcome(carol) == "revoked"


def test_a_delta_from_a_file_beside_a_url(run: Run, tree: Tree, ca: Ca, crl: Tree, server: Web) -> None:
    alice = ca.client("alice")
    file = ca.folder / "delta-beside.crl"
    file.write_bytes(ca.crl(alice, number=2, extensions=(delta_of(1),)))
    crl["sources"].append(str(file))
    server.give("/ca.crl", ca.crl(number=1))
    site = run(tree)
    assert (site.outcome(alice), site.outcome(ca.client("carol"))) == ("revoked", "ok")


# -- servers that are down ---------------------------------------------------------------------------------------------


def test_a_server_that_is_down_at_start_shuts_everybody_out_until_it_comes(
    run: Run, tree: Tree, ca: Ca, crl: Tree, server: Web
) -> None:
    """hard_fail: the proxy starts, refuses, is not ready, says why, and heals by itself."""
    alice = ca.client("alice")
    server.down()
    site = run(tree)
    assert site.readiness() == (
        503,
        ["listener internal: no CRL of partners is here yet, and its mode is hard_fail"],
    )
    assert site.outcome(alice) == "revocation_unknown"
    line = site.proxy.refusal()
    assert "there is no CRL of its issuer CN=Online CA" in line["detail"]
    eventually(lambda: site.said(f"truststore partners: {server.url('/ca.crl')}: cannot connect"))
    assert refreshes(site, "failure") >= 1
    assert refreshes(site, "success") == 0
    assert site.proxy.series("revocation_decisions_total") == {("partners", "unknown", "none"): 1}
    server.give("/ca.crl", ca.crl(number=1))
    server.up()
    eventually(lambda: site.outcome(alice) == "ok")
    assert site.readiness() == (200, [])


def test_soft_fail_lets_everybody_in_until_the_list_comes(
    run: Run, tree: Tree, ca: Ca, crl: Tree, revocation: Tree, server: Web
) -> None:
    revocation["mode"] = "soft_fail"
    alice = ca.client("alice")
    server.down()
    site = run(tree)
    assert site.readiness() == (200, [])
    with site.connect(alice) as hers:
        assert hers.get().status == 200
        assert "let pass by soft_fail" in site.seen(alice)
        server.give("/ca.crl", ca.crl(alice, number=1))
        server.up()
        assert hers.ended()
    assert site.outcome(alice) == "revoked"


def test_after_a_restart_the_copy_on_disk_counts_while_the_server_is_down(
    run: Run, tree: Tree, ca: Ca, crl: Tree, server: Web
) -> None:
    alice, revoked = ca.client("alice"), ca.client("revoked")
    server.give("/ca.crl", ca.crl(revoked, number=5))
    before = run(tree)
    assert before.outcome(revoked) == "revoked"
    server.down()
    site = run(tree)
    assert site.readiness() == (200, [])
    assert (site.outcome(alice), site.outcome(revoked)) == ("ok", "revoked")
    assert number(site) == 5
    eventually(lambda: refreshes(site, "failure"))
    assert (site.outcome(alice), site.outcome(revoked)) == ("ok", "revoked")


def test_a_copy_on_disk_that_was_damaged_is_not_used(run: Run, tree: Tree, ca: Ca, crl: Tree, server: Web) -> None:
    server.give("/ca.crl", ca.crl(number=5))
    crl["refresh"] = "1h"
    site = run(tree)
    folder = site.proxy.error_file.parent / "state"
    (copy,) = (folder / "crls").glob("*.crl")
    copy.write_bytes(copy.read_bytes()[:-1] + b"\0")
    server.down()
    again = run(tree)
    assert again.outcome(ca.client("alice")) == "revocation_unknown"
    eventually(lambda: again.said("is damaged and is not used"))


# -- what is refused ---------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Callable[[Ca], bytes], str]] = {
    "rollback": (lambda ca: ca.crl(number=4), "(rollback)"),
    "issued-earlier": (lambda ca: ca.crl(number=5, age=3 * HOUR), "(rollback)"),
    "wrong-signer": (lambda ca: _signed_by_another_key(ca), "is not signed by its issuer"),
    "damaged": (lambda ca: _flipped(ca.crl(number=6)), "is not signed by its issuer"),
    "another-key-of-the-name": (lambda _: list_of(authority("Online CA"), at=now(), number=6), "no longer holds"),
    "foreign-issuer": (lambda _: list_of(authority("Other CA"), at=now(), number=6), "no longer holds"),
    "indirect": (lambda ca: ca.crl(number=6, extensions=(distribution_point(INDIRECT),)), "indirect"),
    "unknown-critical": (lambda ca: ca.crl(number=6, extensions=(UNKNOWN_CRITICAL,)), "critical"),
    "without-nextUpdate": (lambda ca: ca.crl(number=6, lasts=None), "has no nextUpdate"),
    "of-the-future": (lambda ca: ca.crl(number=6, age=-HOUR), "begins only at"),
    "garbage": (lambda _: b"<html>log in first</html>", ""),
    "truncated": (lambda ca: ca.crl(number=6)[:-20], ""),
    "trailing-octets": (lambda ca: ca.crl(number=6) + b"\0", ""),
    "empty": (lambda _: b"", ""),
}
"""What is served, and words of why it is not used."""

AT_FIRST = sorted(REFUSED.keys() - {"rollback", "issued-earlier", "another-key-of-the-name", "foreign-issuer"})
"""What is wrong in itself, not beside a list that is known."""


def _flipped(der: bytes) -> bytes:
    return der[:-1] + bytes([der[-1] ^ 1])


def _signed_by_another_key(ca: Ca) -> bytes:
    return list_of(Authority(new_key(), ca.issued.certificate), at=now(), number=6)


def assert_refusals_logged(site: Site, server: Web, kinds: Iterable[str]) -> None:
    """Every one with its URL, why, and when it is asked again."""
    for kind in kinds:
        url = server.url(f"/{kind}")
        (message, *_) = eventually(lambda url=url: [line for line in site.said("; next try at ") if url in line])
        assert message.startswith("truststore partners: ")
        assert REFUSED[kind][1] in message


def test_what_is_wrong_is_refused_and_the_old_list_stays(run: Run, tree: Tree, ca: Ca, crl: Tree, server: Web) -> None:
    alice, revoked = ca.client("alice"), ca.client("revoked")
    for kind in REFUSED:
        server.give(f"/{kind}", ca.crl(revoked, number=5))
    crl["sources"] = [server.url(f"/{kind}") for kind in REFUSED]
    site = run(tree)
    assert refreshes(site, "failure") == 0
    with site.connect(alice) as hers:
        assert hers.get().status == 200
        for kind, (make, _) in REFUSED.items():
            server.give(f"/{kind}", make(ca))
        assert_refusals_logged(site, server, REFUSED)
        assert refreshes(site, "failure") >= len(REFUSED)
        assert number(site) == 5
        assert hers.get().status == 200
    assert (site.outcome(alice), site.outcome(revoked)) == ("ok", "revoked")
    assert site.readiness() == (200, [])


def test_what_is_wrong_at_the_first_time_is_no_list_at_all(
    run: Run, tree: Tree, ca: Ca, crl: Tree, server: Web
) -> None:
    for kind in AT_FIRST:
        server.give(f"/{kind}", REFUSED[kind][0](ca))
    crl["sources"] = [server.url(f"/{kind}") for kind in AT_FIRST]
    site = run(tree)
    assert_refusals_logged(site, server, AT_FIRST)
    assert site.outcome(ca.client("alice")) == "revocation_unknown"
    assert site.readiness()[0] == 503
    assert site.truststore()["crls"] == []
    assert refreshes(site, "success") == 0


def test_lists_of_strangers_alone_make_nobody_ready(run: Run, tree: Tree, ca: Ca, crl: Tree, server: Web) -> None:
    """They wait for chains that bring their CA; who comes from the anchor is refused until its own list is here."""
    server.give("/ca.crl", list_of(authority("Online CA"), at=now()))
    site = run(tree)
    assert site.truststore()["crls_pending"] == 1
    assert site.outcome(ca.client("alice")) == "revocation_unknown"
    assert site.readiness()[0] == 503


def test_a_successor_is_taken_after_what_was_refused(run: Run, tree: Tree, ca: Ca, crl: Tree, server: Web) -> None:
    alice = ca.client("alice")
    server.give("/ca.crl", ca.crl(number=5))
    site = run(tree)
    server.give("/ca.crl", ca.crl(number=4))
    eventually(lambda: refreshes(site, "failure"))
    server.give("/ca.crl", ca.crl(alice, number=6))
    eventually_revoked(site, alice)
    assert number(site) == 6


def test_a_list_of_a_ca_that_is_met_in_chains_alone_waits_for_it(
    run: Run, tree: Tree, ca: Ca, crl: Tree, server: Web
) -> None:
    """The configuration may name a URL of such a CA; status says that the list is pending."""
    crl["sources"].append(server.url("/other.crl"))
    server.give("/ca.crl", ca.crl(number=1))
    server.give("/other.crl", list_of(authority("Other CA"), at=now(), number=1))
    site = run(tree)
    assert site.outcome(ca.client("alice")) == "ok"
    assert site.truststore()["crls_pending"] == 1


# -- limits ------------------------------------------------------------------------------------------------------------


def test_a_redirect_within_the_allowed_hosts_is_followed(run: Run, tree: Tree, ca: Ca, crl: Tree, server: Web) -> None:
    server.redirect("/ca.crl", server.url("/elsewhere.crl"))
    server.give("/elsewhere.crl", ca.crl(number=1))
    assert run(tree).outcome(ca.client("alice")) == "ok"


def test_a_url_with_a_query_and_no_path_is_asked(run: Run, tree: Tree, ca: Ca, crl: Tree, server: Web) -> None:
    """The configuration writes the host, so it needs no permission, whatever stands behind it."""
    server.give("/", ca.crl(number=1))
    crl["sources"] = [f"http://127.0.0.1:{server.port}?ca=1"]
    tree["truststores"]["partners"]["revocation"]["fetch"]["allowed_hosts"] = []
    assert run(tree).outcome(ca.client("alice")) == "ok"


def test_two_truststores_share_a_url_and_each_has_its_own_opinion(
    run: Run, tree: Tree, ca: Ca, crl: Tree, revocation: Tree, server: Web
) -> None:
    """A list that one truststore's CA signed is a stranger's in another one."""
    other = Ca(ca.folder, "Another CA")
    tree["truststores"]["others"] = {"trust_anchors": [str(other.anchors)], "revocation": dict(revocation)}
    tree["listeners"][0]["client_auth"]["truststores"] = ["partners", "others"]
    server.give("/ca.crl", ca.crl(number=1))
    site = run(tree)
    assert site.outcome(ca.client("alice")) == "ok"
    assert site.outcome(other.client("olga")) == "revocation_unknown"
    assert site.truststore("others")["crls_pending"] == 1


def test_a_server_that_answers_with_an_error_is_asked_again(
    run: Run, tree: Tree, ca: Ca, crl: Tree, server: Web
) -> None:
    async def once(_: web.Request) -> web.Response:
        server.give("/ca.crl", ca.crl(number=1))
        return web.Response(status=503)

    server.answers["/ca.crl"] = once
    site = run(tree)
    eventually(lambda: site.outcome(ca.client("alice")) == "ok")
    eventually(lambda: site.said("the server answered 503"))
