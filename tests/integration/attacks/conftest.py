"""A proxy under attack: one client that means well, and what attackers need."""

import contextlib
import ssl
import threading
from collections.abc import Iterator

import pytest
from tests.integration.certificates import Identity
from tests.integration.clients import PATIENCE, client_context
from tests.integration.conftest import Material
from tests.integration.harness import RunningProxy


@pytest.fixture(scope="session")
def alice(material: Material) -> Identity:
    """Of the truststore, and well-behaved."""
    return material.client("alice")


@pytest.fixture(scope="session")
def mallory(material: Material) -> Identity:
    """Of the truststore, too."""
    return material.client("mallory", ("DNS:mallory.clients.test",))


@pytest.fixture(scope="session")
def honest(material: Material, alice: Identity) -> ssl.SSLContext:
    return client_context(material.root, alice)


@pytest.fixture(scope="session")
def hostile(material: Material, mallory: Identity) -> ssl.SSLContext:
    return client_context(material.root, mallory)


@pytest.fixture(scope="session")
def nobody(material: Material) -> ssl.SSLContext:
    """Without a certificate."""
    return client_context(material.root)


@contextlib.contextmanager
def standing_still(proxy: RunningProxy) -> Iterator[None]:
    """The proxy's loop does nothing meanwhile: what is sent within is there at once when it goes on."""
    stopped, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        stopped.set()
        go_on.wait(PATIENCE)

    proxy.loop.call_soon_threadsafe(wait)
    assert stopped.wait(PATIENCE)
    try:
        yield
    finally:
        go_on.set()
