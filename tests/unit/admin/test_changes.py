"""Calls that change something: who may make them, what they answer, and that reading needs no token on loopback."""

import json
from typing import Any

import aiohttp
import pytest
from tests.unit.admin.site import Site, problem
from tests.unit.admin.source import NOW

from mtlsproxy.admin.changes import MAX_BODY
from mtlsproxy.runtime.control import NotServing
from mtlsproxy.runtime.denials import DenialsError, TooManyDenials
from mtlsproxy.runtime.reload import Outcome
from mtlsproxy.runtime.token import Token

TOKEN = "correct-horse-battery-staple"
HASH = "ab" * 32
CALLS = [("POST", "/api/deny"), ("DELETE", "/api/deny/id0"), ("POST", "/api/reload")]
JSON = "application/json"


async def call(
    site: Site, method: str, path: str, said: Any = None, token: str = f"Bearer {TOKEN}", **headers: str
) -> tuple[aiohttp.ClientResponse, bytes]:
    if token:
        headers["Authorization"] = token
    if said is not None:
        headers.setdefault("Content_Type", JSON)
    data = said if isinstance(said, bytes) else None if said is None else json.dumps(said).encode()
    return await site.get(path, method=method, data=data, **headers)


@pytest.fixture
def locked(site: Site) -> Site:
    site.source.control.token = Token(TOKEN)
    return site


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_without_a_token_file_nobody_changes_anything(site: Site, method: str, path: str) -> None:
    for token in ("", f"Bearer {TOKEN}", "Bearer "):
        response, body = await call(site, method, path, {"spki_sha256": HASH}, token)
        assert response.status == 403
        assert "admin.token_file" in problem(response, body)
    assert site.source.control.asked == []


