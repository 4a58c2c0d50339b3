"""OCSP over real sockets: every kind of answer, who waits for whom, and what is remembered for how long."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import ocsp
from tests.integration.fetch.server import Server
from tests.unit.revocation.build import DAY, authority, leaf
from tests.unit.revocation.responder import delegate, respond

from mtlsproxy.fetch import ocsp_client
from mtlsproxy.fetch.ocsp_client import FAILURE_KEPT, OcspClient
from mtlsproxy.fetch.rules import FetchRules
from mtlsproxy.revocation.ocsp import MAX_RESPONSE, OcspAnswer, OcspFailure, OcspPolicy
from mtlsproxy.x509.certificate import Certificate

HOUR = timedelta(hours=1)
CA = authority("CA")
OTHER = authority("CA")
LEAF = leaf(CA)
YEARS = 20000 * DAY
SERVER_AUTH = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH])
TYPE = "application/ocsp-response"


def now() -> datetime:
    return datetime.now(UTC)


def response(status: str = "good", certificate: Certificate = LEAF, **options: object) -> bytes:
    moment = now()
    times = {"this_update": moment - timedelta(minutes=1), "next_update": moment + HOUR}
    return respond(certificate, CA, status, **{**times, **options})


class Clock:
    """The real time, until it is moved."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return now() + self.ahead


class Asker:
    """A client with what it counted."""

    def __init__(self, policy: dict[str, object], rules: dict[str, object], options: dict[str, object]) -> None:
        self.counted: Counter[str] = Counter()
        self.changes = 0
        self.clock = Clock()
        limits = {"max_size": 65536, "timeout": 5.0, **rules}
        self.client = OcspClient(
            OcspPolicy(enabled=True, **policy),
            FetchRules.of(**limits),
            lambda result: self.counted.update([result]),
            changed=self._change,
            now=self.clock,
            **options,
        )

    def _change(self) -> None:
        self.changes += 1

    def get(self, certificate: Certificate = LEAF) -> OcspAnswer | OcspFailure | None:
        return self.client.get(certificate, CA.certificate)

    async def ask(self, certificate: Certificate = LEAF) -> OcspAnswer | OcspFailure | None:
        await self.client.ensure([(certificate, CA.certificate)])
        return self.get(certificate)

    async def fails(self, words: str, certificate: Certificate = LEAF) -> None:
        found = await self.ask(certificate)
        assert isinstance(found, OcspFailure), found
        assert words in found.detail
        assert self.counted["failure"] == self.counted.total()

    async def until(self, true: Callable[[], bool]) -> None:
        ends = asyncio.get_running_loop().time() + 20
        while not true():
            assert asyncio.get_running_loop().time() < ends, "it did not come"
            await asyncio.sleep(0.02)


@asynccontextmanager
async def asking(
    url: str | None,
    *,
    rules: dict[str, object] | None = None,
    options: dict[str, object] | None = None,
    **policy: object,
) -> AsyncIterator[Asker]:
    rules = {"configured_hosts": ["127.0.0.1"], **(rules or {})}
    asker = Asker({"responder": url, **policy}, rules, options or {})
    try:
        yield asker
    finally:
        await asker.client.close()


# Answers


@pytest.mark.parametrize("status", ["good", "revoked", "unknown"])
async def test_every_status_is_told_and_counted(server, status):
    server.give("/", response(status), Content_Type=TYPE)
    async with asking(server.url("/")) as asker:
        assert asker.get() is None
        found = await asker.ask()
        assert isinstance(found, OcspAnswer)
        assert found.status == status
        assert asker.counted == {status: 1}
    (asked,) = server.asked
    assert asked.method == "POST"
    assert asked.headers["Content-Type"] == "application/ocsp-request"
    assert ocsp.load_der_ocsp_request(asked.body).serial_number == LEAF.serial


async def test_a_delegate_of_the_issuer_answers_for_it(server):
    server.give("/", response(signer=delegate(CA, lifetime=YEARS)), Content_Type=TYPE)
    async with asking(server.url("/")) as asker:
        found = await asker.ask()
        assert isinstance(found, OcspAnswer)
        assert found.responder == "CN=Responder"


