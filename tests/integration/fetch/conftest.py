"""Real servers on 127.0.0.1."""

import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from tests.integration.fetch.server import Server


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    await web.SockSite(runner, sock).start()
    made.port = sock.getsockname()[1]
    yield made
    await runner.cleanup()


@pytest.fixture
def closed_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
