"""Feeds without their helper: which URLs are asked for whom, when nobody waits any longer, and what is handed on."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.unit.fetch.lists import parsed
from tests.unit.revocation.build import Authority, authority, delta_of, freshest, leaf

from mtlsproxy.config.model import Revocation
from mtlsproxy.fetch.cache import CacheError
from mtlsproxy.fetch.client import CrlEvent
from mtlsproxy.fetch.messages import CrlUrl
from mtlsproxy.revocation.crl import Crl
from mtlsproxy.revocation.crlset import CrlSet
from mtlsproxy.revocation.policy import OcspPolicy, RevocationPolicy
from mtlsproxy.runtime import feeds as module
from mtlsproxy.runtime.feed import MAX_POINTS, MAX_POINTS_OF_ONE, Feed, rules_of
from mtlsproxy.runtime.feeds import Feeds
from mtlsproxy.telemetry.metrics import Metrics
from mtlsproxy.verdict.judge import Wanted
from mtlsproxy.verdict.trust import DenyList, Trust
from mtlsproxy.x509.policy import Policy, Truststore

CA = authority("CA")
NOW = datetime.now(UTC).replace(microsecond=0)
URL = "http://crl.example/ca.crl"


class Silent:
    """A subscription that says something only when a test makes it."""

    def __init__(self, source: CrlUrl, on_event: Callable[[CrlEvent], None]) -> None:
        self.source = source
        self.latest: CrlEvent | None = None
        self.closed = False
        self.refreshed = 0
        self._on_event = on_event
        self._heard = asyncio.Event()

    def say(
        self,
        outcome: Any,
        *crls: Crl,
        fetched_at: datetime | None = NOW,
        verified: bool = True,
        failure: str = "",
    ) -> None:
        why = f"{self.source.url}: why"
        self.latest = CrlEvent(self.source, outcome, failure, why, crls, verified, fetched_at, NOW)
        self._heard.set()
        self._on_event(self.latest)

    async def first(self) -> CrlEvent | None:
        await self._heard.wait()
        return self.latest

    def refresh(self) -> None:
        self.refreshed += 1

    def close(self) -> None:
        self.closed = True
        self._heard.set()


@dataclass
class Helper:
    """In the place of the helper's client, which has tests of its own with the real process."""

    made: list[Silent] = field(default_factory=list)

    def subscribe(self, source: CrlUrl, on_event: Callable[[CrlEvent], None]) -> Silent:
        self.made.append(Silent(source, on_event))
        return self.made[-1]

    async def close(self) -> None:
        return None


@dataclass
class World:
    """Feeds, what they wrote, and how often they asked for a new Snapshot."""

    feeds: Feeds
    metrics: Metrics
    helper: Helper
    published: list[int]

    def feed(self, before: Feed | None = None, **revocation: Any) -> Feed:
        config = Revocation.model_validate({"crl": {"sources": [URL]}, **revocation})
        policy = RevocationPolicy("hard_fail", ocsp=OcspPolicy(enabled=config.ocsp.enabled))
        store = Truststore("partners", (CA.certificate,), (), Policy())
        trust = Trust(store, policy, CrlSet.build((), ())[0], DenyList(()))
        return Feed("partners", config, trust, "", self.feeds, before)


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> World:
    published: list[int] = []
    metrics, helper = Metrics(), Helper()
    feeds = Feeds(None, metrics, lambda: published.append(1))
    monkeypatch.setattr(feeds, "client", lambda: helper)
    return World(feeds, metrics, helper, published)


def points(count: int, issuer: Authority = CA, prefix: str = "http://p.example/") -> Wanted:
    urls = tuple(f"{prefix}{number}" for number in range(count))
    return Wanted("partners", leaf(issuer), issuer.certificate, False, urls)


POINTS = {"crl": {"distribution_points": True}, "fetch": {"timeout": "10ms"}}


