"""Lists that end: fresh, then grace, then what the mode says; and what readiness and metrics say at each step."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from tests.integration.harness import Tree, eventually
from tests.integration.sources.conftest import Ca, Run, Site, now
from tests.integration.sources.web import Web

MINUTE = timedelta(minutes=1)
STEPS = {"fresh": 60 * MINUTE, "grace": -60 * MINUTE, "over": -600 * MINUTE}
"""How long after now the list ends; grace is five hours."""


Publish = Callable[[timedelta], None]


@pytest.fixture(params=["file", "url"])
def publish(request: pytest.FixtureRequest, ca: Ca, revocation: Tree, server: Web) -> Publish:
    """Sets the truststore's one source to a list that ends so long from now."""

    def make(lasts: timedelta) -> None:
        der = ca.crl(number=3, age=1000 * MINUTE, lasts=lasts)
        if request.param == "url":
            server.give("/ca.crl", der)
            source = server.url("/ca.crl")
        else:
            file = ca.folder / "freshness.crl"
            file.write_bytes(der)
            source = str(file)
        revocation["crl"] = {"sources": [source], "grace": "5h", "refresh": "1h"}

    return make


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("mode", ["hard_fail", "soft_fail"])
def test_fresh_then_grace_then_the_mode(
    run: Run, tree: Tree, ca: Ca, revocation: Tree, publish: Publish, mode: str, step: str
) -> None:
    revocation["mode"] = mode
    publish(STEPS[step])
    alice = ca.client("alice")
    site = run(tree)
    refused = (mode, step) == ("hard_fail", "over")
    assert site.outcome(alice) == ("revocation_unknown" if refused else "ok")
    words = {
        "fresh": ", next update ",
        "grace": "and counts by grace until ",
        "over": " ended ",
    }[step]
    assert words in site.seen(alice)
    assert ("let pass by soft_fail" in site.seen(alice)) is (step == "over" and mode == "soft_fail")
    result = ("unknown", "none") if step == "over" else ("good", "crl")
    assert site.proxy.series("revocation_decisions_total") == {("partners", *result): 1}
    assert site.readiness() == (
        (503, ["listener internal: every CRL of partners has ended, and its mode is hard_fail"])
        if refused
        else (200, [])
    )
    assert_end_shown(site, ca, STEPS[step])


def assert_end_shown(site: Site, ca: Ca, lasts: timedelta) -> None:
    """In the metric and in the status: when the list ends, whatever that means by now."""
    labels = ("partners", "CN=Online CA", ca.issued.certificate.subject_key_id.hex())
    shown = site.proxy.series("crl_next_update_timestamp_seconds")
    assert shown.keys() == {labels}
    assert abs(shown[labels] - (now() + lasts).timestamp()) < 60
    (listed,) = site.truststore()["crls"]
    state = next(state for state, left in STEPS.items() if left == lasts)
    state = "ended" if state == "over" else state
    assert listed["state"] == state
    assert abs(listed["seconds_left"] - lasts.total_seconds()) < 60
    (ready,) = site.lasting()
    assert abs(ready.pop("seconds_left") - lasts.total_seconds()) < 60
    assert ready == {"truststore": "partners", "issuer": "CN=Online CA", "state": state}
    assert datetime.fromisoformat(listed["next_update"]).timestamp() == shown[labels]
    assert listed["number"] == 3


def test_that_a_server_has_nothing_newer_than_a_list_that_ended_is_said(
    run: Run, tree: Tree, ca: Ca, revocation: Tree, server: Web
) -> None:
    """By grace nobody is refused yet: it is in the log and in the status before that is over."""
    server.give("/ca.crl", ca.crl(number=3, age=60 * MINUTE, lasts=-5 * MINUTE))
    revocation["crl"] = {"sources": [server.url("/ca.crl")], "grace": "1h"}
    site = run(tree)
    eventually(lambda: site.said(f"{server.url('/ca.crl')}: the list that is served ended at "))
    (asked,) = site.truststore()["crl_urls"]
    assert asked["last_try"].startswith(f"{server.url('/ca.crl')}: the list that is served ended at ")
    assert now() - MINUTE < datetime.fromisoformat(asked["fetched_at"]) < datetime.fromisoformat(asked["next_try"])


def test_a_revocation_counts_however_old_its_list(run: Run, tree: Tree, ca: Ca, revocation: Tree, server: Web) -> None:
    alice = ca.client("alice")
    server.give("/ca.crl", ca.crl(alice, number=3, age=1000 * MINUTE, lasts=-600 * MINUTE))
    revocation["mode"] = "soft_fail"
    revocation["crl"] = {"sources": [server.url("/ca.crl")]}
    assert run(tree).outcome(alice) == "revoked"


def test_connections_that_live_by_grace_end_with_it(
    run: Run, tree: Tree, ca: Ca, revocation: Tree, server: Web
) -> None:
    """The verdict's deadline is the end of grace: nothing else has to happen for it to be judged again."""
    ended = 5 * MINUTE
    server.give("/ca.crl", ca.crl(number=3, age=60 * MINUTE, lasts=-ended))
    revocation["crl"] = {"sources": [server.url("/ca.crl")], "grace": f"{int(ended.total_seconds()) + 3}s"}
    alice = ca.client("alice")
    site = run(tree)
    with site.connect(alice) as hers:
        assert hers.get().status == 200
        assert hers.ended()
    assert site.outcome(alice) == "revocation_unknown"
    assert site.readiness()[0] == 503


def test_a_fresh_list_in_time_keeps_everybody_in(run: Run, tree: Tree, ca: Ca, revocation: Tree, server: Web) -> None:
    """The server keeps serving a list that has ended: it is asked again soon, though refresh is an hour."""
    server.give("/ca.crl", ca.crl(number=3, age=60 * MINUTE, lasts=-5 * MINUTE))
    revocation["crl"] = {"sources": [server.url("/ca.crl")], "grace": "1h"}
    alice = ca.client("alice")
    site = run(tree)
    with site.connect(alice) as hers:
        assert hers.get().status == 200
        server.give("/ca.crl", ca.crl(number=4))
        eventually(lambda: site.truststore()["crls"][0]["number"] == 4)
        assert hers.get().status == 200


def test_the_last_success_is_when_the_server_last_confirmed_the_list(
    run: Run, tree: Tree, ca: Ca, revocation: Tree, server: Web
) -> None:
    """Not when the proxy was restarted, or published something else: an alert on it must see a server that is down."""
    revocation["crl"] = {"sources": [server.url("/ca.crl")], "refresh": "300ms"}
    server.tagged("/ca.crl", ca.crl(number=1), '"one"')
    site = run(tree)
    eventually(lambda: len(server.asked) >= 2)
    first = eventually(lambda: last_success(site))
    eventually(lambda: last_success(site) > first)  # a 304 confirms it as well
    server.down()
    eventually(lambda: any(key[-1] == "failure" for key in site.proxy.series("crl_refresh_total")))
    before = last_success(site)
    again = run(tree)
    eventually(lambda: again.said("cannot connect"))
    assert last_success(again) == pytest.approx(before, abs=0.001)


def last_success(site: Site) -> float:
    (value,) = site.proxy.series("crl_last_success_timestamp_seconds").values()
    return value
