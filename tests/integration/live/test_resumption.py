"""Session resumption: off unless asked for; on, never across policies, and judged like a full handshake."""

import hashlib
import re
import ssl
import subprocess
from pathlib import Path

import pytest
from tests.integration.certificates import Identity, issue, pem
from tests.integration.clients import PATIENCE, V12, V13, VERSIONS, request, tls
from tests.integration.conftest import Material
from tests.integration.harness import Tree
from tests.integration.live.conftest import Live, Run, crl, replace
from tests.integration.upstream import RecordingUpstream

pytestmark = pytest.mark.usefixtures("looking_often")

each_version = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture
def resuming(live_config: Tree) -> Tree:
    live_config["listeners"][0]["tls"]["session_resumption"] = True
    return live_config


def session_of(live: Live, context: ssl.SSLContext, port: int = 0, server_name: str = "proxy.test") -> ssl.SSLSession:
    """What a client keeps of a connection that served a request."""
    with tls(port or live.port, context, server_name) as connection:
        assert connection.get(host=server_name).status == 200
        assert not connection.sock.session_reused
        session = connection.sock.session
    assert session is not None
    return session


def resumes(
    live: Live, context: ssl.SSLContext, session: ssl.SSLSession, port: int = 0, server_name: str = "proxy.test"
) -> bool:
    """Whether the session opens another connection, which serves either way."""
    with tls(port or live.port, context, server_name, session) as connection:
        assert connection.get(host=server_name).status == 200
        return bool(connection.sock.session_reused)


@each_version
def test_off_by_default(live: Live, alice: Identity, version: str) -> None:
    context = live.context(alice, VERSIONS[version])
    with tls(live.port, context) as connection:
        assert connection.get().status == 200
        session = connection.sock.session
    if session is not None:
        assert not session.has_ticket
        assert not resumes(live, context, session)
    assert {line["resumed"] for line in live.proxy.access()} == {False}


@each_version
def test_on_the_client_is_the_same_and_the_log_says_that_it_was_resumed(
    run: Run, resuming: Tree, upstream: RecordingUpstream, alice: Identity, version: str
) -> None:
    live = run(resuming)
    context = live.context(alice, VERSIONS[version])
    session = session_of(live, context)
    assert resumes(live, context, session)
    first, second = upstream.requests
    for name in ("X-Client-Id", "X-Client-Subject", "X-Client-Fingerprint", "X-Client-Truststore", "X-Client-San"):
        assert first.values(name) == second.values(name) != []
    assert [line["resumed"] for line in live.proxy.access(2)] == [False, True]


@each_version
def test_a_chain_that_the_client_sent_in_full_serves_its_resumed_connections(
    run: Run, resuming: Tree, material: Material, upstream: RecordingUpstream, version: str
) -> None:
    """A resumed session has the leaf alone; the intermediate was seen before."""
    carol = material.dev_client(f"carol-{version}", "DNS:carol.test")
    resuming["truststores"]["partners"] = {"trust_anchors": [str(material.root)], "revocation": {"mode": "off"}}
    resuming["identities"] = {"default": {"forms": ["fields", "client_cert_chain"]}}
    live = run(resuming)
    context = live.context(carol, VERSIONS[version])
    assert resumes(live, context, session_of(live, context))
    first, second = upstream.requests
    assert first.values("Client-Cert-Chain") == second.values("Client-Cert-Chain") != []


@each_version
def test_a_chain_that_is_not_known_any_more_asks_for_a_full_handshake(
    run: Run, resuming: Tree, material: Material, version: str
) -> None:
    carol = material.dev_client(f"dora-{version}", "DNS:carol.test")
    resuming["truststores"]["partners"] = {"trust_anchors": [str(material.root)], "revocation": {"mode": "off"}}
    live = run(resuming)
    context = live.context(carol, VERSIONS[version])
    session = session_of(live, context)
    live.proxy.call(lambda: live.proxy.proxy.listeners["internal"]._chains.__init__())
    with (
        pytest.raises((EOFError, ssl.SSLError, ConnectionResetError)),
        tls(live.port, context, session=session) as again,
    ):
        again.get()
    with tls(live.port, context) as full:
        assert full.get().status == 200