# -- what may be asked without permission ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://crl.example/a", "crl.example"),
        ("http://crl.example:8080/a", "crl.example"),
        ("http://CRL.example", "crl.example"),
        ("http://crl.example?ca=1", "crl.example"),
        ("https://[2001:DB8::1]:8443/a", "2001:db8::1"),
        ("http://192.0.2.1/a", "192.0.2.1"),
    ],
)
def test_the_host_of_a_configured_url_needs_no_permission(url: str, host: str) -> None:
    config = Revocation.model_validate({"crl": {"sources": [url]}})
    rules = rules_of(config, [url], "", 1.0)
    assert rules.configured_hosts == {host}
    assert rules.why_not_url("http", host, "configuration") == ""
    assert rules.why_not_url("http", host, "certificate") != ""


# -- points that certificates name -------------------------------------------------------------------------------------


async def test_each_issuer_has_its_own_subscription_of_one_url(world: World) -> None:
    feed, other = world.feed(**POINTS), authority("Other")
    await asyncio.gather(feed.ensure(points(1)), feed.ensure(points(1, other)), feed.ensure(points(1)))
    assert [made.source.issuers for made in world.helper.made] == [(CA.certificate,), (other.certificate,)]
    assert len({made.source.scope for made in world.helper.made}) == 2
    assert {made.source.named_by for made in world.helper.made} == {"certificate"}
    assert feed.issuers == (other.certificate,)


async def test_who_waited_in_vain_is_not_made_to_wait_again(world: World) -> None:
    feed, wanted = world.feed(**POINTS), points(1)
    (url,) = wanted.points
    assert not feed.asked(url, CA.certificate)
    await feed.ensure(wanted)
    assert feed.asked(url, CA.certificate)
    assert not feed.asked(url, authority("Other").certificate)


async def test_one_ca_cannot_use_up_the_points_of_others(world: World) -> None:
    feed, other = world.feed(**POINTS), authority("Other")
    await feed.ensure(points(MAX_POINTS_OF_ONE + 50))
    assert len(world.helper.made) == MAX_POINTS_OF_ONE
    assert feed.asked("http://p.example/one-more", CA.certificate)
    assert not feed.asked("http://p.example/one-more", other.certificate)
    await feed.ensure(points(1, other))
    assert len(world.helper.made) == MAX_POINTS_OF_ONE + 1


