"""One helper process for all: what several workers want fetched is fetched once, and each is told."""

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from mtlsproxy.fetch.link import Hearer, HelperProcess

Message = dict[str, Any]

Tell = Callable[[Message], None]
"""Says one message to a party (a worker, or the supervisor itself)."""


@dataclass(eq=False)
class _Asked:
    """A question to the helper. Who asked it, under which number of their own; last: the last answer."""

    number: int
    message: Message
    key: bytes
    parties: dict[tuple[str, int], Tell] = field(default_factory=dict)
    last: Message | None = None

    def tell(self, message: Message) -> None:
        self.last = message
        for (_, number), tell in list(self.parties.items()):
            tell({**message, "id": number})


class Relay:
    """Speaks with the helper for any number of parties, in the words of fetch.messages."""

    def __init__(self) -> None:
        self._helper: HelperProcess | None = None
        self._numbers = 0
        self._asked: dict[int, _Asked] = {}
        self._by_key: dict[bytes, _Asked] = {}
        self._parties: dict[str, Callable[[str, datetime], None]] = {}

    def join(self, party: str, ended: Callable[[str, datetime], None]) -> None:
        """ended: told when the helper ended, and when there will be another one."""
        self._parties[party] = ended

    def leave(self, party: str) -> None:
        """It wants nothing any more."""
        self._parties.pop(party, None)
        for asked in list(self._asked.values()):
            for who, number in list(asked.parties):
                if who == party:
                    self._drop(asked, (who, number))

    def take(self, party: str, folder: Path, message: Message, tell: Tell) -> None:
        """What a party says to the helper. folder: private, and the same for all."""
        number = message["id"]
        who = (party, number)
        asked = next((a for a in self._asked.values() if who in a.parties), None)
        match message["op"]:
            case "subscribe" | "load":
                if asked is None:
                    self._ask(folder, message, who, tell)
            case "unsubscribe":
                if asked is not None:
                    self._drop(asked, who)
            case _:
                if asked is not None:
                    self._send(folder, {**message, "id": asked.number})

    def kill(self) -> None:
        """The helper hangs."""
        if self._helper is not None:
            self._helper.kill()

    async def close(self) -> None:
        if self._helper is not None:
            await self._helper.close()

    # -- what the helper says --------------------------------------------------------------------------------------

    def hear(self, message: Message) -> None:
        asked = self._asked.get(message["id"])
        if asked is not None:
            asked.tell(message)
            if message["op"] == "loaded":
                self._forget(asked)

    def helper_ended(self, why: str, next_at: datetime) -> None:
        for asked in list(self._asked.values()):
            if asked.message["op"] == "load":
                self._forget(asked)  # who asked is told just below, and asks again
        for ended in list(self._parties.values()):
            ended(why, next_at)

    def wanted(self) -> Iterable[Message]:
        return [{**asked.message, "id": asked.number} for asked in self._asked.values()]

    # -- parts -----------------------------------------------------------------------------------------------------

    def _ask(self, folder: Path, message: Message, who: tuple[str, int], tell: Tell) -> None:
        key = orjson.dumps({**message, "id": 0}, option=orjson.OPT_SORT_KEYS)
        asked = self._by_key.get(key)
        if asked is not None:
            asked.parties[who] = tell
            if asked.last is not None:
                tell({**_as_news(asked.last), "id": who[1]})
            return
        self._numbers += 1
        asked = self._asked[self._numbers] = self._by_key[key] = _Asked(self._numbers, message, key, {who: tell})
        self._send(folder, {**message, "id": asked.number})

    def _drop(self, asked: _Asked, who: tuple[str, int]) -> None:
        asked.parties.pop(who, None)
        if not asked.parties:
            self._forget(asked)
            if asked.message["op"] == "subscribe" and self._helper is not None:
                self._helper.send({"op": "unsubscribe", "id": asked.number})

    def _forget(self, asked: _Asked) -> None:
        self._asked.pop(asked.number, None)
        self._by_key.pop(asked.key, None)

    def _send(self, folder: Path, message: Message) -> None:
        if self._helper is None:
            self._helper = HelperProcess(folder, self)
        self._helper.send(message)


def _as_news(message: Message) -> Message:
    """The last event for one who has not heard those before it: to them what is in use is not unchanged, but new."""
    if message["op"] != "event" or not message["indexes"] or message["outcome"] == "updated":
        return message
    return {**message, "outcome": "restored"}


class LocalLink:
    """The supervisor's own way to the shared helper; see fetch.link.Link."""

    def __init__(self, relay: Relay, folder: Path, hearer: Hearer) -> None:
        self._relay = relay
        self._folder = folder
        self._hearer = hearer
        relay.join("supervisor", hearer.helper_ended)

    @property
    def helper_pid(self) -> int | None:
        return None

    def send(self, message: Message) -> None:
        self._relay.take("supervisor", self._folder, message, self._hearer.hear)

    def kill(self) -> None:
        self._relay.kill()

    async def close(self) -> None:
        self._relay.leave("supervisor")


class RemoteLink:
    """A worker's way to it, over its channel; see fetch.link.Link. hear, helper_ended: the orders that answer."""

    def __init__(self, send: Callable[[Message], None], folder: Path, hearer: Hearer) -> None:
        self._send = send
        self._folder = folder
        self._hearer = hearer

    @property
    def helper_pid(self) -> int | None:
        return None

    def send(self, message: Message) -> None:
        self._send({"op": "fetch", "folder": str(self._folder), "message": message})

    def kill(self) -> None:
        self._send({"op": "kill_helper"})

    async def close(self) -> None:
        """The supervisor sees when this process is gone."""

    def take(self, message: Message) -> None:
        """What the supervisor passes on."""
        with contextlib.suppress(KeyError):  # closed here while the answer was on its way
            self._hearer.hear(message)

    def helper_ended(self, why: str, next_at: datetime) -> None:
        self._hearer.helper_ended(why, next_at)
