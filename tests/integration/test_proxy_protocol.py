"""Behind a TCP load balancer: its PROXY header gives the client's address, it must send one, and nobody else may."""

import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from tests.integration.clients import PATIENCE, Connection, client_context, request, tls
from tests.integration.conftest import Material, Start
from tests.integration.harness import RunningProxy, Tree, eventually
from tests.integration.refusals import assert_counted, assert_nobody_left, assert_nothing_forwarded
from tests.integration.stepped import client_hello
from tests.integration.upstream import RecordingUpstream
from tests.unit.tls.test_proxy_header import TCP4, checked, tlv, v2

from mtlsproxy.reasons import Reason

BALANCER = "127.0.0.2"
"""The load balancer's address; everybody else comes from 127.0.0.1."""

HEADERS = {
    "v1": b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n",
    "v2": v2(TCP4 + tlv(2, b"proxy.test")),
}
FROM = ("192.0.2.1", 56324)


@pytest.fixture
def behind(config: Tree) -> Tree:
    """A listener that expects version 2 from the load balancer; tests change the version."""
    config["listeners"][0] |= {"proxy_protocol": "v2", "proxy_protocol_from": [BALANCER]}
    return config


@contextlib.contextmanager
def balanced(proxy: RunningProxy, source: str = BALANCER) -> Iterator[socket.socket]:
    """A plain connection, of the load balancer unless `source` says otherwise."""
    with socket.create_connection(("127.0.0.1", proxy.port()), PATIENCE, (source, 0)) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield raw


@contextlib.contextmanager
def through(
    proxy: RunningProxy, context: ssl.SSLContext, header: bytes, source: str = BALANCER
) -> Iterator[Connection]:
    """A client's TLS connection behind `header`."""
    with balanced(proxy, source) as raw:
        raw.sendall(header)
        with context.wrap_socket(raw, server_hostname="proxy.test", suppress_ragged_eofs=False) as sock:
            yield Connection(sock)


def v1_from(address: str, port: int = 1) -> bytes:
    return b"PROXY TCP4 %b 198.51.100.2 %d 443\r\n" % (address.encode(), port)


def logged(proxy: RunningProxy, reason: Reason, address: str) -> Tree:
    """The one refusal, with the client's address."""
    line = proxy.refusal()
    assert (line["reason"], line["client_ip"]) == (reason, address)
    return line


def let_go(raw: socket.socket) -> bool:
    """The other side ends the connection, with an alert or without."""
    with contextlib.suppress(ConnectionResetError):
        while raw.recv(4096):
            pass
    return True


# -- the address -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_address_of_the_header_is_the_connections(
    behind: Tree, material: Material, upstream: RecordingUpstream, start: Start, version: str
) -> None:
    """In the access log and towards the upstream."""
    behind["listeners"][0]["proxy_protocol"] = version
    proxy = start(behind)
    with through(proxy, client_context(material.root, material.client()), HEADERS[version]) as client:
        assert client.get().status == 200
    (line,) = proxy.access()
    assert (line["client_ip"], line["client_port"]) == FROM
    (recorded,) = upstream.requests
    assert recorded.values("X-Forwarded-For") == ["192.0.2.1"]
    assert proxy.refusals() == []
    assert_nobody_left(proxy)


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_header_in_pieces_and_together_with_the_client_hello(
    behind: Tree, material: Material, start: Start, version: str, size: int
) -> None:
    behind["listeners"][0]["proxy_protocol"] = version
    proxy = start(behind)
    context = client_context(material.root, material.client())
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="proxy.test")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    data = HEADERS[version] + outgoing.read()
    with balanced(proxy) as raw:
        for at in range(0, len(data), size):
            raw.sendall(data[at : at + size])
        while True:
            incoming.write(raw.recv(65536))
            with contextlib.suppress(ssl.SSLWantReadError):
                client.do_handshake()
                break
        client.write(request())
        raw.sendall(outgoing.read())
        (line,) = proxy.access()
    assert (line["status"], line["client_ip"]) == (200, FROM[0])


def test_an_ipv6_client_behind_an_ipv4_load_balancer(
    behind: Tree, material: Material, upstream: RecordingUpstream, start: Start
) -> None:
    proxy = start(behind)
    block = socket.inet_pton(socket.AF_INET6, "2001:db8::1") + bytes(16) + struct.pack("!HH", 1, 2)
    with through(proxy, client_context(material.root, material.client()), checked(block, 0x21)) as client:
        assert client.get().status == 200
    assert proxy.access()[0]["client_ip"] == "2001:db8::1"
    assert upstream.requests[0].values("X-Forwarded-For") == ["2001:db8::1"]


