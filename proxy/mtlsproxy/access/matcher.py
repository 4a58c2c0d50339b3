"""Entries of `allow` and `deny`, compiled: one entry is a conjunction of typed conditions on a client.

Types are kept apart: `dns` looks at dNSNames alone, `common_name` at the subject alone, and nothing stands in for
anything else (Envoy CVE-2022-21657, and the SAN-to-CN fallback of old TLS libraries).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network

from cryptography import x509 as pyca

from mtlsproxy.access.pattern import (
    Pattern,
    Use,
    dns_canonical,
    dns_pattern,
    email_canonical,
    email_pattern,
    text_pattern,
    tokens_of,
    uri_canonical,
    uri_pattern,
)
from mtlsproxy.config.model import Match
from mtlsproxy.identity.client import Client, NameKey, name_key

Key = tuple[str, str]
"""(field, canonical value or one token of it): what an index may file an entry under."""

_Test = Callable[[Client], bool]


@dataclass(frozen=True, slots=True)
class Matcher:
    """One compiled entry.

    text: the entry in the operator's words, for evidence. keys: a client that matches has every one of them among its
    `client_keys`; empty where the entry cannot be indexed.
    """

    text: str
    keys: frozenset[Key]
    tests: tuple[_Test, ...]

    def matches(self, client: Client) -> bool:
        """Whether every field of the entry holds for some value of the client."""
        for test in self.tests:  # noqa: SIM110 - a generator in all() costs twice the time of a thousand entries
            if not test(client):
                return False
        return True


def compile_match(entry: Match, use: Use = Use.ALLOW) -> Matcher:
    """The entry, compiled. use: Use.DENY for entries that refuse (see `pattern`).

    Raises ValueError for an entry without a field, which would match everybody, and for values that the configuration
    model does not admit.
    """
    conditions = [(name, getattr(entry, name)) for name in _FIELDS]
    present = [(name, value) for name, value in conditions if value is not None]
    if not present:
        raise ValueError("an entry without a field would match everybody")
    compiled = [_FIELDS[name](name, value, use) for name, value in present]
    return Matcher(
        text=", ".join(f"{name}: {value}" for name, value in present),
        keys=frozenset().union(*(keys for _, keys in compiled)),
        tests=tuple(test for test, _ in compiled),
    )


def client_keys(client: Client) -> Iterator[Key]:
    """Every key under which an entry that matches `client` may be filed."""
    yield ("fingerprint_sha256", client.fingerprint_sha256)
    yield ("spki_sha256", client.spki_sha256)
    yield ("serial", format(client.serial, "x"))
    for field, values, canonical in (
        ("uri", client.uris, uri_canonical),
        ("dns", client.dns, dns_canonical),
        ("email", client.emails, email_canonical),
    ):
        for value in values:
            for token in tokens_of(canonical(value)):
                yield (field, token)
            yield (field, canonical(value))
    for field, values in (
        ("common_name", client.common_names),
        ("organization", client.organizations),
        ("organizational_unit", client.organizational_units),
    ):
        for value in values:
            for token in tokens_of(value.casefold()):
                yield (field, token)
            yield (field, value.casefold())
    yield ("issuer", _issuer_text(client.issuer_key))
    for address in client.ips:
        yield ("ip", str(address.version))
    for oid in client.policy_oids:
        yield ("policy_oid", oid)


_Condition = tuple[_Test, frozenset[Key]]


def _text(values_of: Callable[[Client], tuple[str, ...]]) -> Callable[[str, str, Use], _Condition]:
    def compile_text(field: str, value: str, use: Use) -> _Condition:
        pattern = text_pattern(value, use)
        filed_under = pattern.tokens if "*" in value else {value.casefold()}
        return _any_of(values_of, pattern), frozenset((field, token) for token in filed_under)

    return compile_text


def _name(
    values_of: Callable[[Client], tuple[str, ...]],
    compile_pattern: Callable[[str, Use], Pattern],
    canonical: Callable[[str], str],
) -> Callable[[str, str, Use], _Condition]:
    def compile_name(field: str, value: str, use: Use) -> _Condition:
        pattern = compile_pattern(value, use)
        filed_under = pattern.tokens if "*" in value else {canonical(value)}
        return _any_of(values_of, pattern), frozenset((field, token) for token in filed_under)

    return compile_name


def _any_of(values_of: Callable[[Client], tuple[str, ...]], pattern: Pattern) -> _Test:
    test = pattern.test
    return lambda client: any(map(test, values_of(client)))


def _ip(field: str, value: str, use: Use) -> _Condition:
    network = ip_network(value, strict=False)
    version, mask, prefix = network.version, int(network.netmask), int(network.network_address)

    def holds(address: IPv4Address | IPv6Address) -> bool:
        return address.version == version and int(address) & mask == prefix

    return lambda client: any(map(holds, client.ips)), frozenset({(field, str(version))})


def _serial(field: str, value: str, use: Use) -> _Condition:
    number = int(value.replace(":", ""), 16)
    return lambda client: client.serial == number, frozenset({(field, format(number, "x"))})


def _issuer(field: str, value: str, use: Use) -> _Condition:
    key = name_key(pyca.Name.from_rfc4514_string(value))
    # openssl prints the other order: an entry that refuses takes both, for it must not fail to hit.
    names = (key, key[::-1]) if use is Use.DENY else (key,)
    return lambda client: client.issuer_key in names, frozenset({(field, _issuer_text(key))})


def _issuer_text(key: NameKey) -> str:
    """The same for both orders: an index is asked for candidates, the test decides."""
    forward = [sorted(rdn) for rdn in key]
    return repr(min(forward, forward[::-1]))


def _hash(value_of: Callable[[Client], str]) -> Callable[[str, str, Use], _Condition]:
    def compile_hash(field: str, value: str, use: Use) -> _Condition:
        digest = value.replace(":", "").lower()
        return lambda client: value_of(client) == digest, frozenset({(field, digest)})

    return compile_hash


def _policy_oid(field: str, value: str, use: Use) -> _Condition:
    return lambda client: value in client.policy_oids, frozenset({(field, value)})


_FIELDS: dict[str, Callable[[str, str, Use], _Condition]] = {
    "common_name": _text(lambda client: client.common_names),
    "organization": _text(lambda client: client.organizations),
    "organizational_unit": _text(lambda client: client.organizational_units),
    "dns": _name(lambda client: client.dns, dns_pattern, dns_canonical),
    "uri": _name(lambda client: client.uris, uri_pattern, uri_canonical),
    "email": _name(lambda client: client.emails, email_pattern, email_canonical),
    "ip": _ip,
    "serial": _serial,
    "issuer": _issuer,
    "fingerprint_sha256": _hash(lambda client: client.fingerprint_sha256),
    "spki_sha256": _hash(lambda client: client.spki_sha256),
    "policy_oid": _policy_oid,
}
