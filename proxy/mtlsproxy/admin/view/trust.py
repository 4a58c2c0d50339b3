"""Truststores, and how fresh what tells of revocations is."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from mtlsproxy.admin.element import Element, Node, el
from mtlsproxy.admin.view.facts import Facts, Tree
from mtlsproxy.admin.view.section import badge, minor, row, section, table, when
from mtlsproxy.admin.view.words import left, length, many, number, plain, urgency, utc

_COLUMNS = ("CA", "Freshness", "Ends", "Revoked", "From")
_STATES = {"fresh": ("good", "fresh"), "grace": ("soon", "late: counts by grace"), "ended": ("bad", "ended")}
_MODES = {
    "hard_fail": "who cannot be checked is refused",
    "soft_fail": "who cannot be checked is let in",
    "off": "revocation is not checked",
}


def trust_section(facts: Facts) -> Element:
    stores = [_store(facts.now, store["name"], "Truststore", store) for store in facts.status.get("truststores", ())]
    for upstream in facts.status.get("upstreams", ()):
        if upstream["tls"] is not None:
            stores.append(_store(facts.now, upstream["name"], "Servers of upstream", upstream["tls"]))
    return section("trust", "Trust and revocation", *stores)


def _store(now: datetime, name: str, what: str, store: Tree) -> Element:
    ident = f"{'store' if 'deny' in store else 'servers'}-{name}"
    return el(
        "div",
        el("h3", f"{what} ", el("strong", name)),
        el("dl", *_facts(now, store), class_="facts"),
        _lists(now, ident, store) if store["crls"] else None,
        el("ul", *(_url(now, asked) for asked in store["crl_urls"]), class_="urls") if store["crl_urls"] else None,
        class_="store",
        id=ident,
    )


def _facts(now: datetime, store: Tree) -> Iterator[Element]:
    mode = store["revocation"]
    yield _fact("Revocation", el("code", mode), f" {_MODES[mode]}")
    yield _fact("Trust anchors", *_anchors(now, store))
    if store.get("ocsp") is not None:
        yield _fact("OCSP", *_ocsp(now, store["ocsp"]))
    if store["crls_missing"]:
        without = [el("div", f"{plain(issuer)} ", badge("bad", "no list")) for issuer in store["crls_missing"]]
        yield _fact("Lists missing", *without)
    if store["crls_pending"]:
        yield _fact("Lists pending", badge("soon", number(store["crls_pending"])), " whose issuer is not known yet")
    if "deny" in store:
        said = [f"{number(count)} {where.replace('_', ' ')}" for where, count in store["deny"].items() if count]
        yield _fact("Denied", ", ".join(said) or "nobody")


def _fact(name: str, *words: Node) -> Element:
    return el("div", el("dt", name), el("dd", *words))


def _anchors(now: datetime, store: Tree) -> Iterator[Node]:
    for anchor in store["trust_anchors"]:
        end = anchor["not_after"]
        yield el("div", f"{plain(anchor['subject'])} ", badge(urgency(end, now), left(end, now)))


def _ocsp(now: datetime, ocsp: Tree) -> Iterator[Node]:
    failure, answered = ocsp["last_failure"], ocsp["last_answer"]
    yield f"{many(ocsp['certificates'], 'certificate')} known of"
    if answered is not None:
        yield el("span", "; the last came ", when(answered, now))
    if failure is not None and (answered is None or str(failure["at"]) > str(answered)):
        yield el("div", badge("bad", "failing"), " ", when(failure["at"], now), f": {plain(failure['detail'])}")


def _lists(now: datetime, ident: str, store: Tree) -> Element:
    rows = [_list(f"{ident}-crl-{place}", found) for place, found in enumerate(store["crls"])]
    return table("Certificate revocation lists in use", _COLUMNS, rows, "")


def _list(ident: str, found: Tree) -> Element:
    kind, words = _STATES[found["state"]]
    span = length(timedelta(seconds=found["seconds_left"]))
    end = f"in {span}" if found["seconds_left"] >= 0 else f"{span} ago"
    number_of = "" if found["number"] is None else f"number {found['number']}"
    delta = found["delta"]
    return row(
        ident,
        _COLUMNS,
        plain(found["issuer"]),
        badge(kind, words),
        [end, minor(utc(found["next_update"])) if found["next_update"] is not None else None],
        [number(found["entries"]), minor(f"and {number(delta['entries'])} in a delta") if delta else None],
        [el("span", plain(found["source"]), class_="path"), minor(number_of) if number_of else None],
    )


def _url(now: datetime, asked: Tree) -> Element:
    fine = asked["last_try"] in ("ok", "under way")
    fetched, following = asked["fetched_at"], asked["next_try"]
    return el(
        "li",
        el("span", plain(asked["url"]), class_="path"),
        " ",
        badge("good" if fine else "bad", asked["last_try"] if fine else "failed"),
        minor(plain(asked["last_try"])) if not fine else None,
        minor("confirmed ", when(fetched, now)) if fetched is not None else None,
        minor(f"next try {utc(following)}") if following is not None else None,
    )
