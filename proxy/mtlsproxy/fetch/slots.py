"""How many requests go to one host at a time: one that is slow holds up what else it is asked for, and nobody else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from mtlsproxy.fetch.rules import NamedBy, canonical_host

FETCHES_TO_ONE_HOST = 4
"""Lists at a time."""

FETCHES_AT_A_TIME = 16
"""Of each kind: many URLs may be due at once after a start, and our memory need not meet them all."""


class _Host:
    """users: who holds a slot or waits for one; with the last the host is forgotten."""

    __slots__ = ("slots", "users")

    def __init__(self, each: int) -> None:
        self.slots = asyncio.Semaphore(each)
        self.users = 0


class HostSlots:
    """`each` slots for every host; first come, first served."""

    def __init__(self, each: int) -> None:
        self._each = each
        self._hosts: dict[str, _Host] = {}

    @asynccontextmanager
    async def to(self, url: str) -> AsyncIterator[None]:
        """Hold one of the slots of the URL's host."""
        name = host_of(url)
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = _Host(self._each)
        host.users += 1
        try:
            async with host.slots:
                yield
        finally:
            host.users -= 1
            if not host.users:
                del self._hosts[name]

    def __len__(self) -> int:
        """Hosts that somebody asks or waits for."""
        return len(self._hosts)


class FetchSlots:
    """For lists. What certificates name never holds up what the configuration names."""

    def __init__(self) -> None:
        kinds: tuple[NamedBy, ...] = ("configuration", "certificate")
        self._hosts = {kind: HostSlots(FETCHES_TO_ONE_HOST) for kind in kinds}
        self._all = {kind: asyncio.Semaphore(FETCHES_AT_A_TIME) for kind in kinds}

    @asynccontextmanager
    async def to(self, url: str, named_by: NamedBy) -> AsyncIterator[None]:
        """Hold a slot of the URL's host: first that one, so that who waits for a slow host takes nobody else's."""
        async with self._hosts[named_by].to(url), self._all[named_by]:
            yield


def host_of(url: str) -> str:
    """In the form in which hosts are compared; "" where there is none."""
    try:
        return canonical_host(urlsplit(url).hostname or "")
    except ValueError:
        return ""  # no URL, and refused as soon as it has its slot
