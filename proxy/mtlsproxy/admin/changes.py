"""The calls that change something: deny, lift, reload. The guard has seen their token."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from typing import Any

from aiohttp import web

from mtlsproxy.admin.answers import json_answer, problem
from mtlsproxy.admin.denial import BadDenial, read_denial
from mtlsproxy.admin.guard import peer_of
from mtlsproxy.admin.source import Controls
from mtlsproxy.runtime.control import NotServing
from mtlsproxy.runtime.denials import MAX_DENIALS, DenialsError, TooManyDenials
from mtlsproxy.verdict.trust import Denial

MAX_BODY = 16 * 1024


class Changes:
    """The handlers. now: the wall clock, aware. body: seconds within which a body must be there."""

    def __init__(self, control: Controls, now: Callable[[], datetime], body: float) -> None:
        self._control = control
        self._now = now
        self._body = body

    async def denials(self, request: web.Request) -> web.Response:
        return json_answer({"denials": [shown(denial) for denial in self._control.denials()]})

    async def deny(self, request: web.Request) -> web.Response:
        # Besides the token: a form on another site cannot send this type without being asked (CORS preflight).
        if request.content_type != "application/json":
            return _not_json()
        try:
            async with asyncio.timeout(self._body):
                body = await request.read()
        except TimeoutError:
            late = problem(HTTPStatus.REQUEST_TIMEOUT, f"the body was not there within {self._body:g} seconds")
            late.force_close()
            return late
        try:
            asked = read_denial(body, self._control.truststores, self._now())
        except BadDenial as bad:
            mistakes = [{"detail": mistake.detail, "pointer": mistake.pointer} for mistake in bad.mistakes]
            return problem(HTTPStatus.BAD_REQUEST, str(bad), mistakes)
        try:
            done = await self._control.deny(asked.entry, asked.truststore, peer_of(request))
        except TooManyDenials:
            words = f"there are {MAX_DENIALS} denials already: lift some, or use the truststore's deny_file"
            return problem(HTTPStatus.CONFLICT, words)
        except DenialsError as error:
            words = f"in force now, but not kept: a restart would forget it. {error.detail}; then send it again"
            return problem(HTTPStatus.INTERNAL_SERVER_ERROR, words)
        answer = shown(done.denial) | {"connections_ended": done.ended}
        if done.warning is not None:
            answer["warning"] = f"issuer: {done.warning}"
        return json_answer(answer, HTTPStatus.CREATED if done.made else HTTPStatus.OK)

    async def lift(self, request: web.Request) -> web.Response:
        ident = request.match_info["id"]
        try:
            lifted = await self._control.lift(ident, peer_of(request))
        except DenialsError as error:
            return problem(HTTPStatus.INTERNAL_SERVER_ERROR, f"it is still in force: {error.detail}")
        if lifted is None:
            return problem(HTTPStatus.NOT_FOUND, f"there is no denial {ident}")
        return json_answer({"lifted": shown(lifted)})

    async def reload(self, request: web.Request) -> web.Response:
        if request.can_read_body and request.content_type != "application/json":
            return _not_json()
        try:
            outcome = await self._control.reload(peer_of(request))
        except NotServing as error:
            return problem(HTTPStatus.CONFLICT, str(error))
        if outcome.ok:
            return json_answer({"generation": outcome.generation})
        words = f"nothing has changed, generation {outcome.generation} stays in force: {'; '.join(outcome.errors)}"
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, words, [{"detail": error} for error in outcome.errors])


def shown(denial: Denial) -> dict[str, Any]:
    """As JSON: who is denied in the words that were sent; null where a denial has no end, or is for all truststores."""
    said = denial.model_dump(mode="json", exclude_none=True)
    return {"id": denial.id, "truststore": None, "expires": None, "reason": None, **said}


def _not_json() -> web.Response:
    return problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body must be sent as Content-Type: application/json")
