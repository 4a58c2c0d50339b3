"""Whether a server's certificate is for the server that was asked for (RFC 9525 §6): DNS names and IP addresses."""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address

from mtlsproxy.x509.certificate import Certificate
from mtlsproxy.x509.evidence import Check, Result

NAME = "hostname"
_LABEL = r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)"
_DNS_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_WILDCARD = re.compile(rf"\*(?:\.{_LABEL}){{2,}}")
_MAX_NAME = 253  # RFC 1035 §2.3.4, as text without the final dot


class InvalidServerName(ValueError):
    """A reference identifier that is neither a DNS name (A-labels) nor an IP address."""


def check_server_name(leaf: Certificate, name: str) -> Check:
    """The check `hostname`: does one of the leaf's subjectAltNames stand for `name`?

    name: a DNS name in A-labels, with or without a final dot, or an IP address without brackets. Common names never
    count (RFC 9525 §2), an address only matches an iPAddress (§6.5), a wildcard is the whole leftmost label with at
    least two behind it and stands for one label (§6.3). Raises InvalidServerName.
    """
    reference = reference_identifier(name)
    rule = f"a subjectAltName for {name} (RFC 9525 §6)"
    if isinstance(reference, str):
        matching = next((dns for dns in leaf.sans.dns if _matches(dns, reference)), None)
    else:
        matching = str(reference) if reference in leaf.sans.ips else None
    if matching is not None:
        return Check(NAME, Result.PASS, matching, rule)
    names = ", ".join(text for kind, text in leaf.sans.ordered if kind in ("DNS", "IP")) or "no DNS name or IP address"
    fix = f"ask for a certificate that names {name}, or connect under a name that the certificate has"
    return Check(NAME, Result.FAIL, names, rule, fix)


def reference_identifier(name: str) -> str | IPv4Address | IPv6Address:
    """`name` as it is compared: an address, or a lower-case DNS name without final dot. Raises InvalidServerName."""
    try:
        return ip_address(name)
    except ValueError:
        pass  # then it is a DNS name
    host = name.removesuffix(".")
    if len(host) > _MAX_NAME or not _DNS_NAME.fullmatch(host) or host.rpartition(".")[2].isdigit():
        raise InvalidServerName(f"{name!r} is neither a DNS name nor an IP address")
    return host.lower()


def _matches(presented: str, reference: str) -> bool:
    if _WILDCARD.fullmatch(presented):
        return reference.partition(".")[2] == presented[2:].lower()
    return _DNS_NAME.fullmatch(presented) is not None and presented.lower() == reference
