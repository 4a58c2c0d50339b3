"""WebSockets under attack: clients that do not read, that smuggle, and servers that are trusted no more."""

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from tests.integration.certificates import Identity, anchor_file, issue
from tests.integration.clients import PATIENCE, Connection, request, tls
from tests.integration.conftest import Start
from tests.integration.harness import RunningProxy, Tree, eventually
from tests.integration.http.peers import Listening, Peer, listening
from tests.integration.http.test_websockets import AGREES, ASKS
from tests.integration.live.conftest import crl, replace
from tests.integration.secure.conftest import NAME, Authority, authority, server_context

from mtlsproxy.runtime import reload

__all__ = ["authority"]


@pytest.fixture(autouse=True)
def _looking_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "LOOK_EVERY", 0.1)


@pytest.fixture
def by_hand(config: Tree) -> Iterator[Listening]:
    with listening() as server:
        config["upstreams"]["recorder"]["servers"] = [{"url": server.url}]
        yield server


def opened(client: Connection, server: Listening, context: ssl.SSLContext | None = None) -> Peer:
    client.send(request("/", *ASKS))
    peer = server.accept()
    if context is not None:
        peer.sock = context.wrap_socket(peer.sock, server_side=True)
    peer.answer(AGREES)
    assert client.response().status == 101
    return peer


def passes(client: Connection, peer: Peer) -> bool:
    client.send(b"ping")
    peer.send(b"pong")
    return peer.exactly(4) == b"ping" and client.exactly(4) == b"pong"


def cut_off(client: Connection) -> bool:
    """Whether it ended, in whatever way, without a further byte."""
    with contextlib.suppress(EOFError, ConnectionError, ssl.SSLEOFError):
        client.exactly(1)
        return False
    return True


# -- clients -----------------------------------------------------------------------------------------------------------


def test_requests_behind_an_upgrade_that_is_declined_are_requests(
    config: Tree, by_hand: Listening, start: Start, hostile: ssl.SSLContext
) -> None:
    """Judged like any others, and not bytes of a tunnel that there is not."""
    config["routes"] = [
        {"name": "secret", "paths": ["/secret"], "allow": [], "upstream": "recorder"},
        {"name": "rest", "allow": "any", "upstream": "recorder"},
    ]
    proxy = start(config)
    with tls(proxy.port(), hostile) as client:
        client.send(request("/", *ASKS) + request("/secret", "X-Client-Id: forged") + request("/public"))
        peer = by_hand.accept()
        peer.answer()
        assert client.response().status == 200
        assert client.response().status == 403
        assert peer.answer().startswith(b"GET /public HTTP/1.1\r\n")
        assert client.response().status == 200


def test_an_upgrade_of_http_1_0_opens_nothing(
    config: Tree, by_hand: Listening, start: Start, hostile: ssl.SSLContext
) -> None:
    """RFC 9110 §7.8: it is ignored, and a server that agrees to it all the same is an error."""
    proxy = start(config)
    with tls(proxy.port(), hostile) as client:
        client.send(request("/", *ASKS).replace(b"HTTP/1.1", b"HTTP/1.0") + b"behind")
        peer = by_hand.accept()
        assert b"pgrade:" not in peer.answer(AGREES)
        assert client.response().status == 502
        assert peer.rest() == b""


def test_a_client_that_sends_and_does_not_read_is_let_go(
    config: Tree, by_hand: Listening, start: Start, hostile: ssl.SSLContext
) -> None:
    """`timeouts.write` holds in a tunnel, too: what it sends keeps nothing alive that it does not take."""
    config["listeners"][0]["timeouts"] = {"write": "300ms"}
    proxy = start(config)
    with tls(proxy.port(), hostile) as client:
        peer = opened(client, by_hand)
        peer.sock.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            while True:
                peer.sock.sendall(bytes(1 << 20))
        peer.sock.settimeout(PATIENCE)

        def ended() -> bool:
            with contextlib.suppress(OSError):
                client.send(b"still here")
            return not proxy.series("upstream_connections")

        eventually(ended)
    line = proxy.refusal()
    assert (line["status"], line["reason"]) == (101, "request_timeout")
    assert "took nothing" in line["detail"]


