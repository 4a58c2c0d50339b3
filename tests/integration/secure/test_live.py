"""Trust in servers changes while connections to them live: files that change, certificates that are revoked."""

import json
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from tests.integration.certificates import Identity, anchor_file, identity, issue
from tests.integration.clients import VERSIONS
from tests.integration.harness import Tree, eventually
from tests.integration.live.conftest import crl, replace
from tests.integration.secure.conftest import (
    NAME,
    Authority,
    Secured,
    Serve,
    host_names,
    server_context,
    with_clients_of,
)
from tests.integration.upstream import RecordingUpstream
from tests.unit.x509.build import Issued

from mtlsproxy.runtime import reload
from mtlsproxy.x509.policy import CLIENT_AUTH, SERVER_AUTH


@pytest.fixture(autouse=True)
def _looking_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "LOOK_EVERY", 0.1)


def reloaded(served: Secured, count: int) -> None:
    """Until so many reloads succeeded."""
    eventually(lambda: served.proxy.series("config_reloads_total").get(("success",), 0) >= count)


@dataclass
class Onward:
    """This proxy's own certificates towards the upstream, and the CA that the upstream asks for."""

    folder: Path
    ca: Issued
    anchors: Path

    def put(self, name: str) -> Identity:
        """Another one in the place of the last."""
        made = identity(self.folder, issue(name, self.ca, eku=[CLIENT_AUTH]))
        replace(self.folder / "own.key", made.key.read_bytes())
        replace(self.folder / "own.pem", made.certificate.read_bytes())
        return made


@pytest.fixture
def onward(to_tls: Tree, tmp_path: Path, upstream: RecordingUpstream, good: Identity) -> Onward:
    """The upstream requires a client certificate, and the proxy has one."""
    ca = issue("Proxies CA", ca=True)
    out = Onward(tmp_path, ca, anchor_file(tmp_path, ca))
    out.put("first")
    to_tls["upstreams"]["recorder"]["tls"] |= {"certificate": "own.pem", "private_key": "own.key"}
    upstream.context = with_clients_of(good, out.anchors)
    return out


def shown(upstream: RecordingUpstream) -> list[str]:
    """The common names that the upstream was shown, by connection."""
    return [dict(pair for rdn in peer["subject"] for pair in rdn)["commonName"] for peer in upstream.peers]


def test_the_proxy_shows_its_own_certificate(serve: Serve, onward: Onward, upstream: RecordingUpstream) -> None:
    served = serve()
    assert served.get().status == 200
    assert shown(upstream) == ["first"]
    (told,) = json.loads(served.proxy.admin("/api/status"))["upstreams"]
    assert told["tls"]["certificate"]["subject"] == "CN=first"
    assert [anchor["subject"] for anchor in told["tls"]["trust_anchors"]] == ["CN=Upstream CA"]
    (labels,) = [k for k in served.proxy.series("certificate_not_after_timestamp_seconds") if k[0] == "upstream_client"]
    assert labels[1] == "CN=first"
    anchors = [k[1] for k in served.proxy.series("certificate_not_after_timestamp_seconds") if k[0] == "trust_anchor"]
    assert "CN=Upstream CA" in anchors


@pytest.mark.parametrize("version", VERSIONS)
def test_an_upstream_that_wants_a_certificate_and_gets_none_is_an_upstream_error(
    serve: Serve, onward: Onward, to_tls: Tree, upstream: RecordingUpstream, version: str
) -> None:
    """TLS 1.3 says so only behind the handshake, TLS 1.2 within it."""
    assert upstream.context is not None
    upstream.context.maximum_version = VERSIONS[version]
    tls = to_tls["upstreams"]["recorder"]["tls"]
    del tls["certificate"], tls["private_key"]
    served = serve()
    answer = served.get()
    assert (answer.status, answer.problem["reason"]) == (502, "upstream_error")
    assert "tls.certificate" in served.proxy.refusal()["detail"]
    assert not any(upstream.received)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_upstream_that_does_not_accept_our_certificate_is_an_upstream_error(
    serve: Serve, onward: Onward, upstream: RecordingUpstream, good: Identity, authority: Authority, version: str
) -> None:
    upstream.context = with_clients_of(good, authority.anchors)
    upstream.context.maximum_version = VERSIONS[version]
    served = serve()
    assert served.get().status == 502
    assert not any(upstream.received)


def test_another_certificate_serves_the_next_connection_and_the_old_ones_are_retired(
    serve: Serve, onward: Onward, upstream: RecordingUpstream
) -> None:
    served = serve()
    assert served.get().status == 200
    onward.put("second")
    reloaded(served, 1)
    eventually(lambda: not served.proxy.series("upstream_connections"))  # the resting one has ended
    assert served.get().status == 200
    assert shown(upstream) == ["first", "second"]
    eventually(lambda: any("upstream recorder is shown CN=second" in m["message"] for m in served.proxy.messages()))


def test_a_reload_that_changes_nothing_here_keeps_the_connections(
    serve: Serve, onward: Onward, upstream: RecordingUpstream
) -> None:
    served = serve()
    assert served.get().status == 200
    served.proxy.call(served.proxy.proxy.reloader.reload_soon)
    reloaded(served, 1)
    assert served.get().status == 200
    assert len(upstream.tls) == 1


def test_a_key_that_does_not_fit_is_refused_and_the_old_pair_stays(
    serve: Serve, onward: Onward, upstream: RecordingUpstream
) -> None:
    served = serve()
    other = identity(onward.folder, issue("other", onward.ca))
    replace(onward.folder / "own.key", other.key.read_bytes())
    eventually(lambda: served.proxy.series("config_reloads_total").get(("failure",), 0) >= 1)
    assert served.get().status == 200
    assert shown(upstream) == ["first"]
    said = eventually(lambda: [m["message"] for m in served.proxy.messages() if "reload refused" in m["message"]])
    assert "upstreams.recorder.tls.private_key" in said[0]
    assert "does not match the certificate" in said[0]


