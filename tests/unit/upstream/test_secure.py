"""A handshake with a server ends in exactly one word, connected or failed, whatever the server sends; real sockets."""

import asyncio
import contextlib
import gc
import socket
import ssl
import weakref
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.integration.certificates import DAY, NOW, Identity, identity, issue
from tests.unit.x509.build import truststore

from mtlsproxy.reasons import Reason
from mtlsproxy.revocation.decide import CrlSet, OcspPolicy, RevocationPolicy
from mtlsproxy.tls.client_context import ClientContext, ClientSettings
from mtlsproxy.transport.interfaces import NullCounter
from mtlsproxy.transport.stream import SocketStream
from mtlsproxy.transport.wheel import TimerWheel
from mtlsproxy.upstream.secure import SecureServer, SecureStream, Securing, UpstreamTls
from mtlsproxy.verdict.judge import Wanted
from mtlsproxy.verdict.trust import DenyList, Trust
from mtlsproxy.x509.policy import SERVER_AUTH

PATIENCE = 10.0
NAME = "server.test"
CA = issue("CA", ca=True)
OTHER = issue("Other", ca=True)


OFF = RevocationPolicy("off")


def trusted(revocation: RevocationPolicy = OFF, ca: Any = CA) -> Trust:
    store = truststore(ca, require_eku=(SERVER_AUTH,))
    return Trust(store, revocation, CrlSet.build((), ())[0], DenyList(()))


def context_for(trust: Trust) -> ClientContext:
    return ClientContext(ClientSettings(trust.truststore.anchors, None, ("http/1.1",)))


class Words:
    """What a handshake said, and what was asked for on its way."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.wanted: list[tuple[tuple[Wanted, ...], Callable[[], None]]] = []
        self.event = asyncio.Event()

    def connected(self, stream: SecureStream) -> None:
        self.said.append(stream)
        self.event.set()

    def failed(self, reason: Reason, detail: str) -> None:
        self.said.append((reason, detail))
        self.event.set()

    def resolve(self, wanted: tuple[Wanted, ...], done: Callable[[], None]) -> None:
        self.wanted.append((wanted, done))
        self.event.set()

    async def next(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.event.wait()
        self.event.clear()


class Attempt:
    """One handshake; `peer` is the server's end of its connection."""

    def __init__(self, wheel: TimerWheel, trust: Trust | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.words = Words()
        trust = trust or trusted()
        self.upstream = UpstreamTls("orders", context_for(trust), trust, self.words.resolve)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            ours = socket.create_connection(listening.getsockname())
            self.peer, _ = listening.accept()
        ours.setblocking(False)
        self.peer.setblocking(False)
        raw = SocketStream(loop, ours, NullCounter(), NullCounter())
        server = SecureServer(self.upstream, "https://server.test", NAME)
        self.securing: Securing = server.start(loop, wheel, raw, self.words.connected, self.words.failed)

    async def word(self) -> Any:
        await self.words.next()
        await asyncio.sleep(0.02)  # nothing more may follow
        (word,) = self.words.said
        return word


@pytest.fixture
async def wheel() -> AsyncIterator[TimerWheel]:
    found = TimerWheel(asyncio.get_running_loop())
    yield found
    found.close()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    folder: Path = tmp_path_factory.mktemp("secure")
    return identity(folder, issue("server", CA, sans=[x509.DNSName(NAME)], eku=[SERVER_AUTH]))


async def serve(peer: socket.socket, who: Identity, piece: int = 65536, *, refused: bool = False) -> None:
    """The server's side of a handshake, sent in pieces of so many bytes. refused: it is told so."""
    with pytest.raises(ssl.SSLError, match="ALERT") if refused else contextlib.nullcontext():
        await _serve(peer, who, piece)


async def _serve(peer: socket.socket, who: Identity, piece: int) -> None:
    loop = asyncio.get_running_loop()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(who.certificate, who.key)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_side=True)
    while True:
        done = True
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            done = False
        data = outgoing.read()
        for at in range(0, len(data), piece):
            await loop.sock_sendall(peer, data[at : at + piece])
            if piece < 100:
                await asyncio.sleep(0)
        if done:
            return
        received = await loop.sock_recv(peer, 65536)
        assert received, "the proxy ended the handshake"
        incoming.write(received)


@pytest.mark.parametrize("piece", [65536, 1])
async def test_a_good_server_is_connected_whole_or_byte_by_byte(wheel: TimerWheel, good: Identity, piece: int) -> None:
    attempt = Attempt(wheel)
    async with asyncio.TaskGroup() as group:
        group.create_task(serve(attempt.peer, good, piece))
        stream = await attempt.word()
    assert isinstance(stream, SecureStream)
    assert not stream.distrusted
    stream.abort_before_start()
    await asyncio.sleep(0)
    attempt.peer.close()