def test_a_client_that_reads_slowly_is_kept(
    config: Tree, by_hand: Listening, start: Start, hostile: ssl.SSLContext
) -> None:
    config["listeners"][0]["timeouts"] = {"write": "1s"}
    proxy = start(config)
    for accepting in proxy.proxy.listeners["internal"].acceptor._sockets:
        accepting.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    size = 1 << 20
    data = os.urandom(size)
    with tls(proxy.port(), hostile) as client:
        peer = opened(client, by_hand)
        peer.sock.settimeout(30)
        sending = threading.Thread(target=peer.send, args=(data,))
        sending.start()
        got = b""
        pause = threading.Event()
        while len(got) < size:
            got += client.exactly(min(size // 8, size - len(got)))
            pause.wait(0.3)
        sending.join()
        assert got == data
        assert passes(client, peer)


# -- servers -----------------------------------------------------------------------------------------------------------


def load(proxy: RunningProxy, config: Tree) -> None:
    done = proxy.series("config_reloads_total").get(("success",), 0)
    replace(proxy.access_file.parent / "proxy.yaml", yaml.safe_dump(config, sort_keys=False).encode())
    eventually(lambda: proxy.series("config_reloads_total").get(("success",), 0) > done)


def test_it_ends_when_a_reload_takes_its_server_out(
    config: Tree, by_hand: Listening, start: Start, honest: ssl.SSLContext
) -> None:
    """Other changes of the upstream, and other servers that go, do not touch it."""
    with listening() as other:
        config["upstreams"]["recorder"]["servers"] = [{"url": by_hand.url}, {"url": other.url}]
        proxy = start(config)
        with tls(proxy.port(), honest) as one, tls(proxy.port(), honest) as two:
            first, second = opened(one, by_hand), opened(two, other)
            config["upstreams"]["recorder"] |= {"retries": 3, "servers": [{"url": other.url, "weight": 7}]}
            load(proxy, config)
            assert cut_off(one)
            assert first.rest() == b""
            load(proxy, config | {"logging": config["logging"] | {"level": "debug"}})
            assert passes(two, second)
    line = proxy.refusal()
    assert (line["status"], line["reason"]) == (101, "upstream_unavailable")
    assert by_hand.url in line["detail"]


@pytest.fixture
def good(authority: Authority) -> Identity:
    return authority.server()


@pytest.fixture
def revoke(
    config: Tree, by_hand: Listening, authority: Authority, good: Identity, tmp_path: Path
) -> Callable[[], None]:
    """TLS to the upstream, with a CRL; call it to revoke the `good` certificate."""
    replace(tmp_path / "upstream.crl", crl(authority.ca, 1))
    (tmp_path / "anchors.pem").write_bytes(authority.anchors.read_bytes())
    config["upstreams"]["recorder"] = {
        "servers": [{"url": by_hand.url.replace("http:", "https:")}],
        "tls": {
            "trust_anchors": ["anchors.pem"],
            "server_name": NAME,
            "revocation": {"crl": {"sources": ["upstream.crl"]}},
        },
    }
    return lambda: replace(tmp_path / "upstream.crl", crl(authority.ca, 2, good))


def test_it_ends_when_its_server_is_revoked(
    config: Tree, by_hand: Listening, revoke: Callable[[], None], good: Identity, start: Start, honest: ssl.SSLContext
) -> None:
    """Also behind a reload that has made the upstream anew."""
    proxy = start(config)
    with tls(proxy.port(), honest) as client:
        peer = opened(client, by_hand, server_context(good))
        config["upstreams"]["recorder"]["retries"] = 3
        load(proxy, config)
        assert passes(client, peer)
        revoke()
        assert cut_off(client)
    line = proxy.refusal()
    assert (line["status"], line["reason"]) == (101, "upstream_error")
    assert ": the server's certificate is revoked: " in line["detail"]
    eventually(lambda: proxy.series("upstream_connections") == {})


def test_it_ends_when_its_servers_anchor_goes(
    config: Tree,
    by_hand: Listening,
    revoke: Callable[[], None],
    good: Identity,
    start: Start,
    honest: ssl.SSLContext,
    tmp_path: Path,
) -> None:
    proxy = start(config)
    with tls(proxy.port(), honest) as client:
        peer = opened(client, by_hand, server_context(good))
        assert passes(client, peer)
        config["upstreams"]["recorder"]["tls"]["revocation"] = {"mode": "off"}
        replace(tmp_path / "anchors.pem", anchor_file(tmp_path, issue("Another CA", ca=True)).read_bytes())
        load(proxy, config)
        assert cut_off(client)
    assert "untrusted_issuer" in proxy.refusal()["detail"]


def test_it_ends_with_its_servers_certificate(
    config: Tree,
    by_hand: Listening,
    revoke: Callable[[], None],
    authority: Authority,
    start: Start,
    honest: ssl.SSLContext,
) -> None:
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=3)
    proxy = start(config)
    with tls(proxy.port(), honest) as client:
        peer = opened(client, by_hand, server_context(authority.server(end=ends)))
        assert passes(client, peer)
        assert cut_off(client)
    assert datetime.now(UTC) >= ends
    assert "(expired)" in proxy.refusal()["detail"]


def test_another_certificate_of_ours_leaves_it_alone(
    config: Tree,
    by_hand: Listening,
    revoke: Callable[[], None],
    good: Identity,
    authority: Authority,
    start: Start,
    honest: ssl.SSLContext,
    tmp_path: Path,
) -> None:
    """Short-lived certificates would else cut it off every hour."""
    first, second = authority.server(), authority.server("another.test")
    for name, data in (("own.pem", first.certificate), ("own.key", first.key)):
        replace(tmp_path / name, data.read_bytes())
    config["upstreams"]["recorder"]["tls"] |= {"certificate": "own.pem", "private_key": "own.key"}
    proxy = start(config)
    with tls(proxy.port(), honest) as client:
        peer = opened(client, by_hand, server_context(good))
        done = proxy.series("config_reloads_total").get(("success",), 0)
        replace(tmp_path / "own.key", second.key.read_bytes())
        replace(tmp_path / "own.pem", second.certificate.read_bytes())
        eventually(lambda: proxy.series("config_reloads_total").get(("success",), 0) > done)
        eventually(lambda: any("is shown" in message["message"] for message in proxy.messages()))
        assert passes(client, peer)


def test_a_request_that_waited_for_a_revoked_server_is_not_sent_to_it(
    config: Tree, by_hand: Listening, revoke: Callable[[], None], good: Identity, start: Start, honest: ssl.SSLContext
) -> None:
    """Though a reload has made its upstream anew meanwhile: who waits, waits at the old one."""
    config["upstreams"]["recorder"] |= {"max_connections": 1, "retries": 0}
    proxy = start(config)
    with tls(proxy.port(), honest) as first, tls(proxy.port(), honest) as second:
        first.send(request("/first"))
        peer = by_hand.accept()
        peer.sock = server_context(good).wrap_socket(peer.sock, server_side=True)
        peer.head()
        second.send(request("/second"))
        waits = proxy.proxy.pools.upstreams["recorder"]._waiting
        eventually(lambda: proxy.call(lambda: len(waits)) == 1)
        config["upstreams"]["recorder"]["retries"] = 3
        load(proxy, config)
        revoke()
        eventually(lambda: any("CRL number 2" in message["message"] for message in proxy.messages()))
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        assert first.response().status == 200
        fresh = by_hand.accept()
        with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
            fresh.sock = server_context(good).wrap_socket(fresh.sock, server_side=True)
            fresh.head()
        answer = second.response()
    assert (answer.status, answer.problem["reason"]) == (502, "upstream_error")
