"""A running admin server and a client that talks to it."""

import json
from collections.abc import AsyncIterator

import aiohttp
from tests.unit.admin.source import Source

from mtlsproxy.admin.connections import Limits
from mtlsproxy.admin.server import AdminServer, start_admin
from mtlsproxy.config.service import Admin
from mtlsproxy.telemetry.metrics import Metrics


class Site:
    """A running server and a client that talks to it."""

    def __init__(self, server: AdminServer, client: aiohttp.ClientSession, source: Source, metrics: Metrics) -> None:
        self.server = server
        self.client = client
        self.source = source
        self.metrics = metrics
        self.port = server.addresses[0].port

    async def get(
        self, path: str, method: str = "GET", port: int = 0, data: bytes | None = None, **headers: str
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        url = f"http://127.0.0.1:{port or self.port}{path}"
        sent = {"Accept-Encoding": "identity"} | {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.request(method, url, headers=sent, data=data, allow_redirects=False) as response:
            return response, await response.read()


async def serve(admin: Admin, limits: Limits | None = None) -> AsyncIterator[Site]:
    source = Source()
    server = await start_admin(admin, source, limits)
    async with aiohttp.ClientSession(auto_decompress=False) as client:
        yield Site(server, client, source, source.metrics)
    await server.close()


def problem(response: aiohttp.ClientResponse, body: bytes) -> str:
    """The detail of a problem+json answer, which it must be (RFC 9457)."""
    assert response.content_type == "application/problem+json"
    found = json.loads(body)
    assert found["status"] == response.status
    assert {"type", "title", "detail"} <= set(found)
    return str(found["detail"])
