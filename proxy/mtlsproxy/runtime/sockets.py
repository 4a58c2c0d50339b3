"""Listening sockets: bound before anything else happens, so that a taken port leaves nothing half-started."""

import os
import socket
from collections.abc import Iterable

from mtlsproxy.config.errors import ConfigErrors
from mtlsproxy.config.load import LoadedConfig
from mtlsproxy.config.model import Bind
from mtlsproxy.runtime.systemd import NoSuchSocket, PassedSockets

BACKLOG = 4096
"""Connections that the kernel keeps while we are busy; it cuts this down to net.core.somaxconn."""

_passed = PassedSockets(os.environ, os.getpid())


def bind_listeners(loaded: LoadedConfig, names: Iterable[str]) -> dict[str, socket.socket]:
    """A bound socket for each listener of `names`, all or none. Raises ConfigErrors."""
    wanted = set(names)
    sockets: dict[str, socket.socket] = {}
    errors = []
    for number, listener in enumerate(loaded.config.listeners):
        if listener.name not in wanted:
            continue
        try:
            sockets[listener.name] = _bound(listener.bind)
        except NoSuchSocket as error:
            errors.append(loaded.error(f"listeners[{number}].bind", error.detail))
        except OSError as error:
            detail = f"cannot listen on {listener.bind}: {error.strerror or error}"
            errors.append(loaded.error(f"listeners[{number}].bind", detail))
    if errors:
        close_sockets(sockets.values())
        raise ConfigErrors(errors)
    return sockets


def close_sockets(sockets: Iterable[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def bind_for_workers(loaded: LoadedConfig, names: Iterable[str], count: int) -> dict[str, list[socket.socket]]:
    """`count` sockets for each listener of `names`, among which the kernel spreads connections. Raises ConfigErrors."""
    # SO_REUSEPORT alone would share an address with any other program of this user: that it is free is seen before.
    found = {name: [sock] for name, sock in bind_listeners(loaded, names).items()}
    listeners = {listener.name: listener for listener in loaded.config.listeners}
    try:
        for name, sockets in found.items():
            alone = sockets.pop()
            if listeners[name].bind.fd_name is not None:
                # One queue for all: systemd keeps it, whichever process comes and goes.
                sockets += [alone, *(alone.dup() for _ in range(count - 1))]
                continue
            port = alone.getsockname()[1]
            alone.close()
            bind = Bind(listeners[name].bind.host, port)
            sockets += [_bound(bind, shared=True) for _ in range(count)]
    except OSError as error:
        close_sockets(sock for sockets in found.values() for sock in sockets)
        raise ConfigErrors([loaded.error("workers", f"cannot share port {port}: {error.strerror}")]) from error
    return found


def _bound(bind: Bind, *, shared: bool = False) -> socket.socket:
    """A bound socket; nobody is accepted yet."""
    if bind.fd_name is not None:
        return _passed.take(bind.fd_name)
    family, _, _, _, address = socket.getaddrinfo(bind.host, bind.port, type=socket.SOCK_STREAM)[0]
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, bind.host != "::")
        sock.bind(address)
        if not shared:
            sock.listen(0)  # bind alone does not say that the port is taken
    except BaseException:
        sock.close()
        raise
    return sock
