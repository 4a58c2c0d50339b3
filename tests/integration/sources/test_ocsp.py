"""OCSP through a proxy: what client, log, metrics and evidence say of every kind of answer; who waits for whom."""

import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.x509 import ocsp as library
from cryptography.x509.oid import ExtendedKeyUsageOID
from tests.integration.certificates import Identity, key_pem, pem, write_key
from tests.integration.clients import request
from tests.integration.harness import Tree, eventually
from tests.integration.refusals import (
    assert_counted,
    assert_logged,
    assert_nobody_left,
    assert_nothing_forwarded,
    assert_problem,
)
from tests.integration.sources.conftest import HOUR, OCSP_TYPE, Ca, Run, Site, now, responders
from tests.integration.sources.web import Web
from tests.integration.upstream import RecordingUpstream
from tests.unit.revocation.build import authority
from tests.unit.revocation.responder import delegate

from mtlsproxy.reasons import Reason
from mtlsproxy.verdict.judge import Verdict
from mtlsproxy.x509.evidence import Check, Result

YEARS = timedelta(days=20_000)
SKEWED = timedelta(minutes=10)
"""Beyond the clock skew that is granted."""

SERVER_AUTH = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])

each_mode = pytest.mark.parametrize("mode", ["hard_fail", "soft_fail"])


@pytest.fixture
def ocsp(revocation: Tree, server: Web) -> Tree:
    revocation["ocsp"] = {"enabled": True, "responder": server.url("/ocsp"), "timeout": "5s"}
    options: Tree = revocation["ocsp"]
    return options


# -- every kind of answer ----------------------------------------------------------------------------------------------

Prepare = Callable[[Web, Ca, Identity, Tree], None]
"""Makes the responder what the case says. The last argument: the truststore's `revocation.ocsp`."""


def _status(status: str) -> Prepare:
    def prepare(server: Web, ca: Ca, client: Identity, _: Tree) -> None:
        ca.status[client.leaf.serial_number] = status
        ca.answer_at(server, "/ocsp")

    return prepare


def _answer(**options: Callable[[Ca], object]) -> Prepare:
    """options: of `respond`, made from the CA."""

    def prepare(server: Web, ca: Ca, _: Identity, __: Tree) -> None:
        ca.answer_at(server, "/ocsp", **{key: value(ca) for key, value in options.items()})

    return prepare


def _octets(change: Callable[[bytes], bytes], **answer: object) -> Prepare:
    """A good answer, its octets changed. answer: what else the HTTP answer has."""

    def prepare(server: Web, ca: Ca, _: Identity, __: Tree) -> None:
        async def reply(request: web.Request) -> web.Response:
            body = change(ca.respond(await request.read()))
            return web.Response(body=body, **{"content_type": OCSP_TYPE, **answer})  # type: ignore[arg-type]

        server.answers["/ocsp"] = reply

    return prepare


def _slow(server: Web, ca: Ca, _: Identity, options: Tree) -> None:
    ca.answer_at(server, "/ocsp")
    server.hold("/ocsp")
    options["timeout"] = "200ms"


def _endless(server: Web, _: Ca, __: Identity, options: Tree) -> None:
    server.drip("/ocsp", b"\x30", 0.01)
    options["timeout"] = "200ms"


def _dead(server: Web, _: Ca, __: Identity, ___: Tree) -> None:
    server.down()


ANSWERED: dict[str, tuple[Prepare, str, str]] = {
    "good": (_status("good"), "good", "is good by OCSP of CN=Online CA, of "),
    "good by a delegate": (
        _answer(signer=lambda ca: delegate(ca.authority, lifetime=YEARS)),
        "good",
        "is good by OCSP of CN=Responder, of ",
    ),
    "revoked": (_status("revoked"), "revoked", "was revoked at 2025-05-31T12:00:00Z"),
    "unknown": (_status("unknown"), "unknown", "is unknown to the OCSP of CN=Online CA, of "),
}
"""A verified answer: its status, and words of the evidence."""