async def test_a_nonce_is_sent_where_it_is_required(server):
    async def answer(request: web.Request) -> web.Response:
        asked = ocsp.load_der_ocsp_request(await request.read())
        nonce = asked.extensions.get_extension_for_class(x509.OCSPNonce).value
        return web.Response(body=response(extensions=((nonce, False),)), content_type=TYPE)

    server.answers["/"] = answer
    server.give("/without", response(), Content_Type=TYPE)
    async with asking(server.url("/"), require_nonce=True) as asker:
        found = await asker.ask()
        assert isinstance(found, OcspAnswer)
    async with asking(server.url("/without"), require_nonce=True) as asker:
        await asker.fails("nonce")


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "expired": (lambda: response(this_update=now() - 3 * HOUR, next_update=now() - HOUR), "no longer fresh"),
    "of the future": (lambda: response(this_update=now() + HOUR, next_update=now() + 2 * HOUR), "future"),
    "wrong signer": (lambda: response(signer=OTHER), "not certified by"),
    "bad delegation": (lambda: response(signer=delegate(CA, SERVER_AUTH, lifetime=YEARS)), "OCSPSigning"),
    "delegate of another key": (lambda: response(signer=delegate(OTHER, lifetime=YEARS)), "certified by"),
    "about another certificate": (lambda: response(certificate=leaf(CA)), "other certificates"),
    "garbage": (lambda: b"garbage", "no OCSP response"),
    "nothing": (lambda: b"", "no OCSP response"),
    "truncated": (lambda: response()[:-7], "no OCSP response"),
    "trailing octets": (lambda: response() + b"\0", "no OCSP response"),
    "try later": (lambda: ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER).public_bytes(
        Encoding.DER), "tryLater"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
async def test_what_is_no_answer_is_a_failure_that_says_why(server, name):
    make, words = BAD[name]
    server.give("/", make(), Content_Type=TYPE)
    async with asking(server.url("/")) as asker:
        await asker.fails(words)
        found = asker.get()
        assert isinstance(found, OcspFailure)
        assert server.url("/") in found.detail


async def test_other_types_and_statuses_are_failures(server):
    server.give("/html", response(), Content_Type="text/html")
    server.give("/500", response(), 500, Content_Type=TYPE)
    server.give("/huge", bytes(65537), Content_Type=TYPE)
    for path, words in (("/html", "text/html"), ("/500", "500"), ("/huge", "larger"), ("/absent", "404")):
        async with asking(server.url(path)) as asker:
            await asker.fails(words)


async def test_a_dead_responder_and_a_slow_one_are_failures(server, closed_port):
    async with asking(f"http://127.0.0.1:{closed_port}/") as asker:
        await asker.fails(str(closed_port))
    server.drip("/slow", b"\x30", 0.05)
    async with asking(server.url("/slow"), rules={"timeout": 0.3}) as asker:
        await asker.fails("0.3 s")


# Responders that certificates name


def naming(*urls: str) -> Certificate:
    descriptions = [
        x509.AccessDescription(x509.oid.AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(url))
        for url in urls
    ]
    return leaf(CA, x509.AuthorityInformationAccess(descriptions))


async def test_a_certificate_names_its_responder_within_the_allowed_hosts(server):
    named = naming(server.url("/"))
    server.give("/", response(certificate=named), Content_Type=TYPE)
    async with asking(None) as asker:
        await asker.fails("allowed_hosts", named)
    assert server.asked == []
    async with asking(None, rules={"allowed_hosts": ["127.0.0.1"]}) as asker:
        assert isinstance(await asker.ask(named), OcspAnswer)


async def test_a_responder_that_redirects_elsewhere_is_a_failure(server):
    named = naming(server.url("/"))
    server.redirect("/", server.url("/secret", "localhost"), 307)
    async with asking(None, rules={"allowed_hosts": ["127.0.0.1"]}) as asker:
        await asker.fails("allowed_hosts", named)
    assert server.paths() == ["/"]


async def test_the_second_responder_is_asked_when_the_first_is_dead_or_slow(server):
    server.drip("/slow", b"\x30", 0.05)
    for first in (server.url("/absent"), server.url("/slow")):
        named = naming(first, server.url("/two"), server.url("/three"))
        server.give("/two", response(certificate=named), Content_Type=TYPE)
        async with asking(None, rules={"allowed_hosts": ["127.0.0.1"], "timeout": 2.0}) as asker:
            assert isinstance(await asker.ask(named), OcspAnswer)
    assert "/three" not in server.paths()


