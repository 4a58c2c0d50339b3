"""The process as an init system and a log rotator see it: drain, signals, readiness, exit status."""

import signal
import socket
import tempfile
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tests.integration.clients import PATIENCE, client_context, request, tls
from tests.integration.conftest import Material, Start
from tests.integration.harness import RunningCommand, Tree, eventually, running_command
from tests.integration.refusals import assert_nobody_left
from tests.integration.upstream import OK, RecordingUpstream


def ready(proxy: RunningCommand) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{proxy.admin_port}/readyz", timeout=PATIENCE) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.fixture
def release(upstream: RecordingUpstream) -> threading.Event:
    """The upstream answers once this is set."""
    released = threading.Event()

    def script(_request: object, _connection: socket.socket) -> bytes:
        released.wait(PATIENCE)
        return OK

    upstream.script = script
    return released


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_under_way_is_answered_before_the_end(
    config: Tree,
    material: Material,
    upstream: RecordingUpstream,
    release: threading.Event,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    """Not ready, no newcomers, the answer with Connection: close, status 0."""
    config["shutdown"] = {"drain": "10s"}
    context = client_context(material.root, material.client())
    with running_command(config, tmp_path) as proxy, tls(proxy.port(), context) as connection:
        connection.send(request())
        eventually(lambda: upstream.requests)
        proxy.process.send_signal(number)
        eventually(lambda: ready(proxy) == 503)
        eventually(lambda: not accepts(proxy.port()))
        release.set()
        assert connection.response().status == 200
        assert connection.ended()
        connection.sock.close()
        assert proxy.process.wait(PATIENCE) == 0


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), PATIENCE).close()
    except OSError:
        return False
    return True


def test_what_does_not_end_is_ended(
    config: Tree, material: Material, upstream: RecordingUpstream, release: threading.Event, tmp_path: Path
) -> None:
    """`shutdown.drain` is a limit; who has no answer yet is told so, the exit status is 0 all the same, and an idle
    connection ends at once."""
    config["shutdown"] = {"drain": "300ms"}
    context = client_context(material.root, material.client())
    with (
        running_command(config, tmp_path) as proxy,
        tls(proxy.port(), context) as idle,
        tls(proxy.port(), context) as busy,
    ):
        busy.send(request())
        eventually(lambda: upstream.requests)
        assert proxy.stop() == 0
        assert idle.ended()
        answer = busy.response()
        assert (answer.status, answer.problem["reason"]) == (504, "upstream_timeout")
        assert busy.ended()
        release.set()


def test_logs_are_reopened(config: Tree, material: Material, tmp_path: Path) -> None:
    """SIGUSR1 after the file was renamed: lines go on into a file of the old name, and none is lost."""
    context = client_context(material.root, material.client())
    with running_command(config, tmp_path) as proxy, tls(proxy.port(), context) as connection:
        assert connection.get("/before").status == 200
        proxy.access()
        rotated = proxy.access_file.rename(tmp_path / "access.log.1")
        proxy.process.send_signal(signal.SIGUSR1)
        eventually(proxy.access_file.exists)
        assert connection.get("/after").status == 200
        assert [line["path"] for line in proxy.access()] == ["/after"]
        assert b"/after" not in rotated.read_bytes()
    assert b"/before" in rotated.read_bytes()


def test_no_temporary_folder_is_needed(
    config: Tree, material: Material, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container's root is often read-only: what OpenSSL reads from a file alone is a file in memory."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError), tempfile.NamedTemporaryFile():
        pass
    config["listeners"][0]["tls"]["session_resumption"] = True
    proxy = start(config)
    with tls(proxy.port(), client_context(material.root, material.client())) as connection:
        assert connection.get().status == 200
    assert (tmp_path / "nowhere").exists() is False


def test_an_embedded_proxy_lets_go_of_everything(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start
) -> None:
    """After many clients of every fate no connection is counted, here or at the upstream's pool beyond what rests."""
    proxy = start(config)
    good, bad = client_context(material.root, material.client()), client_context(material.root)
    for _ in range(5):
        with tls(proxy.port(), good) as connection:
            assert connection.get().status == 200
        with pytest.raises(OSError), tls(proxy.port(), bad) as connection:
            connection.sock.recv(1)
        with tls(proxy.port(), good) as connection:
            connection.send(b"GET / HTTP/1.1\r\nHost: pr")
    assert_nobody_left(proxy)
    assert proxy.series("upstream_connections") == {("recorder", upstream.url): 1}


def test_descriptors_are_taken_for_all_connections_and_it_is_said_when_they_do_not_suffice(
    config: Tree, tmp_path: Path
) -> None:
    """At the soft limit of most systems (1024) a tenth of max_connections would find no place."""
    config["listeners"][0]["limits"] = {"max_connections": 200}
    with running_command(config, tmp_path) as proxy:
        limits = Path(f"/proc/{proxy.process.pid}/limits").read_text()
        soft = next(line.split()[3] for line in limits.splitlines() if line.startswith("Max open files"))
        assert int(soft) >= 200 + 200 + 256
        assert not [line for line in proxy.messages() if "file descriptors" in line["message"]]
    with running_command(config, tmp_path, files=400) as proxy:
        (line,) = eventually(lambda: [each for each in proxy.messages() if "file descriptors" in each["message"]])
        assert "may need 656 file descriptors, and 400 are allowed" in line["message"]
