"""Which URLs may be fetched and which addresses connected to. Certificates name URLs, and clients bring certificates.

A host that the configuration writes in a URL is trusted to resolve anywhere: the operator chose it. One that is merely
in `allowed_hosts` is a name whose owner may be somebody else (a partner's CA), so that it must not lead to this host,
its link, or a cloud's metadata service; an operator who means such an address lists the address itself as well.
Private networks are allowed: internal CAs live there.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal

NamedBy = Literal["configuration", "certificate"]
"""Who wrote a URL. What a certificate writes is an outsider's wish."""

MAX_REDIRECTS = 5
"""Enough for http → https → mirror; a longer chain is a loop or a game."""

_METADATA = frozenset(
    map(ip_address, ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"))
)
"""Metadata services outside of the link-local range: AWS, Google, Alibaba, Azure, Oracle. The rest are link-local."""

_THIS_NETWORK = ip_network("0.0.0.0/8")  # RFC 6890: Linux takes 0.0.0.0 for itself
_NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))  # RFC 6052, RFC 8215
_COMPATIBLE = IPv6Network("::/96")  # RFC 4291 §2.5.5.1, deprecated; some stacks still route it

Address = IPv4Address | IPv6Address


class FetchFailure(StrEnum):
    """Why a fetch gave nothing: fixed words, for logs and counters."""

    NOT_ALLOWED = "not_allowed"
    TOO_LARGE = "too_large"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    TLS = "tls"
    STATUS = "status"
    PROTOCOL = "protocol"


class FetchError(Exception):
    """A fetch that gave nothing. detail: one sentence that names the URL. retryable: whether waiting may mend it; else
    somebody must change the URL, the rules or the server."""

    def __init__(self, failure: FetchFailure, detail: str, *, retryable: bool) -> None:
        super().__init__(detail)
        self.failure = failure
        self.detail = detail
        self.retryable = retryable


def canonical_host(host: str) -> str:
    """The form in which hosts are compared: lower case, no brackets, no final dot; addresses in their shortest form."""
    bare = host.strip("[]").rstrip(".").lower()
    try:
        return str(ip_address(bare))
    except ValueError:
        return bare


@dataclass(frozen=True, slots=True)
class FetchRules:
    """What may be fetched, made by `FetchRules.of`.

    configured_hosts: hosts of URLs in the configuration. allowed_hosts: those that certificates and redirects may name
    besides. max_size: octets of a body, after decompression. timeout: seconds for all of a fetch, redirects included.
    trust_anchors: PEM of the CAs that https servers are verified with; empty: no https.
    """

    configured_hosts: frozenset[str]
    allowed_hosts: frozenset[str]
    max_size: int
    timeout: float
    trust_anchors: str = ""

    @classmethod
    def of(
        cls,
        *,
        configured_hosts: Iterable[str] = (),
        allowed_hosts: Iterable[str] = (),
        max_size: int,
        timeout: float,
        trust_anchors: str = "",
    ) -> "FetchRules":
        return cls(
            frozenset(map(canonical_host, configured_hosts)),
            frozenset(map(canonical_host, allowed_hosts)),
            max_size,
            timeout,
            trust_anchors,
        )

    def why_not_url(self, scheme: str, host: str, named_by: NamedBy, *, redirected: bool = False) -> str:
        """Why a URL of this scheme and host may not be asked; "" when it may. A redirect may stay among the hosts of
        the configuration, whoever named its first URL."""
        if scheme not in ("http", "https"):
            return f"its scheme is {scheme or 'missing'}, and only http and https are fetched"
        if scheme == "https" and not self.trust_anchors:
            return "https needs revocation.fetch.trust_anchors: the system's CAs are never used"
        name = canonical_host(host)
        if name in self.allowed_hosts or (name in self.configured_hosts and named_by == "configuration"):
            return ""
        who = "a redirect" if redirected else "a certificate" if named_by == "certificate" else "the caller"
        return f"{who} names the host {name!r}, which is not in revocation.fetch.allowed_hosts"

    def why_not_address(self, host: str, address: Address) -> str:
        """Why a connection for `host` may not go to `address`; "" when it may."""
        if canonical_host(host) in self.configured_hosts or str(address) in self.allowed_hosts:
            return ""
        # The operator who allows this name means this address: it is loopback by definition (RFC 6761 §6.3).
        if address.is_loopback and canonical_host(host) == "localhost" and "localhost" in self.allowed_hosts:
            return ""
        kind = special_kind(address)
        return (
            f"{host} resolves to {address}, a {kind} address: list it in allowed_hosts if it is meant" if kind else ""
        )


def special_kind(address: Address) -> str:
    """What is special about an address that a name of the outside must not lead to; "" for ordinary ones, private
    networks included. Addresses that carry an IPv4 address count as that one too."""
    if isinstance(address, IPv6Address):
        for inner in _carried(address):
            if kind := special_kind(inner):
                return kind
    kinds = (
        (address.is_loopback, "loopback"),
        (address.is_link_local, "link-local"),
        (address.is_multicast, "multicast"),
        (address.is_unspecified or address in _THIS_NETWORK, "unspecified"),
        (_bare(address) in _METADATA, "metadata service"),
        (isinstance(address, IPv6Address) and address.is_site_local, "site-local"),
        (address.is_reserved and not _carries(address), "reserved"),
    )
    return next((kind for true, kind in kinds if true), "")


def _bare(address: Address) -> Address:
    """Without a scope: `fd00:ec2::254%eth0` is that address all the same."""
    return IPv6Address(int(address)) if isinstance(address, IPv6Address) else address


def _carries(address: Address) -> bool:
    return isinstance(address, IPv6Address) and bool(_carried(address))


def _carried(address: IPv6Address) -> list[IPv4Address]:
    """IPv4 addresses that a translator or tunnel would reach through this one."""
    found = [a for a in (address.ipv4_mapped, address.sixtofour, *(address.teredo or ())) if a is not None]
    low = int(address) & 0xFFFFFFFF
    bare = IPv6Address(int(address))
    if any(bare in network for network in _NAT64) or (bare in _COMPATIBLE and low > 1):
        found.append(IPv4Address(low))
    return found
