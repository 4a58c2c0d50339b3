"""The helper process and its client, with a real server: what a proxy has at every moment, whatever the server does."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tests.unit.fetch.lists import list_of
from tests.unit.revocation.build import INDIRECT, authority, distribution_point, extension

from mtlsproxy.fetch import client as client_module
from mtlsproxy.fetch.budget import LISTS_OF_FULL_SIZE
from mtlsproxy.fetch.client import SMALL, CrlEvent, CrlUrl, FetchClient, HelperFailed, Subscription
from mtlsproxy.fetch.link import HelperProcess
from mtlsproxy.fetch.rules import FetchRules
from mtlsproxy.fetch.slots import FETCHES_TO_ONE_HOST
from mtlsproxy.revocation.crlset import CrlSet
from mtlsproxy.revocation.sources import SourceError
from mtlsproxy.transport.loop import new_event_loop

HOUR = timedelta(hours=1)
CA = authority("CA")
OTHER = authority("Other")


def now() -> datetime:
    return datetime.now(UTC)


def source(url: str, **changes: object) -> CrlUrl:
    rules = {"configured_hosts": ["127.0.0.1"], "max_size": 1_000_000, "timeout": 5.0, **changes.pop("rules", {})}
    fields = {
        "url": url,
        "scope": "partners",
        "named_by": "configuration",
        "issuers": (CA.certificate,),
        "rules": FetchRules.of(**rules),
        "refresh": 3600.0,
        "first_retry": 0.05,
    }
    return CrlUrl(**{**fields, **changes})


@asynccontextmanager
async def client_in(folder: Path) -> AsyncIterator[FetchClient]:
    client = FetchClient(folder, partial(HelperProcess, restart_after=0.05))
    try:
        yield client
    finally:
        await client.close()


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[FetchClient]:
    async with client_in(tmp_path / "state") as made:
        yield made


class Events:
    """What a subscription said, in order."""

    def __init__(self) -> None:
        self.all: list[CrlEvent] = []
        self._more = asyncio.Event()

    def __call__(self, event: CrlEvent) -> None:
        self.all.append(event)
        self._more.set()

    async def until(self, wanted: Callable[[CrlEvent], bool]) -> CrlEvent:
        """The first event, from now on or earlier, that is wanted; then all up to it are forgotten."""
        async with asyncio.timeout(20):
            while True:
                for number, event in enumerate(self.all):
                    if wanted(event):
                        del self.all[: number + 1]
                        return event
                self._more.clear()
                await self._more.wait()

    async def outcome(self, *outcomes: str) -> CrlEvent:
        """The next one, which must be of these."""
        event = await self.until(lambda _: True)
        assert event.outcome in outcomes, event
        return event


def watch(client: FetchClient, wanted: CrlUrl) -> tuple[Subscription, Events]:
    events = Events()
    return client.subscribe(wanted, events), events


def serials(event: CrlEvent, *candidates: int) -> set[int]:
    return {serial for serial in candidates for crl in event.crls if crl.lookup(serial)}


# Fetching


async def test_a_list_is_fetched_verified_and_mapped(client, server):
    server.give("/a.crl", list_of(CA, 1, 2, at=now()))
    _, events = watch(client, source(server.url("/a.crl")))
    event = await events.outcome("updated")
    assert serials(event, 1, 2, 3) == {1, 2}
    assert event.verified
    assert event.fetched_at is not None
    assert abs(now() - event.fetched_at) < timedelta(minutes=1)
    assert now() < event.next_at <= now() + HOUR
    crls, problems = CrlSet.build(event.crls, [CA.certificate])
    assert not problems
    assert tuple(found.base for found in crls.signed_by(CA.certificate).lists) == event.crls


async def test_an_unchanged_list_costs_a_304_and_stays(client, server):
    server.tagged("/a.crl", list_of(CA, 1, at=now()), '"one"')
    subscription, events = watch(client, source(server.url("/a.crl")))
    first = await events.outcome("updated")
    subscription.refresh()
    second = await events.outcome("unchanged")
    assert second.crls == first.crls
    assert second.fetched_at > first.fetched_at
    assert [asked.headers.get("If-None-Match") for asked in server.asked] == [None, '"one"']


async def test_a_new_list_takes_the_place_of_the_old(client, server):
    server.give("/a.crl", list_of(CA, 1, at=now()))
    subscription, events = watch(client, source(server.url("/a.crl")))
    await events.outcome("updated")
    server.give("/a.crl", list_of(CA, 1, 2, at=now(), number=2))
    subscription.refresh()
    event = await events.outcome("updated")
    assert serials(event, 1, 2, 3) == {1, 2}
    assert subscription.latest is event


async def test_a_list_that_is_about_to_end_is_fetched_again_in_time(client, server):
    server.give("/a.crl", list_of(CA, 1, at=now(), lasts=timedelta(seconds=4)))
    _, events = watch(client, source(server.url("/a.crl"), refresh=0.5))
    await events.outcome("updated")
    await events.outcome("unchanged")
    await events.outcome("unchanged")


async def test_a_server_that_serves_an_ended_list_is_asked_again_soon_and_it_is_said(client, server):
    server.give("/a.crl", list_of(CA, 1, at=now(), age=2 * HOUR, lasts=-HOUR))
    _, events = watch(client, source(server.url("/a.crl")))
    event = await events.outcome("updated")
    assert "ended" in event.detail
    assert serials(event, 1) == {1}
    server.give("/a.crl", list_of(CA, 1, at=now(), number=2))
    await events.until(lambda e: e.outcome == "updated" and "ended" not in e.detail)


async def test_a_list_of_a_ca_that_is_met_in_chains_alone_is_pending(client, server):
    server.give("/a.crl", list_of(OTHER, 1, at=now()))
    _, events = watch(client, source(server.url("/a.crl")))
    event = await events.outcome("updated")
    assert not event.verified
    assert serials(event, 1) == {1}


# Failures


async def test_failures_are_followed_by_ever_later_retries_and_end_with_success(client, server):
    server.give("/a.crl", b"", 500)
    _, events = watch(client, source(server.url("/a.crl")))
    waits = []
    for _ in range(4):
        event = await events.outcome("failed")
        assert (event.failure, event.crls) == ("status", ())
        waits.append((event.next_at - now()).total_seconds())
    assert waits[0] < 0.1 < waits[3] < 0.5
    server.give("/a.crl", list_of(CA, 1, at=now()))
    assert serials(await events.until(lambda e: e.outcome == "updated"), 1) == {1}


async def test_a_failure_leaves_what_is_known_in_use(client, server):
    server.give("/a.crl", list_of(CA, 1, at=now()))
    subscription, events = watch(client, source(server.url("/a.crl")))
    known = await events.outcome("updated")
    for status in (500, 404):
        server.give("/a.crl", b"", status)
        subscription.refresh()
        event = await events.until(lambda e: e.outcome == "failed")
        assert event.crls == known.crls
        assert event.fetched_at == known.fetched_at
        assert str(status) in event.detail


def flipped(der: bytes) -> bytes:
    """With another last bit, which is the signature's."""
    return der[:-1] + bytes((der[-1] ^ 1,))


