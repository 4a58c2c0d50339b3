"""Who else can read a secret's file."""

import stat
from pathlib import Path


def exposed(file: Path, what: str) -> list[str]:
    """A warning in words when others than its owner can read or write `file`; `what` it is. Raises OSError.

    A file of root's may be read by its group: that is how Kubernetes (fsGroup) and Debian (ssl-cert) hand keys to
    who is not root, and PostgreSQL takes them so.
    """
    status = file.stat()
    allowed = 0o740 if status.st_uid == 0 else 0o700
    mode = stat.S_IMODE(status.st_mode)
    if not mode & 0o777 & ~allowed:
        return []
    return [f"the {what} file {file} can be read by others (mode {mode & 0o777:04o}): chmod 600 it"]
