"""One helper for several parties: each hears what it asked for, and who comes later what is known already."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mtlsproxy.workers import relay as rooms
from mtlsproxy.workers.relay import Relay

FOLDER = Path("/nowhere")
Message = dict[str, Any]


class FakeHelper:
    """What a helper is told; no process runs."""

    def __init__(self, folder: Path, hearer: Relay) -> None:
        self.told: list[Message] = []
        self.hearer = hearer
        _helpers.append(self)

    def send(self, message: Message) -> None:
        self.told.append(message)


_helpers: list[FakeHelper] = []


@pytest.fixture
def relay(monkeypatch: pytest.MonkeyPatch) -> Relay:
    _helpers.clear()
    monkeypatch.setattr(rooms, "HelperProcess", FakeHelper)
    return Relay()


def event(outcome: str, *indexes: str) -> Message:
    return {"op": "event", "id": 1, "outcome": outcome, "indexes": list(indexes)}


def subscribed(relay: Relay, party: str, number: int, url: str = "http://a/") -> list[Message]:
    """What the party hears from now on."""
    heard: list[Message] = []
    relay.join(party, lambda why, at: None)
    relay.take(party, FOLDER, {"op": "subscribe", "id": number, "url": url}, heard.append)
    return heard


def test_the_same_wish_of_several_is_told_once_and_answered_to_each_by_its_number(relay: Relay) -> None:
    one, other = subscribed(relay, "one", 7), subscribed(relay, "other", 3)
    third = subscribed(relay, "other", 4, "http://b/")
    (helper,) = _helpers
    assert [message["url"] for message in helper.told] == ["http://a/", "http://b/"]
    relay.hear(event("updated", "x"))
    assert (one, other, third) == ([event("updated", "x") | {"id": 7}], [event("updated", "x") | {"id": 3}], [])


@pytest.mark.parametrize("outcome", ["unchanged", "failed", "refused"])
def test_to_who_comes_later_the_list_in_use_is_new(relay: Relay, outcome: str) -> None:
    """It puts lists in force that are `updated` or `restored`: unheard, the one in use would never count."""
    subscribed(relay, "one", 1)
    relay.hear(event("updated", "x"))
    relay.hear(event(outcome, "x"))
    assert [message["outcome"] for message in subscribed(relay, "late", 1)] == ["restored"]


def test_to_who_comes_later_nothing_in_use_is_nothing(relay: Relay) -> None:
    subscribed(relay, "one", 1)
    relay.hear(event("failed"))
    assert [message["outcome"] for message in subscribed(relay, "late", 1)] == ["failed"]


def test_what_nobody_wants_any_more_is_given_up(relay: Relay) -> None:
    subscribed(relay, "one", 1)
    subscribed(relay, "other", 1)
    relay.leave("one")
    assert [message["op"] for message in _helpers[0].told] == ["subscribe"]
    relay.take("other", FOLDER, {"op": "unsubscribe", "id": 1}, lambda message: None)
    assert [message["op"] for message in _helpers[0].told] == ["subscribe", "unsubscribe"]
    assert list(relay.wanted()) == []


def test_a_load_is_answered_once_and_asked_anew_after_that_or_after_the_helpers_end(relay: Relay) -> None:
    ends: list[str] = []
    relay.join("one", lambda why, at: ends.append(why))
    heard: list[Message] = []
    for number in (1, 2):
        relay.take("one", FOLDER, {"op": "load", "id": number, "sources": ["a"]}, heard.append)
    relay.hear({"op": "loaded", "id": 1, "indexes": []})
    assert [message["id"] for message in heard] == [1, 2]
    relay.take("one", FOLDER, {"op": "load", "id": 3, "sources": ["a"]}, heard.append)
    assert len(_helpers[0].told) == 2
    relay.helper_ended("was ended by signal 9", datetime.now(UTC))
    assert ends == ["was ended by signal 9"]
    assert list(relay.wanted()) == []