WRONG = {
    "an HTML page": (lambda: b"<html>login</html>", "malformed"),
    "nothing": (lambda: b"", "malformed"),
    "half a list": (lambda: list_of(CA, 1, at=now())[:-9], "malformed"),
    "trailing octets": (lambda: list_of(CA, 1, at=now(), number=9) + b"\0", "malformed"),
    "a damaged signature": (lambda: flipped(list_of(CA, 1, at=now(), number=9)), "not_signed"),
    "an older list": (lambda: list_of(CA, at=now(), number=6, age=5 * HOUR), "rollback"),
    "a list of another CA": (lambda: list_of(OTHER, at=now(), number=9), "foreign_issuer"),
    "an unknown critical extension": (
        lambda: list_of(
            CA, at=now(), number=9, extensions=(extension(b"\x06\x03\x2a\x03\x04", b"\x05\x00", critical=True),)
        ),
        "malformed",
    ),
    "an indirect list": (
        lambda: list_of(CA, at=now(), number=9, extensions=(distribution_point(INDIRECT),)),
        "malformed",
    ),
    "a list without an end": (lambda: list_of(CA, at=now(), number=9, lasts=None), "no_next_update"),
    "a list of the future": (lambda: list_of(CA, at=now(), number=9, age=-HOUR), "not_yet_valid"),
}