async def test_a_failure_says_what_came_of_every_responder(server):
    server.drip("/slow", b"\x30", 0.05)
    urls = (server.url("/slow"), server.url("/absent"))
    async with asking(None, rules={"allowed_hosts": ["127.0.0.1"], "timeout": 0.4}) as asker:
        found = await asker.ask(naming(*urls))
    assert isinstance(found, OcspFailure)
    first, second = found.detail.split("; ")
    assert first.startswith(f"{urls[0]}: no complete answer within 0.2 s")
    assert second == f"{urls[1]}: the server answered 404"


async def test_a_certificate_that_names_none_is_a_failure_without_a_request(server):
    async with asking(None) as asker:
        await asker.fails("names no OCSP responder")


# Who waits for whom


class Held:
    """A responder that answers when it is told to."""

    def __init__(self, server: Server, path: str = "/") -> None:
        self.go = asyncio.Event()
        self.inside = 0
        self.most = 0
        self.certificates: dict[int, Certificate] = {}
        server.answers[path] = self.answer

    async def answer(self, request: web.Request) -> web.Response:
        serial = ocsp.load_der_ocsp_request(await request.read()).serial_number
        self.inside += 1
        self.most = max(self.most, self.inside)
        await self.go.wait()
        self.inside -= 1
        return web.Response(body=response(certificate=self.certificates.get(serial, LEAF)), content_type=TYPE)


async def test_all_who_ask_about_one_certificate_share_one_request(server):
    held = Held(server)
    async with asking(server.url("/")) as asker:
        async with asyncio.TaskGroup() as group:
            asks = [group.create_task(asker.ask()) for _ in range(50)]
            await asker.until(lambda: held.inside == 1)
            held.go.set()
        assert {ask.result() for ask in asks} == {asker.get()}
        assert isinstance(asker.get(), OcspAnswer)
        await asker.ask()
    assert len(server.asked) == 1


async def test_who_gives_up_waiting_does_not_take_the_answer_from_others(server):
    held = Held(server)
    loop = asyncio.get_running_loop()
    async with asking(server.url("/")) as asker:
        leaves, stays = loop.create_task(asker.ask()), loop.create_task(asker.ask())
        await asker.until(lambda: held.inside == 1)
        leaves.cancel()
        await asyncio.sleep(0)
        held.go.set()
        assert isinstance(await stays, OcspAnswer)
        assert leaves.cancelled()
    assert len(server.asked) == 1


async def test_requests_at_a_time_are_limited_and_who_waits_too_long_fails(server):
    held = Held(server)
    leaves = [leaf(CA) for _ in range(6)]
    held.certificates = {one.serial: one for one in leaves}
    async with asking(server.url("/"), options={"at_a_time": 2}) as asker:
        async with asyncio.TaskGroup() as group:
            asks = [group.create_task(asker.ask(one)) for one in leaves]
            await asker.until(lambda: held.inside == 2)
            await asyncio.sleep(0.1)
            held.go.set()
        assert all(isinstance(ask.result(), OcspAnswer) for ask in asks)
        assert held.most == 2
    held.go.clear()
    async with asking(server.url("/"), options={"at_a_time": 1}, rules={"timeout": 0.3}) as asker:
        await asker.client.ensure([(one, CA.certificate) for one in leaves])
        assert all(isinstance(asker.get(one), OcspFailure) for one in leaves)
    held.go.set()


async def test_a_slow_responder_keeps_those_of_other_cas_waiting_for_nothing(server):
    """All of its slots are taken, by as many certificates as its CA likes to issue."""
    held = Held(server, "/slow")
    slow = [naming(server.url("/slow", "localhost")) for _ in range(6)]
    quick = naming(server.url("/quick"))
    server.give("/quick", response(certificate=quick), Content_Type=TYPE)
    loop = asyncio.get_running_loop()
    rules = {"allowed_hosts": ["127.0.0.1", "localhost"], "configured_hosts": []}
    async with asking(None, options={"at_a_time": 2}, rules=rules) as asker:
        asks = [loop.create_task(asker.ask(one)) for one in slow]
        await asker.until(lambda: held.inside == 2)
        assert isinstance(await asker.ask(quick), OcspAnswer)
        assert held.inside == 2
        held.certificates = {one.serial: one for one in slow}
        held.go.set()
        assert all(isinstance(found, OcspAnswer) for found in await asyncio.gather(*asks))
        assert len(asker.client._slots) == 0


