"""Attacks on the moment of a reload: a request is served by one configuration, the one in force when it is read."""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.integration.clients import PATIENCE, Connection, request, tls
from tests.integration.conftest import Start
from tests.integration.harness import RunningProxy, Tree, eventually
from tests.integration.upstream import Recorded, RecordingUpstream

from mtlsproxy.runtime import reload
from mtlsproxy.runtime.listener import _JUDGED_AT_ONCE

CLIENTS = 3 * _JUDGED_AT_ONCE
FORGED = request("/", "X-Auth-Id: admin", "X_Auth_Verify: SUCCESS")


@pytest.fixture(autouse=True)
def _only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "LOOK_EVERY", 600.0)


@pytest.fixture
def proxy(config: Tree, start: Start) -> RunningProxy:
    return start(config)


@pytest.fixture
def crowd(proxy: RunningProxy, honest: ssl.SSLContext) -> Iterator[list[Connection]]:
    """More connections than are judged again in one turn of the loop, each of which has asked once."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(tls(proxy.port(), honest)) for _ in range(CLIENTS)]
        for client in clients:
            assert client.get().status == 200
        yield clients


def adopt(
    proxy: RunningProxy, config: Tree, folder: Path, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], None]
) -> None:
    """Reload `config`; `meanwhile` happens on the loop when all is ready, and just before it is in force."""
    (folder / "proxy.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    real = proxy.proxy.adopt

    async def noted(plan: Any) -> None:
        meanwhile()
        await real(plan)

    with monkeypatch.context() as patched:
        patched.setattr(proxy.proxy, "adopt", noted)
        reloading = asyncio.run_coroutine_threadsafe(proxy.proxy.reloader.reload("a test"), proxy.loop)
        assert reloading.result(PATIENCE).ok


def served_by(recorded: Recorded) -> str:
    """Under which prefix the upstream was told who asks; a forgery that came with it fails here."""
    names = [name for name, _ in recorded.fields]
    if "X-Auth-Truststore" in names:
        assert [v for n, v in recorded.fields if n.replace("_", "-") == "X-Auth-Id"] == ["alice.clients.test"]
        assert [v for n, v in recorded.fields if n.replace("_", "-") == "X-Auth-Verify"] == ["SUCCESS"]
        assert "X_Auth_Verify" not in names
        return "X-Auth-"
    assert recorded.values("X-Client-Id") == ["alice.clients.test"]
    return "X-Client-"


def test_a_new_prefix_is_stripped_from_requests_that_are_on_their_way(
    proxy: RunningProxy, crowd: list[Connection], config: Tree, upstream: RecordingUpstream, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Every connection's request waits in the kernel when the prefix changes, most are read before they are judged
    again: each is read by the rules by which it is forwarded."""
    for prefix in ("X-Auth-", "X-Client-", "X-Auth-"):
        upstream.requests.clear()
        config["identities"] = {"default": {"prefix": prefix}}

        def all_ask() -> None:
            for client in crowd:
                client.send(FORGED)

        adopt(proxy, config, tmp_path, monkeypatch, all_ask)
        assert [client.response().status for client in crowd] == [200] * CLIENTS
        assert [served_by(recorded) for recorded in upstream.requests] == [prefix] * CLIENTS


def test_a_new_prefix_is_stripped_from_heads_of_which_half_was_read_before(
    proxy: RunningProxy, crowd: list[Connection], config: Tree, upstream: RecordingUpstream, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The forged line is on this side of the reload, the end of the head on the other."""
    upstream.requests.clear()
    before = proxy.series("received_bytes_total")[("internal",)]
    for client in crowd:
        client.send(FORGED[:-2])
    eventually(lambda: proxy.series("received_bytes_total")[("internal",)] - before >= CLIENTS * len(FORGED[:-2]))
    config["identities"] = {"default": {"prefix": "X-Auth-"}}
    adopt(proxy, config, tmp_path, monkeypatch, lambda: None)
    for client in crowd:
        client.send(FORGED[-2:])
        assert client.response().status == 200
    assert [served_by(recorded) for recorded in upstream.requests] == ["X-Auth-"] * CLIENTS


def test_who_is_denied_by_a_reload_gets_no_request_through_that_is_on_its_way(
    proxy: RunningProxy, crowd: list[Connection], config: Tree, upstream: RecordingUpstream, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The same moment, of a client that is shut out: not one of its requests is forwarded."""
    upstream.requests.clear()
    config["truststores"]["partners"]["deny"] = [{"common_name": "alice"}]

    def all_ask() -> None:
        for client in crowd:
            client.send(FORGED)

    adopt(proxy, config, tmp_path, monkeypatch, all_ask)
    for client in crowd:
        answered = client.rest()
        assert not answered or b'"reason":"denied"' in answered.replace(b": ", b":")
    assert upstream.requests == []
