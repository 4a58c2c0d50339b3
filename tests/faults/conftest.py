"""What fault tests start from: the scenes of the integration tests, and upstreams of all makes as processes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.faults.servers import ServerProcess, TlsFiles, application, mute_listener, nginx
from tests.integration.certificates import anchor_file, identity, issue
from tests.integration.conftest import (  # noqa: F401 - fixtures
    _prompt_access_log,
    config,
    material,
    start,
    upstream,
)
from tests.integration.harness import Tree
from tests.integration.http.conftest import alice, context, other, serve  # noqa: F401 - fixtures
from tests.integration.secure.conftest import NAME, Authority, authority  # noqa: F401 - fixtures

from mtlsproxy.x509.policy import CLIENT_AUTH

KINDS = ["aiohttp", "aiohttp, unix", "http.server", "nginx, https"]


@dataclass(frozen=True)
class Onward:
    """Both ends of TLS to upstreams: what its servers have, and what the configuration says of it."""

    files: TlsFiles
    settings: Tree


@pytest.fixture(scope="session")
def onward(authority: Authority) -> Onward:  # noqa: F811
    ca = issue("Proxies CA", ca=True)
    mine = identity(authority.folder, issue("this proxy", ca, eku=[CLIENT_AUTH]))
    settings = {
        "trust_anchors": [str(authority.anchors)],
        "server_name": NAME,
        "certificate": str(mine.certificate),
        "private_key": str(mine.key),
        "revocation": {"mode": "off"},
    }
    return Onward((authority.server(), anchor_file(authority.folder, ca)), settings)


Run = Callable[[str], ServerProcess]


@pytest.fixture(scope="module")
def run(onward: Onward, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Starts a server of a kind, or says where the one of this module is, running again whatever was done to it."""
    known: dict[str, ServerProcess] = {}
    with mute_listener() as mute:

        def running(kind: str) -> ServerProcess:
            if kind not in known:
                folder: Path = tmp_path_factory.mktemp("server")
                tls = onward.files if kind.endswith("https") else None
                if kind.startswith("nginx"):
                    known[kind] = nginx(folder, mute, tls)
                else:
                    known[kind] = application(kind.removesuffix(", https"), folder, tls)
            known[kind].go_on()
            known[kind].start()
            return known[kind]

        yield running
        for server in known.values():
            server.kill()
