"""Events and page of a proxy that real clients call: what happens is told within moments, and a flood costs little."""

import contextlib
import json
import socket
import urllib.request
from collections.abc import Iterator
from typing import Any

from tests.integration.clients import PATIENCE, alert, client_context, tls
from tests.integration.conftest import Material, Start
from tests.integration.harness import RunningProxy, Tree, eventually

from mtlsproxy.telemetry.recent import MAX_RECENT
from mtlsproxy.telemetry.refusals import MAX_TOLD


@contextlib.contextmanager
def events(proxy: RunningProxy) -> Iterator[Iterator[tuple[str, Any]]]:
    """Pairs of name and data."""
    with urllib.request.urlopen(f"http://127.0.0.1:{proxy.admin_port}/api/events", timeout=PATIENCE) as answer:

        def read() -> Iterator[tuple[str, Any]]:
            name = ""
            for raw in answer:
                field, _, value = raw.decode().rstrip("\n").partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    yield name, json.loads(value)

        yield read()


def until(found: Iterator[tuple[str, Any]], name: str) -> Any:
    return next(data for each, data in found if each == name)


def test_a_refusal_is_told_while_it_is_news(material: Material, config: Tree, start: Start) -> None:
    proxy = start(config)
    with events(proxy) as found:
        assert until(found, "status")["ready"] is True
        alert(proxy.port(), client_context(material.root))
        told = until(found, "refusals")
    assert (told["refusals"][0]["reason"], told["more"]) == ("no_certificate", 0)
    assert told["refusals"][0] == proxy.rejections()[0]


def test_a_reload_is_told(config: Tree, start: Start) -> None:
    proxy = start(config)
    with events(proxy) as found:
        assert until(found, "status")["configuration"]["last_reload"] is None
        proxy.loop.call_soon_threadsafe(proxy.proxy.reloader.reload_soon)
        assert until(found, "status")["configuration"]["last_reload"]["ok"] is True


def test_the_page_shows_who_came_and_who_did_not(material: Material, config: Tree, start: Start) -> None:
    proxy = start(config)
    with tls(proxy.port(), client_context(material.root, material.client())) as connection:
        assert connection.get("/").status == 200
        alert(proxy.port(), client_context(material.root))
        eventually(proxy.rejections)
        page = proxy.admin("/").decode()
    assert "alice.clients.test" in page and "connected" in page
    assert "no_certificate" in page and "mtlsproxy explain --request-id " in page


def test_a_flood_is_told_in_a_few_words(config: Tree, start: Start) -> None:
    """Whoever opens connections and says nonsense fills neither what listeners are sent nor what is kept."""
    proxy = start(config)
    many = MAX_RECENT + 100
    with events(proxy) as found:
        until(found, "status")
        for _ in range(many):
            with socket.create_connection(("127.0.0.1", proxy.port()), PATIENCE) as client:
                client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        told = batches = 0
        while told < many:
            event = until(found, "refusals")
            assert len(event["refusals"]) <= MAX_TOLD
            told += len(event["refusals"]) + event["more"]
            batches += 1
        assert told == many
        assert batches < many / 5
    assert len(proxy.rejections()) == MAX_RECENT
    assert len(proxy.admin("/page.json")) < 100_000
