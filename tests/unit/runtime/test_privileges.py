"""Rights are given up for good, and no key gets into a core file."""

import os
import pwd
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from mtlsproxy.hardening import harden
from mtlsproxy.runtime.privileges import PrivilegeError, become, unreadable

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def in_child(act: Callable[[], None]) -> int:
    """The exit status of a forked process that acts."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            act()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def check(condition: bool) -> None:
    if not condition:
        os._exit(99)


def status_of_this_process(field: str) -> str:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split(":", 1)[1].strip() for line in lines if line.startswith(f"{field}:"))


def test_a_hardened_process_leaves_no_core_and_gains_no_privileges() -> None:
    def act() -> None:
        harden()
        check(resource.getrlimit(resource.RLIMIT_CORE) == (0, 0))
        check(status_of_this_process("NoNewPrivs") == "1")
        check(Path("/proc/self/maps").stat().st_uid == 0)  # root's where the process is not dumpable

    assert in_child(act) == 0


@as_root
def test_root_becomes_somebody_else_for_good() -> None:
    nobody = pwd.getpwnam("nobody")

    def act() -> None:
        become("nobody")
        check(os.getresuid() == (nobody.pw_uid,) * 3)
        check(os.getresgid() == (nobody.pw_gid,) * 3)
        check(set(os.getgroups()) <= {nobody.pw_gid})
        check(status_of_this_process("CapEff").strip("0") == "")
        try:
            os.setuid(0)
        except PermissionError:
            become("nobody")  # who it is already
            return
        os._exit(98)

    assert in_child(act) == 0


@as_root
def test_who_is_not_root_becomes_nobody_else() -> None:
    def act() -> None:
        become("nobody")
        try:
            become("daemon")
        except PrivilegeError as error:
            check("only root can become daemon" in error.detail)
            return
        os._exit(98)

    assert in_child(act) == 0


def test_a_user_that_does_not_exist_is_named() -> None:
    with pytest.raises(PrivilegeError) as caught:
        become("no-such-user")
    assert "no-such-user" in caught.value.detail


@as_root
def test_files_that_a_reload_could_not_read_are_found(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent.stat().st_mode & 0o011 == 0:
            parent.chmod(0o711)  # pytest's own folders are closed to others
    closed, open_, missing = tmp_path / "closed", tmp_path / "open", tmp_path / "missing"
    for file, mode in ((closed, 0o600), (open_, 0o644)):
        file.write_text("")
        file.chmod(mode)

    folder = tmp_path / "folder"
    folder.mkdir(mode=0o700)
    within = folder / "within"
    within.write_text("")

    def act() -> None:
        become("nobody")
        check(unreadable([closed, open_, missing, within]) == [closed, within])

    assert in_child(act) == 0