async def test_cas_that_are_met_in_chains_alone_have_a_limit_together_and_leave_room_for_configured_ones(
    world: World,
) -> None:
    """A CA can certify others without end, each with points of its own: that shuts out no CA of the configuration."""
    feed = world.feed(**POINTS)
    for number in range(MAX_POINTS // MAX_POINTS_OF_ONE + 2):
        await feed.ensure(points(MAX_POINTS_OF_ONE, authority(f"CA {number}")))
    assert len(world.helper.made) == MAX_POINTS
    assert feed.asked(URL, authority("Late").certificate)
    assert not feed.asked("http://p.example/0", CA.certificate)
    await feed.ensure(points(MAX_POINTS_OF_ONE + 1))
    assert len(world.helper.made) == MAX_POINTS + MAX_POINTS_OF_ONE


async def test_a_feed_that_is_closed_asks_for_nothing_more(world: World) -> None:
    feed = world.feed(**POINTS)
    await feed.close()
    await feed.ensure(points(3))
    assert world.helper.made == []


# -- deltas that lists name --------------------------------------------------------------------------------------------

DELTA = "http://delta.example/d.crl"
ALLOWED = {"fetch": {"allowed_hosts": ["delta.example"], "timeout": "10ms"}}


def naming(*urls: str, issuer: Authority = CA, extensions: tuple[bytes, ...] = (), **options: Any) -> Crl:
    return parsed(issuer, at=NOW, extensions=(freshest(*urls), *extensions), **options)


def asked(world: World) -> list[str]:
    return [made.source.url for made in world.helper.made[1:]]


async def test_the_delta_that_a_list_names_is_asked_once_like_what_a_certificate_names(world: World) -> None:
    feed = world.feed(**ALLOWED)
    for number in (1, 2):
        world.helper.made[0].say("updated", naming(DELTA, number=number))
    _, source = (made.source for made in world.helper.made)
    assert (source.url, source.named_by, source.issuers) == (DELTA, "certificate", (CA.certificate,))
    await feed.ensure(Wanted("partners", leaf(CA), CA.certificate, False, (DELTA,)))
    assert asked(world) == [DELTA]  # a certificate that names it as well has the same one


async def test_who_waits_for_a_list_waits_for_its_delta(world: World) -> None:
    feed = world.feed(**ALLOWED | {"fetch": {"allowed_hosts": ["delta.example"], "timeout": "20s"}})
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(feed.first())
        world.helper.made[0].say("updated", naming(DELTA))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not waiting.done()
        world.helper.made[1].say("failed")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://other.example/d.crl", "the list names the host 'other.example', which is not in"),
        (
            "http://crl.example/d.crl",
            "not in revocation.fetch.allowed_hosts",
        ),  # configured hosts are for whoever wrote it
        ("ldap://delta.example/cn=d", "its scheme is ldap"),
        ("file:///etc/passwd", "its scheme is file"),
        ("http://[", "it is no URL"),
        ("https://delta.example/d.crl", "trust_anchors"),
    ],
)
async def test_a_delta_elsewhere_is_not_asked_for_and_said_once(
    world: World, url: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    world.feed(**ALLOWED)
    for number in (1, 2):
        world.helper.made[0].say("updated", naming(url, DELTA, number=number))
    assert asked(world) == [DELTA]
    (line,) = [record.message for record in caplog.records if url in record.message]
    assert words in line


async def test_a_list_that_nobody_known_signed_and_a_delta_lead_nowhere(world: World) -> None:
    world.feed(**ALLOWED)
    stranger = authority("CA")
    world.helper.made[0].say("updated", naming(DELTA, issuer=stranger), naming(DELTA, extensions=(delta_of(1),)))
    assert asked(world) == []


async def test_a_list_that_names_hundreds_of_deltas_leaves_room_for_other_cas(world: World) -> None:
    feed, other = world.feed(**ALLOWED), authority("Other")
    world.helper.made[0].say("updated", naming(*(f"{DELTA}?{number}" for number in range(MAX_POINTS_OF_ONE + 50))))
    assert len(asked(world)) == MAX_POINTS_OF_ONE
    await feed.ensure(points(1, other))
    assert len(asked(world)) == MAX_POINTS_OF_ONE + 1


async def test_a_delta_counts_on_in_a_new_feed_like_the_list_that_names_it(world: World) -> None:
    old, base = world.feed(**ALLOWED), naming(DELTA, number=1)
    world.helper.made[0].say("updated", base)
    change = parsed(CA, 5, at=NOW, number=2, extensions=(delta_of(1),))
    world.helper.made[1].say("updated", change)
    new = world.feed(old, fetch={"allowed_hosts": ["delta.example"], "timeout": "9s"})
    assert new.crls == (base, change)
    assert world.feed(old, fetch={"timeout": "9s"}).crls == (base,)  # it may not ask there any more


# -- a feed in the place of another one --------------------------------------------------------------------------------


async def test_lists_count_on_until_the_new_feed_has_its_own(world: World) -> None:
    old, one, two = world.feed(), parsed(CA, 1, at=NOW), parsed(CA, 1, 2, at=NOW, number=2)
    world.helper.made[0].say("updated", one)
    new = world.feed(old, fetch={"timeout": "9s"})
    await old.close()
    assert new.crls == (one,)
    world.helper.made[1].say("failed", fetched_at=None)
    assert new.crls == (one,)
    third = world.feed(new, fetch={"timeout": "8s"})
    assert third.crls == (one,)
    world.helper.made[2].say("restored", two)
    assert third.crls == (two,)


async def test_lists_of_a_url_that_is_configured_no_more_do_not_count_on(world: World) -> None:
    old = world.feed()
    world.helper.made[0].say("updated", parsed(CA, 1, at=NOW))
    assert world.feed(old, crl={"sources": ["http://crl.example/other.crl"]}).crls == ()


async def test_ocsp_answers_are_handed_on_where_they_were_asked_for_alike(world: World) -> None:
    ocsp = {"enabled": True, "timeout": "3s"}
    old = world.feed(ocsp=ocsp)
    answers = old.ocsp
    new = world.feed(old, ocsp=ocsp, crl={"sources": [URL], "grace": "1h"})
    assert new.ocsp is answers is not None
    assert old.ocsp is None
    other = world.feed(new, ocsp=ocsp | {"timeout": "4s"})
    assert other.ocsp is not answers
    assert new.ocsp is answers
    for feed in (new, other):
        await feed.close()


# -- what is told ------------------------------------------------------------------------------------------------------


async def test_only_what_changes_something_is_published(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PUBLISH_EVERY", 0.0)
    world.feed()
    (helper,) = world.helper.made
    for outcome, published in (("failed", 0), ("refused", 0), ("unchanged", 0), ("updated", 1), ("restored", 2)):
        helper.say(outcome, parsed(CA, at=NOW))
        await asyncio.sleep(0.01)
        assert len(world.published) == published, outcome


async def test_several_changes_of_one_moment_are_published_together(world: World) -> None:
    world.feed(crl={"sources": [URL, f"{URL}?2"]})
    for made in world.helper.made:
        made.say("updated", parsed(CA, at=NOW))
    await asyncio.sleep(0.01)
    assert len(world.published) == 1


async def test_a_ca_whose_answers_change_all_the_time_makes_few_new_snapshots(world: World) -> None:
    """Each judges all connections of all clients again; the first change counts at once, the last soon."""
    begun = asyncio.get_running_loop().time()
    world.feeds.changed()
    await asyncio.sleep(0.01)
    assert len(world.published) == 1
    for _ in range(100):
        world.feeds.changed()
        await asyncio.sleep(0.005)
    await asyncio.sleep(module.PUBLISH_EVERY + 0.05)
    lasted = asyncio.get_running_loop().time() - begun
    assert 2 <= len(world.published) <= 2 + lasted / module.PUBLISH_EVERY
    known = len(world.published)
    await asyncio.sleep(module.PUBLISH_EVERY)
    assert len(world.published) == known


async def test_issuers_that_nobody_verified_make_no_labels(world: World) -> None:
    """Over plain http, whoever is on the way names another one each time."""
    world.feed()
    (helper,) = world.helper.made
    for number in range(5):
        helper.say("updated", parsed(authority(f"Stranger {number}"), at=NOW), verified=False)
    assert dict(world.metrics.crl_refresh_total.read()) == {("partners", "", "", "success"): 5}


async def test_results_are_counted_for_the_issuer_and_its_key(world: World) -> None:
    world.feed()
    (helper,) = world.helper.made
    helper.say("failed")
    helper.say("updated", parsed(CA, at=NOW))
    helper.say("unchanged", parsed(CA, at=NOW))
    helper.say("refused", parsed(CA, at=NOW))
    labels = ("partners", "CN=CA", CA.certificate.subject_key_id.hex())
    assert dict(world.metrics.crl_refresh_total.read()) == {
        ("partners", "", "", "failure"): 1,
        (*labels, "success"): 2,
        (*labels, "failure"): 1,
    }


async def test_a_list_that_has_ended_is_warned_of_though_its_server_answers(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    world.feed()
    (helper,) = world.helper.made
    helper.say("unchanged", parsed(CA, at=NOW))
    helper.say("unchanged", parsed(CA, at=NOW), failure="ended")
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert said == [(level, f"truststore partners: {URL}: why") for level in ("INFO", "WARNING")]


async def test_every_url_can_be_asked_at_once(world: World) -> None:
    feed = world.feed(crl={"sources": [URL], "distribution_points": True}, fetch={"timeout": "10ms"})
    await feed.ensure(points(2))
    feed.refresh()
    assert [made.refreshed for made in world.helper.made] == [1, 1, 1]
    assert [url for url, _ in feed.tries] == [made.source.url for made in world.helper.made]


async def test_the_last_success_is_when_the_server_confirmed_it_and_a_failure_leaves_it(world: World) -> None:
    world.feed()
    (helper,) = world.helper.made
    helper.say("restored", parsed(CA, at=NOW), fetched_at=NOW - timedelta(hours=5))
    helper.say("failed", parsed(CA, at=NOW), fetched_at=NOW)
    (value,) = dict(world.metrics.crl_last_success_timestamp_seconds.read()).values()
    assert value == (NOW - timedelta(hours=5)).timestamp()


async def test_without_a_folder_no_url_can_be_asked(tmp_path: Path) -> None:
    feeds = Feeds(None, Metrics(), lambda: None)
    with pytest.raises(CacheError, match="set state_dir"):
        feeds.client()