async def test_what_cannot_replace_a_list_is_refused_and_the_old_one_stays(client, server):
    server.give("/a.crl", list_of(CA, 1, at=now(), number=7))
    subscription, events = watch(client, source(server.url("/a.crl")))
    known = await events.outcome("updated")
    for name, (make, failure) in WRONG.items():
        server.give("/a.crl", make())
        subscription.refresh()
        event = await events.until(lambda e: e.outcome != "unchanged")
        assert (event.outcome, event.failure) == ("refused", failure), (name, event)
        assert event.crls == known.crls, name
        assert server.url("/a.crl") in event.detail, name
        server.give("/a.crl", list_of(CA, 1, at=now(), number=7))
        subscription.refresh()
        await events.until(lambda e: e.outcome in ("unchanged", "updated"))
        known = subscription.latest


async def test_what_a_certificate_names_must_be_its_issuers(client, server):
    server.give("/a.crl", list_of(OTHER, 1, at=now()))
    wanted = source(server.url("/a.crl"), named_by="certificate", rules={"allowed_hosts": ["127.0.0.1"]})
    _, events = watch(client, wanted)
    event = await events.outcome("refused")
    assert (event.failure, event.crls) == ("foreign_issuer", ())


async def test_attempts_at_other_hosts_are_refused_and_counted_by_the_event(client, server):
    server.redirect("/inside", server.url("/secret", "localhost"))
    urls = [
        server.url("/a.crl"),
        "file:///etc/passwd",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "http://0/",
    ]
    for url in urls:
        subscription, events = watch(client, source(url, named_by="certificate", rules={"configured_hosts": []}))
        event = await events.outcome("failed")
        assert event.failure == "not_allowed", event
        assert event.next_at > now() + HOUR / 2  # nobody is asked twice a second
        subscription.close()
    _, events = watch(client, source(server.url("/inside")))
    assert (await events.outcome("failed")).failure == "not_allowed"
    assert server.paths() == ["/inside"]


async def test_a_bundle_of_thousands_of_lists_is_left_before_it_is_read(client, server, tmp_path):
    """Whoever is on the way to a server that speaks plain http sends lists of CAs that nobody has met: all are pending,
    and each would be a file here and a mapping in every worker."""
    strangers = [authority(f"Stranger {number}") for number in range(3)]
    pem = b"".join(x509.load_der_x509_crl(list_of(one, at=now())).public_bytes(Encoding.PEM) for one in strangers)
    server.give("/a.crl", pem * 1000)
    _, events = watch(client, source(server.url("/a.crl")))
    event = await events.outcome("refused")
    assert (event.failure, event.crls) == ("too_much", ())
    assert not list(tmp_path.glob("state/indexes/*"))


async def test_what_one_host_gives_for_certificates_is_bounded_together(client, server, tmp_path):
    """Hundreds of distribution points of one CA, each below max_size, must not fill the disk; a copy of its own, and
    what another host or the configuration has, goes on."""
    lists = [list_of(CA, *range(500), at=now(), number=number) for number in range(1, 7)]
    rules = {"allowed_hosts": ["127.0.0.1", "localhost"], "max_size": len(lists[-1]) + 10}
    events = []
    for number, data in enumerate(lists):
        server.give(f"/{number}.crl", data)
        named = source(server.url(f"/{number}.crl"), named_by="certificate", scope=f"{number}", rules=rules)
        events.append(watch(client, named)[1])
    outcomes = [await one.until(lambda _: True) for one in events]
    refused = [event for event in outcomes if event.outcome == "refused"]
    assert [event.outcome for event in outcomes].count("updated") == LISTS_OF_FULL_SIZE
    assert {event.failure for event in refused} == {"too_much"}
    assert len(list(tmp_path.glob("state/crls/*.crl"))) == LISTS_OF_FULL_SIZE
    elsewhere = source(server.url("/5.crl", "localhost"), named_by="certificate", rules=rules)
    await watch(client, elsewhere)[1].outcome("updated")
    await watch(client, source(server.url("/5.crl"), rules=rules))[1].outcome("updated")


