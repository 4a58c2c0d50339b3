"""An upstream that answers with what it received."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

Say = Callable[[str], None]

_STOP_SECONDS = 1.0


@asynccontextmanager
async def echo_upstream(say: Say) -> AsyncIterator[int]:
    """Serves plain HTTP on a free port of 127.0.0.1, which it yields. say: told about each request."""

    async def echo(request: web.Request) -> web.Response:
        body = await request.read()
        who = request.headers.get("X-Client-Id", "somebody")
        say(f"upstream received {request.method} {request.raw_path} from {who}")
        received = {
            "method": request.method,
            "path": request.raw_path,
            "headers": {name: ", ".join(request.headers.getall(name)) for name in dict.fromkeys(request.headers)},
            "body_bytes": len(body),
        }
        return web.json_response(received, dumps=lambda value: json.dumps(value, indent=2) + "\n")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", echo)
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=_STOP_SECONDS)
    try:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