UNUSABLE: dict[str, tuple[Prepare, str]] = {
    "expired": (_answer(this_update=lambda _: now() - HOUR, next_update=lambda _: now() - SKEWED), "no longer fresh"),
    "of the future": (_answer(this_update=lambda _: now() + SKEWED), "from the future"),
    "wrong signer": (
        _answer(signer=lambda _: authority("Online CA"), enclosed=lambda _: ()),
        "signed neither by CN=Online CA nor by",
    ),
    "delegate of another CA": (
        _answer(signer=lambda _: delegate(authority("Online CA"), lifetime=YEARS)),
        "not certified by CN=Online CA itself",
    ),
    "delegate without OCSPSigning": (
        _answer(signer=lambda ca: delegate(ca.authority, SERVER_AUTH, lifetime=YEARS)),
        "no extended key usage OCSPSigning",
    ),
    "delegate that has expired": (
        _answer(signer=lambda ca: delegate(ca.authority, lifetime=timedelta(days=2))),
        "CN=Responder",
    ),
    "garbage": (_octets(lambda _: b"not an answer"), "no OCSP response that RFC 6960 allows"),
    "truncated": (_octets(lambda der: der[:-20]), "no OCSP response that RFC 6960 allows"),
    "with trailing octets": (_octets(lambda der: der + b"\0"), "no OCSP response that RFC 6960 allows"),
    "damaged": (_octets(lambda der: der[:-1] + bytes([der[-1] ^ 1])), "whose key did not make its signature"),
    "of another type": (_octets(lambda der: der, content_type="text/html"), "text/html"),
    "an error of the server": (_octets(lambda der: der, status=500), "the server answered 500"),
    "tryLater": (_octets(lambda _: bytes.fromhex("30030a0103")), "answered tryLater"),
    "slow": (_slow, "within 0.2 s"),
    "endless": (_endless, "within 0.2 s"),
    "dead": (_dead, "cannot connect"),
}
"""No usable answer: words of why."""


def assert_refused(site: Site, client: Identity, reason: Reason, words: str, upstream: RecordingUpstream) -> None:
    """By answer, log, metric, API and evidence, all of one opinion."""
    assert_problem(site.ask(client), reason)
    line = assert_logged(site.proxy, reason, client)
    assert words in line["detail"]
    assert_counted(site.proxy, reason)
    (rejection,) = site.proxy.rejections()
    assert (rejection["reason"], rejection["detail"]) == (reason, line["detail"])
    verdict = site.verdict(client)
    assert verdict.reason is reason
    check = _revocation(verdict)
    assert (check.result, words in check.seen) == (Result.FAIL, True)
    assert check.fix
    assert_nothing_forwarded(upstream)


def _revocation(verdict: Verdict) -> Check:
    (check,) = [check for check in verdict.checks if check.name == "revocation"]
    return check


@each_mode
@pytest.mark.parametrize("kind", ANSWERED)
def test_an_answer_decides_and_everything_says_so(
    run: Run, tree: Tree, ca: Ca, ocsp: Tree, server: Web, upstream: RecordingUpstream, mode: str, kind: str
) -> None:
    """`unknown` is no answer: the mode decides."""
    prepare, status, words = ANSWERED[kind]
    tree["truststores"]["partners"]["revocation"]["mode"] = mode
    alice = ca.client("alice")
    prepare(server, ca, alice, ocsp)
    site = run(tree)
    if status == "good" or (status == "unknown" and mode == "soft_fail"):
        assert site.outcome(alice) == "ok"
        check = _revocation(site.verdict(alice))
        assert (check.result, words in check.seen) == (Result.PASS, True)
        assert ("let pass by soft_fail" in check.seen) is (status == "unknown")
        assert site.proxy.refusals() == []
    else:
        reason = Reason.REVOKED if status == "revoked" else Reason.REVOCATION_UNKNOWN
        assert_refused(site, alice, reason, words, upstream)
    assert site.proxy.series("ocsp_requests_total") == {("partners", status): 1}
    source = "none" if status == "unknown" else "ocsp"
    assert site.proxy.series("revocation_decisions_total") == {("partners", status, source): 1}


@each_mode
@pytest.mark.parametrize("kind", UNUSABLE)
def test_without_a_usable_answer_the_mode_decides_and_everything_says_why(
    run: Run, tree: Tree, ca: Ca, ocsp: Tree, server: Web, upstream: RecordingUpstream, mode: str, kind: str
) -> None:
    prepare, words = UNUSABLE[kind]
    tree["truststores"]["partners"]["revocation"]["mode"] = mode
    alice = ca.client("alice")
    prepare(server, ca, alice, ocsp)
    site = run(tree)
    if mode == "soft_fail":
        assert site.outcome(alice) == "ok"
        check = _revocation(site.verdict(alice))
        assert check.result is Result.PASS
        assert "NOT KNOWN, let pass by soft_fail" in check.seen
        assert words in check.seen
    else:
        assert_refused(site, alice, Reason.REVOCATION_UNKNOWN, words, upstream)
        detail = str(site.proxy.refusal()["detail"])
        assert detail.startswith("CN=alice (serial ")
        assert server.url("/ocsp") in detail  # what was asked
        assert "CRL" not in detail  # which nobody asked for
    assert site.proxy.series("ocsp_requests_total") == {("partners", "failure"): 1}
    assert site.proxy.series("revocation_decisions_total") == {("partners", "unknown", "none"): 1}


