"""The admin's application, and the pages that read. Imports aiohttp and prometheus_client: only `start_admin` loads it.

There is no CORS: no other origin has business here.
"""

import asyncio
import logging
from datetime import UTC, datetime
from http import HTTPStatus

from aiohttp import http, web

from mtlsproxy.admin.answers import json_answer, problem
from mtlsproxy.admin.changes import MAX_BODY, Changes
from mtlsproxy.admin.connections import Limits, answering
from mtlsproxy.admin.events import Events
from mtlsproxy.admin.guard import Handler, Scope, make_guard
from mtlsproxy.admin.history import History
from mtlsproxy.admin.hosts import HostRule
from mtlsproxy.admin.page import CONTENT_SECURITY_POLICY
from mtlsproxy.admin.rendering import Rendering
from mtlsproxy.admin.source import StatusSource
from mtlsproxy.telemetry.exposition import render
from mtlsproxy.telemetry.refusals import MAX_RECENT

__all__ = ["Scope", "http_log", "make_app"]

http_log = logging.getLogger("mtlsproxy.admin.http")
"""For aiohttp."""

SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Server": "mtlsproxy",
}


def make_app(hosts: HostRule, scope: Scope, source: StatusSource, limits: Limits) -> web.Application:
    """The application of one site."""
    clock = asyncio.get_running_loop().time
    history, events = History(source, clock), Events(source)
    pages = _Pages(source, Rendering(source, history, clock))
    changes = Changes(source.control, lambda: datetime.now(UTC), limits.body)
    guard = make_guard(hosts, scope, source.control, clock)
    app = web.Application(middlewares=[_busy, _problems, guard], client_max_size=MAX_BODY)
    app.on_response_prepare.append(_add_headers)
    app.router.add_get("/metrics", pages.metrics)
    app.router.add_get("/healthz", pages.healthz)
    app.router.add_get("/readyz", pages.readyz)
    app.router.add_get("/api/status", pages.status)
    app.router.add_get("/api/rejections", pages.rejections)
    app.router.add_get("/api/rejections/{id}", pages.rejection)
    app.router.add_get("/api/clients", pages.clients)
    app.router.add_get("/api/deny", changes.denials)
    app.router.add_post("/api/deny", changes.deny)
    app.router.add_delete("/api/deny/{id}", changes.lift)
    app.router.add_post("/api/reload", changes.reload)
    app.router.add_get("/api/events", events.handle, allow_head=False)
    app.router.add_get("/", pages.index)
    app.router.add_get("/page.json", pages.renewal)
    if scope is not Scope.METRICS_ALONE:  # which has no page
        app.cleanup_ctx.append(history.kept)
    app.on_shutdown.append(events.end_all)
    return app


class _Pages:
    """The handlers, which share where the facts come from."""

    def __init__(self, source: StatusSource, rendering: Rendering) -> None:
        self._source = source
        self._rendering = rendering

    async def metrics(self, request: web.Request) -> web.Response:
        accept = ",".join(request.headers.getall("Accept", []))
        accept_encoding = ",".join(request.headers.getall("Accept-Encoding", []))
        # The text of many series takes longer than a request may wait: only the copying is done here.
        exposition = await asyncio.to_thread(render, await self._source.readings(), accept, accept_encoding)
        response = web.Response(body=exposition.body, headers={"Content-Type": exposition.content_type})
        response.headers["Vary"] = "Accept, Accept-Encoding"
        if exposition.encoding is not None:
            response.headers["Content-Encoding"] = exposition.encoding
        return response

    async def healthz(self, request: web.Request) -> web.Response:
        return json_answer({"status": "up"})

    async def readyz(self, request: web.Request) -> web.Response:
        listener = request.query.get("listener")
        try:
            ready, reasons = await self._source.readiness(listener)
            lasting = await self._source.revocation(listener)
        except KeyError:
            return problem(HTTPStatus.NOT_FOUND, f"there is no listener {listener}")
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        return json_answer({"ready": ready, "reasons": reasons, "revocation": lasting}, status)

    async def status(self, request: web.Request) -> web.Response:
        return json_answer(await self._source.status())

    async def rejections(self, request: web.Request) -> web.Response:
        return json_answer({"rejections": await self._source.rejections()})

    async def rejection(self, request: web.Request) -> web.Response:
        ident = request.match_info["id"]
        found = await self._source.rejection(ident)
        if found is None:
            words = f"no refusal of the id {ident} is known: the latest {MAX_RECENT} are, since the start"
            return problem(HTTPStatus.NOT_FOUND, words)
        return json_answer(found)

    async def clients(self, request: web.Request) -> web.Response:
        clients = await self._source.clients()
        return await asyncio.to_thread(json_answer, {"clients": clients})

    async def index(self, request: web.Request) -> web.Response:
        page = await self._rendering.html(f"http://{request.host}")
        return web.Response(body=page, content_type="text/html", charset="utf-8")

    async def renewal(self, request: web.Request) -> web.Response:
        """For the page's script alone: nobody else should rely on how the page is made."""
        page = await self._rendering.renewal(f"http://{request.host}")
        return web.Response(body=page, content_type="application/json")


def _is_no_malformed_request(record: logging.LogRecord) -> bool:
    """Anybody can send those: each would be a traceback in the log. Whoever sends one is answered with 400."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, http.HttpProcessingError | web.RequestPayloadError)


http_log.addFilter(_is_no_malformed_request)


@web.middleware
async def _busy(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Tell the connection that it is no longer the client who is awaited."""
    task = asyncio.current_task()  # which aiohttp makes for each request, and which also sends the answer
    assert task is not None
    answering(request.transport, task)
    return await handler(request)


@web.middleware
async def _problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn aiohttp's own refusals (404, 405) into application/problem+json (RFC 9457)."""
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as error:
        response = problem(HTTPStatus.METHOD_NOT_ALLOWED, f"{request.path} does not take this method")
        response.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
        return response
    except web.HTTPException as error:
        return problem(HTTPStatus(error.status), error.reason)


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(SECURITY_HEADERS)
