"""Every lying answer of tests/corpus/http1: 502, or a message seen to be cut short, and nobody else gets any of it.

Each is sent whole and byte by byte.
"""

import contextlib
import ssl
from dataclasses import dataclass

import pytest
from tests.corpus.http1.vectors import ResponseVector, response_vectors
from tests.integration.clients import PATIENCE, Connection
from tests.integration.vectors.recorder import Lie
from tests.integration.vectors.scene import STEPS, Scene
from tests.integration.vectors.table import Table

VECTORS = response_vectors()


def test_the_corpus_is_as_large_as_it_should_be() -> None:
    """Vectors that are not found would hold."""
    assert len(VECTORS) >= 120
    assert sum(not vector.client for vector in VECTORS) >= 80


@pytest.mark.parametrize("way", ["whole", "byte by byte"])
@pytest.mark.parametrize("vector", VECTORS, ids=[vector.name for vector in VECTORS])
def test_a_lying_upstream_poisons_nobody(scene: Scene, table: Table, vector: ResponseVector, way: str) -> None:
    whole = max(1, len(vector.answer))
    scene.recorder.forget()
    scene.recorder.lie = Lie(vector.answer, whole if way == "whole" else max(1, whole // STEPS), vector.then)
    with scene.connect() as client:
        client.send(vector.request)
        heard = listen(client, to_head=vector.request.startswith(b"HEAD "))
        if vector.client:
            assert heard.whole is not vector.cut
            if vector.cut:
                assert vector.client.startswith(heard.said)
            else:
                assert heard.said == vector.client
        else:
            assert heard.whole
            assert heard.said.startswith(b"HTTP/1.1 502 ") or heard.behind_interims.startswith(b"HTTP/1.1 502 ")
            assert b'"reason": "upstream_error"' in heard.said
        assert scene.recorder.told.wait(PATIENCE)
        used = {number for number, _ in scene.recorder.seen}
        goes_on = heard.whole and b"\r\nConnection: close\r\n" not in heard.said
        number = scene.others_are_served()
        assert (number in used) is vector.reused
        if goes_on:
            assert client.get("/own").body == b"GET /own"
    table.held("responses.yaml", vector.name, vector.source, vector.outcome, way)


@dataclass(frozen=True)
class Heard:
    """What a client got: its chunks joined into one; whole: it ended as its framing says it must."""

    said: bytes
    whole: bool
    interims: int = 0

    @property
    def behind_interims(self) -> bytes:
        return self.said[self.interims :]


def listen(client: Connection, *, to_head: bool) -> Heard:
    """The next answer, with the interim ones before it."""
    said = b""
    while (head := client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 1"):
        said += head
    interims = len(said)
    said += head
    lower = head.lower()
    if to_head or head.startswith((b"HTTP/1.1 204 ", b"HTTP/1.1 304 ")):
        return Heard(said, True, interims)
    if b"\r\ntransfer-encoding: chunked\r\n" in lower:
        body, whole = _chunks(client)
        return Heard(said + body, whole, interims)
    if b"\r\ncontent-length: " in lower:
        size = int(lower.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0])
        body = _as_much_as_comes(client, size)
        return Heard(said + body, len(body) == size, interims)
    return Heard(said + client.rest(), True, interims)


def _as_much_as_comes(client: Connection, size: int) -> bytes:
    with contextlib.suppress(ssl.SSLEOFError, ConnectionResetError):
        while len(client._buffer) < size:
            client._more()
    out, client._buffer = client._buffer[:size], client._buffer[size:]
    return out


def _chunks(client: Connection) -> tuple[bytes, bool]:
    """Joined into one, and whether the last one came. A proper end without it is the failure (EOFError)."""
    content = b""
    try:
        while size := int(client.until(b"\r\n"), 16):
            content += client.exactly(size + 2)[:-2]
        trailers = b""
        while (line := client.until(b"\r\n")) != b"\r\n":
            trailers += line
    except (ssl.SSLEOFError, ConnectionResetError):
        return b"%x\r\n%b\r\n" % (len(content), content) if content else b"", False
    joined = b"%x\r\n%b\r\n" % (len(content), content) if content else b""
    return joined + b"0\r\n" + trailers + b"\r\n", True
