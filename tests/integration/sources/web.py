"""The web server of tests/integration/fetch on a thread of its own, so that a proxy on another one can ask it."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from aiohttp import web
from tests.integration.clients import PATIENCE
from tests.integration.fetch.server import Server


@dataclass
class Web(Server):
    """A `Server` that can be taken away and brought back at its address, and whose answers can be held up.

    tls: with what it speaks https; None: http.
    """

    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    tls: ssl.SSLContext | None = None
    _runner: web.AppRunner | None = None

    def hold(self, path: str) -> threading.Event:
        """Whoever asks `path` from now on waits until the event is set, and is then answered as before."""
        answer, released = self.answers[path], threading.Event()

        async def wait(request: web.Request) -> web.StreamResponse:
            while not released.is_set():  # noqa: ASYNC110 - it is set by a thread
                await asyncio.sleep(0.01)
            return await answer(request)

        self.answers[path] = wait
        return released

    def up(self) -> None:
        asyncio.run_coroutine_threadsafe(self._up(), self.loop).result(PATIENCE)

    def down(self) -> None:
        """Nobody listens any more."""
        asyncio.run_coroutine_threadsafe(self._down(), self.loop).result(PATIENCE)

    async def _up(self) -> None:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self.handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", self.port))
        self.port = sock.getsockname()[1]
        await web.SockSite(self._runner, sock, ssl_context=self.tls).start()

    async def _down(self) -> None:
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()


@contextlib.contextmanager
def running_web(tls: ssl.SSLContext | None = None) -> Iterator[Web]:
    server = Web(tls=tls)
    thread = threading.Thread(target=server.loop.run_forever, daemon=True)
    thread.start()
    try:
        server.up()
        yield server
    finally:
        server.down()
        server.loop.call_soon_threadsafe(server.loop.stop)
        thread.join(PATIENCE)
        server.loop.close()
