"""What the process may do: nothing more than it needs, and no key of it ever in a core file."""

import ctypes
import os
import pwd
import resource
from collections.abc import Iterable
from pathlib import Path

_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38


class PrivilegeError(Exception):
    """The process cannot become who it is to be; `detail` is one sentence."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


def harden() -> None:
    """No core files (they hold keys), no reading of our memory by others of our user, no gain of privileges by exec."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


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


def unreadable(paths: Iterable[Path]) -> list[Path]:
    """Those that are there and cannot be read by who we are now: a reload would fail on them."""
    return [path for path in paths if path.exists() and not os.access(path, os.R_OK)]
