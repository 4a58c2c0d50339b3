"""A proxy before a recorder, for all vectors of a file, and what is asked of it after every one of them."""

import contextlib
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

from tests.integration.clients import Connection, Response, request, tls
from tests.integration.harness import RunningProxy
from tests.integration.vectors.recorder import Recorder

STEPS = 250
"""Messages above this size are sent in as many pieces, others byte by byte."""

_OURS = re.compile(
    rb"(?:X-Forwarded-For: 127\.0\.0\.1|X-Forwarded-Proto: https|Via: 1\.1 mtlsproxy|X-Request-Id: [0-9a-f]{17,}"
    rb"|X-Forwarded-Host: ([^\r]*)|(X-Client-[A-Za-z-]+): [^\r]*)\r\n"
)
_ALWAYS = [b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Request-Id", b"X-Client-Verify", b"X-Client-Id"]


@dataclass
class Scene:
    proxy: RunningProxy
    recorder: Recorder
    context: ssl.SSLContext
    honest: Connection
    """Of another client, open all the time: gets what is its own after every vector."""

    _asked: int = 0

    @contextlib.contextmanager
    def connect(self) -> Iterator[Connection]:
        with tls(self.proxy.port(), self.context) as client:
            yield client

    def drip(self, client: Connection, data: bytes) -> None:
        """Byte by byte: the next is sent when the proxy has read the one before."""
        step = max(1, len(data) // STEPS)
        for at in range(0, len(data), step):
            client.send(data[at : at + step])
            self.pause()

    def pause(self) -> None:
        """A turn of the proxy's loop: what was sent to it is read when this returns."""
        self.proxy.call(lambda: None)

    def others_are_served(self) -> int:
        """The next client's request reaches the upstream as its own, and its answer is the one to it.

        Whatever the proxy sent upstream before is in `recorder` by then. Returns the number of the connection that
        brought it there.
        """
        self._asked += 1
        path = f"/honest/{self._asked}"
        answer = self.honest.get(path)
        assert (answer.status, answer.body) == (200, f"GET {path}".encode())
        line = b"GET %b HTTP/1.1\r\n" % path.encode()
        (mine,) = (each for each in self.recorder.seen if each[1].startswith(line))
        self.recorder.seen.remove(mine)
        return mine[0]


def as_sent(seen: bytes) -> bytes:
    """A request as the upstream saw it, without the lines that the proxy adds, each of which it has once."""
    head, _, body = seen.partition(b"\r\n\r\n")
    first, *lines = [line + b"\r\n" for line in head.split(b"\r\n")]
    ours = [line for line in lines if _OURS.fullmatch(line)]
    names = [line.partition(b":")[0] for line in ours]
    assert len(set(names)) == len(names), f"twice: {names}"
    assert set(_ALWAYS) <= set(names), names
    assert b"X-Client-Verify: SUCCESS\r\n" in ours
    assert b"X-Client-Id: alice.clients.test\r\n" in ours
    return b"".join([first, *(line for line in lines if line not in ours), b"\r\n", body])


def answer_to(client: Connection, asked: bytes) -> Response:
    """The answer to the request that the upstream saw as `asked`: it must be that one's."""
    method, target, _ = asked.split(b" ", 2)
    answer = client.response(to_head=method == b"HEAD")
    assert answer.status == 200, answer
    assert answer.body == (b"" if method == b"HEAD" else method + b" " + target)
    return answer


def ends(client: Connection) -> None:
    """Nothing more comes, and the connection ends: properly, or reset because more was sent than was read."""
    with contextlib.suppress(ConnectionError, ssl.SSLEOFError):
        assert client.rest() == b""


def good(path: str = "/first") -> bytes:
    return request(path)
