"""The first look: is it well, and what is going on."""

from collections.abc import Iterable
from datetime import timedelta

from mtlsproxy.admin.element import Element, Node, el
from mtlsproxy.admin.view.certificates import certificates
from mtlsproxy.admin.view.facts import Facts, Tree
from mtlsproxy.admin.view.spark import spark
from mtlsproxy.admin.view.words import length, many, number, plain, urgency, utc


def alerts(facts: Facts) -> Element | None:
    """What an operator must not miss; None when there is no such thing."""
    said = [*_not_ready(facts), *_failed_reload(facts)]
    return el("div", *said, class_="alerts") if said else None


def state(facts: Facts) -> str:
    return "ready" if facts.ready else "not ready"


def reload_failed(facts: Facts) -> bool:
    last = facts.configuration.get("last_reload")
    return last is not None and not last["ok"]


def _not_ready(facts: Facts) -> Iterable[Element]:
    if not facts.ready:
        yield _alert("not-ready", el("strong", "Not ready"), facts.reasons)


def _failed_reload(facts: Facts) -> Iterable[Element]:
    last = facts.configuration.get("last_reload")
    if last is not None and not last["ok"]:
        # What operators who changed a file look for: it is not what is in force.
        words = f" at {utc(last['at'])}; generation {facts.configuration.get('generation')} stays in force"
        yield _alert("reload-failed", el("span", el("strong", "Last reload FAILED"), words), last["errors"])


def _alert(ident: str, heading: Node, lines: Iterable[str]) -> Element:
    return el(
        "div",
        el("p", heading),
        el("ul", *(el("li", plain(line)) for line in lines)),
        class_="alert",
        role="alert",
        id=ident,
    )


def glance(facts: Facts) -> Element:
    return el(
        "section",
        el("h2", "At a glance", class_="unseen", id="glance-heading"),
        el(
            "dl",
            _traffic(facts),
            _refusals(facts),
            _connections(facts),
            _revocation(facts),
            _expiry(facts),
            _upstreams(facts),
            class_="tiles",
        ),
        id="glance",
        aria_labelledby="glance-heading",
    )


def _tile(
    name: str, kind: str, value: str, *notes: Node | None, unit: str = "", picture: Element | None = None
) -> Element:
    figure = el("span", value, el("span", f" {unit}", class_="unit") if unit else None, class_="figure")
    return el(
        "div",
        el("dt", name),
        el("dd", figure, picture, el("span", *notes, class_="note"), class_=kind or None),
        class_="tile",
    )


def _traffic(facts: Facts) -> Element:
    course, span = facts.course, _span(facts)
    highest = max(course.requests, default=0.0)
    label = f"requests a second over the last {span}, at most {number(round(highest, 1))}"
    total = sum(facts.traffic["requests"].values())
    by_class = ", ".join(f"{name} {number(count)}" for name, count in facts.traffic["requests"].items())
    note = f"{many(total, 'answer')} since the start" + (f": {by_class}" if by_class else "")
    return _tile(
        "Requests", "", number(round(course.rate, 1)), note, unit="a second", picture=spark(course.requests, label)
    )


def _refusals(facts: Facts) -> Element:
    course, span = facts.course, _span(facts)
    recent = sum(course.counts.values())
    label = f"refusals a second over the last {span}, at most {number(round(max(course.refused, default=0.0), 1))}"
    foremost = max(course.counts, key=course.counts.__getitem__, default=None)
    note = (
        f"most often {foremost}" if foremost else f"{number(sum(facts.traffic['refusals'].values()))} since the start"
    )
    picture = spark(course.refused, label, "refused")
    return _tile("Refusals", "", number(recent), note, unit=f"in {span}", picture=picture)


def _span(facts: Facts) -> str:
    return length(timedelta(seconds=max(facts.course.seconds, 1)))


def _connections(facts: Facts) -> Element:
    here = sum(1 for client in facts.clients if client["open"])
    known = f"{number(len(facts.clients))}{'+' if facts.more_clients else ''} known"
    note = f"{many(facts.traffic['in_flight'], 'request')} under way; {many(here, 'client')} here, {known}"
    return _tile("Connections", "", number(facts.traffic["connections"]), note, unit="open")


def _revocation(facts: Facts) -> Element:
    stores: list[Tree] = [
        *facts.status.get("truststores", ()),
        *(each["tls"] for each in facts.status.get("upstreams", ()) if each["tls"] is not None),
    ]
    lists = [found for store in stores for found in store["crls"]]
    ended = [found for found in lists if found["state"] == "ended"]
    late = [found for found in lists if found["state"] == "grace"]
    missing = sum(len(store["crls_missing"]) for store in stores)
    if missing:
        return _tile("Revocation lists", "bad", f"{missing} missing", "all clients of a CA without one are refused")
    if ended:
        return _tile(
            "Revocation lists", "bad", f"{len(ended)} ended", f"of {len(lists)}: the mode of each truststore decides"
        )
    if late:
        return _tile("Revocation lists", "soon", f"{len(late)} late", f"of {len(lists)}: they still count, by grace")
    if not lists:
        return _tile("Revocation lists", "", "none", "no truststore has one")
    soonest = min(found["seconds_left"] for found in lists)
    words = f"the first ends in {length(timedelta(seconds=soonest))}"
    return _tile("Revocation lists", "good", "fresh", f"{many(len(lists), 'list')}; {words}")


def _expiry(facts: Facts) -> Element:
    found = certificates(facts.status)
    if not found:
        return _tile("Next to expire", "", "nothing", "")
    first = found[0]
    kind = urgency(first.not_after, facts.now)
    over = first.not_after <= facts.now
    note = f"{first.kind} {plain(first.subject)}"
    words = length(first.not_after - facts.now)
    return _tile("Next to expire", kind, f"{words} ago" if over else words, note)


def _upstreams(facts: Facts) -> Element:
    servers = [server for upstream in facts.status.get("upstreams", ()) for server in upstream["servers"]]
    usable = sum(1 for server in servers if server["usable"])
    kind = "good" if usable == len(servers) else "bad"
    names = many(len(facts.status.get("upstreams", ())), "upstream")
    return _tile("Upstream servers", kind, f"{usable} of {len(servers)}", f"usable; {names}")