async def test_huge_and_endless_answers_are_left(client, server):
    server.give("/huge", bytes(1_000_001))
    server.drip("/endless", bytes(60_000), 0.001)
    server.drip("/slow", b"x", 0.05)
    for path, failure in (("/huge", "too_large"), ("/endless", "too_large"), ("/slow", "timeout")):
        subscription, events = watch(client, source(server.url(path), rules={"timeout": 1.0}))
        assert (await events.outcome("failed")).failure == failure
        subscription.close()


# Restarts


async def test_slow_servers_that_certificates_name_hold_up_nobody_elses_lists(client, server):
    """As many as its CA likes to name, each to the time limit: the configuration's and other hosts' come at once."""
    server.drip("/slow", b"\x30", 0.05)
    rules = {"allowed_hosts": ["localhost", "127.0.0.1"], "timeout": 30.0}
    for number in range(20):
        url = server.url("/slow", "localhost") + f"?{number}"
        watch(client, source(url, named_by="certificate", scope=f"slow {number}", rules=rules))
    ends = asyncio.get_running_loop().time() + 20
    while server.paths().count("/slow") < FETCHES_TO_ONE_HOST:
        assert asyncio.get_running_loop().time() < ends
        await asyncio.sleep(0.02)
    server.give("/a.crl", list_of(CA, 1, at=now()))
    _, configured = watch(client, source(server.url("/a.crl", "localhost"), rules={"configured_hosts": ["localhost"]}))
    await configured.outcome("updated")
    _, named = watch(client, source(server.url("/a.crl"), named_by="certificate", rules=rules))
    await named.outcome("updated")
    assert server.paths().count("/slow") == FETCHES_TO_ONE_HOST


async def test_after_a_restart_the_last_good_list_is_in_use_without_its_server(tmp_path, server, closed_port):
    server.tagged("/a.crl", list_of(CA, 1, at=now()), '"one"')
    async with client_in(tmp_path) as client:
        _, events = watch(client, source(server.url("/a.crl")))
        fetched = (await events.outcome("updated")).fetched_at
    server.give("/a.crl", b"", 500)
    async with client_in(tmp_path) as client:
        subscription, events = watch(client, source(server.url("/a.crl")))
        restored = await events.outcome("restored")
        assert restored is await subscription.first()
        assert serials(restored, 1, 2) == {1}
        assert restored.fetched_at == fetched
        subscription.refresh()
        assert (await events.outcome("failed")).crls == restored.crls
    assert server.asked[-1].headers["If-None-Match"] == '"one"'  # what the disk says of it is still sent


async def test_a_copy_that_a_wrong_clock_dated_years_ahead_is_asked_about_in_time(tmp_path, server):
    """A host that began in 2099 and was corrected must not wait until then."""
    server.give("/a.crl", list_of(CA, 1, at=now()))
    async with client_in(tmp_path) as client:
        await watch(client, source(server.url("/a.crl")))[1].outcome("updated")
    (pointer,) = tmp_path.glob("crls/*.json")
    known = json.loads(pointer.read_bytes())
    pointer.write_text(json.dumps(known | {"fetched_at": "2099-01-01T00:00:00+00:00"}))
    async with client_in(tmp_path) as client:
        _, events = watch(client, source(server.url("/a.crl")))
        assert (await events.outcome("restored")).next_at < now() + HOUR


async def test_after_a_restart_an_older_list_is_still_a_rollback(tmp_path, server):
    server.give("/a.crl", list_of(CA, 1, at=now(), number=7))
    async with client_in(tmp_path) as client:
        await watch(client, source(server.url("/a.crl")))[1].outcome("updated")
    server.give("/a.crl", list_of(CA, at=now(), number=6, age=5 * HOUR))
    async with client_in(tmp_path) as client:
        subscription, events = watch(client, source(server.url("/a.crl")))
        await events.outcome("restored")
        subscription.refresh()
        event = await events.outcome("refused")
    assert (event.failure, serials(event, 1)) == ("rollback", {1})


