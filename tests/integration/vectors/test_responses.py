"""Every lying answer of tests/corpus/http1: 502, or a message seen to be cut short, and nobody else gets any of it.

Each is sent whole and byte by byte.
"""

import pytest
from tests.corpus.http1.vectors import ResponseVector, response_vectors
from tests.integration.clients import PATIENCE
from tests.integration.vectors.hearing import listen
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
            assert heard.status == 502
            assert b'"reason": "upstream_error"' in heard.said
        assert scene.recorder.told.wait(PATIENCE)
        used = {number for number, _ in scene.recorder.seen}
        goes_on = heard.whole and b"\r\nConnection: close\r\n" not in heard.said
        number = scene.others_are_served()
        assert (number in used) is vector.reused
        if goes_on:
            assert client.get("/own").body == b"GET /own"
    table.held("responses.yaml", vector.name, vector.source, vector.outcome, way)