async def test_an_answer_is_never_read_beyond_what_one_may_have(server):
    """However much a list may have: answers are read by the process that serves requests."""
    server.drip("/", b"a" * 65536, 0.0)
    async with asking(server.url("/"), rules={"max_size": 1 << 30}) as asker:
        await asker.fails(f"{MAX_RESPONSE} octets")


async def test_closing_ends_what_is_under_way(server):
    held = Held(server)
    async with asking(server.url("/")) as asker:
        waiting = asyncio.get_running_loop().create_task(asker.ask())
        await asker.until(lambda: held.inside == 1)
    assert await waiting is None
    held.go.set()


# What is remembered


async def test_an_answer_is_kept_until_it_ends(server):
    server.give("/", response(), Content_Type=TYPE)
    async with asking(server.url("/")) as asker:
        found = await asker.ask()
        asker.clock.ahead = HOUR / 2
        assert await asker.ask() is found
        assert len(server.asked) == 1
        asker.clock.ahead = 2 * HOUR
        server.give("/", response(this_update=now() + 2 * HOUR, next_update=now() + 3 * HOUR), Content_Type=TYPE)
        assert await asker.ask() is not found
    assert len(server.asked) == 2


async def test_a_failure_is_remembered_for_a_while(server):
    async with asking(server.url("/")) as asker:
        for _ in range(3):
            await asker.fails("404")
        assert len(server.asked) == 1
        asker.clock.ahead = FAILURE_KEPT + timedelta(seconds=1)
        assert asker.get() is None
        await asker.fails("404")
    assert len(server.asked) == 2


async def test_revoked_stays_though_the_responder_dies(server):
    server.give("/", response("revoked"), Content_Type=TYPE)
    async with asking(server.url("/")) as asker:
        found = await asker.ask()
        server.give("/", b"", 500)
        asker.clock.ahead = 10 * HOUR
        assert await asker.ask() is found
        assert len(server.asked) == 2
        assert await asker.ask() is found
        assert len(server.asked) == 2  # the failure is remembered


@pytest.mark.parametrize("status", ["good", "unknown"])
async def test_an_answer_of_before_a_revocation_does_not_undo_it(server, status):
    """It is fresh, it is signed, and whoever is on the way can play it back; one of after it counts."""
    moment = now()
    server.give("/", response("revoked", this_update=moment - HOUR, next_update=moment + HOUR), Content_Type=TYPE)
    async with asking(server.url("/")) as asker:
        assert (await asker.ask()).status == "revoked"
        asker.clock.ahead = HOUR + timedelta(minutes=6)
        old = response(status, this_update=moment - HOUR - timedelta(seconds=1), next_update=moment + 24 * HOUR)
        server.give("/", old, Content_Type=TYPE)
        assert (await asker.ask()).status == "revoked"
        assert asker.counted == {"revoked": 1, "failure": 1}
        assert asker.changes == 0
        asker.clock.ahead += FAILURE_KEPT
        server.give("/", response(status, next_update=moment + 24 * HOUR), Content_Type=TYPE)
        assert (await asker.ask()).status == status
        assert asker.changes == 1


async def test_revoked_is_asked_about_again_after_a_failure_so_that_a_hold_can_end(server, monkeypatch):
    monkeypatch.setattr(ocsp_client, "FAILURE_KEPT", timedelta(seconds=0.2))
    moment = now()
    ended = response("revoked", this_update=moment - 2 * HOUR, next_update=moment - HOUR)
    server.give("/", ended, Content_Type=TYPE)
    async with asking(server.url("/")) as asker:
        assert (await asker.ask()).status == "revoked"
        server.give("/", b"", 500)
        await asker.until(lambda: asker.counted["failure"] > 1)
        server.give("/", response(), Content_Type=TYPE)
        await asker.until(lambda: asker.get().status == "good")


