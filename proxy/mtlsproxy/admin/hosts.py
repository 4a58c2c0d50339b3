"""Which Host headers the admin server answers to.

A web page whose name an attacker points at this machine (DNS rebinding) reaches the server through the victim's
browser, but with its own name in Host. So names must be known; an address cannot be rebound.
"""

import re
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, ip_address

# RFC 9110 §7.2: uri-host [ ":" port ]. The port says nothing here: a forwarded port is another one, and fine.
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+))(?::[0-9]{0,5})?")


class HostRule:
    """The names and addresses under which one site is known.

    bound: the host that `bind` names and the addresses it came to. allowed: what else is accepted. Case is ignored.
    """

    def __init__(self, bound: Collection[str], allowed: Collection[str]) -> None:
        self._every_address = any(address.is_unspecified for address in _addresses(bound))
        known = [*bound, *allowed]
        self._names = frozenset(name.lower() for name in known)
        self._addresses = frozenset(_addresses(known))

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


def _addresses(names: Collection[str]) -> list[IPv4Address | IPv6Address]:
    return [address for name in names if (address := _address(name)) is not None]


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
