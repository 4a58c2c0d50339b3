"""Handshakes that end for another reason than the certificate itself: none, not the client's own, too slow, no TLS."""

import contextlib
import socket
import ssl
import struct
from base64 import encodebytes
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.integration.certificates import Identity, write_key
from tests.integration.clients import PATIENCE, V12, VERSIONS, alert, client_context, request, tls
from tests.integration.conftest import Material, Start
from tests.integration.harness import Observed, Tree, eventually
from tests.integration.refusals import (
    assert_counted,
    assert_fingerprint_logged,
    assert_handshake_counted,
    assert_logged,
    assert_nobody_left,
    assert_nothing_forwarded,
    assert_problem,
)
from tests.integration.stepped import client_hello, stepped
from tests.integration.upstream import RecordingUpstream
from tests.unit.x509.build import rsa_key, tlv

from mtlsproxy.reasons import Reason


def assert_refused(
    proxy: Observed,
    upstream: RecordingUpstream,
    reason: Reason,
    who: Identity | None = None,
    version: str | None = "none",
) -> None:
    """version: as it is counted; None: whichever."""
    assert_logged(proxy, reason, who)
    assert_refused_quietly(proxy, upstream, reason, version)


def assert_refused_quietly(proxy: Observed, upstream: RecordingUpstream, reason: Reason, version: str | None) -> None:
    """All but who it was."""
    assert_counted(proxy, reason)
    if version is not None:
        assert_handshake_counted(proxy, reason, version)
    assert [labels[1] for labels in proxy.series("handshakes_total")] == [reason]
    assert_nothing_forwarded(upstream)
    assert_nobody_left(proxy)


# -- no certificate ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "seen"), [("TLSv1.2", "handshake_failure"), ("TLSv1.3", "certificate_required")])
def test_no_certificate_ends_the_handshake(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start, version: str, seen: str
) -> None:
    """`missing_certificate: handshake_failure`, the default."""
    proxy = start(config)
    assert alert(proxy.port(), client_context(material.root, None, VERSIONS[version])) == seen
    assert_refused(proxy, upstream, Reason.NO_CERTIFICATE, version=version)


@pytest.mark.parametrize("version", VERSIONS)
def test_no_certificate_is_answered_where_the_listener_says_so(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start, version: str
) -> None:
    """`missing_certificate: http_400` finishes the handshake, answers 400 and closes."""
    config["listeners"][0]["client_auth"]["missing_certificate"] = "http_400"
    proxy = start(config)
    with tls(proxy.port(), client_context(material.root, None, VERSIONS[version])) as connection:
        connection.send(request("/first") + request("/second"))
        assert_problem(connection.response(), Reason.NO_CERTIFICATE, closes=True)
        assert connection.ended()
    assert_refused(proxy, upstream, Reason.NO_CERTIFICATE, version=version)


def test_http_400_is_for_missing_certificates_only(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start
) -> None:
    """A bad certificate still ends the handshake, and a good one is served."""
    config["listeners"][0]["client_auth"]["missing_certificate"] = "http_400"
    proxy = start(config)
    bad = material.client(eku=["1.3.6.1.5.5.7.3.1"])
    assert alert(proxy.port(), client_context(material.root, bad)) == "unsupported_certificate"
    assert_logged(proxy, Reason.EKU_MISMATCH, bad)
    assert_nothing_forwarded(upstream)
    with tls(proxy.port(), client_context(material.root, material.client())) as connection:
        assert connection.get().status == 200


# -- possession --------------------------------------------------------------------------------------------------------


def stolen_ec(victim: ec.EllipticCurvePrivateKey) -> bytes:
    """A key file with the victim's public key and another private number (SEC 1): OpenSSL loads it with the
    victim's certificate, and signs with what it has."""
    thief = ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value.to_bytes(32, "big")
    point = victim.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    curve = bytes.fromhex("06082a8648ce3d030107")
    der = tlv(0x30, b"\x02\x01\x01", tlv(0x04, thief), tlv(0xA0, curve), tlv(0xA1, tlv(0x03, b"\0", point)))
    return _pem("EC PRIVATE KEY", der)


def stolen_rsa(victim: rsa.RSAPrivateKey) -> bytes:
    """The victim's modulus with a private exponent that is not theirs, and primes that do not fit either."""
    own = victim.public_key().public_numbers()
    other = rsa.generate_private_key(65537, 2048).private_numbers()
    numbers = (0, own.n, own.e, other.d, other.p, other.q, other.dmp1, other.dmq1, other.iqmp)
    return _pem("RSA PRIVATE KEY", tlv(0x30, *(tlv(0x02, _integer(number)) for number in numbers)))