@pytest.mark.parametrize("repeated", [True, False])
def test_where_a_nonce_is_required_an_answer_without_it_is_none(
    run: Run, tree: Tree, ca: Ca, ocsp: Tree, server: Web, repeated: bool
) -> None:
    async def answer(asked: web.Request) -> web.Response:
        der = await asked.read()
        nonce = library.load_der_ocsp_request(der).extensions.get_extension_for_class(x509.OCSPNonce).value
        return web.Response(
            body=ca.respond(der, extensions=((nonce, False),) if repeated else ()), content_type=OCSP_TYPE
        )

    server.answers["/ocsp"] = answer
    ocsp["require_nonce"] = True
    site = run(tree)
    alice = ca.client("alice")
    assert site.outcome(alice) == ("ok" if repeated else "revocation_unknown")
    assert ("nonce" in site.seen(alice)) is not repeated


def test_openssls_responder_is_understood(
    run: Run, tree: Tree, ca: Ca, ocsp: Tree, server: Web, tmp_path: Path
) -> None:
    """Behind our server, because its own listens on every interface."""
    clients = [ca.client(name) for name in ("good", "revoked", "unknown")]
    good, revoked = (client.leaf.serial_number for client in clients[:2])
    (tmp_path / "ca.pem").write_bytes(pem(ca.issued))
    write_key(tmp_path / "ca.key", key_pem(ca.issued.key))
    index = f"V\t491231235959Z\t\t{good:04X}\tunknown\t/CN=good\n"
    index += f"R\t491231235959Z\t250531120000Z,keyCompromise\t{revoked:04X}\tunknown\t/CN=revoked\n"
    (tmp_path / "index.txt").write_text(index)
    command = "openssl ocsp -index index.txt -CA ca.pem -rsigner ca.pem -rkey ca.key -nmin 60 -reqin q -respout a"

    async def answer(asked: web.Request) -> web.Response:
        (tmp_path / "q").write_bytes(await asked.read())
        subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)  # noqa: ASYNC221 - one at a time
        return web.Response(body=(tmp_path / "a").read_bytes(), content_type=OCSP_TYPE)

    server.answers["/ocsp"] = answer
    ocsp["require_nonce"] = True
    site = run(tree)
    assert [site.outcome(client) for client in clients] == ["ok", "revoked", "revocation_unknown"]
    assert "(keyCompromise)" in site.seen(clients[1])
    assert site.proxy.series("ocsp_requests_total") == {
        ("partners", status): 1 for status in ("good", "revoked", "unknown")
    }


# -- whom it asks ------------------------------------------------------------------------------------------------------


@pytest.fixture
def aia(revocation: Tree) -> Tree:
    """The responders that certificates name."""
    revocation["ocsp"] = {"enabled": True, "timeout": "5s"}
    return revocation


def test_responders_that_certificates_name_are_asked_on_allowed_hosts(
    run: Run, tree: Tree, ca: Ca, aia: Tree, server: Web
) -> None:
    ca.answer_at(server, "/named")
    alice = ca.client("alice", responders(server.url("/named")))
    revoked = ca.client("revoked", responders(server.url("/named")))
    ca.status[revoked.leaf.serial_number] = "revoked"
    site = run(tree)
    assert (site.outcome(alice), site.outcome(revoked)) == ("ok", "revoked")
    assert server.paths() == ["/named"] * 2


def test_the_second_responder_answers_where_the_first_is_dead(
    run: Run, tree: Tree, ca: Ca, aia: Tree, server: Web, closed_port: int
) -> None:
    ca.answer_at(server, "/second")
    alice = ca.client("alice", responders(f"http://127.0.0.1:{closed_port}/first", server.url("/second")))
    assert run(tree).outcome(alice) == "ok"