@pytest.mark.parametrize("pattern", ["crls/*.crl", "crls/*.json", "indexes/*.idx"])
@pytest.mark.parametrize("damage", [b"", b"garbage" * 100])
async def test_a_damaged_disk_is_fetched_anew(tmp_path, server, pattern, damage):
    server.tagged("/a.crl", list_of(CA, 1, at=now()), '"one"')
    async with client_in(tmp_path) as client:
        await watch(client, source(server.url("/a.crl")))[1].outcome("updated")
    (path,) = tmp_path.glob(pattern)
    path.write_bytes(damage)
    async with client_in(tmp_path) as client:
        _, events = watch(client, source(server.url("/a.crl")))
        event = await events.outcome("restored" if path.suffix == ".idx" else "updated")
    assert serials(event, 1, 2) == {1}


async def test_a_kept_list_that_its_ca_no_longer_vouches_for_is_not_used(tmp_path, server):
    """The truststore changed between two runs."""
    server.give("/a.crl", list_of(CA, 1, at=now()))
    async with client_in(tmp_path) as client:
        await watch(client, source(server.url("/a.crl")))[1].outcome("updated")
    server.give("/a.crl", list_of(OTHER, 2, at=now()))
    named = {"named_by": "certificate", "rules": {"allowed_hosts": ["127.0.0.1"]}}
    async with client_in(tmp_path) as client:
        _, events = watch(client, source(server.url("/a.crl"), issuers=(OTHER.certificate,), **named))
        refused = await events.outcome("refused")
        assert (refused.failure, refused.crls) == ("foreign_issuer", ())
        assert serials(await events.outcome("updated"), 1, 2) == {2}


async def test_one_fetch_serves_all_processes_that_share_the_folder(tmp_path, server):
    async def slowly(_: web.Request) -> web.Response:
        await asyncio.sleep(1.0)
        return web.Response(body=body)

    body = list_of(CA, 1, at=now())
    server.answers["/a.crl"] = slowly
    async with client_in(tmp_path) as one, client_in(tmp_path) as other:
        watches = [watch(client, source(server.url("/a.crl"))) for client in (one, other)]
        events = [await events.until(lambda e: e.crls != ()) for _, events in watches]
    assert [serials(event, 1) for event in events] == [{1}, {1}]
    assert len(server.asked) == 1


# The process


async def test_a_helper_that_is_killed_is_started_again_and_nothing_is_forgotten(client, server, caplog):
    server.tagged("/a.crl", list_of(CA, 1, at=now()), '"one"')
    subscription, events = watch(client, source(server.url("/a.crl")))
    await events.outcome("updated")
    for _ in range(3):
        killed = client.helper_pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        event = await events.outcome("restored")
        assert serials(event, 1, 2) == {1}
        assert client.helper_pid != killed
        assert serials(subscription.latest, 1, 2) == {1}
    assert "signal 9" in caplog.text


async def test_who_waits_for_a_first_list_is_told_when_the_helper_ends_or_the_proxy_does(tmp_path, server):
    server.drip("/slow", b"x", 0.05)
    async with client_in(tmp_path) as client:
        subscription, _ = watch(client, source(server.url("/slow")))
        os.kill(await another_helper(client, None), signal.SIGKILL)
        event = await subscription.first()
        assert event is not None
        assert (event.outcome, event.failure, event.crls) == ("failed", "helper", ())
        closed, _ = watch(client, source(server.url("/slow"), scope="others"))
        closed.close()
        assert await closed.first() is None
        open_still, _ = watch(client, source(server.url("/slow"), scope="third"))
    assert await open_still.first() is None


async def test_a_helper_ends_with_its_client(tmp_path, server):
    server.give("/a.crl", list_of(CA, 1, at=now()))
    async with client_in(tmp_path) as client:
        await watch(client, source(server.url("/a.crl")))[1].outcome("updated")
        pid = client.helper_pid
        assert pid is not None
        for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, ignored)  # meant for the proxy by whoever sends it to all its processes
        await asyncio.sleep(0.1)
        assert client.helper_pid == pid
    assert not _runs(pid)


