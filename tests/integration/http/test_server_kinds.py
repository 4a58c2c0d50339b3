"""Where servers are and whether they are well: unix sockets, names with several addresses, active health checks."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from tests.integration.clients import request
from tests.integration.harness import Tree, eventually
from tests.integration.http.conftest import Serve
from tests.integration.http.peers import OK, Listening, listening
from tests.integration.http.test_failing_servers import counted, said, use
from tests.integration.upstream import Recorded, RecordingUpstream

from mtlsproxy.upstream import addresses

UNWELL = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"


@contextlib.contextmanager
def aiohttp_server(path: Path) -> Iterator[None]:
    """An aiohttp application at a unix socket, on a thread of its own. It answers with the Host that it was sent."""

    async def echo(asked: web.Request) -> web.Response:
        return web.Response(text=f"{asked.headers['Host']} {len(await asked.read())}")

    async def running() -> AsyncIterator[None]:
        application = web.Application(client_max_size=4 * 1024 * 1024)
        application.router.add_route("*", "/{path:.*}", echo)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.UnixSite(runner, str(path)).start()
        yield
        await runner.cleanup()

    async def main() -> None:
        async with contextlib.asynccontextmanager(running)():
            ready.set()
            await stop.wait()

    ready, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(main()), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


@pytest.mark.parametrize(("host", "seen"), [("preserve", "proxy.test"), ("server", "localhost")])
def test_a_unix_socket_is_served_like_any_other(
    config: Tree, serve: Serve, tmp_path: Path, host: str, seen: str
) -> None:
    """With bodies both ways; a path is no name, so `host: server` says localhost."""
    url = f"unix:{tmp_path}/app.sock"
    use(config, url, host=host)
    with aiohttp_server(tmp_path / "app.sock"):
        served = serve()
        with served.connect() as client:
            assert client.get().body == f"{seen} 0".encode()
            body = b"x" * 1_000_000
            client.send(request("/", f"Content-Length: {len(body)}", method="POST", body=body))
            assert client.response().body == f"{seen} 1000000".encode()
        assert counted(served.proxy, "connections") == {url: 1}


def test_a_unix_socket_without_a_server_is_unavailable(config: Tree, serve: Serve, tmp_path: Path) -> None:
    use(config, f"unix:{tmp_path}/nobody.sock")
    served = serve()
    with served.connect() as client:
        answer = client.get()
        assert (answer.status, answer.problem["reason"]) == (503, "upstream_unavailable")
    assert f"unix:{tmp_path}/nobody.sock: No such file" in served.proxy.refusal()["detail"]


class Resolver:
    """In the machine's place, for one name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *servers: Listening | RecordingUpstream) -> None:
        self.servers = list(servers)
        self.asked = 0
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self)

    def __call__(self, host: Any, *rest: Any, **options: Any) -> Any:
        if host != "several.test":
            return self._real(host, *rest, **options)
        self.asked += 1
        if not self.servers:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        found = [("127.0.0.1", server.port) for server in self.servers]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in found]


