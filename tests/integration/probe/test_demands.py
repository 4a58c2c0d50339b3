"""Required, requested or not asked for: by servers of other makers, in TLS 1.2 and 1.3, in handshake and in HTTP."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import certifi
import pytest
from tests.integration.clients import PATIENCE
from tests.integration.probe.conftest import DIGICERT, NAME, StartNginx, StartOpenssl, World, probe
from tests.integration.secure.conftest import server_context

VERSIONS = ("TLSv1.2", "TLSv1.3")


def of(world: World, mode: str) -> str:
    return f"ssl_client_certificate {world.acceptable}; ssl_verify_client {mode};"


# -- nginx ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_nginx_that_refuses_in_http_requires_a_certificate(nginx: StartNginx, world: World, version: str) -> None:
    """`ssl_verify_client on` lets the handshake pass, and answers 400 to whatever is asked."""
    answer = probe(nginx(of(world, "on"), version))
    found = answer.json
    assert answer.status == 0
    assert (found["client_certificate"], found["refused_by"]) == ("required", "http")
    assert (found["http_status"], found["alert"]) == (400, None)
    assert (found["protocol"], [v["protocol"] for v in found["versions"]]) == (version, [version])
    assert found["cipher"]
    assert found["acceptable_ca_names"] == world.names


def test_a_server_is_asked_with_both_versions_that_it_speaks(nginx: StartNginx, world: World) -> None:
    found = probe(nginx(of(world, "on"))).json
    assert [(v["protocol"], v["client_certificate"]) for v in found["versions"]] == [
        ("TLSv1.3", "required"),
        ("TLSv1.2", "required"),
    ]
    assert found["protocol"] == "TLSv1.3"
    assert found["not_spoken"] == []


def test_a_version_that_is_not_spoken_is_said(nginx: StartNginx, world: World) -> None:
    (missing,) = probe(nginx(of(world, "on"), "TLSv1.3")).json["not_spoken"]
    assert missing["protocol"] == "TLSv1.2"
    assert "protocol_version" in missing["detail"]


@pytest.mark.parametrize(
    ("settings", "demand"),
    [("optional", "requested"), ("optional_no_ca", "requested"), ("off", "not_requested")],
)
@pytest.mark.parametrize("version", VERSIONS)
def test_nginx_that_lets_pass_who_has_none(
    nginx: StartNginx, world: World, version: str, settings: str, demand: str
) -> None:
    found = probe(nginx(of(world, settings), version)).json
    assert (found["client_certificate"], found["refused_by"], found["http_status"]) == (demand, None, 200)
    assert found["acceptable_ca_names"] == (world.names if demand == "requested" else [])


def test_a_forbidden_page_is_not_taken_for_a_demand(nginx: StartNginx, world: World) -> None:
    """403 may be for want of a certificate, or for anything else: it is said, and left open."""
    settings = of(world, "optional") + "if ($ssl_client_verify != SUCCESS) { return 403; }"
    found = probe(nginx(settings)).json
    assert (found["client_certificate"], found["http_status"]) == ("requested", 403)
    assert "may or may not" in found["detail"]


@pytest.mark.parametrize(
    ("page", "status"),
    [("error_page 495 496 =403 @sorry; location @sorry { return 403 'client certificate required'; }", 403)],
)
def test_a_page_of_the_operator_s_own_is_understood(nginx: StartNginx, world: World, page: str, status: int) -> None:
    found = probe(nginx(of(world, "on") + page)).json
    assert (found["client_certificate"], found["refused_by"], found["http_status"]) == ("required", "http", status)


# -- openssl ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "alert"), [("-tls1_2", "handshake_failure"), ("-tls1_3", "certificate_required")])
def test_openssl_that_refuses_in_the_handshake_requires_a_certificate(
    s_server: StartOpenssl, world: World, version: str, alert: str
) -> None:
    """In TLS 1.3 the client's handshake is complete by then: only reading on shows the alert."""
    found = probe(s_server("-Verify", "3", version, "-CAfile", world.acceptable, "-verify_return_error")).json
    assert (found["client_certificate"], found["refused_by"], found["alert"]) == ("required", "handshake", alert)
    assert sorted(found["acceptable_ca_names"]) == sorted(world.names)
    assert found["cipher"] and found["server_chain"]


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_that_only_asks_requests_a_certificate(s_server: StartOpenssl, world: World, version: str) -> None:
    """It answers no request: what it does in TLS is all there is to go by."""
    found = probe(s_server("-verify", "3", version, "-CAfile", world.acceptable), "--timeout", "0.5").json
    assert (found["client_certificate"], found["http_status"]) == ("requested", None)
    assert sorted(found["acceptable_ca_names"]) == sorted(world.names)


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_that_does_not_ask(s_server: StartOpenssl, version: str) -> None:
    found = probe(s_server(version), "--timeout", "0.5").json
    assert (found["client_certificate"], found["acceptable_ca_names"]) == ("not_requested", [])


def test_who_asks_without_naming_cas_is_said_to(s_server: StartOpenssl) -> None:
    answer = probe(s_server("-Verify", "1"), text=True)
    assert "acceptable client CAs: it names none" in answer.stdout


