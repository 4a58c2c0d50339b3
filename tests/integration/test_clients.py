"""Clients that people use, with keys of every kind, over both TLS versions; what they are asked for; no resumption."""

import re
import subprocess
from pathlib import Path

import aiohttp
import pytest
from tests.integration.certificates import anchor_file, issue
from tests.integration.clients import VERSIONS, client_context, request, tls
from tests.integration.conftest import Material, Start
from tests.integration.harness import RunningProxy, Tree
from tests.integration.upstream import RecordingUpstream
from tests.unit.x509.build import new_key

from mtlsproxy.devpki import KeyType

KEYS = ["RSA-2048", "P-256", "P-384", "Ed25519"]


def run(*words: object, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    found = subprocess.run([str(word) for word in words], input=stdin, capture_output=True, check=False, timeout=30)
    return subprocess.CompletedProcess(
        found.args, found.returncode, found.stdout.decode("utf-8", "replace"), found.stderr.decode("utf-8", "replace")
    )


def s_client(proxy: RunningProxy, material: Material, *options: object, stdin: bytes = b"") -> str:
    """What `openssl s_client` prints. Its input is a whole connection: it ends with Connection: close."""
    words = ("openssl", "s_client", "-connect", f"127.0.0.1:{proxy.port()}", "-servername", "proxy.test")
    done = run(*words, "-CAfile", material.root, "-ign_eof", *options, stdin=stdin)
    return done.stdout + done.stderr


# -- every client, every key -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", KEYS)
def test_keys_of_every_kind(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start, kind: str, version: str
) -> None:
    """Python's ssl; the same keys by name in curl and s_client below."""
    proxy = start(config)
    client = material.client(key=new_key(kind))
    with tls(proxy.port(), client_context(material.root, client, VERSIONS[version])) as connection:
        assert connection.get().status == 200
    assert upstream.requests[0].values("X-Client-Id") == ["alice.clients.test"]


@pytest.mark.parametrize("option", ["--tls-max 1.2", "--tlsv1.3"])
@pytest.mark.parametrize("kind", KEYS)
def test_curl(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start, kind: str, option: str
) -> None:
    """With SNI, with the name from --resolve, and twice over one connection."""
    proxy, client = start(config), material.client(key=new_key(kind))
    url = f"https://localhost:{proxy.port()}/x"
    files = ("--cacert", material.root, "--cert", client.certificate, "--key", client.key)
    done = run("curl", "-sS", "--fail", *files, *option.split(), "-w", "%{http_code}/%{num_connects} ", url, url)
    assert (done.returncode, done.stdout) == (0, "ok200/1 ok200/0 "), done.stderr
    assert len(upstream.received) == 1


def test_curl_without_a_certificate(config: Tree, material: Material, start: Start) -> None:
    """The alert is what curl reports; its exit status says receive or connect failure (56, 35)."""
    proxy = start(config)
    done = run("curl", "-sS", "--cacert", material.root, f"https://localhost:{proxy.port()}/")
    assert done.returncode in (35, 56)
    assert "certificate required" in done.stderr


@pytest.mark.parametrize("option", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("kind", KEYS)
def test_s_client(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start, kind: str, option: str
) -> None:
    """The proxy's own chain verifies there, and the answer arrives."""
    proxy, client = start(config), material.client(key=new_key(kind))
    said = s_client(
        proxy,
        material,
        option,
        "-cert",
        client.certificate,
        "-key",
        client.key,
        stdin=request("/", "Connection: close"),
    )
    assert "Verify return code: 0 (ok)" in said
    assert "HTTP/1.1 200 OK" in said
    assert len(upstream.requests) == 1


async def test_aiohttp(config: Tree, material: Material, upstream: RecordingUpstream, start: Start) -> None:
    """Keep-alive, and a body up."""
    proxy = start(config)
    context = client_context(material.root, material.client())
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        for _ in range(2):
            async with session.post(f"https://localhost:{proxy.port()}/up", data=b"x" * 100_000) as answer:
                assert (answer.status, await answer.read()) == (200, b"ok")
    assert [len(recorded.body) for recorded in upstream.requests] == [100_000] * 2
    assert proxy.series("connections_total") == {("internal",): 1}


@pytest.mark.parametrize("key_type", KeyType)
def test_clients_of_the_development_pki(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start, key_type: KeyType
) -> None:
    """The chain that `mtlsproxy pki issue` writes, with its CA as a trust anchor that is not self-signed."""
    config["truststores"]["partners"]["trust_anchors"] = [str(material.pki.directory / "client-ca.pem")]
    proxy = start(config)
    client = material.dev_client(f"dev-{key_type.value}", "EMAIL:dev@example.org", key_type=key_type)
    with tls(proxy.port(), client_context(material.root, client)) as connection:
        assert connection.get().status == 200
    assert upstream.requests[0].values("X-Client-Id") == ["dev@example.org"]


# -- acceptable CA names -----------------------------------------------------------------------------------------------


def advertised(said: str) -> set[str]:
    found = re.search(r"Acceptable client certificate CA names\n(.*?)\n(Requested|Client Cert|Peer)", said, re.DOTALL)
    return set(found[1].split("\n")) if found else set()


@pytest.mark.parametrize("option", ["-tls1_2", "-tls1_3"])
def test_exactly_the_trust_anchors_are_advertised(config: Tree, material: Material, start: Start, option: str) -> None:
    """Of all truststores of the listener; each name once; no intermediate, no other listener's."""
    twin = issue("Partner CA", ca=True)
    second, sub = issue("Zwölf & Söhne, Ltd", ca=True), issue("Sub CA", material.ca, ca=True)
    config["truststores"]["partners"] |= {
        "trust_anchors": [str(material.anchors), str(anchor_file(material.folder, twin))],
        "intermediates": [str(anchor_file(material.folder, sub))],
    }
    config["truststores"]["second"] = {
        "trust_anchors": [str(anchor_file(material.folder, second))],
        "revocation": {"mode": "off"},
    }
    config["listeners"][0]["client_auth"]["truststores"] = ["partners", "second"]
    said = s_client(start(config), material, option, "-nameopt", "RFC2253,utf8,-esc_msb")
    assert advertised(said) == {"CN=Partner CA", "CN=Zwölf & Söhne\\, Ltd"}
    assert said.count("CN=Partner CA") == 1


def test_names_are_not_advertised_where_the_listener_says_so(config: Tree, material: Material, start: Start) -> None:
    """`advertise_ca_names: false`."""
    config["listeners"][0]["client_auth"]["advertise_ca_names"] = False
    said = s_client(start(config), material)
    assert "No client certificate CA names sent" in said
    assert "Acceptable" not in said


def test_a_client_chooses_its_certificate_by_the_names(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start
) -> None:
    """A partial chain anchor is advertised by its own name, not by its issuer's."""
    sub = issue("Sub CA", material.ca, ca=True)
    config["truststores"]["partners"]["trust_anchors"] = [str(anchor_file(material.folder, sub))]
    assert advertised(s_client(start(config), material)) == {"CN = Sub CA"}


# -- resumption --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", [("-tls1_2",), ("-tls1_2", "-no_ticket"), ("-tls1_3",)], ids=" ".join)
def test_no_session_is_resumed(
    config: Tree, material: Material, start: Start, tmp_path: Path, option: tuple[str, ...]
) -> None:
    """Neither by ticket nor session id nor PSK: s_client gets nothing to keep, and five more handshakes are new."""
    proxy, client = start(config), material.client()
    files = (*option, "-cert", client.certificate, "-key", client.key)
    saved = tmp_path / "session.pem"
    once = request("/", "Connection: close")
    first = s_client(proxy, material, *files, "-sess_out", saved, stdin=once)
    assert "HTTP/1.1 200 OK" in first
    assert first.count("\nNew, ") == 1
    assert not saved.exists() or not saved.read_bytes()
    again = s_client(proxy, material, *files, "-reconnect", stdin=once)
    assert again.count("\nNew, ") == 6
    assert "Reused" not in first + again
    assert [line["resumed"] for line in proxy.access(2)] == [False, False]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_that_a_client_kept_is_of_no_use(
    config: Tree, material: Material, start: Start, version: str
) -> None:
    """Python keeps an SSLSession whatever came; it has no ticket and no id, and offering it changes nothing."""
    proxy = start(config)
    context = client_context(material.root, material.client(), VERSIONS[version])
    with tls(proxy.port(), context) as connection:
        assert connection.get().status == 200
        session = connection.sock.session
    assert session is not None
    assert not session.has_ticket
    if version == "TLSv1.2":
        assert session.id == b""
    with tls(proxy.port(), context, session=session) as connection:
        assert connection.get().status == 200
        assert not connection.sock.session_reused
