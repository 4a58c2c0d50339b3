"""Servers of several makes fail and come back while clients go on asking: GETs notice nothing of it."""

import itertools
import threading
from collections import Counter
from collections.abc import Callable

import pytest
from tests.faults.conftest import Onward, Run
from tests.faults.servers import ServerProcess
from tests.integration.clients import Connection, request
from tests.integration.harness import Tree, eventually
from tests.integration.http.conftest import Serve, Served

KINDS = ["aiohttp, unix", "nginx, https", "http.server"]


class Asking:
    """A client on a thread that asks one request after the other: statuses are counted, answers compared."""

    def __init__(self, served: Served, method: str) -> None:
        self._served = served
        self._method = method
        self._stop = threading.Event()
        self.statuses: Counter[int] = Counter()
        self.wrong: list[str] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            with self._served.connect() as client:
                for number in itertools.count():
                    if self._stop.is_set():
                        return
                    self._ask(client, f"/{self._method}/{number}")
        except Exception as error:  # noqa: BLE001 - told by the test's own thread
            self.wrong.append(repr(error))

    def _ask(self, client: Connection, path: str) -> None:
        client.send(
            request(path, "Content-Length: 0", f"X-Request-Id: {path[1:].replace('/', '-')}", method=self._method)
        )
        answer = client.response()
        self.statuses[answer.status] += 1
        if answer.status == 200:
            if not answer.body.decode().startswith(f"{self._method} {path}"):
                self.wrong.append(f"{path} was answered {answer.body!r}")
        elif answer.problem["request_id"] != path[1:].replace("/", "-"):
            self.wrong.append(f"{path} was answered {answer.body!r}")

    def more(self, count: int = 20) -> None:
        """Waits for so many further answers."""
        goal = self.statuses.total() + count
        eventually(lambda: self.wrong or self.statuses.total() >= goal, 30)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()
        assert self.wrong == []


def killed(server: ServerProcess) -> Callable[[], None]:
    server.kill()
    return server.start


def stopped(server: ServerProcess) -> Callable[[], None]:
    server.stop()
    return server.go_on


def healthy(served: Served) -> set[str]:
    return {url for (_, url), value in served.proxy.series("upstream_healthy").items() if value}


def said(served: Served, server: ServerProcess, words: str) -> None:
    """Waits for a message of the log about `server`."""

    def look() -> bool:
        return any(server.url in line["message"] and words in line["message"] for line in served.proxy.messages())

    assert eventually(look, 30)


@pytest.mark.parametrize("watch", ["health checks", "breaker"])
@pytest.mark.parametrize("fail", [killed, stopped])
def test_a_server_fails_and_comes_back(
    config: Tree,
    serve: Serve,
    run: Run,
    onward: Onward,
    watch: str,
    fail: Callable[[ServerProcess], Callable[[], None]],
) -> None:
    """Every GET is answered 200 by one of the others. So is every POST that was not sent yet; one that was is told that
    it was not answered, and by then the server is left alone. Each answer is that of its own request."""
    servers = [run(kind) for kind in KINDS]
    config["upstreams"]["recorder"] = {
        "servers": [{"url": server.url} for server in servers],
        "tls": onward.settings,
        "connect_timeout": "500ms",
        "retries": 2,
        "circuit_breaker": {"failures": 2, "open_for": "500ms"},
    }
    if watch == "health checks":
        config["upstreams"]["recorder"] |= {
            "health_check": {"path": "/health", "interval": "100ms", "timeout": "500ms", "healthy": 2, "unhealthy": 2},
            "circuit_breaker": {"failures": 1000, "open_for": "500ms"},
        }
    config["routes"][0]["timeouts"] = {"response": "1s"}
    served = serve()
    down, up = (" is unhealthy: ", "healthy again") if watch == "health checks" else ("left alone", "answers again")
    getting, posting = Asking(served, "GET"), Asking(served, "POST")
    try:
        for server in servers:
            getting.more()
            come_back = fail(server)
            said(served, server, down)
            getting.more()
            posting.more()
            come_back()
            said(served, server, up)
            assert eventually(lambda: healthy(served) == {server.url for server in servers})
    finally:
        getting.stop()
        posting.stop()
    assert set(getting.statuses) == {200}
    assert set(posting.statuses) <= {200, 502, 504}
    # A few requests meet the server before it is known to be down: those under way, and the breaker's.
    assert posting.statuses.total() - posting.statuses[200] <= 2 * len(servers) * 2