def test_a_key_with_a_password_is_read_with_its_file(
    serve: Serve, to_tls: Tree, onward: Onward, upstream: RecordingUpstream
) -> None:
    key = load_pem_private_key((onward.folder / "own.key").read_bytes(), None)
    sealed = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    replace(onward.folder / "own.key", sealed)
    replace(onward.folder / "own.pass", b"secret\n")
    to_tls["upstreams"]["recorder"]["tls"]["private_key_password_file"] = "own.pass"
    assert serve().get().status == 200
    assert shown(upstream) == ["first"]


@pytest.fixture
def own_anchors(to_tls: Tree, tmp_path: Path, authority: Authority) -> Path:
    """A copy that a test changes."""
    file = tmp_path / "upstream-anchors.pem"
    shutil.copy(authority.anchors, file)
    to_tls["upstreams"]["recorder"]["tls"]["trust_anchors"] = [file.name]
    return file


def test_a_trust_anchor_that_goes_takes_its_servers_along(
    serve: Serve, own_anchors: Path, upstream: RecordingUpstream, authority: Authority
) -> None:
    """Connections that stand are of no use either: the request is sent nowhere."""
    served = serve()
    assert served.get().status == 200
    other = issue("New Upstream CA", ca=True)
    replace(own_anchors, anchor_file(authority.folder, other).read_bytes())
    reloaded(served, 1)
    assert served.get().status == 502
    assert len(upstream.requests) == 1
    upstream.context = server_context(
        identity(authority.folder, issue("new", other, sans=host_names(NAME), eku=[SERVER_AUTH]))
    )
    assert served.get().status == 200


def test_trust_anchors_that_cannot_be_read_any_more_leave_the_old_ones_in_force(
    serve: Serve, own_anchors: Path, upstream: RecordingUpstream, authority: Authority
) -> None:
    """Neither the system's take their place, nor none."""
    served = serve()
    own_anchors.unlink()
    eventually(lambda: served.proxy.series("config_reloads_total").get(("failure",), 0) >= 1)
    assert served.get().status == 200
    stranger = issue("Stranger CA", ca=True)
    upstream.context = server_context(authority.server(by=[stranger]))
    for connection in list(upstream.open):
        connection.shutdown(socket.SHUT_RDWR)
    eventually(lambda: not served.proxy.series("upstream_connections"))
    assert served.get().status == 502


@pytest.fixture
def listed(to_tls: Tree, tmp_path: Path, authority: Authority) -> Callable[..., None]:
    """Revocation by a CRL file; call it with whom to revoke."""
    numbers = iter(range(1, 100))

    def revoke(*who: Identity) -> None:
        replace(tmp_path / "upstream.crl", crl(authority.ca, next(numbers), *who))

    revoke()
    to_tls["upstreams"]["recorder"]["tls"]["revocation"] = {"crl": {"sources": ["upstream.crl"]}}
    return revoke


def test_a_revoked_server_is_sent_nothing(
    serve: Serve, listed: Callable[..., None], good: Identity, upstream: RecordingUpstream
) -> None:
    listed(good)
    served = serve()
    assert served.get().status == 502
    assert not any(upstream.received)
    detail = served.proxy.refusal()["detail"]
    assert ": the server's certificate is revoked: " in detail
    assert served.proxy.series("crl_entries") == {("upstream:recorder", *_labels(served)): 1}


def _labels(served: Secured) -> tuple[str, ...]:
    (labels,) = served.proxy.series("crl_next_update_timestamp_seconds")
    return labels[1:]


def test_a_server_that_is_revoked_while_its_connection_rests_is_sent_nothing_more(
    serve: Serve, listed: Callable[..., None], good: Identity, upstream: RecordingUpstream
) -> None:
    served = serve()
    assert served.get().status == 200
    listed(good)
    reloaded(served, 1)
    assert served.get().status == 502
    assert len(upstream.requests) == 1


def test_an_unaffected_server_keeps_its_connection_when_its_list_changes(
    serve: Serve, listed: Callable[..., None], authority: Authority, upstream: RecordingUpstream
) -> None:
    served = serve()
    assert served.get().status == 200
    listed(authority.server())
    reloaded(served, 1)
    assert served.get().status == 200
    assert len(upstream.tls) == 1


@pytest.mark.parametrize(("mode", "status"), [("hard_fail", 502), ("soft_fail", 200)])
def test_without_a_usable_list_the_mode_decides(
    serve: Serve, to_tls: Tree, listed: Callable[..., None], tmp_path: Path, mode: str, status: int
) -> None:
    """The list is of another CA."""
    listed()
    other = issue("Another CA", ca=True)
    replace(tmp_path / "upstream.crl", crl(other, 1))
    to_tls["upstreams"]["recorder"]["tls"]["revocation"]["mode"] = mode
    served = serve()
    assert served.get().status == status
    if status == 502:
        assert "(revocation_unknown)" in served.proxy.refusal()["detail"]


def test_a_pooled_connection_ends_with_its_servers_certificate(
    serve: Serve, authority: Authority, upstream: RecordingUpstream
) -> None:
    """No request goes to a certificate that has expired since."""
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=3)
    upstream.context = server_context(authority.server(end=ends))
    served = serve()
    assert served.get().status == 200
    eventually(lambda: served.get().status == 502)
    assert len(upstream.tls) <= 2
