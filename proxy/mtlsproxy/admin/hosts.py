"""Which Host headers the admin server answers to.

A web page whose name an attacker points at this machine (DNS rebinding) reaches the server through the victim's
browser, but with its own name in Host. So names must be known; an address cannot be rebound.
"""

import re
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, ip_address

from mtlsproxy.config.scalars import Bind

# RFC 9110 §7.2: uri-host [ ":" port ]. The port says nothing here: a forwarded port is another one, and fine.
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+))(?::[0-9]{0,5})?")


class HostRule:
    """The names and addresses under which one site is known: its own, and `allowed` (lower or upper case)."""

    def __init__(self, bind: Bind, allowed: Collection[str]) -> None:
        own = _address(bind.host)
        self._every_address = own is not None and own.is_unspecified
        known = [bind.host, *allowed]
        self._names = frozenset(name.lower() for name in known)
        self._addresses = frozenset(address for name in known if (address := _address(name)) is not None)

    def accepts(self, host: str) -> bool:
        """Whether a request with this Host header is meant for this site."""
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = found[1] or found[2]
        address = _address(name)
        if address is None:
            return name.lower().removesuffix(".") in self._names
        return self._every_address or address in self._addresses


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
