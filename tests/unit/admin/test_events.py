"""Events reach who listens, in time and whole; who does not listen well keeps nothing of anybody's."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from tests.unit.admin.site import Site, problem

from mtlsproxy.admin import events
from mtlsproxy.admin.events import MAX_SUBSCRIBERS, MAX_WAITING, _Subscriber

PATIENCE = 20.0

Event = tuple[str, Any]


class Listener:
    """One subscriber. Comments come as events without a name."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def next(self) -> Event:
        async with asyncio.timeout(PATIENCE):
            block = (await self._response.content.readuntil(b"\n\n")).decode().removesuffix("\n\n")
        if not block:
            raise EOFError
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        if "retry" in fields:
            return await self.next()
        return fields.get("event", ""), json.loads(fields["data"]) if "data" in fields else fields

    async def until(self, name: str) -> Any:
        while (event := await self.next())[0] != name:
            pass
        return event[1]


@asynccontextmanager
async def listening(site: Site) -> AsyncIterator[Listener]:
    async with site.client.get(f"http://127.0.0.1:{site.port}/api/events") as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert response.headers["Cache-Control"] == "no-store"
        yield Listener(response)


async def until(look: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            if await look():
                return
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(events, "_GONE_WITHIN", 0.02)


async def test_the_state_comes_first_and_then_what_changes(site: Site) -> None:
    async with listening(site) as listener:
        name, state = await listener.next()
        assert name == "status"
        assert (state["ready"], state["reasons"], state["configuration"]["generation"]) == (True, [], 4)
        assert state["revocation"] == [{"truststore": "partners", "issuer": "CN=CA", "state": "fresh"}]
        assert (await listener.next()) == (
            "traffic", {"requests": {}, "refusals": {}, "let_pass": {}, "connections": 0, "in_flight": 0},
        )  # fmt: skip
        site.source.reasons = ["draining"]
        assert (await listener.until("status"))["ready"] is False
        site.metrics.rejections_total.cell("internal", "", "revoked", "true").value = 2
        assert (await listener.until("traffic"))["refusals"] == {"revoked": 2}


async def test_refusals_are_passed_on_as_they_are(site: Site) -> None:
    async with listening(site) as listener, listening(site) as other:
        await listener.until("traffic")
        await other.until("status")
        (tell,) = site.source.watching
        tell({"event": "refusals", "refusals": [{"detail": "a\nb\u2028c"}], "more": 3})
        for each in (listener, other):
            assert await each.until("refusals") == {"refusals": [{"detail": "a\nb\u2028c"}], "more": 3}


async def test_a_second_subscriber_is_told_the_state_as_well(site: Site) -> None:
    async with listening(site) as first:
        await first.until("traffic")
        async with listening(site) as second:
            assert [(await second.next())[0] for _ in range(2)] == ["status", "traffic"]


async def test_silence_is_broken_by_a_comment(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT", 0.1)
    async with listening(site) as listener:
        assert (await listener.until("")) == {"": "nothing new"}


async def test_nobody_is_asked_while_nobody_listens(site: Site) -> None:
    assert site.source.watching == []
    async with listening(site) as listener:
        await listener.until("traffic")
        assert len(site.source.watching) == 1

    async def nobody() -> bool:
        return not site.source.watching

    await until(nobody)


async def test_there_is_room_for_so_many_and_again_when_one_has_left(site: Site) -> None:
    async with aiohttp.ClientSession() as others:
        taken = [await others.get(f"http://127.0.0.1:{site.port}/api/events") for _ in range(MAX_SUBSCRIBERS)]
        response, body = await site.get("/api/events")
        assert response.status == 503
        assert "listening already" in problem(response, body)
        assert response.headers["Retry-After"]
        taken[0].close()

        async def admitted() -> bool:
            async with site.client.get(f"http://127.0.0.1:{site.port}/api/events") as again:
                return again.status == 200

        await until(admitted)


async def test_who_does_not_take_what_comes_is_let_go() -> None:
    subscriber = _Subscriber()
    for _ in range(MAX_WAITING):
        subscriber.tell(b"x")
    assert not subscriber.over
    subscriber.tell(b"x")
    assert subscriber.over
    assert len(await subscriber.take(0)) == MAX_WAITING


async def test_subscribers_do_not_hold_up_the_end(site: Site) -> None:
    async with listening(site) as listener:
        await listener.until("traffic")
        async with asyncio.timeout(PATIENCE):
            await site.server.close()
        with pytest.raises((aiohttp.ClientError, EOFError)):
            while True:
                await listener.next()


async def test_when_nothing_can_be_looked_at_nobody_takes_silence_for_peace(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(site) as listener:
        await listener.until("traffic")
        site.source.failure = RuntimeError("out of order")
        with pytest.raises(EOFError):
            await listener.until("end")
    assert "out of order" in caplog.text
    site.source.failure = None
    async with listening(site) as listener:
        await listener.until("traffic")


async def test_head_is_not_answered_for_ever(site: Site) -> None:
    response, _ = await site.get("/api/events", method="HEAD")
    assert response.status == 405
