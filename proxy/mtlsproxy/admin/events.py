"""`/api/events`: what happens, as server-sent events (WHATWG HTML §9.2), for the status page and for programs.

`status`    on connecting and when it changes: `ready`, `reasons`, `configuration`, `revocation`
`traffic`   on connecting and when it grows: `traffic_of`'s numbers
`refusals`  `refusals`, newest first, with the fields of the refusal log, and `more`: how many there were besides

Nobody who reads slowly, or not at all, keeps anything: what waits for one subscriber is bounded, and who falls behind
is let go, to connect again and start from the state of then.
"""

import asyncio
import logging
from collections import deque
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web

from mtlsproxy.admin.answers import problem
from mtlsproxy.admin.source import StatusSource

MAX_SUBSCRIBERS = 16
MAX_WAITING = 64
"""Events kept for one subscriber: many seconds of them."""
HEARTBEAT = 15.0
"""Seconds of silence after which a comment is sent: middleboxes drop connections that carry nothing."""
LOOK_EVERY = 2.0
"""Seconds between looks at what no event tells of: counters, reloads, lists that end."""
_RETRY = b"retry: 3000\n\n"
_GONE_WITHIN = 1.0
"""Seconds within which a subscriber that has left is noticed, whose place another may want."""

log = logging.getLogger(__name__)


class _Subscriber:
    """What waits to be sent to one. over: nothing more will come."""

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._news = asyncio.Event()
        self.over = False

    def tell(self, message: bytes) -> None:
        if len(self._waiting) >= MAX_WAITING:
            self.end()
        else:
            self._waiting.append(message)
            self._news.set()

    def end(self) -> None:
        self.over = True
        self._news.set()

    async def take(self, seconds: float) -> bytes:
        """All that waits, or b"" after so many seconds of nothing."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return b""
        self._news.clear()
        taken = b"".join(self._waiting)
        self._waiting.clear()
        return taken


class Events:
    """The subscribers of one site; while there are none, nothing is asked of the proxy."""

    def __init__(self, source: StatusSource) -> None:
        self._source = source
        self._subscribers: set[_Subscriber] = set()
        self._told: dict[str, bytes] = {}
        self._looking: asyncio.Task[None] | None = None
        self._closed = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self._closed or len(self._subscribers) >= MAX_SUBSCRIBERS:
            full = problem(HTTPStatus.SERVICE_UNAVAILABLE, f"{MAX_SUBSCRIBERS} subscribers are listening already")
            full.headers["Retry-After"] = "10"
            return full
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        subscriber = _Subscriber()
        self._subscribers.add(subscriber)
        try:
            await response.prepare(request)
            await response.write(_RETRY)
            await self._welcome(subscriber)
            await _send(request, response, subscriber)
        except ConnectionResetError:
            pass  # it left while something was on its way to it
        finally:
            self._leave(subscriber)
        return response

    async def end_all(self, app: web.Application) -> None:
        """Let all go: the proxy is about to stop."""
        self._closed = True
        for subscriber in self._subscribers:
            subscriber.end()
        if self._looking is not None:
            self._looking.cancel()

    async def _welcome(self, subscriber: _Subscriber) -> None:
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look())
            self._looking.add_done_callback(self._looked)
        else:
            for message in self._told.values():
                subscriber.tell(message)

    def _leave(self, subscriber: _Subscriber) -> None:
        self._subscribers.discard(subscriber)
        if not self._subscribers and self._looking is not None:
            self._looking.cancel()
            self._looking = None
            self._told = {}

    async def _look(self) -> None:
        end = await self._source.watch(self._pass_on)
        try:
            while True:
                self._tell_change("status", await self._status())
                self._tell_change("traffic", await self._source.traffic())
                await asyncio.sleep(LOOK_EVERY)
        finally:
            end()

    def _looked(self, task: asyncio.Task[None]) -> None:
        """Whoever listens must not take silence for peace: if it failed, all are let go, to connect again."""
        if task.cancelled() or task.exception() is None:
            return
        log.error("events: what is told of cannot be looked at", exc_info=task.exception())
        self._looking = None
        self._told = {}
        for subscriber in self._subscribers:
            subscriber.end()

    async def _status(self) -> dict[str, Any]:
        ready, reasons = await self._source.readiness(None)
        lists = await self._source.revocation(None)
        return {
            "ready": ready,
            "reasons": reasons,
            "configuration": (await self._source.status()).get("configuration"),
            # Without the seconds that are left, which are others at each look.
            "revocation": [{key: each[key] for key in ("truststore", "issuer", "state")} for each in lists],
        }

    def _tell_change(self, name: str, value: dict[str, Any]) -> None:
        message = _message(name, value)
        if self._told.get(name) != message:
            self._told[name] = message
            self._tell_all(message)

    def _pass_on(self, event: dict[str, Any]) -> None:
        self._tell_all(_message(event["event"], {key: value for key, value in event.items() if key != "event"}))

    def _tell_all(self, message: bytes) -> None:
        for subscriber in self._subscribers:
            subscriber.tell(message)


async def _send(request: web.Request, response: web.StreamResponse, subscriber: _Subscriber) -> None:
    """Until either side has enough."""
    silent = 0.0
    while not subscriber.over and request.transport is not None:
        taken = await subscriber.take(_GONE_WITHIN)
        silent = 0.0 if taken else silent + _GONE_WITHIN
        if taken:
            await response.write(taken)
        elif silent >= HEARTBEAT:
            silent = 0.0
            await response.write(b": nothing new\n\n")


def _message(name: str, value: dict[str, Any]) -> bytes:
    """JSON has no line ends of its own, which would end the event."""
    return b"event: %b\ndata: %b\n\n" % (name.encode("ascii"), orjson.dumps(value, default=str))