# -- never across ------------------------------------------------------------------------------------------------------


@each_version
def test_never_at_another_listener(run: Run, resuming: Tree, alice: Identity, version: str) -> None:
    """Same certificate, same truststore, another listener: what differs there may be anything."""
    resuming["listeners"].append(resuming["listeners"][0] | {"name": "second"})
    resuming["routes"][0]["listeners"] = ["internal", "second"]
    live = run(resuming)
    context = live.context(alice, VERSIONS[version])
    session = session_of(live, context)
    assert not resumes(live, context, session, live.proxy.port("second"))
    assert resumes(live, context, session_of(live, context), live.port)


@pytest.fixture
def two_names(resuming: Tree, material: Material, tmp_path: Path) -> Tree:
    """A listener with a certificate for proxy.test and one for other.test."""
    issued = material.pki.issue("CN=other.test", ["DNS:other.test"], "server")
    replace(tmp_path / "other.pem", issued.chain_pem)
    replace(tmp_path / "other.key", issued.key_pem)
    entry = {"certificate": "other.pem", "private_key": "other.key"}
    resuming["listeners"][0]["tls"]["certificates"].append(entry)
    return resuming


@each_version
def test_never_at_another_name(run: Run, two_names: Tree, alice: Identity, version: str) -> None:
    live = run(two_names)
    context = live.context(alice, VERSIONS[version])
    for one, other in (("proxy.test", "other.test"), ("other.test", "proxy.test")):
        session = session_of(live, context, server_name=one)
        assert not resumes(live, context, session, server_name=other)
        assert resumes(live, context, session_of(live, context, server_name=one), server_name=one)


@each_version
def test_never_after_a_change_of_truststore(run: Run, resuming: Tree, alice: Identity, version: str) -> None:
    live = run(resuming)
    context = live.context(alice, VERSIONS[version])
    session = session_of(live, context)
    another = issue("Another CA", ca=True)
    with live.reloaded():
        replace(live.folder / "partners.crl", crl(live.material.ca, 5) + crl(another, 1))
        replace(live.folder / "anchors.pem", pem(live.material.ca, another))
    assert not resumes(live, context, session)


@each_version
def test_still_after_a_reload_that_changes_nothing_of_the_policy(
    run: Run, resuming: Tree, alice: Identity, version: str
) -> None:
    live = run(resuming)
    context = live.context(alice, VERSIONS[version])
    session = session_of(live, context)
    with live.reloaded():
        live.deny_in_file({"dns": "somebody.test"})
    assert resumes(live, context, session)


@each_version
def test_not_at_another_proxy(run: Run, resuming: Tree, alice: Identity, version: str, tmp_path: Path) -> None:
    first = run(resuming)
    context = first.context(alice, VERSIONS[version])
    session = session_of(first, context)
    assert not resumes(run(resuming), context, session)


# -- judged like a new one ---------------------------------------------------------------------------------------------


def shut_out(live: Live, alice: Identity, how: str) -> None:
    with live.reloaded():
        if how == "revoked":
            live.revoke(alice)
        elif how == "denied":
            live.deny_in_file({"dns": "alice.clients.test"})
        else:
            assert live.call("POST", "/api/deny", {"fingerprint_sha256": fingerprint(alice)})[0] == 201


def fingerprint(client: Identity) -> str:
    return hashlib.sha256(client.der).hexdigest()


@each_version
@pytest.mark.parametrize("how", ["revoked", "denied", "denied by API"])
def test_a_resumed_connection_of_a_client_that_was_shut_out_is_refused(
    run: Run, resuming: Tree, alice: Identity, version: str, how: str
) -> None:
    live = run(resuming)
    context = live.context(alice, VERSIONS[version])
    session = session_of(live, context)
    shut_out(live, alice, how)
    with tls(live.port, context, session=session) as connection:
        answer = connection.get()
        assert connection.sock.session_reused
    assert (answer.status, answer.problem["reason"]) == (403, how.split()[0])


