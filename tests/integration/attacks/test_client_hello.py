"""Attacks before TLS begins: a ClientHello that costs more to read than to send."""

import socket
import ssl

import pytest
from tests.integration.clients import connected
from tests.integration.conftest import Start
from tests.integration.harness import RunningProxy, Tree, eventually
from tests.integration.refusals import assert_handshake_counted, assert_nobody_left
from tests.integration.stepped import client_hello, stepped

from mtlsproxy.reasons import Reason
from mtlsproxy.tls import handshake
from mtlsproxy.tls.client_hello import MAX_CLIENT_HELLO, MAX_RECORDS, parse_client_hello

RECORD_HEADER = 5


def in_records(message: bytes, size: int) -> bytes:
    """A handshake message in records of `size` bytes each."""
    pieces = (message[at : at + size] for at in range(0, len(message), size))
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces)


HUGE = b"\x01" + (MAX_CLIENT_HELLO - 4).to_bytes(3, "big") + bytes(MAX_CLIENT_HELLO - 4)
"""The largest message that may be a ClientHello."""


def received(proxy: RunningProxy) -> int:
    return int(proxy.series("received_bytes_total").get(("internal",), 0))


def wait_until_read(proxy: RunningProxy, size: int) -> None:
    eventually(lambda: received(proxy) == size)


def wait_until_established(proxy: RunningProxy, count: int) -> None:
    eventually(lambda: proxy.series("handshakes_total").get(("internal", "ok", "TLSv1.3")) == count)


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of what was parsed, at each attempt to."""
    sizes: list[int] = []
    real = parse_client_hello

    def noted(data: bytes) -> object:
        sizes.append(len(data))
        return real(data)

    monkeypatch.setattr(handshake, "parse_client_hello", noted)
    return sizes


def test_a_client_hello_in_records_of_one_byte_is_left_after_a_few_of_them(
    config: Tree, start: Start, readings: list[int]
) -> None:
    """Sent one by one: the record after the last that is allowed is not waited for, and nothing more is read."""
    proxy = start(config)
    attack = in_records(HUGE[:1000], 1)
    step = RECORD_HEADER + 1
    with connected(proxy.port()) as raw:
        for at in range(0, MAX_RECORDS * step, step):
            assert proxy.refusals() == []
            raw.sendall(attack[at : at + step])
            wait_until_read(proxy, at + step)
        assert raw.recv(100) == b"\x15\x03\x01\x00\x02\x02\x32"  # decode_error
    line = proxy.refusal()
    assert (line["reason"], line["detail"]) == (
        Reason.PROTOCOL_ERROR,
        f"a ClientHello in more than {MAX_RECORDS} records",
    )
    assert_handshake_counted(proxy, Reason.PROTOCOL_ERROR, "none")
    assert readings[-1] == max(readings) == MAX_RECORDS * step
    assert_nobody_left(proxy)


@pytest.mark.parametrize("size", [1, 2, 100, 1000])
def test_what_comes_at_once_is_read_once(config: Tree, start: Start, readings: list[int], size: int) -> None:
    """Up to 190 KB in one segment: one look at most at each of the few receives before the refusal."""
    proxy = start(config)
    with connected(proxy.port()) as raw:
        try:
            raw.sendall(in_records(HUGE, size))
            while raw.recv(100):
                pass
        except ConnectionError:
            pass  # reset behind the alert
    assert proxy.refusal()["reason"] == Reason.PROTOCOL_ERROR
    assert max(readings, default=0) <= MAX_CLIENT_HELLO + RECORD_HEADER * MAX_RECORDS
    assert len(readings) <= MAX_RECORDS
    assert_nobody_left(proxy)


def test_as_many_records_as_are_allowed_are_a_client_hello(
    config: Tree, start: Start, honest: ssl.SSLContext, readings: list[int]
) -> None:
    """The limit itself: a real one in that many records is shaken hands with."""
    proxy = start(config)
    with stepped(proxy.port(), honest) as client:
        message = client.flight()[RECORD_HEADER:]
        client.raw.sendall(in_records(message, -(-len(message) // MAX_RECORDS)))
        client.raw.sendall(client.answer_flight())
        eventually(lambda: proxy.series("handshakes_total") == {("internal", "ok", "TLSv1.3"): 1})
    assert readings


def test_others_are_served_between_the_bytes_of_a_slow_client_hello(
    config: Tree, start: Start, honest: ssl.SSLContext
) -> None:
    """One that will never be whole, from many at once: each costs its bytes and no slot."""
    config["listeners"][0]["limits"] = {"max_concurrent_handshakes": 1}
    proxy = start(config)
    hello = client_hello(honest)
    crowd: list[socket.socket] = []
    try:
        for _ in range(10):
            crowd.append(connected(proxy.port()))
        for at in range(3):
            for raw in crowd:
                raw.sendall(hello[at : at + 1])
            with stepped(proxy.port(), honest) as client:
                client.raw.sendall(client.flight())
                client.raw.sendall(client.answer_flight())
                wait_until_established(proxy, at + 1)
    finally:
        for raw in crowd:
            raw.close()
    assert_nobody_left(proxy)
