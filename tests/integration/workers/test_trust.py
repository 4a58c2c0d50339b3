"""Trust of several workers: lists fetched once for all, sessions that resume at any of them."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from tests.integration.certificates import Identity
from tests.integration.clients import VERSIONS, client_context, tls
from tests.integration.conftest import Material
from tests.integration.harness import Tree, eventually
from tests.integration.live.conftest import crl
from tests.integration.sources.conftest import points
from tests.integration.sources.web import Web, running_web
from tests.integration.workers.conftest import WORKERS, Run
from tests.integration.workers.test_workers import MANY


@pytest.fixture
def web() -> Iterator[Web]:
    with running_web() as server:
        yield server


def test_a_list_is_fetched_once_and_revokes_at_all(
    config: Tree, run: Run, web: Web, material: Material, alice: Identity, bob: Identity
) -> None:
    web.give("/ca.crl", crl(material.ca, 1))
    config["truststores"]["partners"]["revocation"] = {
        "mode": "hard_fail",
        "crl": {"sources": [web.url("/ca.crl")], "refresh": "1h"},
    }
    several = run()
    with ExitStack() as stack:
        hers = [stack.enter_context(several.connect(alice)) for _ in range(MANY // 2)]
        his = [stack.enter_context(several.connect(bob)) for _ in range(MANY // 2)]
        assert {connection.get().status for connection in (*hers, *his)} == {200}
        assert len(web.asked) == 1, "for both workers"
        web.give("/ca.crl", crl(material.ca, 2, alice))
        several.process.send_signal(signal.SIGHUP)  # asks at once
        assert all(connection.ended() for connection in hers)
        assert {connection.get().status for connection in his} == {200}
    (entries,) = several.series("crl_entries").values()
    assert entries == 1
    assert sum(several.series("crl_refresh_total").values()) < 2 * WORKERS + 1


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_resumes_at_any_worker_and_is_judged_there(
    config: Tree, run: Run, material: Material, alice: Identity, version: str
) -> None:
    config["listeners"][0]["tls"]["session_resumption"] = True
    several = run()
    context = client_context(material.root, alice, VERSIONS[version])
    with tls(several.port(), context) as connection:
        assert connection.get().status == 200
        session = connection.sock.session
    resumed = []
    for _ in range(MANY // 2):
        with tls(several.port(), context, "proxy.test", session) as connection:
            assert connection.get().status == 200
            resumed.append(connection.sock.session_reused)
    assert all(resumed), "whichever worker takes it"
    busy = [listener for listener in several.json("/api/status")["workers"] if listener["ready"]]
    assert len(busy) == WORKERS


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_outlives_the_worker_that_made_it(
    config: Tree, run: Run, material: Material, alice: Identity, version: str
) -> None:
    """Its successor has the same ticket keys: sessions are the proxy's, not a process's."""
    config["listeners"][0]["tls"]["session_resumption"] = True
    several = run()
    context = client_context(material.root, alice, VERSIONS[version])
    with tls(several.port(), context) as connection:
        assert connection.get().status == 200
        session = connection.sock.session
    for pid in several.pids:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: several.series("worker_restarts_total").get(()) == WORKERS and len(several.pids) == WORKERS)
    for _ in range(MANY // 4):
        with tls(several.port(), context, "proxy.test", session) as connection:
            assert connection.get().status == 200
            assert connection.sock.session_reused


def test_a_point_that_one_worker_has_fetched_counts_at_the_others_too(
    config: Tree, run: Run, web: Web, material: Material
) -> None:
    """They hear of a list long after it came, when it is new to nobody else."""
    web.give("/ca.crl", crl(material.ca, 1))
    config["truststores"]["partners"]["revocation"] = {"mode": "hard_fail", "crl": {"distribution_points": True}}
    config["truststores"]["partners"]["revocation"]["fetch"] = {"allowed_hosts": ["127.0.0.1"]}
    client = material.client("pointed", extra=[points(web.url("/ca.crl"))])
    several = run()
    with several.connect(client) as connection:
        assert connection.get().status == 200
    several.process.send_signal(signal.SIGHUP)  # asks again: unchanged
    eventually(lambda: len(web.asked) == 2)
    eventually(lambda: sum(several.series("crl_refresh_total").values()) >= 2)
    for _ in range(MANY // 2):
        with several.connect(client) as connection:
            assert connection.get().status == 200
    assert len(web.asked) == 2, "for both workers"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_chain_of_a_session_is_known_at_all_but_those_that_came_later(
    config: Tree, run: Run, material: Material, version: str
) -> None:
    """A session has its leaf alone. Who has not seen what led to its issuer asks for a full handshake."""
    config["listeners"][0]["tls"]["session_resumption"] = True
    config["truststores"]["partners"]["trust_anchors"] = [str(material.root)]
    several = run()
    context = client_context(material.root, material.dev_client(f"chained-{version}"), VERSIONS[version])
    with tls(several.port(), context) as connection:
        assert connection.get().status == 200
        session = connection.sock.session
    eventually(lambda: sum(several.series("handshakes_total").values()) == 1)
    for _ in range(MANY // 2):
        with tls(several.port(), context, "proxy.test", session) as connection:
            assert connection.get().status == 200
            assert connection.sock.session_reused
    for pid in several.pids:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: several.series("worker_restarts_total").get(()) == WORKERS and len(several.pids) == WORKERS)
    with pytest.raises((OSError, EOFError)), tls(several.port(), context, "proxy.test", session) as connection:
        connection.get()
    with tls(several.port(), context) as connection:
        assert connection.get().status == 200
