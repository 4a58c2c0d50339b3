"""The systemd units: systemd reads them without a complaint, they give away little, and fit the configuration."""

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mtlsproxy.config.scalars import parse_duration

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "systemd"
UNITS = ["mtlsproxy.service", "mtlsproxy.socket"]
MOST_EXPOSED = 15
"""Of 100, as systemd-analyze counts. What is left: networks, the host's root, sockets of systemd and of upstreams."""

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze (Debian: systemd) is not installed"
)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units as they would lie in /etc/systemd/system, starting the command of this environment."""
    for name in UNITS:
        text = (FOLDER / name).read_text()
        here = text.replace("/opt/mtlsproxy/bin/mtlsproxy", str(Path(sys.executable).with_name("mtlsproxy")))
        (tmp_path / name).write_text(here)
    return tmp_path


def analyze(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def unit(name: str) -> configparser.ConfigParser:
    """The last value of each key, as systemd has it for those that are not lists."""
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters="=")
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string((FOLDER / name).read_text())
    return parser


@needs_systemd
def test_systemd_has_nothing_to_object(installed: Path) -> None:
    done = analyze("verify", "--man=no", *(installed / name for name in UNITS))
    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
def test_systemd_would_object_to_a_mistake(installed: Path) -> None:
    """A key that it does not know is only ignored at a start: a protection that is misspelled is none."""
    service = installed / "mtlsproxy.service"
    service.write_text(service.read_text().replace("ProtectHome=", "ProtectHomes="))
    assert "ProtectHomes" in analyze("verify", "--man=no", service).stderr


@needs_systemd
def test_the_service_gives_away_little(installed: Path) -> None:
    service = installed / "mtlsproxy.service"
    offline = ["security", "--offline=yes", "--no-pager"]
    done = analyze(*offline, f"--threshold={MOST_EXPOSED}", service)
    assert done.returncode == 0, done.stdout
    bare = installed / "bare.service"
    bare.write_text("[Service]\nExecStart=/bin/true\n")
    assert analyze(*offline, f"--threshold={MOST_EXPOSED}", bare).returncode != 0


def test_the_service_has_the_time_that_a_drain_takes() -> None:
    longest = 0.0
    for file in (ROOT / "config").glob("*.yaml"):
        shutdown = yaml.safe_load(file.read_text()).get("shutdown", {})
        longest = max(longest, sum(parse_duration(shutdown.get(key, "0s")) for key in ("delay", "drain")))
    assert longest > 0
    assert parse_duration(unit("mtlsproxy.service")["Service"]["TimeoutStopSec"]) > longest + 10


def test_the_service_may_open_what_the_limits_ask_for() -> None:
    production = yaml.safe_load((ROOT / "config" / "production.yaml").read_text())
    connections = sum(listener["limits"]["max_connections"] for listener in production["listeners"])
    assert int(unit("mtlsproxy.service")["Service"]["LimitNOFILE"]) > 2 * connections


def test_only_the_first_process_is_told_to_stop_and_a_worker_s_end_is_not_the_service_s() -> None:
    service = unit("mtlsproxy.service")["Service"]
    assert service["KillMode"] == "mixed"
    assert service["OOMPolicy"] == "continue"
    assert service["NotifyAccess"] == "main"


def test_the_folders_are_those_of_the_production_configuration() -> None:
    production = yaml.safe_load((ROOT / "config" / "production.yaml").read_text())
    service = unit("mtlsproxy.service")["Service"]
    assert production["state_dir"].startswith(f"/var/lib/{service['StateDirectory']}/")
    assert production["logging"]["access"].startswith(f"/var/log/{service['LogsDirectory']}/")


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd-sysusers is not installed")
def test_the_user_of_the_service_is_made() -> None:
    file = FOLDER / "mtlsproxy.sysusers.conf"
    done = subprocess.run(["systemd-sysusers", "--dry-run", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"u     {unit('mtlsproxy.service')['Service']['User']} " in file.read_text()