def _integer(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


def _pem(label: str, der: bytes) -> bytes:
    return f"-----BEGIN {label}-----\n".encode() + encodebytes(der) + f"-----END {label}-----\n".encode()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["P-256", "RSA"])
def test_a_copied_certificate_without_its_key_is_of_no_use(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start, kind: str, version: str
) -> None:
    """The thief signs CertificateVerify with another key (RFC 8446 §4.4.3, RFC 5246 §7.4.8); the log names the leaf."""
    own = rsa_key(2048) if kind == "RSA" else ec.generate_private_key(ec.SECP256R1())
    victim = material.client("victim", key=own)
    key = material.folder / f"stolen-{kind}-{version}.key"
    write_key(key, stolen_rsa(own) if isinstance(own, rsa.RSAPrivateKey) else stolen_ec(own))
    proxy = start(config)
    thief = client_context(material.root, Identity(victim.certificate, key, victim.der), VERSIONS[version])
    assert alert(proxy.port(), thief) == "decrypt_error"
    assert_refused(proxy, upstream, Reason.NO_POSSESSION, victim, version)
    # Its chain is good: who shows it without the key is named, and takes no place among those who are remembered.
    assert len(proxy.proxy.snapshot.listeners["internal"].judge._memory) == 0


def test_the_key_that_was_not_stolen_still_works(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start
) -> None:
    """The accepted case of the above: the same certificate with its own key."""
    proxy = start(config)
    with tls(proxy.port(), client_context(material.root, material.client("victim"))) as connection:
        assert connection.get().status == 200
    assert len(upstream.requests) == 1


# -- no certificate that anybody can read ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda der: b"\x30\x03\x02\x01\x01".ljust(len(der), b"\0"), id="another structure"),
        pytest.param(lambda der: b"A" * len(der), id="no DER"),
    ],
)
def test_what_openssl_cannot_parse_is_a_malformed_certificate(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start, damage: Callable[[bytes], bytes]
) -> None:
    """No client library sends one, so it is put into the client's flight, which TLS 1.2 sends in the clear."""
    proxy, alice = start(config), material.client()
    with stepped(proxy.port(), client_context(material.root, alice, V12)) as client:
        client.raw.sendall(client.flight())
        flight = client.answer_flight()
        assert flight.count(alice.der) == 1
        bad = damage(alice.der)
        client.raw.sendall(flight.replace(alice.der, bad))
        assert client.alert() in ("bad_certificate", "decode_error", "unsupported_certificate", "internal_error")
    assert_fingerprint_logged(proxy, Reason.MALFORMED_CERTIFICATE, bad)
    assert_refused_quietly(proxy, upstream, Reason.MALFORMED_CERTIFICATE, "TLSv1.2")


# -- time --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [0, 3, 100], ids=["nothing", "half a record header", "half a ClientHello"])
def test_a_client_that_does_not_finish_its_hello_is_let_go(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start, sent: int
) -> None:
    """`client_hello_timeout`."""
    config["listeners"][0]["tls"]["client_hello_timeout"] = "200ms"
    proxy = start(config)
    with socket.create_connection(("127.0.0.1", proxy.port()), PATIENCE) as raw:
        raw.sendall(client_hello(client_context(material.root))[:sent])
        assert raw.recv(1) == b""
    assert_refused(proxy, upstream, Reason.HANDSHAKE_TIMEOUT)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_that_falls_silent_is_let_go(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start, version: str
) -> None:
    """`handshake_timeout`."""
    config["listeners"][0]["tls"]["handshake_timeout"] = "200ms"
    proxy = start(config)
    with stepped(proxy.port(), client_context(material.root, None, VERSIONS[version])) as client:
        client.raw.sendall(client.flight())
        while client.receive():
            pass
    assert_refused(proxy, upstream, Reason.HANDSHAKE_TIMEOUT, version=None)


# -- no TLS ------------------------------------------------------------------------------------------------------------


def old_version(hello: bytes) -> bytes:
    """A ClientHello of TLS 1.1: legacy_version, and no supported_versions extension (43) to say otherwise."""
    return hello[:9] + b"\x03\x02" + hello[11:].replace(b"\x00\x2b", b"\xfa\xfa", 1)


NOT_TLS = {
    "plain HTTP": lambda _: request(),
    "SSH": lambda _: b"SSH-2.0-OpenSSH_9.2\r\n",
    "another record type": lambda hello: b"\x17" + hello[1:],
    "another message": lambda hello: hello[:5] + b"\x02" + hello[6:],
    "a PROXY header": lambda hello: b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + hello,
    "too large": lambda hello: hello[:6] + b"\xff" + hello[7:],
    "an empty record": lambda hello: b"\x16\x03\x01\x00\x00" + hello,
    "TLS 1.1": old_version,
}


