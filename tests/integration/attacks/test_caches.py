"""Attacks on what is remembered: names, hosts, paths and chains that a client makes up never add up."""

import ssl
from pathlib import Path

import pytest
from tests.integration.attacks.alive import no_collections, ours
from tests.integration.certificates import identity_of_der, issue
from tests.integration.clients import client_context, tls
from tests.integration.conftest import Material, Start
from tests.integration.harness import RunningProxy, Tree
from tests.integration.upstream import RecordingUpstream

from mtlsproxy.http1 import fields, service
from mtlsproxy.http1.service import Rules
from mtlsproxy.runtime import judging, listener


def rules_of(proxy: RunningProxy) -> Rules:
    return proxy.proxy.listeners["internal"].service.rules


def test_made_up_header_names_are_not_all_remembered(
    config: Tree, upstream: RecordingUpstream, start: Start, honest: ssl.SSLContext
) -> None:
    """Every one passes; long ones are not kept, and of short ones only so many."""
    proxy = start(config)
    with tls(proxy.port(), honest) as client:
        for number in range(30):
            lines = [f"X-{number}-{n}: a" for n in range(90)] + [f"{number}{n}{'n' * 12_000}: a" for n in range(4)]
            assert client.get("/", *lines).status == 200
            assert len(upstream.requests[-1].values(f"X-{number}-89")) == 1
            known = proxy.call(lambda: list(rules_of(proxy).fields.known))
            assert len(known) <= fields._REMEMBERED < 30 * 90
            assert max(map(len, known)) <= fields._REMEMBERED_LENGTH


def test_made_up_paths_are_not_all_remembered(
    config: Tree, start: Start, honest: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the limit lowered: four thousand requests take their time."""
    monkeypatch.setattr(service, "_REMEMBERED_MATCHES", 50)
    proxy = start(config)
    with tls(proxy.port(), honest) as client:
        for number in range(120):
            assert client.get(f"/{number}").status == 200
            assert client.get(f"/{number}{'p' * 300}").status == 200
            matches = proxy.call(lambda: list(rules_of(proxy).matches))
            assert len(matches) <= 50
            assert max(len(path) for _, path, _ in matches) <= service._REMEMBERED_PATH


def test_made_up_hosts_are_not_all_remembered(config: Tree, start: Start, honest: ssl.SSLContext) -> None:
    """Another spelling of the host with every request."""
    proxy = start(config)
    with tls(proxy.port(), honest) as client:
        for number in range(200):
            assert client.get(host=f"proxy.test:{number + 1}").status == 200
        (connection,) = proxy.proxy.listeners["internal"].service.connections
        assert len(connection._parser._hosts) <= 64
        assert len(connection._served._covered) <= 64


def test_chains_that_one_client_varies_are_not_all_remembered(
    config: Tree, material: Material, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One good leaf with other certificates beside it each time: a chain each, and each is judged."""
    monkeypatch.setattr(judging, "MAX_REMEMBERED", 3)
    monkeypatch.setattr(listener, "_MAX_VISITORS", 3)
    proxy = start(config)
    leaf = issue("alice", material.ca)
    with no_collections():
        verdicts = []
        for number in range(12):
            who = identity_of_der(tmp_path, leaf.certificate.der, leaf.key, issue(f"beside {number}", ca=True))
            with tls(proxy.port(), client_context(material.root, who)) as client:
                assert client.get().status == 200
            verdicts.append(ours()["mtlsproxy.verdict.judge.Verdict"])
    assert max(verdicts) <= 3 + 3 + 1