def test_a_certificate_without_a_responder_is_asked_about_nowhere(
    run: Run, tree: Tree, ca: Ca, aia: Tree, bob: Identity, server: Web
) -> None:
    site = run(tree)
    assert site.outcome(bob) == "revocation_unknown"
    assert "names no OCSP responder" in site.seen(bob)
    assert server.asked == []
    assert site.proxy.series("ocsp_requests_total") == {}


# -- who waits for whom ------------------------------------------------------------------------------------------------


def test_others_are_served_while_one_waits_for_its_answer(run: Run, tree: Tree, ca: Ca, aia: Tree, server: Web) -> None:
    ca.answer_at(server, "/slow")
    ca.answer_at(server, "/quick")
    released = server.hold("/slow")
    alice = ca.client("alice", responders(server.url("/slow")))
    carol = ca.client("carol", responders(server.url("/quick")))
    site = run(tree)
    with ThreadPoolExecutor(1) as pool, site.connect(carol) as hers:
        assert hers.get().status == 200
        waiting = pool.submit(site.outcome, alice)
        eventually(lambda: "/slow" in server.paths())
        assert hers.get().status == 200
        assert site.outcome(carol) == "ok"
        assert not waiting.done()
        released.set()
        assert waiting.result(10) == "ok"


def test_a_request_on_an_open_connection_waits_for_its_answer_while_others_are_served(
    run: Run, tree: Tree, ca: Ca, aia: Tree, server: Web, upstream: RecordingUpstream
) -> None:
    """An answer without nextUpdate counts for max_age; then the next request waits for a new one."""
    aia["ocsp"]["max_age"] = "1s"
    ca.answer_at(server, "/quick")
    alice = ca.client("alice", responders(server.url("/slow")))
    carol = ca.client("carol", responders(server.url("/quick")))

    async def brief(asked: web.Request) -> web.Response:
        body = ca.respond(await asked.read(), this_update=now(), next_update=None)
        return web.Response(body=body, content_type=OCSP_TYPE)

    server.answers["/slow"] = brief
    site = run(tree)
    with site.connect(alice) as hers, site.connect(carol) as others:
        assert hers.get("/first").status == 200
        released = server.hold("/slow")
        eventually(lambda: site.verdict(alice).wanted)
        hers.send(request("/second"))
        hers.send(request("/third"))
        assert others.get("/meanwhile").status == 200
        eventually(lambda: server.paths().count("/slow") == 2)
        assert [one.line.split()[1] for one in upstream.requests] == ["/first", "/meanwhile"]
        released.set()
        assert (hers.response().status, hers.response().status) == (200, 200)
    assert [one.line.split()[1] for one in upstream.requests][2:] == ["/second", "/third"]


def test_many_connections_of_one_client_share_one_request(
    run: Run, tree: Tree, ca: Ca, ocsp: Tree, server: Web
) -> None:
    ca.answer_at(server, "/ocsp")
    released = server.hold("/ocsp")
    alice = ca.client("alice")
    site = run(tree)
    with ThreadPoolExecutor(12) as pool:
        waiting = [pool.submit(site.outcome, alice) for _ in range(12)]
        eventually(lambda: site.proxy.series("connections") == {("internal",): 12})
        eventually(lambda: server.asked)
        released.set()
        assert {one.result(10) for one in waiting} == {"ok"}
    assert site.outcome(alice) == "ok"
    assert len(server.asked) == 1
    assert site.proxy.series("ocsp_requests_total") == {("partners", "good"): 1}
    assert site.proxy.series("revocation_decisions_total") == {("partners", "good", "ocsp"): 13}


def test_who_leaves_while_it_waits_is_forgotten(run: Run, tree: Tree, ca: Ca, ocsp: Tree, server: Web) -> None:
    ca.answer_at(server, "/ocsp")
    released = server.hold("/ocsp")
    site = run(tree)
    with site.connect(ca.client("alice")) as hers:
        hers.send(request())
        eventually(lambda: server.asked)
    released.set()
    assert_nobody_left(site.proxy)
    assert site.outcome(ca.client("carol")) == "ok"


def test_a_failure_is_remembered_for_a_while(run: Run, tree: Tree, ca: Ca, ocsp: Tree, server: Web) -> None:
    """A client that comes again and again costs one request, not one each."""
    alice = ca.client("alice")
    site = run(tree)
    assert {site.outcome(alice) for _ in range(3)} == {"revocation_unknown"}
    assert len(server.asked) == 1
