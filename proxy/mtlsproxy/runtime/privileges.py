"""Who the process is: nobody with more rights than it needs."""

import os
import pwd
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mtlsproxy.hardening import harden


class PrivilegeError(Exception):
    """The process cannot become who it is to be; `detail` is one sentence."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


def become(user: str) -> None:
    """Give up all other rights for those of `user`, for good. Raises PrivilegeError."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError as error:
        raise PrivilegeError(f"there is no user {user} on this machine") from error
    if os.geteuid() == entry.pw_uid:
        return
    if os.geteuid() != 0:
        raise PrivilegeError(f"only root can become {user}: start as root, or as {user} without this setting")
    os.initgroups(user, entry.pw_gid)
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
    harden()  # a change of user makes the process dumpable again, or not, as the system is set


def process_of(user: str | None) -> dict[str, Any]:
    """For subprocess.Popen: a process of `user`, of whom this one will be too and is not yet; else of our own.

    Raises PrivilegeError.
    """
    if user is None or os.geteuid() != 0:
        return {}
    try:
        entry = pwd.getpwnam(user)
    except KeyError as error:
        raise PrivilegeError(f"there is no user {user} on this machine") from error
    groups = os.getgrouplist(user, entry.pw_gid)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": groups}


def unreadable(paths: Iterable[Path]) -> list[Path]:
    """Those that are there and cannot be read by who we are now, their folder included: a reload would fail on them."""
    return [path for path in paths if not os.access(path, os.R_OK) and not _is_missing(path)]


def _is_missing(path: Path) -> bool:
    try:
        return not path.exists()
    except PermissionError:
        return False
