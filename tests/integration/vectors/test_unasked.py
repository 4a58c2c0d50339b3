"""What an upstream says while nobody asks it is nobody's answer."""

import pytest
from tests.integration.attacks.conftest import standing_still
from tests.integration.clients import request
from tests.integration.harness import eventually
from tests.integration.vectors.scene import Scene

POISON = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"\r\n",
    b"x",
]


@pytest.mark.parametrize("said", POISON, ids=repr)
def test_a_connection_whose_server_speaks_unasked_is_ended(scene: Scene, said: bytes) -> None:
    """At once, and the next request goes over another one."""
    number = scene.others_are_served()
    scene.recorder.lines[number].sock.sendall(said)
    eventually(lambda: number not in scene.recorder.lines)
    assert scene.others_are_served() != number


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("first", ["server", "client"])
@pytest.mark.parametrize("said", POISON, ids=repr)
def test_what_comes_at_the_same_time_as_a_request_is_not_its_answer(
    scene: Scene, said: bytes, first: str, method: str
) -> None:
    """The proxy finds both when its loop goes on, in either order: the server spoke before it was asked."""
    number = scene.others_are_served()
    with scene.connect() as client:
        scene.pause()
        with standing_still(scene.proxy):
            if first == "client":
                client.send(request("/own", method=method))
            scene.recorder.lines[number].sock.sendall(said)
            if first == "server":
                client.send(request("/own", method=method))
        answer = client.response()
    assert (answer.status, answer.body) == (200, f"{method} /own".encode())
    eventually(lambda: number not in scene.recorder.lines)
    assert scene.others_are_served() != number