@pytest.mark.parametrize(
    ("version", "header"), [("v1", b"PROXY UNKNOWN\r\n"), ("v2", v2(command=0x20, family=0)), ("v2", v2(family=0))]
)
def test_a_header_that_names_nobody_leaves_the_sockets_address(
    behind: Tree, material: Material, upstream: RecordingUpstream, start: Start, version: str, header: bytes
) -> None:
    """LOCAL, UNSPEC and UNKNOWN: the load balancer itself, for instance its health check over TLS."""
    behind["listeners"][0]["proxy_protocol"] = version
    proxy = start(behind)
    with through(proxy, client_context(material.root, material.client()), header) as client:
        assert client.get().status == 200
    assert proxy.access()[0]["client_ip"] == BALANCER
    assert upstream.requests[0].values("X-Forwarded-For") == [BALANCER]


def test_a_failed_handshake_is_logged_with_the_address_of_the_header(
    behind: Tree, material: Material, upstream: RecordingUpstream, start: Start
) -> None:
    proxy = start(behind)
    with (
        pytest.raises(ssl.SSLError),
        through(proxy, client_context(material.root), HEADERS["v2"]) as client,
    ):
        client.send(request())
        client.response()
    assert logged(proxy, Reason.NO_CERTIFICATE, FROM[0])["client_port"] == FROM[1]
    assert_nothing_forwarded(upstream)
    assert_nobody_left(proxy)


# -- who must and who may not ------------------------------------------------------------------------------------------


def test_others_connect_without_a_header(
    behind: Tree, material: Material, upstream: RecordingUpstream, start: Start
) -> None:
    proxy = start(behind)
    with tls(proxy.port(), client_context(material.root, material.client())) as client:
        assert client.get().status == 200
    assert proxy.access()[0]["client_ip"] == "127.0.0.1"


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_header_from_anybody_else_is_no_handshake(
    behind: Tree, material: Material, upstream: RecordingUpstream, start: Start, version: str
) -> None:
    """A client that spoofs its address is refused under its own."""
    behind["listeners"][0]["proxy_protocol"] = version
    proxy = start(behind)
    with balanced(proxy, "127.0.0.1") as raw:
        raw.sendall(HEADERS[version] + client_hello(client_context(material.root, material.client())))
        assert let_go(raw)
    logged(proxy, Reason.PROTOCOL_ERROR, "127.0.0.1")
    assert_counted(proxy, Reason.PROTOCOL_ERROR)
    assert_nothing_forwarded(upstream)
    assert_nobody_left(proxy)


