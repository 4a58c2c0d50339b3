"""Every hostile request of tests/corpus/http1: its upstream sees exactly the requests that were meant, or none.

Each is sent whole, byte by byte, and behind a good request on the same connection.
"""

import contextlib
from collections.abc import Callable

import pytest
from tests.corpus.http1.vectors import RequestVector, behind, request_files, request_vectors
from tests.integration.clients import Connection, request
from tests.integration.vectors.scene import Scene, answer_to, as_sent, ends, good
from tests.integration.vectors.table import Table

from mtlsproxy.reasons import status_of

HIDDEN = request("/hidden", "X-Client-Id: admin")
"""Comes behind whatever is refused, and is never read as a request."""

VECTORS = [(file, vector) for file in request_files() for vector in request_vectors(file)]


def whole(_scene: Scene, client: Connection, data: bytes) -> None:
    client.send(data)


def byte_by_byte(scene: Scene, client: Connection, data: bytes) -> None:
    scene.drip(client, data)


Feed = Callable[[Scene, Connection, bytes], None]
WAYS: list[tuple[str, Feed, bool]] = [
    ("whole", whole, False),
    ("byte by byte", byte_by_byte, False),
    ("behind a good request", whole, True),
]


def test_the_corpus_is_as_large_as_it_should_be() -> None:
    """Vectors that are not found would hold."""
    assert len(VECTORS) >= 400
    assert len({vector.name for _, vector in VECTORS}) == len(VECTORS)
    assert sum(vector.refused is not None for _, vector in VECTORS) >= 300


@pytest.mark.parametrize(("way", "feed", "second"), WAYS, ids=[way for way, _, _ in WAYS])
@pytest.mark.parametrize(("file", "vector"), VECTORS, ids=[f"{file}: {vector.name}" for file, vector in VECTORS])
def test_an_upstream_sees_what_was_meant_or_nothing(
    scene: Scene, table: Table, file: str, vector: RequestVector, way: str, feed: Feed, second: bool
) -> None:
    scene.recorder.forget()
    tried = behind(good(), vector) if second else vector
    with scene.connect() as client:
        play(scene, client, tried, feed)
    scene.others_are_served()
    assert [as_sent(seen) for _, seen in scene.recorder.seen] == list(tried.upstream)
    if vector.within_body or vector.ends:
        assert all(b"hidden" not in cut for cut in scene.recorder.cut)
    else:
        assert scene.recorder.cut == []
    table.held(f"requests/{file}.yaml", vector.name, vector.source, vector.outcome, way)


def play(scene: Scene, client: Connection, vector: RequestVector, feed: Feed) -> None:
    """Send it, and see what the client gets: an answer to each request that passes, then the refusal, then the end."""
    refused = vector.refused
    with contextlib.suppress(ConnectionError):  # the end, while more of what was refused is sent
        feed(scene, client, vector.send)
        if refused and not vector.keeps:
            client.send(HIDDEN)
    for asked in vector.upstream:
        answer_to(client, asked)
    if refused is not None:
        answer = client.response()
        assert (answer.status, answer.problem["reason"]) == (status_of(refused), refused)
        assert answer.values("Connection") == ([] if vector.keeps else ["close"])
        if not vector.keeps:
            ends(client)
    elif vector.ends:
        client.end()
        ends(client)