async def test_revoked_that_nobody_asked_about_while_it_lived_is_asked_about_when_somebody_does(server):
    server.give("/", response("revoked", this_update=now(), next_update=None), Content_Type=TYPE)
    async with asking(server.url("/"), max_age=timedelta(seconds=1)) as asker:
        await asker.client.ensure([(LEAF, CA.certificate)])
        await asyncio.sleep(1.2)  # its renewal came due, and nobody wanted it
        server.give("/", response(this_update=now()), Content_Type=TYPE)
        assert asker.get().status == "revoked"
        await asker.until(lambda: asker.get().status == "good")
        assert asker.changes == 1


@pytest.mark.parametrize(("status", "changes"), [("revoked", 1), ("good", 0), ("unknown", 0)])
async def test_an_answer_that_revokes_after_a_failure_is_news_for_who_was_let_in_without(server, status, changes):
    """soft_fail."""
    server.give("/", b"", 500)
    async with asking(server.url("/")) as asker:
        await asker.fails("answered 500")
        server.give("/", response(status), Content_Type=TYPE)
        asker.clock.ahead = timedelta(minutes=1)
        assert (await asker.ask()).status == status
        assert asker.changes == changes


async def test_a_first_answer_is_no_news(server):
    """Who waits for it is judged by it, and nobody else has a verdict without: strangers must not make us judge all."""
    server.give("/", response("revoked"), Content_Type=TYPE)
    async with asking(server.url("/")) as asker:
        await asker.ask()
        assert asker.changes == 0


async def test_an_ended_good_answer_gives_way_to_the_failure_to_get_another(server):
    server.give("/", response(), Content_Type=TYPE)
    async with asking(server.url("/")) as asker:
        await asker.ask()
        server.give("/", b"", 500)
        asker.clock.ahead = 10 * HOUR
        assert isinstance(await asker.ask(), OcspFailure)


async def test_what_is_used_is_renewed_before_it_ends_and_what_is_not_is_left(server):
    used, unused = leaf(CA), leaf(CA)
    asked: Counter[int] = Counter()

    async def answer(request: web.Request) -> web.Response:
        serial = ocsp.load_der_ocsp_request(await request.read()).serial_number
        asked[serial] += 1
        one = used if serial == used.serial else unused
        status = "good" if asked[serial] < 3 else "revoked"
        return web.Response(body=response(status, one, this_update=now(), next_update=None), content_type=TYPE)

    server.answers["/"] = answer
    async with asking(server.url("/"), max_age=timedelta(seconds=2)) as asker:
        await asker.client.ensure([(used, CA.certificate), (unused, CA.certificate)])
        first = asker.get(used)
        await asker.until(lambda: asked[used.serial] == 2 and asker.get(used) is not first)
        assert asker.changes == 0
        await asker.until(lambda: asker.changes == 1)  # open connections are judged again at once
        found = asker.get(used)
        assert isinstance(found, OcspAnswer)
        assert found.status == "revoked"
        assert asked[unused.serial] == 1


async def test_a_renewal_that_fails_leaves_the_answer_in_use(server):
    server.give("/", response(this_update=now(), next_update=None), Content_Type=TYPE)
    async with asking(server.url("/"), max_age=timedelta(seconds=4)) as asker:
        found = await asker.ask()
        server.give("/", b"", 500)
        await asker.until(lambda: asker.counted["failure"] == 1)
        assert asker.get() is found or now() > found.expires


async def test_a_newer_answer_is_asked_for_when_it_is_due_and_not_only_when_the_clock_skew_is_over(server):
    """An answer of a minute would else count for six: it ends at nextUpdate, and the skew is for clocks."""
    minute = timedelta(minutes=1)
    server.give("/", response(next_update=now() + minute), Content_Type=TYPE)
    async with asking(server.url("/")) as asker:
        found = await asker.ask()
        asker.clock.ahead = minute / 2
        assert await asker.ask() is found
        server.give("/", response("revoked", next_update=now() + 3 * minute), Content_Type=TYPE)
        asker.clock.ahead = 2 * minute
        assert asker.get() is None  # whoever judges asks first
        later = await asker.ask()
        assert isinstance(later, OcspAnswer)
        assert later.status == "revoked"
        assert asker.changes == 1


