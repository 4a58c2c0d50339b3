"""What is in force since when, and what the proxy warns of."""

from collections.abc import Iterator

from mtlsproxy.admin.element import Element, Node, el
from mtlsproxy.admin.view.facts import Facts
from mtlsproxy.admin.view.section import badge, section, when
from mtlsproxy.admin.view.words import number, plain, utc


def configuration_section(facts: Facts) -> Element:
    warnings = facts.configuration.get("warnings", ())
    return section(
        "configuration",
        "Configuration",
        el("dl", *_facts(facts), class_="facts"),
        el("h3", "Warnings") if warnings else None,
        el("ul", *(el("li", plain(warning)) for warning in warnings), class_="warnings") if warnings else None,
    )


def _facts(facts: Facts) -> Iterator[Element]:
    configuration, status = facts.configuration, facts.status
    yield _fact("File", el("span", plain(configuration.get("file")), class_="path"))
    yield _fact("SHA-256", el("code", str(configuration.get("sha256")), class_="hash"))
    yield _fact("Generation", str(configuration.get("generation")))
    yield _fact("Last reload", *_reload(facts))
    yield _fact("Started", when(status["started"], facts.now), f", {utc(status['started'])}")
    yield _fact("Version", f"mtlsproxy {status.get('version')}")
    workers = status.get("workers")
    if workers:
        ready = sum(1 for worker in workers if worker["ready"])
        yield _fact("Workers", badge("good" if ready == len(workers) else "bad", f"{ready} of {len(workers)} ready"))
    for listener in status.get("listeners", ()):
        addresses = ", ".join(listener.get("addresses", ()))
        stores = ", ".join(listener.get("truststores", ()))
        connections = number(listener.get("connections", 0))
        yield _fact(f"Listener {listener['name']}", f"{addresses}; truststores {stores}; {connections} connections")
    missing = status.get("native_services_missing")
    if missing:
        yield _fact("Missing services", badge("soon", "limited"), f" {plain(missing)}")


def _reload(facts: Facts) -> Iterator[Node]:
    last = facts.configuration.get("last_reload")
    if last is None:
        yield "none since the start"
        return
    yield badge("good", "taken") if last["ok"] else badge("bad", "FAILED")
    yield " "
    yield when(last["at"], facts.now)


def _fact(name: str, *words: Node) -> Element:
    return el("div", el("dt", name), el("dd", *words))