PARENT = """
import asyncio, sys
from pathlib import Path
from mtlsproxy.fetch.client import FetchClient

async def main():
    client = FetchClient(Path(sys.argv[1]))
    client.send({"op": "refresh", "id": 0})
    while client.helper_pid is None:
        await asyncio.sleep(0.01)
    print(client.helper_pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def test_a_helper_dies_with_a_proxy_that_is_killed(tmp_path):
    with subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        helper = int(parent.stdout.readline())
        parent.kill()
    for _ in range(200):
        if not _runs(helper):
            return
        subprocess.run(["sleep", "0.05"], check=True)
    pytest.fail("the helper outlived its proxy")


def _environment(pid: int | None) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_helper_sees_nothing_of_the_proxys_environment(tmp_path, server, monkeypatch):
    monkeypatch.setenv("SECRET", "token")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    server.give("/a.crl", list_of(CA, 1, at=now()))
    async with client_in(tmp_path) as client:
        await watch(client, source(server.url("/a.crl")))[1].outcome("updated")
        environment = _environment(client.helper_pid)
    assert b"SECRET" not in environment
    assert b"http_proxy" not in environment.lower()


async def test_an_index_that_cannot_be_mapped_is_a_failure_and_is_written_anew(client, server, monkeypatch):
    monkeypatch.setattr("mtlsproxy.fetch.client._MAP_AGAIN", 0.01)
    server.give("/a.crl", list_of(CA, 1, at=now()))
    subscription, events = watch(client, source(server.url("/a.crl")))
    known = await events.outcome("updated")
    server.give("/a.crl", list_of(CA, 1, 2, at=now(), number=2))
    real = subscription.take

    def damaged(report):
        """As if another process had replaced the files just now."""
        subscription.take = real
        for path in report.indexes:
            os.truncate(path, 10)
        real(report)

    subscription.take = damaged
    subscription.refresh()
    event = await events.outcome("failed")
    assert (event.failure, event.crls) == ("disk", known.crls)
    assert serials(await events.outcome("unchanged"), 1, 2) == {1, 2}


async def test_a_closed_subscription_says_nothing_more(client, server):
    server.give("/a.crl", list_of(CA, 1, at=now()))
    subscription, events = watch(client, source(server.url("/a.crl"), refresh=0.05))
    await events.outcome("updated")
    subscription.close()
    events.all.clear()
    _, others = watch(client, source(server.url("/a.crl"), scope="others"))
    await others.outcome("updated")
    assert events.all == []


# Files


def large(*serials: int) -> bytes:
    return list_of(CA, *serials, *range(10**30, 10**30 + SMALL // 30), at=now())


async def test_large_files_are_read_by_the_helper_and_mapped(client, tmp_path):
    folder = tmp_path / "crls"
    folder.mkdir()
    (folder / "a.crl").write_bytes(large(1))
    (folder / "b.der").write_bytes(list_of(OTHER, 2, at=now()))
    (folder / "notes.txt").write_text("ignored")
    found = await client.load_files([folder, folder / "a.crl"])
    assert [crl.source for crl in found.crls] == [str(folder / "a.crl"), str(folder / "b.der")]
    assert (found.crls[0].lookup(1) is not None, found.crls[0].lookup(2)) == (True, None)
    assert found.files == (folder / "a.crl", folder / "b.der")
    assert found.ignored == (folder / "notes.txt",)
    assert client.helper_pid is not None
    _, problems = CrlSet.build(found.crls, [CA.certificate, OTHER.certificate])
    assert not problems


async def test_small_files_need_no_helper(client, tmp_path):
    (tmp_path / "a.crl").write_bytes(list_of(CA, 1, at=now()))
    for named in (tmp_path / "a.crl", tmp_path / "*.crl"):
        found = await client.load_files([named])
        assert found.crls[0].lookup(1) is not None
    assert client.helper_pid is None


async def test_what_is_wrong_with_a_file_is_said_as_elsewhere(client, tmp_path):
    (tmp_path / "bad.crl").write_bytes(b"garbage" + bytes(SMALL))
    with pytest.raises(SourceError, match=r"bad\.crl"):
        await client.load_files([tmp_path / "bad.crl"])
    with pytest.raises(SourceError, match="no such file"):
        await client.load_files([tmp_path / "absent.crl"])


async def test_a_file_that_changes_gets_another_index_and_the_known_one_stays_mapped(client, tmp_path):
    path = tmp_path / "a.crl"
    known = []
    for number in range(1, 5):
        path.write_bytes(large(number))
        known.append((await client.load_files([path])).crls[0])
    assert [[crl.lookup(n) is not None for n in range(1, 5)] for crl in known] == [
        [number == n for n in range(1, 5)] for number in range(1, 5)
    ]
    assert len(list((tmp_path / "state" / "indexes").glob("*.idx"))) == 2


async def test_an_unchanged_file_keeps_its_index_so_that_all_workers_share_it(client, tmp_path):
    path = tmp_path / "a.crl"
    path.write_bytes(large(1))
    inodes = set()
    for _ in range(2):
        await client.load_files([path])
        inodes |= {index.stat().st_ino for index in (tmp_path / "state" / "indexes").glob("*.idx")}
    assert len(inodes) == 1


async def another_helper(client: FetchClient, known: int | None) -> int:
    """Its process id, once there is one that is not `known`."""
    while True:
        pid = client.helper_pid
        if pid is not None and pid != known:
            return pid
        await asyncio.sleep(0.005)


async def test_a_load_outlives_one_helper_and_gives_up_after_two(client, tmp_path):
    path = tmp_path / "a.crl"
    path.write_bytes(large(1))
    loading = asyncio.get_running_loop().create_task(client.load_files([path]))
    first = await another_helper(client, None)
    os.kill(first, signal.SIGKILL)
    assert (await loading).crls[0].lookup(1) is not None
    loading = asyncio.get_running_loop().create_task(client.load_files([path]))
    for _ in range(2):
        first = await another_helper(client, first)
        os.kill(first, signal.SIGKILL)
    with pytest.raises(HelperFailed, match="signal 9"):
        await loading


async def test_a_helper_that_hangs_is_ended_and_the_files_are_read_by_the_next(client, tmp_path, monkeypatch):
    """Else no reload would ever end, and no change of trust be in force again."""
    monkeypatch.setattr(client_module, "LOAD_WITHIN", 3.0)
    path = tmp_path / "a.crl"
    path.write_bytes(large(1))
    await client.load_files([path])
    hung = await another_helper(client, None)
    os.kill(hung, signal.SIGSTOP)
    path.write_bytes(large(2))
    assert (await client.load_files([path])).crls[0].lookup(2) is not None
    assert client.helper_pid != hung


async def test_who_waits_for_files_when_the_proxy_ends_is_told(tmp_path):
    (tmp_path / "a.crl").write_bytes(large(1))
    async with client_in(tmp_path / "state") as client:
        loading = asyncio.get_running_loop().create_task(client.load_files([tmp_path / "a.crl"]))
        await another_helper(client, None)
    with pytest.raises(HelperFailed, match="ends with the proxy"):
        await loading


async def test_a_listener_that_fails_harms_neither_the_helper_nor_the_others(client, server):
    def fails(_: CrlEvent) -> None:
        raise RuntimeError("a mistake")

    problems = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context["exception"]))
    server.give("/a.crl", list_of(CA, 1, at=now()))
    client.subscribe(source(server.url("/a.crl"), scope="failing"), fails)
    subscription, events = watch(client, source(server.url("/a.crl")))
    await events.outcome("updated")
    subscription.refresh()
    await events.outcome("unchanged")
    assert [str(problem) for problem in problems] == ["a mistake"]


def test_it_works_on_the_proxys_own_event_loop(tmp_path):
    path = tmp_path / "a.crl"
    path.write_bytes(large(1))

    async def load() -> bool:
        async with client_in(tmp_path / "state") as client:
            (crl,) = (await client.load_files([path])).crls
            os.kill(await another_helper(client, None), signal.SIGKILL)
            (again,) = (await client.load_files([path])).crls
            return crl.lookup(1) is not None and again.lookup(1) is not None

    with asyncio.Runner(loop_factory=new_event_loop()) as runner:
        assert runner.run(load())
