"""JSON and problem answers of the admin server."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web


def json_answer(value: object, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    return web.Response(body=orjson.dumps(value, default=str), status=status, content_type="application/json")


def problem(status: HTTPStatus, detail: str, errors: Sequence[Mapping[str, Any]] = ()) -> web.Response:
    """application/problem+json (RFC 9457). errors: an object for each mistake, where there can be several."""
    body: dict[str, Any] = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
    if errors:
        body["errors"] = list(errors)
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/problem+json")
