"""What systemd and this process say to each other: readiness, the watchdog (sd_notify(3)), sockets (sd_listen_fds(3)).

Without systemd nothing is said and no socket is passed.
"""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Mapping

FIRST_DESCRIPTOR = 3
"""SD_LISTEN_FDS_START."""


class NoSuchSocket(Exception):
    """systemd passed no such socket, or one that cannot be used; `detail` is one sentence."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class PassedSockets:
    """The sockets that a .socket unit holds for us, by FileDescriptorName=. They stay open: a reload may ask again."""

    def __init__(self, environ: Mapping[str, str], pid: int) -> None:
        """environ: of a process with this pid; what was passed to another one (a parent) is not ours."""
        self._descriptors: dict[str, int] = {}
        if environ.get("LISTEN_PID") == str(pid) and (count := environ.get("LISTEN_FDS", "")).isdecimal():
            names = environ.get("LISTEN_FDNAMES", "").split(":")
            for number in range(int(count)):
                descriptor = FIRST_DESCRIPTOR + number
                os.set_inheritable(descriptor, False)
                self._descriptors.setdefault(names[number] if number < len(names) else "unknown", descriptor)

    def take(self, name: str) -> socket.socket:
        """The listening socket of that name, once more. Raises NoSuchSocket."""
        descriptor = self._descriptors.get(name)
        if descriptor is None:
            known = (
                ", ".join(sorted(self._descriptors)) or "none at all: is there a .socket unit, and does it start us?"
            )
            raise NoSuchSocket(f"systemd passed no socket of this name (FileDescriptorName=); it passed {known}")
        sock = socket.socket(fileno=os.dup(descriptor))
        stream = sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM
        if not stream or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            sock.close()
            raise NoSuchSocket("the socket that systemd passed is not a listening TCP socket (ListenStream=)")
        sock.setblocking(False)
        return sock


class Notifier:
    """Tells the service manager how this process is. ready, reloading, stopping; and the watchdog, from the loop: a
    process whose loop stands still is one that systemd should start anew."""

    def __init__(self, environ: Mapping[str, str], pid: int) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):  # an abstract one
            self._address = "\0" + self._address[1:]
        interval = environ.get("WATCHDOG_USEC", "")
        meant = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
        self._interval = int(interval) / 2e6 if interval.isdecimal() and meant else 0.0
        self._timer: asyncio.TimerHandle | None = None

    def ready(self, status: str) -> None:
        """status: one line for `systemctl status`."""
        self._tell(f"READY=1\nSTATUS={status}")
        if self._interval and self._timer is None:
            self._feed()

    def reloading(self) -> None:
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}\nSTATUS=reloading")

    def stopping(self) -> None:
        self._tell("STOPPING=1\nSTATUS=draining")

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _feed(self) -> None:
        self._tell("WATCHDOG=1")
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._feed)

    def _tell(self, state: str) -> None:
        if self._address:
            # A manager that does not listen is no reason to serve nobody.
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.sendto(state.encode(), self._address)
