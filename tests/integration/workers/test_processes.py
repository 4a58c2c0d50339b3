"""What the processes of several workers are: whose, how large, and that none is left over."""

import os
import pwd
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.integration.certificates import Identity
from tests.integration.clients import PATIENCE
from tests.integration.conftest import Material
from tests.integration.harness import Tree, eventually
from tests.integration.live.conftest import crl
from tests.integration.sources.web import running_web
from tests.integration.workers.conftest import WORKERS, Run, Several, children, runs
from tests.unit.fetch.lists import list_of
from tests.unit.revocation.build import Authority

from mtlsproxy.fetch.client import SMALL

NOBODY = "nobody"
ENTRIES = 12_000


def nobody_can_run_python() -> bool:
    asked = [sys.executable, "-c", "import netrc, mtlsproxy"]
    try:
        return os.geteuid() == 0 and not subprocess.run(asked, user=NOBODY, check=False).returncode
    except PermissionError:
        return False


def family(several: Several) -> set[int]:
    """Workers, and helpers."""
    return children(several.process.pid)


def field(pid: int, name: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{name}:"))


@pytest.fixture
def fetching(config: Tree, material: Material) -> Tree:
    """A list comes over the network, so that there is a helper."""
    with running_web() as web:
        web.give("/ca.crl", crl(material.ca, 1))
        crls = {"sources": [web.url("/ca.crl")], "refresh": "1h"}
        config["truststores"]["partners"]["revocation"] = {"mode": "hard_fail", "crl": crls}
        yield config


def test_a_killed_supervisor_leaves_neither_worker_nor_helper(fetching: Tree, run: Run) -> None:
    several = run()
    pids = family(several)
    assert len(pids) == WORKERS + 1
    several.process.kill()
    several.process.wait(PATIENCE)
    eventually(lambda: not any(runs(pid) for pid in pids))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.skipif(not nobody_can_run_python(), reason="Python is installed where only root can read it")
def test_all_processes_are_the_users_and_leave_no_core(
    fetching: Tree, run: Run, material: Material, alice: Identity, tmp_path: Path
) -> None:
    """Also workers and helpers that are started later; and they end with their supervisor as any others."""
    nobody = pwd.getpwnam(NOBODY)
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    for path in (state, tmp_path, material.folder, material.server_certificate, material.server_key, material.anchors):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o711)
    fetching["user"] = NOBODY
    fetching["logging"] = {"access": "off"}
    several = run()
    os.kill(several.pids[0], signal.SIGKILL)
    eventually(lambda: several.series("worker_restarts_total").get(()) == 1 and len(several.pids) == WORKERS)
    pids = family(several)
    assert len(pids) == WORKERS + 1
    for pid in (several.process.pid, *pids):
        assert field(pid, "Uid").split() == [str(nobody.pw_uid)] * 4
        assert int(field(pid, "CapEff"), 16) == 0
        assert field(pid, "NoNewPrivs") == "1"
        assert "Max core file size        0" in Path(f"/proc/{pid}/limits").read_text()
        assert Path(f"/proc/{pid}/maps").stat().st_uid == 0, "nobody else of that user may read its memory"
    with several.connect(alice) as connection:
        assert connection.get().status == 200
    several.process.kill()
    eventually(lambda: not any(runs(pid) for pid in pids))


def test_a_large_list_is_mapped_by_all_from_the_start_on(
    config: Tree, run: Run, material: Material, alice: Identity, bob: Identity, tmp_path: Path
) -> None:
    """One index file, read by a helper: no process keeps a list of its own in its memory, nor does a successor."""
    file = tmp_path / "large.crl"
    ca = Authority(material.ca.key, material.ca.certificate)
    file.write_bytes(list_of(ca, *range(10**9, 10**9 + ENTRIES), alice.leaf.serial_number, at=datetime.now(UTC)))
    assert file.stat().st_size > SMALL
    crls = {"sources": [str(file)]}
    config["truststores"]["partners"]["revocation"] = {"mode": "hard_fail", "crl": crls}
    several = run()

    def mapped(pid: int) -> set[str]:
        return {line.split()[-1] for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if ".idx" in line}

    def answers(client: Identity) -> set[int]:
        found = set()
        for _ in range(8):
            with several.connect(client) as connection:
                found.add(connection.get().status)
        return found

    for _ in range(2):
        maps = [mapped(pid) for pid in (several.process.pid, *several.pids)]
        assert all(maps)
        assert len(set.union(*maps)) == 1
        assert (answers(alice), answers(bob)) == ({403}, {200})
        before = several.pids
        os.kill(before[0], signal.SIGKILL)
        eventually(lambda before=before: len(several.pids) == WORKERS and several.pids != before)  # type: ignore[misc]