WRONG = {
    "v2 where v1 is expected": ("v1", HEADERS["v2"], "PROXY v2 came"),
    "v1 where v2 is expected": ("v2", HEADERS["v1"], "PROXY v1 came"),
    "no header before v1": ("v1", b"", "TLS at once came"),
    "no header before v2": ("v2", b"", "TLS at once came"),
    "a malformed v1": ("v1", b"PROXY TCP4 192.0.2.01 198.51.100.2 1 2\r\n", "malformed address"),
    "a v1 without end": ("v1", b"PROXY UNKNOWN " + b"x" * 200, "more than 107 bytes"),
    "a wrong checksum": ("v2", checked(TCP4)[:-1] + b"\x00", "CRC32C"),
    "a v2 that is too long": ("v2", v2(TCP4, size=0xFFFF), "4096 allowed"),
    "a UNIX socket's": ("v2", v2(bytes(216), 0x31), "a UNIX stream"),
    "two headers": ("v1", HEADERS["v1"] * 2, "plain HTTP on a TLS port"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_load_balancer_that_sends_anything_else_is_refused(
    behind: Tree, material: Material, upstream: RecordingUpstream, start: Start, case: str
) -> None:
    """The line says what came, so that the load balancer's configuration can be mended."""
    version, header, words = WRONG[case]
    behind["listeners"][0]["proxy_protocol"] = version
    proxy = start(behind)
    with balanced(proxy) as raw:
        raw.sendall(header + client_hello(client_context(material.root, material.client())))
        assert let_go(raw)
    assert words in logged(proxy, Reason.PROTOCOL_ERROR, FROM[0] if case == "two headers" else BALANCER)["detail"]
    assert_counted(proxy, Reason.PROTOCOL_ERROR)
    assert_nothing_forwarded(upstream)
    assert_nobody_left(proxy)


@pytest.mark.parametrize(
    ("sent", "what"),
    [(b"", "PROXY header"), (HEADERS["v2"][:20], "PROXY header"), (HEADERS["v2"], "ClientHello")],
    ids=["nothing", "half a header", "a header alone"],
)
def test_header_and_client_hello_share_one_time(
    behind: Tree, material: Material, upstream: RecordingUpstream, start: Start, sent: bytes, what: str
) -> None:
    """`client_hello_timeout`, from the accept on."""
    behind["listeners"][0]["tls"]["client_hello_timeout"] = "200ms"
    proxy = start(behind)
    with balanced(proxy) as raw:
        raw.sendall(sent)
        assert raw.recv(1) == b""
    line = logged(proxy, Reason.HANDSHAKE_TIMEOUT, FROM[0] if sent == HEADERS["v2"] else BALANCER)
    assert line["detail"] == f"the {what} was not complete in time"
    assert_nobody_left(proxy)


# -- health checks -----------------------------------------------------------------------------------------------------


def own_header(raw: socket.socket, version: str) -> bytes:
    """What a load balancer sends on its own behalf: in version 1 its own addresses (§2.1), in version 2 LOCAL."""
    return v1_from(*raw.getsockname()) if version == "v1" else v2(command=0x20, family=0)


@pytest.mark.parametrize("end", ["closed", "reset", "reset at once"])
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_health_check_that_only_connects_is_nobody_who_was_refused(
    behind: Tree, start: Start, version: str, end: str
) -> None:
    """It is gone as soon as it ends, also when its reset overtakes our reading of the header."""
    behind["listeners"][0] |= {"proxy_protocol": version}
    behind["listeners"][0]["tls"]["client_hello_timeout"] = "60s"
    proxy = start(behind)
    with balanced(proxy) as raw:
        header = own_header(raw, version)
        if end == "reset at once":
            proxy.loop.call_soon_threadsafe(time.sleep, 0.1)
        raw.sendall(header)
        if end != "reset at once":
            eventually(lambda: proxy.series("received_bytes_total").get(("internal",)) == len(header))
        if end != "closed":
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    eventually(lambda: proxy.series("connections_total") == {("internal",): 1})
    assert_nobody_left(proxy)
    assert proxy.rejections() == []
    assert proxy.series("rejections_total") == {}


def test_one_that_begins_to_shake_hands_is_a_client_like_others(behind: Tree, start: Start) -> None:
    proxy = start(behind)
    with balanced(proxy) as raw:
        raw.sendall(own_header(raw, "v2") + b"\x16\x03\x01")
        eventually(lambda: proxy.series("received_bytes_total"))
    logged(proxy, Reason.CLIENT_ABORTED, BALANCER)
    assert_nobody_left(proxy)


# -- limits ------------------------------------------------------------------------------------------------------------


def test_connections_are_counted_for_the_clients_and_not_for_the_load_balancer(
    behind: Tree, material: Material, upstream: RecordingUpstream, start: Start
) -> None:
    """`max_connections_per_ip`: the address of the header; whose header is not here yet or names nobody, nobody's."""
    behind["listeners"][0] |= {"proxy_protocol": "v1", "limits": {"max_connections_per_ip": 2}}
    proxy = start(behind)
    context = client_context(material.root, material.client())
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(balanced(proxy))
        for _ in range(4):
            stack.enter_context(through(proxy, context, b"PROXY UNKNOWN\r\n"))
        first = [stack.enter_context(through(proxy, context, v1_from("192.0.2.1", port))) for port in (1, 2)]
        other = stack.enter_context(through(proxy, context, v1_from("192.0.2.2")))
        with balanced(proxy) as raw:
            raw.sendall(v1_from("192.0.2.1", 3))
            assert let_go(raw)
        assert logged(proxy, Reason.TOO_MANY_CONNECTIONS, "192.0.2.1")["client_port"] == 3
        assert [client.get().status for client in (*first, other)] == [200] * 3
        first[0].sock.close()
        eventually(lambda: proxy.series("connections")[("internal",)] == 10)
        again = stack.enter_context(through(proxy, context, v1_from("192.0.2.1", 4)))
        assert again.get().status == 200
    assert_nobody_left(proxy)
    assert proxy.call(lambda: proxy.proxy.listeners["internal"].acceptor._per_address) == {}


def test_a_reload_changes_what_new_connections_must_send(behind: Tree, material: Material, start: Start) -> None:
    proxy = start(behind)
    context = client_context(material.root, material.client())
    file = proxy.access_file.parent / "proxy.yaml"

    def load(listener: dict[str, Any]) -> None:
        generation = proxy.series("config_last_reload_success_timestamp_seconds")
        behind["listeners"][0] |= listener
        file.with_suffix(".new").write_text(yaml.safe_dump(behind, sort_keys=False))
        file.with_suffix(".new").replace(file)
        eventually(lambda: proxy.series("config_last_reload_success_timestamp_seconds") != generation)

    with through(proxy, context, HEADERS["v2"]) as kept:
        assert kept.get().status == 200
        load({"proxy_protocol": "v1", "trusted_proxies": ["192.0.2.0/24"]})
        with through(proxy, context, HEADERS["v1"]) as client:
            assert client.get().status == 200
        load({"proxy_protocol": False, "proxy_protocol_from": []})
        with balanced(proxy) as raw, context.wrap_socket(raw, server_hostname="proxy.test") as sock:
            assert Connection(sock).get().status == 200
        assert kept.get().status == 200
    assert [line["client_ip"] for line in proxy.access(4)] == [FROM[0], FROM[0], BALANCER, FROM[0]]