@pytest.mark.parametrize(("method", "path"), CALLS)
@pytest.mark.parametrize("token", ["", "Bearer", "Bearer ", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", "Bearer \xff"])
async def test_only_the_token_opens(locked: Site, method: str, path: str, token: str) -> None:
    response, body = await call(locked, method, path, {"spki_sha256": HASH}, token)
    assert response.status == 401
    assert problem(response, body)
    challenge = response.headers["WWW-Authenticate"]
    assert challenge == 'Bearer realm="mtlsproxy admin"' + (', error="invalid_token"' if token else "")
    assert locked.source.control.asked == []


async def test_two_authorization_headers_are_not_one(locked: Site) -> None:
    headers = [("Authorization", f"Bearer {TOKEN}"), ("Authorization", f"Bearer {TOKEN}")]
    url = f"http://127.0.0.1:{locked.port}/api/reload"
    async with locked.client.post(url, headers=headers) as response:
        assert response.status == 401


@pytest.mark.parametrize("token", [f"Bearer {TOKEN}", f"bearer  {TOKEN} "])
async def test_the_token_opens(locked: Site, token: str) -> None:
    response, _ = await call(locked, "POST", "/api/reload", token=token)
    assert response.status == 200


async def test_wrong_tokens_are_slowed_and_the_right_one_never_is(locked: Site) -> None:
    found = [(await call(locked, "POST", "/api/reload", token=f"Bearer {n}"))[0] for n in range(12)]
    assert [response.status for response in found[:5]] == [401] * 5
    assert 429 in {response.status for response in found}
    assert {response.headers["Retry-After"] for response in found if response.status == 429} == {"1"}
    assert (await call(locked, "POST", "/api/reload"))[0].status == 200


async def test_who_sends_no_token_is_not_counted_among_the_wrong(locked: Site) -> None:
    for _ in range(20):
        assert (await call(locked, "POST", "/api/reload", token=""))[0].status == 401
    assert (await call(locked, "POST", "/api/reload", token="Bearer x"))[0].status == 401


async def test_a_new_token_takes_the_place_of_the_old_one(locked: Site) -> None:
    locked.source.control.token = Token("another-token-another")
    assert (await call(locked, "POST", "/api/reload"))[0].status == 401
    assert (await call(locked, "POST", "/api/reload", token="Bearer another-token-another"))[0].status == 200


@pytest.mark.parametrize("path", ["/", "/api/status", "/api/rejections", "/api/deny", "/metrics"])
async def test_reading_on_loopback_needs_no_token(locked: Site, path: str) -> None:
    assert (await locked.get(path))[0].status == 200


@pytest.mark.parametrize("path", ["/", "/api/status", "/api/rejections", "/api/deny", "/missing"])
async def test_where_others_can_reach_it_reading_needs_the_token(open_site: Site, path: str) -> None:
    open_site.source.control.token = Token(TOKEN)
    response, body = await open_site.get(path)
    assert response.status == 401
    assert problem(response, body)
    response, _ = await call(open_site, "GET", path)
    assert response.status == (404 if path == "/missing" else 200)


async def test_where_others_can_reach_it_metrics_and_health_need_none(open_site: Site) -> None:
    open_site.source.control.token = Token(TOKEN)
    for path in ("/metrics", "/healthz", "/readyz"):
        assert (await open_site.get(path))[0].status == 200


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_the_metrics_site_changes_nothing(locked: Site, method: str, path: str) -> None:
    port = locked.server.metrics_addresses[0].port
    response, _ = await locked.get(path, method=method, port=port, Authorization=f"Bearer {TOKEN}")
    assert response.status == 404
    assert locked.source.control.asked == []


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_a_rebound_name_changes_nothing_even_with_the_token(locked: Site, method: str, path: str) -> None:
    response, _ = await call(locked, method, path, {"spki_sha256": HASH}, Host="evil.example")
    assert response.status == 403
    assert locked.source.control.asked == []


@pytest.mark.parametrize("path", ["/api/deny", "/api/reload"])
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
async def test_what_a_form_can_send_is_no_json(locked: Site, path: str, kind: str) -> None:
    response, body = await call(locked, "POST", path, {"spki_sha256": HASH}, Content_Type=kind)
    assert response.status == 415
    assert "application/json" in problem(response, body)
    assert locked.source.control.asked == []


async def test_no_other_origin_is_let_in(locked: Site) -> None:
    for _, path in CALLS:
        headers = {"Origin": "http://evil.example", "Access_Control_Request_Method": "POST"}
        response, _ = await locked.get(path, method="OPTIONS", **headers)
        assert response.status == 405
        assert not [name for name in response.headers if name.lower().startswith("access-control-")]


async def test_a_denial_is_answered_as_it_is_stored_and_listed(locked: Site) -> None:
    said = {"issuer": "CN=CA", "serial": "04:D2", "reason": "lost", "expires": "2031-01-01T02:00:00+02:00"}
    response, body = await call(locked, "POST", "/api/deny", said | {"truststore": "staff"})
    assert (response.status, response.content_type) == (201, JSON)
    shown = json.loads(body)
    assert shown.pop("connections_ended") == 3
    assert shown.pop("by").startswith("127.0.0.1 port ")
    assert shown == {
        "id": "id0",
        "issuer": "CN=CA",
        "serial": "04:D2",
        "expires": "2031-01-01T00:00:00Z",
        "reason": "lost",
        "truststore": "staff",
        "created": NOW.isoformat().replace("+00:00", "Z"),
    }
    await call(locked, "POST", "/api/deny", {"spki_sha256": HASH})
    _, body = await locked.get("/api/deny")
    first, second = json.loads(body)["denials"]
    assert (first["id"], second["id"]) == ("id0", "id1")
    assert (second["expires"], second["reason"], second["truststore"]) == (None, None, None)


async def test_mistakes_are_listed(locked: Site) -> None:
    response, body = await call(locked, "POST", "/api/deny", {"spki_sha256": "xyz", "truststore": "nobody"})
    assert response.status == 400
    assert "there is no truststore nobody" in problem(response, body)
    assert [error["pointer"] for error in json.loads(body)["errors"]] == ["#/truststore", "#/spki_sha256"]
    assert locked.source.control.asked == []


async def test_a_body_without_end_is_refused(locked: Site) -> None:
    response, body = await call(locked, "POST", "/api/deny", b" " * (MAX_BODY + 1))
    assert response.status == 413
    assert problem(response, body)


async def test_a_denial_that_could_not_be_kept_is_no_success(locked: Site) -> None:
    locked.source.control.failure = DenialsError("cannot write /state/denials.json: No space left on device")
    response, body = await call(locked, "POST", "/api/deny", {"spki_sha256": HASH})
    assert response.status == 500
    assert problem(response, body).startswith("in force now, but not kept: ")
    response, body = await call(locked, "DELETE", "/api/deny/id0")
    assert response.status == 500
    assert problem(response, body).startswith("it is still in force: ")


async def test_one_denial_too_many_is_a_conflict(locked: Site) -> None:
    locked.source.control.failure = TooManyDenials()
    response, body = await call(locked, "POST", "/api/deny", {"spki_sha256": HASH})
    assert response.status == 409
    assert "deny_file" in problem(response, body)


async def test_a_denial_is_lifted_once(locked: Site) -> None:
    await call(locked, "POST", "/api/deny", {"spki_sha256": HASH})
    response, body = await call(locked, "DELETE", "/api/deny/id0")
    assert (response.status, json.loads(body)["lifted"]["spki_sha256"]) == (200, HASH)
    response, body = await call(locked, "DELETE", "/api/deny/id0")
    assert response.status == 404
    assert problem(response, body) == "there is no denial id0"


async def test_a_reload_says_what_is_in_force(locked: Site) -> None:
    response, body = await call(locked, "POST", "/api/reload")
    assert (response.status, json.loads(body)) == (200, {"generation": 7})


async def test_a_reload_that_failed_says_why(locked: Site) -> None:
    locked.source.control.outcome = Outcome(NOW, ("a.yaml:1:1: wrong", "b.yaml:2:2: too"), 6)
    response, body = await call(locked, "POST", "/api/reload", {})
    assert response.status == 422
    assert "generation 6 stays in force" in problem(response, body)
    assert [error["detail"] for error in json.loads(body)["errors"]] == ["a.yaml:1:1: wrong", "b.yaml:2:2: too"]


async def test_a_proxy_that_stops_does_not_reload(locked: Site) -> None:
    locked.source.control.failure = NotServing("about to stop")
    response, body = await call(locked, "POST", "/api/reload")
    assert (response.status, problem(response, body)) == (409, "about to stop")
