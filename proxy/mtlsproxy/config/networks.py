"""Addresses in networks: which socket peers and clients a list of CIDRs means."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address

from mtlsproxy.config.scalars import Network


class Networks:
    """A list of CIDRs. False when it is empty."""

    __slots__ = ("_networks",)

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        self._networks = tuple(networks)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def covers(self, address: str) -> bool:
        """Whether `address`, as a socket gives it (IPv6 perhaps with its zone), lies in one of them."""
        found = plain(ip_address(address))
        return any(found in network for network in self._networks)


def plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """`::ffff:192.0.2.1`, an IPv4 client as an IPv6 socket sees it (RFC 4291 §2.5.5.2), is 192.0.2.1."""
    return getattr(address, "ipv4_mapped", None) or address