async def test_within_the_clock_skew_an_answer_counts_while_no_newer_one_can_be_had(server):
    minute = timedelta(minutes=1)
    server.give("/", response(next_update=now() + minute), Content_Type=TYPE)
    async with asking(server.url("/")) as asker:
        found = await asker.ask()
        server.give("/", b"", 500)
        asker.clock.ahead = 2 * minute
        assert await asker.ask() is found
        assert await asker.ask() is found
        assert asker.counted == {"good": 1, "failure": 1}
        asker.clock.ahead = 7 * minute
        assert isinstance(await asker.ask(), OcspFailure)


async def test_a_responder_whose_clock_is_behind_is_not_asked_for_each_request(server):
    minute = timedelta(minutes=1)
    server.give("/", response(this_update=now() - 2 * minute, next_update=now() - minute), Content_Type=TYPE)
    async with asking(server.url("/")) as asker:
        for _ in range(3):
            found = await asker.ask()
            assert isinstance(found, OcspAnswer)
            assert found.status == "good"
        assert asker.counted == {"good": 1}


async def test_an_answer_with_a_next_update_is_renewed_before_that(server):
    """Whose connection stays open hears of it: the skew that follows must not delay that."""
    times = []

    async def answer(request: web.Request) -> web.Response:
        times.append(now())
        status = "good" if len(times) == 1 else "revoked"
        return web.Response(body=response(status, next_update=now() + timedelta(seconds=3)), content_type=TYPE)

    server.answers["/"] = answer
    async with asking(server.url("/")) as asker:
        await asker.ask()
        await asker.until(lambda: asker.changes == 1)
        assert len(times) == 2


async def test_memory_is_bounded_and_the_longest_unused_go_first(server):
    leaves = [leaf(CA) for _ in range(4)]
    held = Held(server)
    held.go.set()
    held.certificates = {one.serial: one for one in leaves}
    async with asking(server.url("/"), options={"remembered": 2}) as asker:
        await asker.ask(leaves[0])
        await asker.ask(leaves[1])
        asker.get(leaves[0])
        await asker.ask(leaves[2])
        assert [asker.get(one) is not None for one in leaves] == [True, False, True, False]


# OpenSSL's responder


async def test_openssls_responder_is_understood(server, tmp_path):
    """Behind our server, because its own listens on every interface."""
    certificates = [leaf(CA, serial=0x1000 + number) for number in range(3)]
    command = _prepare_openssl(tmp_path, *certificates)

    async def answer(request: web.Request) -> web.Response:
        asked, answered = tmp_path / f"{len(server.asked)}.req", tmp_path / f"{len(server.asked)}.resp"
        asked.write_bytes(await request.read())
        process = await asyncio.create_subprocess_exec(
            *command, "-reqin", asked.name, "-respout", answered.name, cwd=tmp_path, stdout=asyncio.subprocess.DEVNULL
        )
        assert await process.wait() == 0
        return web.Response(body=answered.read_bytes(), content_type=TYPE)

    server.answers["/"] = answer
    async with asking(server.url("/"), require_nonce=True) as asker:
        found = [await asker.ask(certificate) for certificate in certificates]
        assert asker.counted == {"good": 1, "revoked": 1, "unknown": 1}
    assert [answer.status for answer in found] == ["good", "revoked", "unknown"]


def _prepare_openssl(folder: Path, good: Certificate, revoked: Certificate, _: Certificate) -> list[str]:
    """Its files in `folder`, and its command."""
    (folder / "ca.pem").write_bytes(CA.certificate.x509.public_bytes(Encoding.PEM))
    (folder / "ca.key").write_bytes(CA.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    index = f"V\t491231235959Z\t\t{good.serial:X}\tunknown\t/CN=client\n"
    index += f"R\t491231235959Z\t250531120000Z,keyCompromise\t{revoked.serial:X}\tunknown\t/CN=client\n"
    (folder / "index.txt").write_text(index)
    command = ["openssl", "ocsp", "-index", "index.txt", "-CA", "ca.pem", "-rsigner", "ca.pem", "-rkey", "ca.key"]
    return [*command, "-nmin", "60"]
