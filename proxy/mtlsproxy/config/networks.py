"""Addresses in networks: which socket peers and clients a list of CIDRs means."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

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


def unmapped(address: str) -> str:
    """A socket's address as text, without the form that IPv4 clients have at an IPv6 socket: in logs, limits and
    X-Forwarded-For they are who they are at any other."""
    return str(plain(ip_address(address))) if address.startswith("::ffff:") else address


def origin_of(address: str) -> str:
    """Whom limits count `address` for: itself, or its /64, because who has an IPv6 address has a network of them
    (RFC 4291 §2.5.4)."""
    if ":" not in address:
        return address
    return str(IPv6Network((int(IPv6Address(address.partition("%")[0])) >> 64 << 64, 64)))


def plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """`::ffff:192.0.2.1`, an IPv4 client as an IPv6 socket sees it (RFC 4291 §2.5.5.2), is 192.0.2.1."""
    return getattr(address, "ipv4_mapped", None) or address