@each_version
@pytest.mark.parametrize("how", ["revoked", "denied", "denied by API"])
def test_an_open_resumed_connection_is_closed(
    run: Run, resuming: Tree, alice: Identity, version: str, how: str
) -> None:
    live = run(resuming)
    context = live.context(alice, VERSIONS[version])
    with tls(live.port, context, session=session_of(live, context)) as connection:
        assert connection.get().status == 200
        assert connection.sock.session_reused
        shut_out(live, alice, how)
        assert connection.ended()


@each_version
def test_a_session_without_a_certificate_does_not_open_what_asks_for_one(
    run: Run, resuming: Tree, alice: Identity, version: str
) -> None:
    """missing_certificate: http_400 lets a handshake end without one, and its session is worth as little."""
    resuming["listeners"][0]["client_auth"]["missing_certificate"] = "http_400"
    live = run(resuming)
    nobody = live.context(None, VERSIONS[version])
    with tls(live.port, nobody) as connection:
        assert connection.get().problem["reason"] == "no_certificate"
        session = connection.sock.session
    if session is not None:
        with (
            pytest.raises((EOFError, AssertionError, ssl.SSLError, ConnectionResetError)),
            tls(live.port, nobody, session=session) as again,
        ):
            assert again.get().status == 200
    resuming["listeners"][0]["client_auth"]["missing_certificate"] = "handshake_failure"
    with live.reloaded():
        live.write_config()
    with pytest.raises(ssl.SSLError), tls(live.port, nobody, session=session) as again:
        again.get()


# -- a peer ------------------------------------------------------------------------------------------------------------


def s_client(live: Live, client: Identity, *options: str) -> str:
    """`openssl s_client` that asks for / and prints what came and how the session was made."""
    command = [
        *("openssl", "s_client", "-connect", f"127.0.0.1:{live.port}", "-servername", "proxy.test", "-ign_eof"),
        *("-CAfile", str(live.material.root), "-cert", str(client.certificate), "-key", str(client.key), *options),
    ]
    asked = request("/", "Connection: close")
    done = subprocess.run(command, input=asked, capture_output=True, timeout=PATIENCE * 3, check=False)
    return done.stdout.decode("utf-8", "replace")


def how(said: str) -> str:
    found = re.search(r"^(New|Reused), TLSv1\.[23]", said, re.MULTILINE)
    assert found is not None, said
    return found[1]


@pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])
def test_openssl_resumes_where_it_may_and_is_refused_once_denied(
    run: Run, resuming: Tree, alice: Identity, version: ssl.TLSVersion, tmp_path: Path
) -> None:
    live = run(resuming)
    file = str(tmp_path / "session.pem")
    protocol = {V12: "-tls1_2", V13: "-tls1_3"}[version]
    first = s_client(live, alice, protocol, "-sess_out", file)
    assert (how(first), "HTTP/1.1 200" in first) == ("New", True)
    second = s_client(live, alice, protocol, "-sess_in", file)
    assert (how(second), "HTTP/1.1 200" in second) == ("Reused", True)
    with live.reloaded():
        live.deny_in_file({"dns": "alice.clients.test"})
    third = s_client(live, alice, protocol, "-sess_in", file)
    assert "HTTP/1.1 403" in third
    assert '"reason":"denied"' in third.replace(": ", ":")


@pytest.mark.parametrize("protocol", ["-tls1_2", "-tls1_3"])
def test_openssl_finds_nothing_to_resume_by_default(live: Live, alice: Identity, protocol: str, tmp_path: Path) -> None:
    file = tmp_path / "session.pem"
    assert how(s_client(live, alice, protocol, "-sess_out", str(file))) == "New"
    if file.exists() and file.stat().st_size:
        assert how(s_client(live, alice, protocol, "-sess_in", str(file))) == "New"
