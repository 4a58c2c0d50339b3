"""A request that makes a server end the connection: whoever finds one shuts nobody else out with it."""

import socket
import ssl

from tests.integration.clients import tls
from tests.integration.conftest import Start
from tests.integration.harness import Tree, eventually
from tests.integration.upstream import OK, Recorded, RecordingUpstream


def test_the_circuit_breaker_is_open_for_who_has_opened_it(
    config: Tree, upstream: RecordingUpstream, start: Start, honest: ssl.SSLContext, hostile: ssl.SSLContext
) -> None:
    """Others go on; where they fail too, it is the server, and it is left alone by everybody."""

    def poisoned(asked: Recorded, _: socket.socket) -> bytes | None:
        return None if b" /poison " in asked.head else OK

    upstream.script = poisoned
    breaker = {"failures": 3, "open_for": "1h"}
    config["upstreams"]["recorder"] |= {"retries": 0, "circuit_breaker": breaker}
    proxy = start(config)
    with tls(proxy.port(), hostile) as mallory, tls(proxy.port(), honest) as alice:
        assert [mallory.get("/poison").status for _ in range(4)] == [502, 502, 502, 503]
        assert mallory.get("/").status == 503
        assert [alice.get("/").status for _ in range(4)] == [200] * 4
        assert mallory.get("/").status == 503
        assert alice.get("/poison").status == 502
        assert alice.get("/").status == 503

    def left_alone() -> list[str]:
        return [line["message"] for line in proxy.messages() if "left alone" in line["message"]]

    eventually(lambda: len(left_alone()) == 2)
    said = left_alone()
    assert "for 3600s by mallory.clients.test, whose requests alone it fails: 3 failures in a row" in said[0]
    assert "for 3600s: 4 failures in a row" in said[1]
