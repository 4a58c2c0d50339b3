"""Who is answered at all: known Host names, what this site shows, and the token of those who change something."""

import logging
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from http import HTTPStatus
from typing import Any

from aiohttp import web

from mtlsproxy.admin.answers import problem
from mtlsproxy.admin.hosts import HostRule
from mtlsproxy.admin.source import Controls

METRICS_AND_HEALTH = frozenset({"/metrics", "/healthz", "/readyz"})

_READING = frozenset({"GET", "HEAD"})

_WRONG_AT_ONCE = 5
_WRONG_A_SECOND = 1.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = logging.getLogger(__name__)


class Scope(Enum):
    """How much of the admin one site shows: the second asks for the token, the third answers 404."""

    ALL = auto()
    WITH_TOKEN = auto()
    METRICS_ALONE = auto()


class _WrongTokens:
    """Lets a few wrong tokens a second be answered and logged in full. Right ones are never held up: nobody can be
    locked out, and it is the token's length that keeps guesses out."""

    def __init__(self) -> None:
        self._left = float(_WRONG_AT_ONCE)
        self._since = 0.0

    def admits(self, now: float) -> bool:
        self._left = min(float(_WRONG_AT_ONCE), self._left + (now - self._since) * _WRONG_A_SECOND)
        self._since = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def make_guard(hosts: HostRule, scope: Scope, control: Controls, now: Callable[[], float]) -> Any:
    """The middleware that refuses before any handler. now: a monotonic clock, in seconds."""
    wrong = _WrongTokens()

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        shown = request.path in METRICS_AND_HEALTH
        host = request.headers.get("Host")
        # A browser always sends Host, and only a browser can be tricked; health checks over HTTP/1.0 send none.
        if not (shown if host is None else hosts.accepts(host)):
            return problem(
                HTTPStatus.FORBIDDEN, "this Host is neither the bound address nor one of admin.allowed_hosts"
            )
        if scope is Scope.METRICS_ALONE and not shown:
            return problem(HTTPStatus.NOT_FOUND, "only /metrics, /healthz and /readyz are here (admin.metrics_bind)")
        if (scope is Scope.WITH_TOKEN and not shown) or _changes_something(request):
            refused = _without_token(scope) if control.token is None else _unauthorised(request, control, wrong, now)
            if refused is not None:
                return refused
        return await handler(request)

    return guard


def _changes_something(request: web.Request) -> bool:
    """What is no route of ours, or not by this method, changes nothing and is answered with 404 or 405."""
    return request.method not in _READING and request.match_info.http_exception is None


def _without_token(scope: Scope) -> web.Response:
    if scope is Scope.WITH_TOKEN:
        words = (
            "admin.bind is not a loopback address: without admin.token_file only /metrics, /healthz and /readyz "
            "are shown"
        )
    else:
        words = "this call changes state: it needs a bearer token, and admin.token_file names none"
    return problem(HTTPStatus.FORBIDDEN, words)


def _unauthorised(
    request: web.Request, control: Controls, wrong: _WrongTokens, now: Callable[[], float]
) -> web.Response | None:
    """None: the request carries the token."""
    presented = request.headers.getall("Authorization", [])
    if not presented:
        return _challenge("this needs the token of admin.token_file: Authorization: Bearer TOKEN", "")
    scheme, _, value = presented[0].partition(" ")
    known = control.token
    token = value.strip().encode("utf-8", "surrogateescape")
    if len(presented) == 1 and scheme.lower() == "bearer" and known is not None and known.matches(token):
        return None
    if not wrong.admits(now()):
        answer = problem(HTTPStatus.TOO_MANY_REQUESTS, "too many wrong tokens: the right one is still accepted")
        answer.headers["Retry-After"] = "1"
        return answer
    log.warning("%s %s by %s with a wrong token", request.method, request.path, peer_of(request))
    return _challenge("the token is not that of admin.token_file", ', error="invalid_token"')


def _challenge(detail: str, error: str) -> web.Response:
    answer = problem(HTTPStatus.UNAUTHORIZED, detail)
    answer.headers["WWW-Authenticate"] = f'Bearer realm="mtlsproxy admin"{error}'  # RFC 6750 §3
    return answer


def peer_of(request: web.Request) -> str:
    """Who asks, as address and port."""
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    return f"{peer[0]} port {peer[1]}" if peer else "a peer that has left"
