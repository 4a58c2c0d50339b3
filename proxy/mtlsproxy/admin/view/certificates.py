"""What runs out, soonest first."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mtlsproxy.admin.element import Element, el
from mtlsproxy.admin.view.facts import Facts, Tree
from mtlsproxy.admin.view.section import badge, row, section, table
from mtlsproxy.admin.view.words import instant, left, plain, urgency, utc

_COLUMNS = ("Certificate", "Used as", "Ends", "Not after")


@dataclass(frozen=True, slots=True)
class Found:
    """kind: `server certificate`, `trust anchor`, `client certificate`. place: what uses it."""

    kind: str
    place: str
    subject: str
    not_after: datetime


def certificates(status: Tree) -> list[Found]:
    """Those that the configuration names, the first to end first; each once for all that use it as the same."""
    places: dict[tuple[str, str, datetime], list[str]] = {}
    for kind, place, certificate in _all(status):
        key = (kind, certificate["subject"], instant(certificate["not_after"]))
        places.setdefault(key, []).append(place)
    found = [
        Found(kind, ", ".join(dict.fromkeys(where)), subject, end) for (kind, subject, end), where in places.items()
    ]
    return sorted(found, key=lambda each: (each.not_after, each.kind, each.subject))


def _all(status: Tree) -> Iterator[tuple[str, str, Any]]:
    for listener in status.get("listeners", ()):
        for certificate in listener.get("certificates", ()):
            yield "server certificate", f"listener {listener['name']}", certificate
    for store in status.get("truststores", ()):
        for anchor in store["trust_anchors"]:
            yield "trust anchor", f"truststore {store['name']}", anchor
    for upstream in status.get("upstreams", ()):
        if upstream["tls"] is None:
            continue
        place = f"upstream {upstream['name']}"
        for anchor in upstream["tls"]["trust_anchors"]:
            yield "trust anchor", place, anchor
        if upstream["tls"]["certificate"] is not None:
            yield "client certificate", place, upstream["tls"]["certificate"]


def certificates_section(facts: Facts) -> Element:
    rows = [
        row(
            f"certificate-{place}",
            _COLUMNS,
            plain(each.subject),
            [each.kind, el("div", each.place, class_="minor")],
            badge(urgency(each.not_after, facts.now), left(each.not_after, facts.now)),
            utc(each.not_after),
        )
        for place, each in enumerate(certificates(facts.status))
    ]
    content = table("Certificates of the configuration, the first to end first", _COLUMNS, rows, "None.")
    return section("certificates", "Certificates", content)
