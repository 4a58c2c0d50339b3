"""A web server for these tests: answers by path, and remembers what it was asked."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Server:
    """answers: by path. Unknown paths are 404."""

    port: int = 0
    answers: dict[str, Handler] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def paths(self) -> list[str]:
        return [asked.path for asked in self.asked]

    def give(self, path: str, body: bytes, status: int = 200, **headers: str) -> None:
        async def answer(_: web.Request) -> web.Response:
            return web.Response(body=body, status=status, headers={k.replace("_", "-"): v for k, v in headers.items()})

        self.answers[path] = answer

    def redirect(self, path: str, to: str, status: int = 302) -> None:
        self.give(path, b"", status, Location=to)

    def tagged(self, path: str, body: bytes, etag: str) -> None:
        """Answers 304 to who has it already."""

        async def answer(request: web.Request) -> web.Response:
            if request.headers.get("If-None-Match") == etag:
                return web.Response(status=304, headers={"ETag": etag})
            return web.Response(body=body, headers={"ETag": etag, "Last-Modified": "Sun, 01 Jun 2025 11:00:00 GMT"})

        self.answers[path] = answer

    def drip(self, path: str, piece: bytes, pause: float) -> None:
        """Never ends; one piece after another until the client leaves."""

        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            while request.transport is not None and not request.transport.is_closing():
                await response.write(piece)
                await asyncio.sleep(pause)
            return response

        self.answers[path] = answer

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(Asked(request.method, request.path, dict(request.headers), await request.read()))
        handler = self.answers.get(request.path)
        return await handler(request) if handler else web.Response(status=404)
