"""Real servers that are killed and stopped, each with what the client, the log and the metrics say of it."""

import re
import ssl
from dataclasses import dataclass

import pytest
from tests.faults.conftest import KINDS, Onward, Run
from tests.faults.servers import ServerProcess
from tests.integration.clients import Connection, request
from tests.integration.harness import Tree, eventually
from tests.integration.http.conftest import Serve, Served


@dataclass
class Scene:
    """A proxy in front of one server, without retries."""

    served: Served
    server: ServerProcess

    @property
    def failures(self) -> float:
        return self.served.proxy.series("upstream_failures_total").get(("recorder", self.server.url), 0)

    @property
    def connections(self) -> float:
        return self.served.proxy.series("upstream_connections").get(("recorder", self.server.url), 0)

    def told(self, status: int, reason: str, words: str, failures: int = 1) -> None:
        """The log and the metrics say that the one request that failed did so with this status and reason."""
        proxy = self.served.proxy
        line = proxy.refusal()
        assert (line["status"], line["reason"], line["upstream"]) == (status, reason, "recorder")
        assert re.search(words, line["detail"]), line["detail"]
        (logged,) = [entry for entry in eventually(lambda: lines_with_reason(self.served)) if entry["reason"]]
        assert (logged["status"], logged["reason"], logged["request_id"]) == (status, reason, line["request_id"])
        assert proxy.series("rejections_total") == {("internal", "all", reason, "true"): 1}
        assert proxy.series("requests_total")["internal", "all", "GET", str(status), "HTTP/1.1"] >= 1
        assert self.failures == failures


def lines_with_reason(served: Served) -> list[Tree]:
    return [entry for entry in served.proxy.access() if entry["reason"]]


@pytest.fixture(params=KINDS)
def scene(request: pytest.FixtureRequest, run: Run, config: Tree, serve: Serve, onward: Onward) -> Scene:
    kind: str = request.param
    server = run(kind)
    config["upstreams"]["recorder"] = {"servers": [{"url": server.url}], "retries": 0, "connect_timeout": "1s"}
    if kind.endswith("https"):
        config["upstreams"]["recorder"]["tls"] = onward.settings
    config["routes"][0]["timeouts"] = {"response": "1s", "response_body": "1s"}
    return Scene(serve(), server)


def answered(client: Connection, path: str = "/before", method: str = "GET", body: bytes = b"") -> None:
    """A request that is answered, with its own answer."""
    client.send(request(path, f"Content-Length: {len(body)}", method=method, body=body))
    answer = client.response()
    assert answer.status == 200
    assert answer.body.decode().startswith(f"{method} {path}")


def cut_short(client: Connection) -> None:
    """The answer breaks off, and the client can tell."""
    with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
        client.exactly(1_000_000)


def test_one_that_was_killed_is_unavailable(scene: Scene) -> None:
    """And the connection that it left in the pool is nobody's problem, but for its place."""
    with scene.served.connect() as client:
        answered(client)
        scene.server.kill()
        answer = client.get()
        assert (answer.status, answer.problem["reason"]) == (503, "upstream_unavailable")
        scene.told(503, "upstream_unavailable", "cannot connect to .*: Connection refused")
        scene.server.start()
        answered(client, "/after")
    assert scene.failures == 1


def test_one_that_is_killed_before_its_answer_is_an_error(scene: Scene) -> None:
    with scene.served.connect() as client:
        client.send(request("/wait"))
        eventually(lambda: scene.connections)
        with scene.served.connect() as other:  # the server is at it by now: it takes others
            answered(other)
        scene.server.kill()
        answer = client.response()
        assert (answer.status, answer.problem["reason"]) == (502, "upstream_error")
        scene.told(502, "upstream_error", "closed the connection without an answer|connection to the upstream broke")
        scene.server.start()
        answered(client, "/after", "POST", b"x" * 100_000)


def test_one_that_is_killed_within_its_answer_cuts_it_short(scene: Scene) -> None:
    with scene.served.connect() as client:
        client.send(request("/begin"))
        assert client.until(b"begun").startswith(b"HTTP/1.1 200 ")
        scene.server.kill()
        cut_short(client)
    scene.told(200, "upstream_error", "closed the connection within its answer|connection to the upstream broke")


def test_one_that_is_stopped_takes_too_long(scene: Scene) -> None:
    """Over a connection that it knew before; what it hears once it goes on is nobody's answer."""
    with scene.served.connect() as client:
        answered(client)
        scene.server.stop()
        answer = client.get("/lost")
        assert (answer.status, answer.problem["reason"]) == (504, "upstream_timeout")
        scene.told(504, "upstream_timeout", "did not answer in time")
        scene.server.go_on()
        answered(client, "/after")


def test_one_that_is_stopped_takes_too_long_for_a_new_connection(scene: Scene) -> None:
    """Its kernel accepts connections; a handshake is another matter."""
    scene.server.stop()
    with scene.served.connect() as client:
        answer = client.get("/lost")
        assert (answer.status, answer.problem["reason"]) == (504, "upstream_timeout")
        words = "no handshake with" if scene.server.url.startswith("https") else "did not answer in time"
        scene.told(504, "upstream_timeout", words)
        scene.server.go_on()
        answered(client, "/after")


def test_one_that_is_stopped_within_its_answer_cuts_it_short(scene: Scene) -> None:
    with scene.served.connect() as client:
        client.send(request("/begin"))
        client.until(b"begun")
        scene.server.stop()
        cut_short(client)
    scene.told(200, "upstream_timeout", "stopped within its answer", failures=1)


def test_one_that_was_started_anew_is_asked_over_new_connections(scene: Scene) -> None:
    """Whatever the method: not one request meets a connection of its predecessor's, and nothing counts as failed."""
    for _ in range(3):
        with scene.served.connect() as client, scene.served.connect() as other:
            answered(client)
            answered(other, method="POST")
            scene.server.kill()
            scene.server.start()
            answered(client, "/after", "POST", b"hello")
            answered(other, "/after")
    assert scene.failures == 0
    assert not scene.served.proxy.refusals()