# -- Python: asking behind the handshake, and versions that differ ---------------------------------------------------


Handler = Callable[[socket.socket], None]


@contextmanager
def python_server(handle: Handler, count: int = 2) -> Iterator[int]:
    """Serves `count` connections, one after the other, each with `handle`; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for _ in range(count):
                handle(listening.accept()[0])

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_a_server_that_asks_once_it_knows_the_request(world: World) -> None:
    """Post-handshake authentication (RFC 8446 §4.6.2), as Apache does for one Location."""
    context = server_context(world.server())
    context.load_verify_locations(world.acceptable)
    context.maximum_version = context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.post_handshake_auth = True  # not in the handshake, then

    def handle(raw: socket.socket) -> None:
        with raw:
            try:
                with context.wrap_socket(raw, server_side=True) as sock:
                    sock.recv(65536)
                    sock.verify_client_post_handshake()
                    sock.write(b"")  # the request for it goes out with what is written
                    sock.recv(65536)
            except (ssl.SSLError, OSError):
                pass

    with python_server(handle) as port:
        found = probe(port).json
    assert (found["client_certificate"], found["refused_by"]) == ("required", "handshake")
    assert "once it knows the request" in found["detail"]


def test_the_version_that_demands_less_is_what_holds(world: World) -> None:
    """Whoever is asked for a certificate by TLS 1.3 alone offers TLS 1.2."""
    strict = server_context(world.server())
    strict.load_verify_locations(world.acceptable)
    strict.verify_mode = ssl.CERT_REQUIRED
    lax = server_context(world.server())
    contexts = iter((strict, lax))

    def handle(raw: socket.socket) -> None:
        with raw:
            try:
                with next(contexts).wrap_socket(raw, server_side=True) as sock:
                    sock.recv(65536)
                    sock.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            except (ssl.SSLError, OSError):
                pass

    with python_server(handle) as port:
        answer = probe(port, "--expect", "required")
    found = answer.json
    assert [v["client_certificate"] for v in found["versions"]] == ["required", "not_requested"]
    assert found["client_certificate"] == "not_requested"
    assert answer.status == 1


def test_another_path_can_be_asked_for(nginx: StartNginx, world: World) -> None:
    """Some servers demand a certificate for a part of what they have."""
    closed = "location /closed { if ($ssl_client_verify != SUCCESS) { return 496; } return 200 in; }"
    port = nginx(of(world, "optional") + closed)
    assert probe(port).json["client_certificate"] == "requested"
    found = probe(port, "--path", "/closed?of=course").json
    assert (found["client_certificate"], found["refused_by"]) == ("required", "http")


def test_a_hundred_names_are_read(nginx: StartNginx, world: World) -> None:
    """As a server has them that takes Mozilla's bundle for its client CAs: some 15 KiB of one message."""
    for version in VERSIONS:
        found = probe(nginx(f"ssl_client_certificate {certifi.where()}; ssl_verify_client on;", version)).json
        assert len(found["acceptable_ca_names"]) > 100
        assert {f"CN={name},OU=www.digicert.com,O=DigiCert Inc,C=US" for name in DIGICERT} <= set(
            found["acceptable_ca_names"]
        )


def test_a_server_that_goes_on_and_on_does_not_hold_the_probe(world: World) -> None:
    """An answer is read up to its 16 KiB; who sends a byte now and then has no more time for it than others."""
    context = server_context(world.server())
    stop = threading.Event()

    def handle(raw: socket.socket) -> None:
        with raw, suppress(OSError), context.wrap_socket(raw, server_side=True) as sock:
            sock.recv(65536)
            sock.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not stop.wait(0.02):
                sock.sendall(b"x")

    with python_server(handle) as port:
        found = probe(port, "--timeout", "0.3").json
        stop.set()
    assert (found["client_certificate"], found["http_status"]) == ("not_requested", 200)


# -- what is expected -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("expected", "status"), [("required", 0), ("requested", 1), ("not_requested", 1)])
def test_what_is_not_as_expected_has_its_own_status(
    nginx: StartNginx, world: World, expected: str, status: int
) -> None:
    answer = probe(nginx(of(world, "on")), "--expect", expected)
    assert answer.status == status
    assert answer.json["client_certificate"] == "required"
    assert ("expected" in answer.stderr) == bool(status)


def test_the_text_begins_with_the_answer(nginx: StartNginx, world: World) -> None:
    answer = probe(nginx(of(world, "on")), text=True)
    assert answer.stdout.startswith("client certificate required in HTTP, after the handshake: ")
    for words in (NAME, "TLSv1.3", "acceptable client CAs (3)", "CN=DigiCert Assured ID Root G3", "skipped chain"):
        assert words in answer.stdout


@pytest.mark.parametrize(("mode", "demand"), [(("-Verify", "1"), "required"), ((), "not_requested")])
def test_a_server_of_http_2_alone_is_asked_in_http_2(
    s_server: StartOpenssl, mode: tuple[str, ...], demand: str
) -> None:
    """gRPC servers refuse to speak HTTP/1.1, which is no answer to the question."""
    found = probe(s_server("-alpn", "h2", *mode), "--timeout", "0.5").json
    assert found["client_certificate"] == demand
