"""Which host names a server certificate stands for (RFC 9525 §6). Pure."""

import ipaddress

from mtlsproxy.x509.certificate import Certificate


def normalise(name: str) -> str:
    """Lower-case, without the root's trailing dot."""
    return name.lower().removesuffix(".")


def covers(leaf: Certificate, host: str) -> bool:
    """Whether `leaf` names `host` (a name, an IPv4 address or an IPv6 address without brackets); never by its CN."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return address in leaf.sans.ips
    host = normalise(host)
    label, _, parent = host.partition(".")
    return any(
        name == host or (name.startswith("*.") and label and parent and name[2:] == parent)
        for name in map(normalise, leaf.sans.dns)
    )
