"""One proxy and one recorder a module, and the table of vectors at the end of the test output."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.integration.clients import client_context, tls
from tests.integration.conftest import Material
from tests.integration.harness import Tree, running_proxy
from tests.integration.vectors.recorder import Recorder, recording
from tests.integration.vectors.scene import Scene
from tests.integration.vectors.table import TABLE, Table

LIMITS = {"request_line": 256, "header_field": 512, "headers": 2048, "header_count": 20, "body": 2048}
"""Small, so that what is beyond them is small, too (tests/corpus/http1/requests/limits.yaml)."""


@pytest.fixture(scope="session")
def table(pytestconfig: pytest.Config) -> Table:
    if TABLE not in pytestconfig.stash:
        pytestconfig.stash[TABLE] = Table()
    return pytestconfig.stash[TABLE]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if TABLE in config.stash:
        config.stash[TABLE].write(terminalreporter)


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with recording() as running:
        yield running


Configure = Callable[[Tree], None]


@pytest.fixture(scope="module")
def configure() -> Configure:
    """What a module changes in the configuration of its proxy."""
    return lambda _config: None


@pytest.fixture(scope="module")
def scene(
    material: Material, recorder: Recorder, configure: Configure, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    certificate = {"certificate": str(material.server_certificate), "private_key": str(material.server_key)}
    config: dict[str, Any] = {
        "version": 1,
        "listeners": [
            {
                "name": "internal",
                "bind": "127.0.0.1:0",
                "tls": {"certificates": [certificate]},
                "client_auth": {"truststores": ["partners"]},
                "limits": LIMITS,
            }
        ],
        "truststores": {"partners": {"trust_anchors": [str(material.anchors)], "revocation": {"mode": "off"}}},
        "routes": [{"name": "all", "allow": "any", "upstream": "recorder"}],
        "upstreams": {"recorder": {"servers": [{"url": recorder.url}], "retries": 0}},
        "admin": {"bind": "127.0.0.1:0"},
        "logging": {"access": "off"},
        "shutdown": {"drain": "200ms"},
    }
    configure(config)
    with contextlib.ExitStack() as stack:
        proxy = stack.enter_context(running_proxy(config, tmp_path_factory.mktemp("vectors")))
        context = client_context(material.root, material.client())
        honest = stack.enter_context(tls(proxy.port(), context))
        scene = Scene(proxy, recorder, context, honest)
        recorder.pace = scene.pause
        yield scene
