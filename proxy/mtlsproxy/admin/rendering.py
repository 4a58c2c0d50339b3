"""The status page as it is now, made at most once a second, however many look at it."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

import orjson

from mtlsproxy.admin.history import History
from mtlsproxy.admin.page import document, renewal
from mtlsproxy.admin.source import StatusSource
from mtlsproxy.admin.view import clients
from mtlsproxy.admin.view.facts import Facts

EVERY = 0.9
"""Seconds between two renderings; the page's script asks once a second at most."""
_REMEMBERED = 8
"""Renderings kept: one for each kind and name that the admin is called by."""

Kind = Literal["html", "json"]


class Rendering:
    """now: a monotonic clock, in seconds."""

    def __init__(self, source: StatusSource, history: History, now: Callable[[], float]) -> None:
        self._source = source
        self._history = history
        self._now = now
        self._lock = asyncio.Lock()
        self._made: dict[tuple[Kind, str], tuple[float, bytes]] = {}

    async def html(self, url: str) -> bytes:
        """The document, which may be a second old. url: of the admin, as who asks calls it."""
        began, made = self._made.get(("html", url), (-EVERY, b""))
        return made if self._now() - began < EVERY else await self._make("html", url)

    async def renewal(self, url: str) -> bytes:
        """What the page's script asks for when something has happened: never older than the question, for which it
        may have to wait a moment. Whoever else has asked meanwhile gets the same."""
        asked = self._now()
        async with self._lock:
            began, made = self._made.get(("json", url), (-EVERY, b""))
            if began >= asked:
                return made
            await asyncio.sleep(began + EVERY - self._now())
            return await self._make("json", url)

    async def _make(self, kind: Kind, url: str) -> bytes:
        began = self._now()
        facts = await self._facts(url)
        # The text of hundreds of rows takes longer than a request may wait: only the copying is done here.
        made = await asyncio.to_thread(_render, kind, facts)
        if len(self._made) >= _REMEMBERED:
            self._made.clear()
        self._made[kind, url] = (began, made)
        return made

    async def _facts(self, url: str) -> Facts:
        source = self._source
        ready, reasons = await source.readiness(None)
        traffic = await source.traffic()
        known = await source.clients(clients.SHOWN + 1)
        return Facts(
            now=datetime.now(UTC),
            url=url,
            ready=ready,
            reasons=reasons,
            status=await source.status(),
            rejections=await source.rejections(),
            clients=known[: clients.SHOWN],
            more_clients=len(known) > clients.SHOWN,
            traffic=traffic,
            course=self._history.course(traffic),
        )


def _render(kind: Kind, facts: Facts) -> bytes:
    # Surrogates, which UTF-8 cannot carry, become question marks.
    return document(facts).encode("utf-8", "replace") if kind == "html" else orjson.dumps(renewal(facts))
