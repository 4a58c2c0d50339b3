"""Attacks on memory: what is left of connections that are gone.

Collections are off: a cycle through an SSLObject holds what OpenSSL has of a client's certificates, and costs a full
collection (a stall of the loop) to be found.
"""

import contextlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.integration.attacks.alive import assert_nothing_more_than, no_collections, ours
from tests.integration.certificates import identity, issue, names
from tests.integration.clients import client_context, connected, request, tls
from tests.integration.conftest import Material, Start
from tests.integration.harness import RunningProxy, Tree
from tests.integration.refusals import assert_nobody_left

TIMES = 8


@dataclass(frozen=True)
class Scene:
    proxy: RunningProxy
    honest: ssl.SSLContext
    nobody: ssl.SSLContext
    stranger: ssl.SSLContext
    huge: ssl.SSLContext

    @property
    def port(self) -> int:
        return self.proxy.port()


Visit = Callable[[Scene], None]


def has_no_certificate(scene: Scene) -> None:
    with contextlib.suppress(OSError), tls(scene.port, scene.nobody) as client:
        client.sock.recv(1)


def is_a_stranger(scene: Scene) -> None:
    with contextlib.suppress(OSError), tls(scene.port, scene.stranger) as client:
        client.sock.recv(1)


def is_a_stranger_with_a_huge_certificate(scene: Scene) -> None:
    with contextlib.suppress(OSError), tls(scene.port, scene.huge) as client:
        client.sock.recv(1)


def leaves_within_the_handshake(scene: Scene) -> None:
    with connected(scene.port) as raw:
        raw.sendall(b"\x16\x03\x01\x02")


def sends_plain_http(scene: Scene) -> None:
    with connected(scene.port) as raw:
        raw.sendall(request())
        raw.recv(100)


def sends_no_request(scene: Scene) -> None:
    with tls(scene.port, scene.honest) as client:
        client.send(b"rubbish\r\n\r\n")
        assert client.response().status == 400


@pytest.fixture
def scene(
    config: Tree, material: Material, start: Start, honest: ssl.SSLContext, nobody: ssl.SSLContext, tmp_path: Path
) -> Scene:
    stranger = identity(tmp_path, issue("stranger", issue("Nobody's CA", ca=True)))
    huge = identity(tmp_path, issue("huge", issue("Nobody's CA", ca=True), sans=names(*["DNS:a"] * 20_000)))
    contexts = [client_context(material.root, who) for who in (stranger, huge)]
    return Scene(start(config), honest, nobody, *contexts)


VISITS: list[Visit] = [
    has_no_certificate,
    is_a_stranger,
    is_a_stranger_with_a_huge_certificate,
    leaves_within_the_handshake,
    sends_plain_http,
    sends_no_request,
]


@pytest.mark.parametrize("visit", VISITS, ids=[visit.__name__ for visit in VISITS])
def test_of_a_client_nothing_is_left_who(scene: Scene, visit: Visit) -> None:
    """The first visit fills what is remembered of one client; further ones leave nothing behind."""
    visit(scene)
    assert_nobody_left(scene.proxy)
    with no_collections():
        before = ours()
        for _ in range(TIMES):
            visit(scene)
        assert_nothing_more_than(before)
    assert_nobody_left(scene.proxy)