@given(st.binary(min_size=1, max_size=400), st.booleans())
@settings(max_examples=60, deadline=None)
def test_rubbish_in_place_of_a_handshake_is_a_failure(data: bytes, tls_like: bool) -> None:
    """Also in what looks like a handshake record."""
    sent = b"\x16\x03\x03" + len(data).to_bytes(2, "big") + data if tls_like else data

    async def run() -> None:
        wheel = TimerWheel(asyncio.get_running_loop())
        attempt = Attempt(wheel)
        await asyncio.get_running_loop().sock_sendall(attempt.peer, sent)
        attempt.peer.shutdown(socket.SHUT_WR)
        reason, detail = await attempt.word()
        assert reason is Reason.UPSTREAM_ERROR
        assert detail
        attempt.peer.close()
        wheel.close()

    asyncio.run(run())


@pytest.mark.parametrize("how", ["end", "reset"])
async def test_a_server_that_goes_away_is_a_failure(wheel: TimerWheel, how: str) -> None:
    attempt = Attempt(wheel)
    if how == "end":
        attempt.peer.shutdown(socket.SHUT_RDWR)
    else:
        await asyncio.sleep(0.02)  # a ClientHello that nobody reads: closing resets
    attempt.peer.close()
    reason, detail = await attempt.word()
    assert reason is Reason.UPSTREAM_ERROR
    assert "during the TLS handshake" in detail


@pytest.mark.parametrize("steps", [0, 1, 2])
async def test_a_cancelled_handshake_says_nothing(wheel: TimerWheel, good: Identity, steps: int) -> None:
    """At once, after the ClientHello, and while an OCSP answer is awaited."""
    ocsp = RevocationPolicy("hard_fail", ocsp=OcspPolicy(enabled=True, responder="http://ocsp.test/"))
    attempt = Attempt(wheel, trusted(ocsp))
    if steps == 1:
        await asyncio.sleep(0.02)
    async with asyncio.TaskGroup() as group:
        if steps == 2:
            group.create_task(serve(attempt.peer, good))
            await attempt.words.next()
            assert len(attempt.words.wanted) == 1
    attempt.securing.cancel()
    for _, done in attempt.words.wanted:
        done()
    await asyncio.sleep(0.05)
    assert attempt.words.said == []
    with contextlib.suppress(ConnectionError):
        while await asyncio.get_running_loop().sock_recv(attempt.peer, 65536):
            pass  # until it is seen to have ended
    attempt.peer.close()


@pytest.mark.parametrize("trusted_ca", [True, False])
async def test_a_handshake_that_has_ended_keeps_nothing(
    wheel: TimerWheel, good: Identity, tmp_path: Path, trusted_ca: bool
) -> None:
    """Without the help of a collection: it holds certificates and OpenSSL's buffers."""
    attempt = Attempt(wheel, None if trusted_ca else trusted(ca=OTHER))
    ended = weakref.ref(attempt.securing._tls)
    del attempt.securing
    gc.disable()
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(serve(attempt.peer, good, refused=not trusted_ca))
            word = await attempt.word()
        assert isinstance(word, SecureStream) is trusted_ca
        if trusted_ca:
            word.abort_before_start()
        await asyncio.sleep(0.02)
        attempt.words.said.clear()
        del word
        assert ended() is None
    finally:
        gc.enable()
    attempt.peer.close()


async def test_trust_that_changes_is_seen_by_connections_that_stand(wheel: TimerWheel, good: Identity) -> None:
    attempt = Attempt(wheel)
    async with asyncio.TaskGroup() as group:
        group.create_task(serve(attempt.peer, good))
        stream = await attempt.word()
    upstream, context, trust = attempt.upstream, attempt.upstream.context, attempt.upstream.trust
    upstream.adopt(context_for(trust), trust)
    assert upstream.context is context  # made by the same settings
    again = trusted()
    upstream.adopt(context, again)
    assert not stream.distrusted  # judged again, by the same anchors
    upstream.adopt(context, trusted(ca=OTHER))
    assert stream.distrusted
    upstream.adopt(context, again)
    assert not stream.distrusted
    upstream.adopt(context_for(trusted(ca=OTHER)), again)
    assert stream.distrusted  # the handshake was by other settings
    assert stream.has_news
    stream.abort_before_start()
    await asyncio.sleep(0)
    attempt.peer.close()


async def test_the_refusal_of_a_certificate_is_logged_once_a_minute_and_not_at_every_connection(
    wheel: TimerWheel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = identity(tmp_path, issue("bad", CA, sans=[x509.DNSName("other.test")], eku=[SERVER_AUTH], end=NOW + DAY))
    attempt = Attempt(wheel)
    verdict = attempt.upstream.judge((bad.der,), NAME)
    for _ in range(3):
        attempt.upstream.say("https://server.test", verdict)
    (record,) = caplog.records
    assert "is for other.test, not server.test" in record.getMessage()
    assert "to mend it: ask for a certificate that names server.test" in record.getMessage()
    attempt.securing.cancel()
    await asyncio.sleep(0.02)
    attempt.peer.close()
