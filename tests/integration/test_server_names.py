"""Which certificate is served, for which hosts it then stands, and ClientHellos cut to pieces."""

import socket
import ssl
from typing import Any

import pytest
from cryptography import x509
from tests.integration.certificates import write_key
from tests.integration.clients import PATIENCE, VERSIONS, client_context, request, tls
from tests.integration.conftest import Material, Start
from tests.integration.harness import Tree
from tests.integration.refusals import assert_logged, assert_problem
from tests.integration.stepped import client_hello, stepped
from tests.integration.upstream import RecordingUpstream

from mtlsproxy.reasons import Reason


def server(material: Material, name: str, *sans: str) -> dict[str, str]:
    """A server certificate of the development PKI, as a configuration names it."""
    certificate, key = material.folder / f"{name}.pem", material.folder / f"{name}.key"
    if not certificate.exists():
        issued = material.pki.issue(f"CN={name}", sans, "server")
        certificate.write_bytes(issued.chain_pem)
        write_key(key, issued.key_pem)
    return {"certificate": str(certificate), "private_key": str(key)}


@pytest.fixture
def three_servers(config: Tree, material: Material) -> Tree:
    """The default for proxy.test, localhost and 127.0.0.1; one for a name; one for a wildcard."""
    config["listeners"][0]["tls"]["certificates"] += [
        server(material, "orders", "DNS:orders.test"),
        server(material, "wild", "DNS:*.apps.test", "DNS:apps.test"),
    ]
    return config


SNI = [
    ("proxy.test", "proxy.test"),
    ("orders.test", "orders"),
    ("ORDERS.Test", "orders"),
    ("a.apps.test", "wild"),
    ("apps.test", "wild"),
    ("b.a.apps.test", "proxy.test"),
    ("unknown.test", "proxy.test"),
    (None, "proxy.test"),
]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("name", "served"), SNI)
def test_the_certificate_is_chosen_by_name(
    three_servers: Tree, material: Material, start: Start, name: str | None, served: str, version: str
) -> None:
    """Exactly or by one label of a wildcard, in any case; else the first. Whichever it is, the client is verified."""
    proxy = start(three_servers)
    context = client_context(material.root, material.client(), VERSIONS[version])
    context.check_hostname = False
    with tls(proxy.port(), context, name) as connection:
        der = connection.sock.getpeercert(binary_form=True)
        assert der is not None
        common = x509.load_der_x509_certificate(der).subject.rfc4514_string()
        host = {"proxy.test": "proxy.test", "orders": "orders.test", "wild": "apps.test"}[served]
        assert connection.get("/", host=host).status == 200
    assert common == f"CN={served}"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["proxy.test", "orders.test", "a.apps.test"])
def test_no_name_is_a_way_around_the_client_certificate(
    three_servers: Tree, material: Material, upstream: RecordingUpstream, start: Start, name: str, version: str
) -> None:
    """Every context asks for, and insists on, a certificate (Traefik CVE-2026-32305 and its kin)."""
    proxy = start(three_servers)
    context = client_context(material.root, None, VERSIONS[version])
    with pytest.raises(ssl.SSLError), tls(proxy.port(), context, name) as connection:
        connection.send(request())
        connection.sock.recv(1)
    assert_logged(proxy, Reason.NO_CERTIFICATE, None)
    assert upstream.untouched


HOSTS = [
    ("proxy.test", 200),
    ("proxy.test:8443", 200),
    ("PROXY.test", 200),
    ("proxy.test.", 200),
    ("127.0.0.1", 200),
    ("localhost", 200),
    ("orders.test", 421),
    ("a.apps.test", 421),
    ("unknown.test", 421),
    ("127.0.0.2", 421),
    ("[::1]", 421),
    ("evil.test@proxy.test", 400),
    ("proxy.test, orders.test", 400),
    ("", 400),
]


@pytest.mark.parametrize(("host", "status"), HOSTS)
def test_a_host_that_the_certificate_does_not_cover_is_misdirected(
    three_servers: Tree, material: Material, upstream: RecordingUpstream, start: Start, host: str, status: int
) -> None:
    """RFC 9110 §15.5.20. The connection was made for proxy.test, so nothing else is answered on it."""
    proxy = start(three_servers)
    with tls(proxy.port(), client_context(material.root, material.client())) as connection:
        answer = connection.get("/", host=host)
    assert answer.status == status
    assert upstream.untouched is (status != 200)
    if status == 421:
        assert_problem(answer, Reason.MISDIRECTED)


def test_a_misdirected_request_is_right_on_its_own_connection(
    three_servers: Tree, material: Material, upstream: RecordingUpstream, start: Start
) -> None:
    """The accepted case: the same Host with the same name in SNI."""
    proxy = start(three_servers)
    with tls(proxy.port(), client_context(material.root, material.client()), "orders.test") as connection:
        assert connection.get("/", host="orders.test").status == 200
        assert_problem(connection.get("/", host="proxy.test"), Reason.MISDIRECTED, closes=False)
        assert connection.get("/", host="orders.test").status == 200
    assert [r.values("Host") for r in upstream.requests] == [["orders.test"], ["orders.test"]]


# -- ClientHellos in pieces --------------------------------------------------------------------------------------------


def records(hello: bytes, size: int) -> bytes:
    """The same ClientHello message, in records of `size` bytes (RFC 8446 §5.1 allows it)."""
    message = hello[5:]
    parts = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part for part in parts)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("size", [None, 40, 100], ids=lambda size: f"records of {size}")
def test_a_client_hello_byte_by_byte(
    three_servers: Tree, material: Material, start: Start, size: int | None, version: str
) -> None:
    """One byte a packet, and cut into records of any size: the name is still read, and TLS goes on."""
    proxy = start(three_servers)
    context = client_context(material.root, material.client(), VERSIONS[version])
    with stepped(proxy.port(), context, "orders.test") as client:
        client.raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        hello = client.flight()
        sent = hello if size is None else records(hello, size)
        if size is None:
            for at in range(len(sent)):
                client.raw.sendall(sent[at : at + 1])
        else:
            client.raw.sendall(sent)
        answer = exchange(client, b"GET / HTTP/1.1\r\nHost: orders.test\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK")


def exchange(client: Any, data: bytes) -> bytes:
    """Finish the handshake, send `data`, and return the first bytes of the answer."""
    while True:
        if said := client.flight():
            client.raw.sendall(said)
        try:
            client.tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            assert client.receive()
    client.raw.sendall(client.flight())
    client.tls.write(data)
    client.raw.sendall(client.flight())
    while True:
        try:
            found: bytes = client.tls.read(1000)
            return found
        except ssl.SSLWantReadError:
            assert client.receive()


def test_names_that_differ_only_for_us_and_openssl_end_the_handshake(
    three_servers: Tree, material: Material, upstream: RecordingUpstream, start: Start
) -> None:
    """What our reading of the ClientHello calls malformed never reaches OpenSSL: two names, a NUL in one."""
    proxy = start(three_servers)
    hello = client_hello(client_context(material.root), "orders.test")
    for bad in (hello.replace(b"orders.test", b"orders\0test"), hello.replace(b"orders.test", b"orders test")):
        with socket.create_connection(("127.0.0.1", proxy.port()), PATIENCE) as raw:
            raw.sendall(bad)
            assert raw.recv(4096)[:1] == b"\x15"
    found = proxy.series("handshakes_total")
    assert found == {("internal", "protocol_error", "none"): 2}
    assert upstream.untouched
