"""The admin's pages. Imports aiohttp and prometheus_client: only `start_admin` loads it.

Everything here reads; nothing changes state. There is no CORS: no other origin has business here.
"""

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web

from mtlsproxy.admin.hosts import HostRule
from mtlsproxy.admin.page import STYLE_HASH, status_page
from mtlsproxy.admin.source import StatusSource
from mtlsproxy.telemetry.exposition import read, render
from mtlsproxy.telemetry.metrics import Metrics

METRICS_AND_HEALTH = frozenset({"/metrics", "/healthz", "/readyz"})

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src '{STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Server": "mtlsproxy",
}

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Scope(Enum):
    """How much of the admin one site shows; the second and third say what answers the rest."""

    ALL = auto()
    ANSWER_403 = auto()
    ANSWER_404 = auto()


def make_app(hosts: HostRule, scope: Scope, metrics: Metrics, source: StatusSource) -> web.Application:
    """The application of one site."""
    pages = _Pages(metrics, source)
    app = web.Application(middlewares=[_problems, _guard(hosts, scope)])
    app.on_response_prepare.append(_add_headers)
    app.router.add_get("/metrics", pages.metrics)
    app.router.add_get("/healthz", pages.healthz)
    app.router.add_get("/readyz", pages.readyz)
    app.router.add_get("/api/status", pages.status)
    app.router.add_get("/api/rejections", pages.rejections)
    app.router.add_get("/", pages.index)
    return app


class _Pages:
    """The handlers, which share where the facts come from."""

    def __init__(self, metrics: Metrics, source: StatusSource) -> None:
        self._metrics = metrics
        self._source = source

    async def metrics(self, request: web.Request) -> web.Response:
        accept = ",".join(request.headers.getall("Accept", []))
        accept_encoding = ",".join(request.headers.getall("Accept-Encoding", []))
        # The text of many series takes longer than a request may wait: only the copying is done here.
        exposition = await asyncio.to_thread(render, read(self._metrics), accept, accept_encoding)
        response = web.Response(body=exposition.body, headers={"Content-Type": exposition.content_type})
        response.headers["Vary"] = "Accept, Accept-Encoding"
        if exposition.encoding is not None:
            response.headers["Content-Encoding"] = exposition.encoding
        return response

    async def healthz(self, request: web.Request) -> web.Response:
        return _json({"status": "up"})

    async def readyz(self, request: web.Request) -> web.Response:
        listener = request.query.get("listener")
        try:
            ready, reasons = self._source.readiness(listener)
        except KeyError:
            return _problem(HTTPStatus.NOT_FOUND, f"there is no listener {listener}")
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        return _json({"ready": ready, "reasons": reasons}, status)

    async def status(self, request: web.Request) -> web.Response:
        return _json(self._source.status())

    async def rejections(self, request: web.Request) -> web.Response:
        return _json({"rejections": self._source.rejections()})

    async def index(self, request: web.Request) -> web.Response:
        ready, reasons = self._source.readiness(None)
        page = status_page(ready, reasons, self._source.status(), self._source.rejections())
        return web.Response(text=page, content_type="text/html", charset="utf-8")


def _guard(hosts: HostRule, scope: Scope) -> Any:
    """Refuse before any handler: unknown Host names, and what this site does not show."""

    @web.middleware
    async def guard(request: web.Request, handler: _Handler) -> web.StreamResponse:
        shown = request.path in METRICS_AND_HEALTH
        host = request.headers.get("Host")
        # A browser always sends Host, and only a browser can be tricked; health checks over HTTP/1.0 send none.
        if not (shown if host is None else hosts.accepts(host)):
            return _problem(
                HTTPStatus.FORBIDDEN, "this Host is neither the bound address nor one of admin.allowed_hosts"
            )
        if scope is Scope.ANSWER_403 and not shown:
            return _problem(
                HTTPStatus.FORBIDDEN,
                "admin.bind is not a loopback address: without a token only /metrics, /healthz and /readyz are shown",
            )
        if scope is Scope.ANSWER_404 and not shown:
            return _problem(HTTPStatus.NOT_FOUND, "only /metrics, /healthz and /readyz are here (admin.metrics_bind)")
        return await handler(request)

    return guard


@web.middleware
async def _problems(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Turn aiohttp's own refusals (404, 405) into application/problem+json (RFC 9457)."""
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as error:
        response = _problem(HTTPStatus.METHOD_NOT_ALLOWED, f"{request.path} does not take this method")
        response.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
        return response
    except web.HTTPException as error:
        return _problem(HTTPStatus(error.status), error.reason)


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(SECURITY_HEADERS)


def _json(value: object, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    return web.Response(body=orjson.dumps(value, default=str), status=status, content_type="application/json")


def _problem(status: HTTPStatus, detail: str) -> web.Response:
    body = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/problem+json")
