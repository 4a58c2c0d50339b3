"""What a configuration says and probably does not mean: routes and entries that never count, and weaker ways in.

Remarks, not errors: each has its place in the file. Asked of the same router and matchers as requests are.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from itertools import product
from typing import get_args

from mtlsproxy.access.decide import compile_routes
from mtlsproxy.access.pattern import Pattern, Use, dns_pattern, email_pattern, text_pattern, uri_pattern
from mtlsproxy.access.router import RouteMatch, Router
from mtlsproxy.access.weaker import weaker_ways
from mtlsproxy.config.model import Config, Match, Route
from mtlsproxy.config.route import Method

StandsFor = Callable[[str, str], bool]
"""Whether a listener's certificates stand for a host: (listener, host)."""

_FRESH = "mtlsproxy-lint-17c0"
"""A label and path segment that no configuration has: what is true of it is true of all that nobody names."""

_METHODS: tuple[str, ...] = get_args(Method)


@dataclass(frozen=True, slots=True)
class Remark:
    """kind: shadowed, redundant, unreachable or weaker. path: where in the configuration, `routes[2].allow[0]`."""

    kind: str
    path: str
    detail: str


def lint(config: Config, stands_for: StandsFor | None = None) -> tuple[Remark, ...]:
    """In the order of the file. stands_for: None where that is not to be looked at."""
    found: list[Remark] = []
    shadowed = {remark.path: remark for remark in _shadowed(config)}
    for number, route in enumerate(config.routes):
        path = f"routes[{number}]"
        if path in shadowed:
            found.append(shadowed[path])
            continue  # what is behind it does not matter
        found += _unreachable(config, route, path, stands_for)
        found += _entries(route, path)
        found += _weaker_stores(config, route, path)
        found += _weaker_way(config, route, path)
    return tuple(found)


# -- routes that others take everything from ---------------------------------------------------------------------------


def _shadowed(config: Config) -> Iterator[Remark]:
    routers = {each.name: Router(compile_routes(config, each), each.name) for each in config.listeners}
    for number, route in enumerate(config.routes):
        takers: dict[str, None] = {}
        for name in _listeners(config, route):
            takers |= dict.fromkeys(_takers(routers[name], route))
        if takers and route.name not in takers:
            names = " and ".join(takers)
            detail = f"route {route.name} is never reached: {names}, before it, take every request that it matches"
            yield Remark("shadowed", f"routes[{number}]", detail)


def _takers(router: Router, route: Route) -> Iterator[str]:
    """Who gets the requests that `route` matches, each kind of them tried once: a name below each suffix, a path below
    each prefix. Whatever gets those by a wildcard or prefix gets all of their kind."""
    hosts = [_some_host(host) for host in route.hosts or (_FRESH,)]
    paths = [path.rstrip("/") + "/" + _FRESH for path in route.paths or ("/",)]
    for host, path, method in product(hosts, paths, route.methods or _METHODS):
        found = router.match(host, path.encode("ascii"), method)
        if isinstance(found, RouteMatch):
            yield found.route.name


def _some_host(pattern: str) -> str:
    return f"{_FRESH}.{pattern[2:]}" if pattern.startswith("*.") else pattern


def _listeners(config: Config, route: Route) -> list[str]:
    return [each.name for each in config.listeners if route.is_on(each.name)]


def stores_of(config: Config, route: Route) -> tuple[str, ...]:
    """The truststores by which a client may come to the route."""
    names = {
        name: None
        for listener in config.listeners
        if route.is_on(listener.name)
        for name in listener.client_auth.truststores
    }
    return tuple(name for name in names if route.truststores is None or name in route.truststores)


# -- routes that nobody may use ----------------------------------------------------------------------------------------


def _unreachable(config: Config, route: Route, path: str, stands_for: StandsFor | None) -> Iterator[Remark]:
    if route.allow == ():
        yield Remark("unreachable", f"{path}.allow", f"route {route.name} allows nobody (allow: [])")
    stores = stores_of(config, route)
    if not stores:
        words = f"route {route.name} is reached by nobody: none of its listeners takes clients of its truststores"
        yield Remark("unreachable", f"{path}.truststores", words)
    if isinstance(route.allow, tuple):
        for number, entry in enumerate(route.allow):
            if why := _of_no_domain(config, entry, stores):
                yield Remark("unreachable", f"{path}.allow[{number}]", f"matches nobody: {why}")
    if stands_for is not None:
        for number, host in enumerate(route.hosts or ()):
            if not any(stands_for(name, _some_host(host)) for name in _listeners(config, route)):
                words = f"every request for {host} is answered 421: no certificate served stands for it"
                yield Remark("unreachable", f"{path}.hosts[{number}]", words)