def test_all_addresses_of_a_name_are_used_and_its_moves_followed(
    config: Tree,
    serve: Serve,
    upstream: RecordingUpstream,
    other: RecordingUpstream,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One server of three addresses, of which one is dead; then it moves, and then the resolver fails."""
    monkeypatch.setattr(addresses, "REFRESH", 0.1)
    with listening() as dead:
        dead.close()
        resolver = Resolver(monkeypatch, dead, upstream, other)
    use(config, "http://several.test", host="server")
    served = serve()
    with served.connect() as client:
        for each in (upstream, other):
            each.answer(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        for _ in range(6):
            assert client.get().status == 200
        assert upstream.requests
        assert other.requests
        assert counted(served.proxy, "failures_total") == {}, "a server fails when none of its addresses answers"
        assert upstream.requests[0].values("Host") == ["several.test"]
        # Again and again a new connection, until one to the address that will be gone rests.
        upstream.answer(OK)
        eventually(lambda: client.get().status == 200 and upstream.open)
        other.answer(OK)
        resolver.servers = [other]
        eventually(lambda: not upstream.open)
        moved = len(upstream.requests)
        assert [client.get().status for _ in range(4)] == [200] * 4
        resolver.servers = []
        asked = resolver.asked
        eventually(lambda: resolver.asked > asked + 2)
        assert [client.get().status for _ in range(4)] == [200] * 4
        assert len(upstream.requests) == moved
    assert said(served.proxy, "several.test cannot be looked up: Temporary failure")


def checked(path: str = "/health", **settings: Any) -> Tree:
    return {
        "health_check": {"path": path, "interval": "100ms", "timeout": "1s", "healthy": 2, "unhealthy": 2, **settings}
    }


def is_check(asked: Recorded) -> bool:
    return asked.line == "GET /health HTTP/1.1"


def test_a_server_that_is_unwell_gets_no_requests_until_it_is_well(
    config: Tree, serve: Serve, upstream: RecordingUpstream
) -> None:
    unwell = threading.Event()
    upstream.script = lambda asked, _: UNWELL if unwell.is_set() and is_check(asked) else OK
    use(config, upstream, **checked())
    served = serve()
    with served.connect() as client:
        assert client.get().status == 200
        check = eventually(lambda: [asked for asked in upstream.requests if is_check(asked)])[0]
        assert check.values("Host") == [f"127.0.0.1:{upstream.port}"]
        assert "health check" in check.values("User-Agent")[0]
        unwell.set()
        assert eventually(lambda: client.get().status == 503)
        assert counted(served.proxy, "healthy") == {}
        before = len([asked for asked in upstream.requests if not is_check(asked)])
        assert client.get().problem["reason"] == "upstream_unavailable"
        assert len([asked for asked in upstream.requests if not is_check(asked)]) == before
        unwell.clear()
        assert eventually(lambda: client.get().status == 200)
        assert counted(served.proxy, "healthy") == {upstream.url: 1}
    assert said(served.proxy, f"server {upstream.url} of upstream recorder is unhealthy: GET /health: it answers 500")
    assert said(served.proxy, f"server {upstream.url} of upstream recorder is healthy again")
    assert counted(served.proxy, "failures_total") == {}, "checks are no requests"


LIES = {
    "it closes": (b"", "closed the connection without an answer"),
    "it speaks another language": (b"220 mail.test ESMTP\r\n\r\n", "status line"),
    "it never ends": (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000, "a head of over"),
    "it only promises": (b"HTTP/1.1 103 Early Hints\r\n\r\n", "closed the connection without an answer"),
    "it sends elsewhere": (b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", ""),
    "it promises, then answers": (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", ""),
}


@pytest.mark.parametrize("how", LIES)
def test_what_is_an_answer_to_a_check(config: Tree, serve: Serve, upstream: RecordingUpstream, how: str) -> None:
    """2xx and 3xx are; whatever else makes the server unhealthy, and says why."""
    data, why = LIES[how]

    def script(_: Recorded, connection: socket.socket) -> None:
        connection.sendall(data)

    upstream.script = script
    use(config, upstream, **checked(unhealthy=1))
    served = serve()
    if not why:
        eventually(lambda: len(upstream.requests) > 3)
        assert counted(served.proxy, "healthy") == {upstream.url: 1}
        return
    eventually(lambda: counted(served.proxy, "healthy") == {})
    server = served.proxy.proxy.pools.upstreams["recorder"].servers[0]
    assert why in server.health.why


def test_checks_find_who_is_not_there_or_does_not_answer(config: Tree, serve: Serve) -> None:
    with listening() as gone, listening() as silent:
        gone.close()
        use(config, gone, silent, **checked(timeout="200ms"))
        served = serve()
        eventually(lambda: counted(served.proxy, "healthy") == {})
        first, second = served.proxy.proxy.pools.upstreams["recorder"].servers
        assert "refused" in first.health.why
        assert second.health.why == "GET /health: no answer in 0.2s"
        assert (first.open, second.open) == (0, 0), "their connections are their own"


def test_a_reload_knows_who_was_unwell_and_whose_breaker_is_open(
    config: Tree, serve: Serve, upstream: RecordingUpstream, tmp_path: Path
) -> None:
    """An upstream that changed begins with new connections, not with new illusions."""
    with listening() as failing:
        failing.close()
        use(config, failing, upstream, circuit_breaker={"failures": 1, "open_for": "1h"})
        served = serve()
        with served.connect() as client:
            assert [client.get().status for _ in range(3)] == [200] * 3
            before = served.proxy.proxy.pools.upstreams["recorder"]
            assert counted(served.proxy, "healthy") == {upstream.url: 1}
            config["upstreams"]["recorder"]["servers"][1]["weight"] = 2
            (tmp_path / "proxy.yaml").write_text(yaml.safe_dump(config))
            eventually(lambda: served.proxy.proxy.pools.upstreams["recorder"] is not before)
            assert [client.get().status for _ in range(3)] == [200] * 3
        assert counted(served.proxy, "healthy") == {upstream.url: 1}
        assert counted(served.proxy, "failures_total") == {failing.url: 1}
        # One that is gone is no longer spoken of.
        use(config, upstream)
        (tmp_path / "proxy.yaml").write_text(yaml.safe_dump(config))
        gone = ("recorder", failing.url)
        eventually(lambda: gone not in dict(served.proxy.proxy.metrics.upstream_healthy.read()))
        assert gone not in dict(served.proxy.proxy.metrics.upstream_connections.read())


def test_checks_end_with_the_configuration_that_asked_for_them(
    config: Tree, serve: Serve, upstream: RecordingUpstream, tmp_path: Path
) -> None:
    use(config, upstream, **checked())
    upstream.script = lambda asked, _: UNWELL if is_check(asked) else OK
    served = serve()
    eventually(lambda: counted(served.proxy, "healthy") == {})
    use(config, upstream)
    (tmp_path / "proxy.yaml").write_text(yaml.safe_dump(config))
    with served.connect() as client:
        assert eventually(lambda: client.get().status == 200)
        count = len(upstream.requests)
        for _ in range(5):
            assert client.get().status == 200
            time.sleep(0.1)
        assert len(upstream.requests) == count + 5, "nobody checks any more"
