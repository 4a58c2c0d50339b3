"""The status page says first what an operator must not miss, everything else in its place, and nothing as markup."""

import json
import re
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

import pytest
from tests.unit.admin.facts import HOSTILE, NOW, client, crl, facts, refusal, server, status, store, traffic

from mtlsproxy.admin.page import CONTENT_SECURITY_POLICY, document, renewal
from mtlsproxy.admin.view.clients import SHOWN
from mtlsproxy.admin.view.facts import Facts
from mtlsproxy.admin.view.refusals import SHOWN as SHOWN_REFUSALS


class Seen(HTMLParser):
    """The text of each section, by its id, and of the whole; every id and every tag."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.sections: dict[str, str] = {}
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.values: list[str] = []
        self._within: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        found = dict(attrs)
        self.values += [value for value in found.values() if value]
        if found.get("id"):
            self.ids.append(str(found["id"]))
        if tag == "section":
            self._within.append(str(found["id"]))

    def handle_endtag(self, tag: str) -> None:
        if tag == "section":
            self._within.pop()

    def handle_data(self, data: str) -> None:
        for name in self._within:
            self.sections[name] = f"{self.sections.get(name, '')} {data}"


def seen(what: Facts) -> Seen:
    return Seen(document(what))


def test_every_section_shows_what_it_is_about() -> None:
    page = seen(facts())
    assert list(page.sections) == [
        "glance", "refusals", "reasons", "clients", "trust", "certificates", "upstreams", "configuration",
    ]  # fmt: skip
    glance = page.sections["glance"]
    for words in ("Requests", "Refusals", "2xx 1\u202f000", "2 days", "server certificate CN=proxy", "1 of 2", "fresh"):
        assert words in glance
    for words in ("alice@example.org", "issued by CN=CA", "from 192.0.2.7", "revoked", "it is on the CRL",
                  "GET /orders", "listener internal, route orders", "answered 403"):  # fmt: skip
        assert words in page.sections["refusals"]
    for words in ("alice@example.org", "CN=CA", "orders", "2 minutes ago", "30 days left", "serial 0A"):
        assert words in page.sections["clients"]
    for words in ("partners", "hard_fail", "fresh", "in 60 minutes", "1\u202f234", "number 7", "nobody"):
        assert words in page.sections["trust"]
    for words in ("CN=proxy", "listener internal", "2 days left", "CN=Root", "truststore partners", "2 years left"):
        assert words in page.sections["certificates"]
    for words in ("orders", "http://127.0.0.1:2", "usable", "left alone", "its breaker is open"):
        assert words in page.sections["upstreams"]
    for words in ("/etc/mtlsproxy.yaml", "ab" * 32, "none since the start", "5 hours ago"):
        assert words in page.sections["configuration"]


def test_a_proxy_that_has_seen_nothing_says_so() -> None:
    page = seen(facts(rejections=[], clients=[], traffic=traffic(), status=status(upstreams=[], truststores=[])))
    assert "Nobody was refused since the start." in page.sections["refusals"]
    assert "Nobody has come since the start." in page.sections["clients"]
    assert "None since the start." in page.sections["reasons"]


def test_a_status_that_workers_sent_as_json_reads_the_same() -> None:
    whole = facts(status=status(truststores=[store(ocsp=OCSP)]))
    sent = facts(status=json.loads(json.dumps(whole.status, default=lambda value: value.isoformat())))
    assert document(sent) == document(whole)


def reload(ok: bool, errors: list[str]) -> dict[str, Any]:
    known = status()
    return known | {
        "configuration": known["configuration"]
        | {"last_reload": {"at": NOW - timedelta(minutes=5), "ok": ok, "errors": errors}}
    }


def test_a_failed_reload_is_at_the_top_with_every_error() -> None:
    """Else who changed a file takes what is in force for what they wrote."""
    errors = ["p.yaml:3:1: listeners[0].bnd: unknown key", "p.yaml:9:1: user: <script>"]
    text = document(facts(status=reload(False, errors)))
    top, _, rest = text.partition('id="glance"')
    assert "Last reload FAILED" in top and "2030-01-01 11:55:00 UTC; generation 4 stays in force" in top
    assert "p.yaml:3:1: listeners[0].bnd: unknown key" in top and "user: &lt;script&gt;" in top
    assert "<title>mtlsproxy: ready, last reload FAILED</title>" in top
    assert rest


@pytest.mark.parametrize("known", [status(), reload(True, [])])
def test_a_reload_that_went_well_is_not_shouted_about(known: dict[str, Any]) -> None:
    text = document(facts(status=known))
    assert "FAILED" not in text and 'role="alert"' not in text
    assert "<title>mtlsproxy: ready</title>" in text


def test_why_it_is_not_ready_is_at_the_top() -> None:
    text = document(facts(ready=False, reasons=["listener internal: no CRL is here yet"]))
    assert "listener internal: no CRL is here yet" in text.partition('id="glance"')[0]
    assert "<title>mtlsproxy: not ready</title>" in text


def test_refusals_of_one_client_for_one_reason_are_one_row_with_the_newest_id() -> None:
    rejections = [refusal(9), refusal(8), refusal(7, reason="denied"), refusal(6), refusal(5, fingerprint="cd" * 32)]
    page = seen(facts(rejections=rejections))
    assert len([ident for ident in page.ids if ident.startswith("refusal-")]) == 3
    assert "3 times" in page.sections["refusals"] and "The latest 5 refusals" in page.sections["refusals"]
    assert "mtlsproxy explain --request-id r9 --admin http://127.0.0.1:9901" in page.sections["refusals"]


def test_a_row_stays_the_same_row_when_its_client_is_refused_again() -> None:
    def rows(what: Facts) -> set[str]:
        return {ident for ident in seen(what).ids if ident.startswith("refusal-")}

    assert rows(facts(rejections=[refusal(1)])) == rows(facts(rejections=[refusal(2), refusal(1)]))


def test_of_a_flood_the_newest_are_shown_and_it_says_how_many_are_not() -> None:
    rejections = [refusal(number, fingerprint=f"{number:064x}") for number in range(SHOWN_REFUSALS + 60)]
    page = seen(facts(rejections=rejections))
    assert len([ident for ident in page.ids if ident.startswith("refusal-")]) == SHOWN_REFUSALS
    assert "60 more clients and reasons are not shown" in page.sections["refusals"]


@pytest.mark.parametrize(
    ("ident", "line"),
    [
        ("abc.DEF-1_2", "mtlsproxy explain --request-id abc.DEF-1_2 --admin http://127.0.0.1:9901"),
        ("-rf", "mtlsproxy explain --request-id=-rf --admin http://127.0.0.1:9901"),
    ],
)
def test_the_line_that_explains_is_one_for_a_shell(ident: str, line: str) -> None:
    assert line in seen(facts(rejections=[refusal(request_id=ident)])).values


def test_what_shadow_mode_let_pass_says_so() -> None:
    page = seen(facts(rejections=[refusal(enforced=False)], traffic=traffic(let_pass={"not_allowed": 3})))
    assert "let pass (shadow)" in page.sections["refusals"]
    assert "Let pass in shadow mode: not_allowed 3." in page.sections["reasons"]


def test_a_refusal_without_certificate_or_request_reads_as_what_it_is() -> None:
    what = dict.fromkeys(("subject", "issuer", "fingerprint", "principal", "method", "path", "status", "route"))
    page = seen(facts(rejections=[refusal(reason="no_certificate", **what)]))
    assert "no certificate" in page.sections["refusals"] and "the handshake" in page.sections["refusals"]
    assert "None" not in page.sections["refusals"]


OCSP = {
    "certificates": 3,
    "last_answer": NOW - timedelta(hours=2),
    "last_failure": {"at": NOW - timedelta(minutes=1), "detail": "the responder did not answer in time"},
}
URL = {
    "url": "http://ca.example/x.crl",
    "named_by": "configuration",
    "last_try": "404 Not Found",
    "fetched_at": NOW - timedelta(hours=3),
    "next_try": NOW + timedelta(minutes=5),
}


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (store(crls=[crl("ended", -7200)]), ["ended", "2 hours ago"]),
        (store(crls=[crl("grace", -60)]), ["late: counts by grace"]),
        (store(crls=[crl(delta={"entries": 5})]), ["and 5 in a delta"]),
        (store(crl_urls=[URL]), ["http://ca.example/x.crl", "failed", "404 Not Found", "3 hours ago"]),
        (store(ocsp=OCSP), ["3 certificates known of", "2 hours ago", "failing", "did not answer in time"]),
        (store(deny={"configured": 1, "file": 0, "api": 2}), ["1 configured", "2 api"]),
        (store(crls_missing=["CN=New CA"]), ["Lists missing", "CN=New CA", "no list"]),
        (store(crls_pending=2), ["Lists pending", "whose issuer is not known yet"]),
    ],
)
def test_trust_says_how_fresh_it_is(known: dict[str, Any], words: list[str]) -> None:
    shown = seen(facts(status=status(truststores=[known]))).sections["trust"]
    assert [each for each in words if each not in shown] == []


def test_an_ended_list_is_seen_at_a_glance() -> None:
    known = store(crls=[crl(), crl("ended", -7200)])
    assert "1 ended" in seen(facts(status=status(truststores=[known]))).sections["glance"]


def test_a_list_that_was_never_there_is_seen_at_a_glance_too() -> None:
    """The lists of the others are fresh: without this the glance said so, while all of one CA were refused."""
    glance = seen(facts(status=status(truststores=[store(crls_missing=["CN=New CA"])]))).sections["glance"]
    assert "1 missing" in glance
    assert "missing" not in seen(facts(status=status(truststores=[store()]))).sections["glance"]


def test_an_upstreams_certificates_and_lists_are_shown_too() -> None:
    judged = {key: value for key, value in store().items() if key not in ("name", "deny")}
    own = {"subject": "CN=me", "not_after": NOW + timedelta(days=40)}
    upstream = {"name": "orders", "servers": [server("https://o:1")], "tls": judged | {"certificate": own}}
    page = seen(facts(status=status(upstreams=[upstream])))
    assert "client certificate" in page.sections["certificates"] and "CN=me" in page.sections["certificates"]
    assert "Servers of upstream" in page.sections["trust"]


def test_of_many_clients_it_says_where_the_others_are() -> None:
    page = seen(facts(clients=[client(str(number)) for number in range(SHOWN)], more_clients=True))
    assert f"The latest {SHOWN}; all that are known are at /api/clients." in page.sections["clients"]
    assert f"{SHOWN}+ known" in page.sections["glance"]


def hostile() -> Facts:
    """Every text that a certificate, a client or a server chooses."""
    chosen = ("subject", "issuer", "principal", "method", "path", "detail", "reason", "client_ip")
    known = store(crls=[crl(issuer=HOSTILE, source=HOSTILE)], crl_urls=[URL | {"url": HOSTILE, "last_try": HOSTILE}])
    known["trust_anchors"][0]["subject"] = HOSTILE
    listeners = status()["listeners"]
    listeners[0]["certificates"][0]["subject"] = HOSTILE
    return facts(
        rejections=[refusal(**dict.fromkeys(chosen, HOSTILE))],
        clients=[client(**dict.fromkeys(("identity", "subject", "issuer"), HOSTILE))],
        status=status(
            truststores=[known],
            listeners=listeners,
            upstreams=[{"name": "orders", "servers": [server(HOSTILE, HOSTILE)], "tls": None}],
        ),
        ready=False,
        reasons=[HOSTILE],
    )


def test_nothing_that_others_chose_is_markup_or_moves_text_about() -> None:
    text = document(hostile())
    page = Seen(text)
    assert page.tags.count("script") == 1  # ours
    assert "<script>alert" not in text
    assert "\u202e" not in text and "\x07" not in text
    assert "alert(1)</script>\\u202e\\u0007&\"'" in page.sections["clients"]
    assert page.tags == Seen(document(with_plain_names())).tags


def with_plain_names() -> Facts:
    """As `hostile`, with `x` for each text."""
    found = hostile()
    plain = json.loads(json.dumps(_fields(found), default=str).replace(json.dumps(HOSTILE), '"x"'))
    return facts(**plain)


def _fields(found: Facts) -> dict[str, Any]:
    return {name: getattr(found, name) for name in ("rejections", "clients", "status", "ready", "reasons")}


def test_the_script_builds_what_the_document_shows() -> None:
    """Both come from one tree: what is said without scripts and with them cannot differ."""
    found = renewal(hostile())
    assert found["title"] == "mtlsproxy: not ready"

    def texts(tree: Any) -> str:
        return tree if isinstance(tree, str) else "".join(map(texts, tree[2:]))

    def body(text: str) -> str:
        return text.partition("<body>")[2].partition("<script>")[0]

    shown = re.sub(r"<[^>]*>", "", body(document(hostile())))
    shown = shown.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert texts(found["page"]) == shown


def test_ids_are_unique_and_links_within_the_page_lead_somewhere() -> None:
    rejections = [refusal(1), refusal(1, reason="denied"), refusal(1, route="other")]
    text = document(facts(rejections=rejections, clients=[client("a"), client("b")]))
    page = Seen(text)
    assert len(page.ids) == len(set(page.ids))
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(page.ids)


def test_the_policy_lets_only_our_own_style_and_script_run() -> None:
    import base64
    import hashlib

    text = document(facts())
    assert "'unsafe" not in CONTENT_SECURITY_POLICY and CONTENT_SECURITY_POLICY.startswith("default-src 'none';")
    for tag in ("style", "script"):
        (inner,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in CONTENT_SECURITY_POLICY
    assert " style=" not in text and not re.search(r" on[a-z]+=", text)