@pytest.mark.parametrize("make", NOT_TLS.values(), ids=NOT_TLS)
def test_what_is_no_handshake_is_a_protocol_error(
    config: Tree,
    material: Material,
    upstream: RecordingUpstream,
    start: Start,
    make: Callable[[bytes], bytes],
) -> None:
    """The connection ends with a fatal alert (RFC 8446 §6.2)."""
    proxy = start(config)
    with socket.create_connection(("127.0.0.1", proxy.port()), PATIENCE) as raw:
        raw.sendall(make(client_hello(client_context(material.root, None, V12))))
        said = b""
        while data := raw.recv(4096):
            said += data
    assert (said[0], said[5]) == (21, 2)
    assert_refused(proxy, upstream, Reason.PROTOCOL_ERROR)


def test_a_listener_for_tls13_refuses_tls12(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start
) -> None:
    """`minimum_version: TLSv1.3`."""
    config["listeners"][0]["tls"]["minimum_version"] = "TLSv1.3"
    proxy = start(config)
    assert alert(proxy.port(), client_context(material.root, material.client(), V12)) == "protocol_version"
    assert_refused(proxy, upstream, Reason.PROTOCOL_ERROR)


# -- clients that leave ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("when", ["at once", "within the ClientHello", "after the ClientHello"])
def test_a_client_that_leaves(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start, when: str, reset: bool
) -> None:
    """Counted and logged as client_aborted, whenever and however it leaves."""
    proxy = start(config)
    with stepped(proxy.port(), client_context(material.root)) as client:
        if when == "within the ClientHello":
            client.raw.sendall(client.flight()[:50])
            eventually(lambda: proxy.series("received_bytes_total"))
        elif when == "after the ClientHello":
            client.raw.sendall(client.flight())
            client.receive()
        else:
            eventually(lambda: proxy.series("connections"))
        if reset:
            client.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert_refused(proxy, upstream, Reason.CLIENT_ABORTED, version=None)


def test_a_client_that_does_not_trust_the_server(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start
) -> None:
    """Its alert is its own decision: client_aborted."""
    proxy = start(config)
    with pytest.raises(ssl.SSLCertVerificationError), tls(proxy.port(), client_context(material.anchors)):
        pass
    assert_refused(proxy, upstream, Reason.CLIENT_ABORTED, version=None)


# -- too many ----------------------------------------------------------------------------------------------------------


def test_more_connections_of_one_address_than_allowed(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start
) -> None:
    """`max_connections_per_ip`: the next one is closed at once, and those that are there are not disturbed."""
    config["listeners"][0]["limits"] = {"max_connections_per_ip": 2}
    proxy = start(config)
    context = client_context(material.root, material.client())
    with contextlib.ExitStack() as stack:
        kept = [stack.enter_context(tls(proxy.port(), context)) for _ in range(2)]
        with socket.create_connection(("127.0.0.1", proxy.port()), PATIENCE) as third:
            assert third.recv(1) == b""
        assert_logged(proxy, Reason.TOO_MANY_CONNECTIONS, None)
        assert_counted(proxy, Reason.TOO_MANY_CONNECTIONS)
        assert_nothing_forwarded(upstream)
        assert [connection.get().status for connection in kept] == [200, 200]
    assert_nobody_left(proxy)
    with tls(proxy.port(), context) as again:
        assert again.get().status == 200


def test_addresses_of_one_ipv6_network_are_one_client_and_ipv4_clients_are_themselves(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start
) -> None:
    """At a socket for both: each of a network's addresses is free for who has one; IPv4 clients share none."""
    config["listeners"][0] |= {"bind": "[::]:0", "limits": {"max_connections_per_ip": 1}}
    proxy = start(config)
    context = client_context(material.root, material.client())
    with tls(proxy.port(), context) as first:
        assert first.get().status == 200
        assert upstream.requests[-1].values("X-Forwarded-For") == ["127.0.0.1"]
        with socket.create_connection(("::1", proxy.port()), PATIENCE) as other:
            other.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert other.recv(100)[:1] == b"\x15", "an alert and no sudden end: it had its place"
    counted = proxy.call(lambda: proxy.proxy.listeners["internal"].acceptor)
    proxy.call(lambda: [counted.count(address) for address in ("2001:db8::1", "192.0.2.1")])
    assert proxy.call(lambda: counted.count("2001:db8::ffff"))
    assert not proxy.call(lambda: counted.count("192.0.2.2"))
    assert [line["client_ip"] for line in proxy.access(1)] == ["127.0.0.1"]