def _of_no_domain(config: Config, entry: Match, stores: Sequence[str]) -> str:
    """Why no truststore lets in a client with this SPIFFE ID; "" where one does."""
    if entry.uri is None or not entry.uri.lower().startswith("spiffe://"):
        return ""
    domain = entry.uri[len("spiffe://") :].partition("/")[0].lower()
    domains = {config.truststores[name].spiffe_trust_domain for name in stores}
    if "*" in domain or not domains or None in domains or domain in domains:
        return ""
    return f"the route's truststores take SVIDs of {', '.join(sorted(filter(None, domains)))} alone"


# -- entries that others say already -----------------------------------------------------------------------------------


def _entries(route: Route, path: str) -> Iterator[Remark]:
    if not isinstance(route.allow, tuple):
        return
    for number, entry in enumerate(route.allow):
        if (other := _covering(route.deny, entry, Use.DENY)) is not None:
            words = f"grants nothing: deny[{other}] of route {route.name} refuses all that it allows"
            yield Remark("shadowed", f"{path}.allow[{number}]", words)
        elif (other := _covering(route.allow[:number], entry, Use.ALLOW)) is not None:
            yield Remark("redundant", f"{path}.allow[{number}]", f"allow[{other}], before it, allows all that it does")


def _covering(entries: Sequence[Match], entry: Match, use: Use) -> int | None:
    return next((number for number, other in enumerate(entries) if _covers(other, entry, use)), None)


def _covers(wide: Match, narrow: Match, use: Use) -> bool:
    """Whether every client that `narrow` matches is matched by `wide`, as far as that shows field by field."""
    for field in Match.model_fields:
        wanted = getattr(wide, field)
        if wanted is not None:
            given = getattr(narrow, field)
            if given is None or not _value_covers(field, wanted, given, use):
                return False
    return True


_PATTERNS: dict[str, Callable[[str, Use], Pattern]] = {
    "common_name": text_pattern,
    "organization": text_pattern,
    "organizational_unit": text_pattern,
    "dns": dns_pattern,
    "uri": uri_pattern,
    "email": email_pattern,
}


def _value_covers(field: str, wide: str, narrow: str, use: Use) -> bool:
    if field == "ip":
        one, other = ip_network(wide, strict=False), ip_network(narrow, strict=False)
        return one.version == other.version and other.subnet_of(one)  # type: ignore[arg-type]
    if field in _PATTERNS:
        return wide == narrow or ("*" not in narrow and _PATTERNS[field](wide, use).test(narrow))
    if field in ("serial", "fingerprint_sha256", "spki_sha256"):
        return wide.replace(":", "").lower().lstrip("0") == narrow.replace(":", "").lower().lstrip("0")
    return wide == narrow


# -- weaker ways in ----------------------------------------------------------------------------------------------------


def _weaker_stores(config: Config, route: Route, path: str) -> Iterator[Remark]:
    """Of the truststores of one route."""
    stores = stores_of(config, route)
    for weak in stores:
        for strict in stores:
            ways = weaker_ways(config.truststores[weak], config.truststores[strict])
            if ways:
                words = f"route {route.name} is reached by truststore {weak}, too, which is weaker than {strict}"
                yield Remark("weaker", path, f"{words}: {'; '.join(ways)}")
                break


def _weaker_way(config: Config, route: Route, path: str) -> Iterator[Remark]:
    """To an upstream that another route guards better."""
    mine = stores_of(config, route)
    for other in config.routes:
        theirs = stores_of(config, other)
        if other.upstream != route.upstream or other.name == route.name or not theirs:
            continue
        for weak in mine:
            if weak in theirs:
                continue
            ways = [weaker_ways(config.truststores[weak], config.truststores[strict]) for strict in theirs]
            if all(ways):
                words = f"upstream {route.upstream} is reached by truststore {weak} on route {route.name}"
                stricter = f"which is weaker than {theirs[0]} of route {other.name}: {'; '.join(ways[0])}"
                yield Remark("weaker", path, f"{words}, {stricter}")
                return
