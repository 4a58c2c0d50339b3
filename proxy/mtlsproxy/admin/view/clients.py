"""Who was let in."""

from collections.abc import Sequence

from mtlsproxy.admin.element import Element, Node
from mtlsproxy.admin.view.facts import Facts, Tree
from mtlsproxy.admin.view.section import badge, minor, row, section, table, when
from mtlsproxy.admin.view.words import left, many, number, plain, urgency, utc

SHOWN = 100
_COLUMNS = ("Client", "Issuer", "Routes", "Last seen", "Certificate")


def clients_section(facts: Facts) -> Element:
    rows = [_row(facts, client) for client in facts.clients[:SHOWN]]
    more = facts.more_clients or len(facts.clients) > SHOWN
    hint = f"The latest {SHOWN}; all that are known are at /api/clients." if more else ""
    content = table("Clients that were accepted, the latest first", _COLUMNS, rows, "Nobody has come since the start.")
    return section("clients", "Clients", content, hint=hint)


def _row(facts: Facts, client: Tree) -> Element:
    end = client["not_after"]
    return row(
        f"client-{client['fingerprint']}",
        _COLUMNS,
        _who(client),
        [plain(client["issuer"]), minor(f"truststore {client['truststore']}")],
        _routes(client),
        _seen(facts, client),
        [badge(urgency(end, facts.now), left(end, facts.now)), minor(utc(end)), minor(f"serial {client['serial']}")],
    )


def _who(client: Tree) -> Sequence[Node | None]:
    name = client["identity"] or client["subject"]
    return plain(name), minor(plain(client["subject"])) if client["subject"] != name else None


def _routes(client: Tree) -> Node:
    names = ", ".join(client["routes"])
    return f"{names}, …" if client["more_routes"] else names or "none yet"


def _seen(facts: Facts, client: Tree) -> Sequence[Node | None]:
    times = minor(f"{many(client['connections'], 'connection')} since the start")
    if client["open"]:
        return badge("good", "connected"), minor(f"{number(client['open'])} open now"), times
    return when(client["last_seen"], facts.now), times
