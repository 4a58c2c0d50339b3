"""Where requests go, and whether anybody answers there."""

from mtlsproxy.admin.element import Element
from mtlsproxy.admin.view.facts import Facts
from mtlsproxy.admin.view.section import badge, minor, row, section, table
from mtlsproxy.admin.view.words import number, plain

_COLUMNS = ("Upstream", "Server", "Health", "Connections", "Failures")


def upstreams_section(facts: Facts) -> Element:
    rows = [
        row(
            f"server-{upstream['name']}-{place}",
            _COLUMNS,
            upstream["name"],
            plain(server["url"]),
            badge("good", "usable")
            if server["usable"]
            else [badge("bad", "left alone"), minor(plain(server["why_not"] or ""))],
            [number(server["connections"]), minor(f"{number(server['idle'])} idle")],
            number(server["failures"]),
        )
        for upstream in facts.status.get("upstreams", ())
        for place, server in enumerate(upstream["servers"])
    ]
    return section("upstreams", "Upstreams", table("Upstream servers", _COLUMNS, rows, "None."))
