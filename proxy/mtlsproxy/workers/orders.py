"""What supervisor and workers say to each other (`op` of a message), and how questions find their answers.

To a worker: start, ping, stop, hurry, reload, decide, cover, uncover, refresh, reopen, denials, fetched, helper_ended,
watch, unwatch, and questions of the admin's. From it: ready, leaving, pong, failed, answer, event, fetch, kill_helper.
From each to the others: chain.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

Message = dict[str, Any]

ANSWER_WITHIN = 2.0
"""Seconds: a worker answers between two requests; a scrape or a page does not wait for one that does not."""

DENY_WITHIN = 10.0
"""Seconds for a worker to judge all its connections again, ten thousand of them too."""

RELOAD_WITHIN = 120.0
"""Seconds for a worker to read all files anew, large lists among them."""


class WorkerGone(Exception):
    """It ended, or did not answer in time."""


class Questions:
    """Asked over one channel, and not answered yet."""

    def __init__(self, send: Callable[[Message, Sequence[int]], None]) -> None:
        self._send = send
        self._number = 0
        self._open: dict[int, asyncio.Future[Message]] = {}

    async def ask(self, message: Message, descriptors: Sequence[int] = (), seconds: float = ANSWER_WITHIN) -> Message:
        """The answer. Raises WorkerGone."""
        self._number += 1
        number = self._number
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._open[number] = future
        self._send({**message, "id": number}, descriptors)
        try:
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError as error:
            raise WorkerGone from error
        finally:
            self._open.pop(number, None)

    def answered(self, message: Message) -> None:
        future = self._open.get(message["id"])
        if future is not None and not future.done():
            future.set_result(message)

    def gone(self) -> None:
        for future in self._open.values():
            if not future.done():
                future.set_exception(WorkerGone())
