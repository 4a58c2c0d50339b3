"""From host, path and method to the first route that matches, in time that hardly grows with the number of routes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from mtlsproxy.access.decide import CompiledRoute
from mtlsproxy.access.paths import UnreadablePath, readings
from mtlsproxy.reasons import Reason
from mtlsproxy.x509.evidence import Check, Result


@dataclass(frozen=True, slots=True, eq=False)
class RouteMatch:
    """The route of a request. prefix: its longest that covers the path, canonical, without a trailing slash."""

    route: CompiledRoute
    prefix: bytes

    def forwarded(self, path: bytes) -> bytes:
        """The path for the upstream: as it came, or without the matched segments where the route strips its prefix."""
        return _without_segments(path, self.prefix.count(b"/")) if self.route.config.strip_prefix else path


@dataclass(frozen=True, slots=True)
class NoMatch:
    """No route. reason: NO_ROUTE, METHOD_NOT_ALLOWED (allow: the methods for the Allow header) or BAD_REQUEST."""

    reason: Reason
    detail: str
    allow: tuple[str, ...] = ()

    @property
    def check(self) -> Check:
        """As evidence for `explain`."""
        fixes = {
            Reason.NO_ROUTE: "add a route for this host and path, or mend the request",
            Reason.METHOD_NOT_ALLOWED: f"use one of {', '.join(self.allow)}, or add the method to the route",
        }
        fix = fixes.get(self.reason, "send the path plainly: no dot segments, //, \\ or encoded separators")
        return Check("route", Result.FAIL, self.detail, "the first route whose hosts, paths and methods match", fix)


_NO_ROUTE = NoMatch(Reason.NO_ROUTE, "no route has this host and path")
_AMBIGUOUS = NoMatch(Reason.BAD_REQUEST, "the path can be read in several ways that do not all lead to the same route")
_Found = RouteMatch | NoMatch


class Router:
    """The routes of one listener.

    Hosts lead to a table, path prefixes within it to routes in the operator's order. A configured `*.suffix` stands
    for every name below suffix, at any depth.
    """

    def __init__(self, routes: Iterable[CompiledRoute], listener: str) -> None:
        mine = [r for r in routes if r.config.is_on(listener)]
        by_pattern: dict[str, list[int]] = {}
        for index, route in enumerate(mine):
            for host in dict.fromkeys(route.config.hosts or ("",)):
                by_pattern.setdefault(_pattern(host), []).append(index)
        tables: dict[tuple[int, ...], _PathTable] = {}

        def table(host: str) -> _PathTable:
            chosen = _routes_of(host, by_pattern)
            if chosen not in tables:
                tables[chosen] = _PathTable({index: mine[index] for index in chosen})
            return tables[chosen]

        # A name below the longest suffix that covers it is below all shorter ones too: one table says it all.
        self._suffixes = {pattern: table("*" + pattern) for pattern in by_pattern if pattern.startswith(".")}
        self._exact = {host: table(host) for host in by_pattern if host and host not in self._suffixes}
        self._other = table("")

    def match(self, host: str, path: bytes, method: str) -> RouteMatch | NoMatch:
        """host: Host or :authority as it came, "" for none. path: the target's path as it came, without its query."""
        table = self._exact.get(host) or self._table(_bare(host))
        try:
            ways = readings(path)
            found = table.find(ways[0], method)
            if len(ways) == 1:
                return found
            if not all(_agree(found, table.find(way, method)) for way in ways[1:]):
                return _AMBIGUOUS
            return found if _strips_alike(found, path, ways) else _AMBIGUOUS
        except UnreadablePath as error:
            return NoMatch(Reason.BAD_REQUEST, error.detail)

    def _table(self, host: str) -> "_PathTable":
        found = self._exact.get(host)
        if found is not None:
            return found
        dot = host.find(".", 1) if self._suffixes else -1
        while dot >= 0:
            found = self._suffixes.get(host[dot:])
            if found is not None:
                return found
            dot = host.find(".", dot + 1)
        return self._other


@dataclass(frozen=True, slots=True)
class _Entry:
    index: int
    methods: frozenset[str] | None
    match: RouteMatch


class _PathTable:
    """Routes by path prefix; the index of a route is its place in the operator's order."""

    def __init__(self, routes: Mapping[int, CompiledRoute]) -> None:
        self._entries: dict[bytes, list[_Entry]] = {}
        for index, route in routes.items():
            methods = None if route.config.methods is None else frozenset(route.config.methods)
            for prefix in dict.fromkeys(route.prefixes):
                self._entries.setdefault(prefix, []).append(_Entry(index, methods, RouteMatch(route, prefix)))
        self._depth = max((prefix.count(b"/") for prefix in self._entries), default=0)

    def find(self, path: bytes, method: str) -> _Found:
        best: _Entry | None = None
        refusing: list[_Entry] = []
        for entries in filter(None, map(self._entries.get, self._prefixes(path))):
            for entry in entries:
                if best is not None and entry.index > best.index:
                    break
                if entry.methods is None or method in entry.methods:
                    best = entry
                    break
                refusing.append(entry)
        if best is not None:
            return best.match
        return _method_not_allowed(method, refusing) if refusing else _NO_ROUTE

    def _prefixes(self, path: bytes) -> list[bytes]:
        """Shortest first, as deep as any configured prefix is."""
        prefixes = [b""]
        end = 0
        for _ in range(self._depth):
            end = path.find(b"/", end + 1)
            if end < 0:
                prefixes.append(path)
                break
            prefixes.append(path[:end])
        return prefixes


def _method_not_allowed(method: str, refusing: Iterable[_Entry]) -> NoMatch:
    allow = tuple(sorted(frozenset().union(*(entry.methods or () for entry in refusing))))
    return NoMatch(Reason.METHOD_NOT_ALLOWED, f"no route takes {method} here", allow)


def _routes_of(host: str, by_pattern: Mapping[str, list[int]]) -> tuple[int, ...]:
    """The routes of `host`, a name, `*.suffix`, or "" for any that no pattern covers, in the operator's order."""
    chosen = {*by_pattern.get("", ()), *by_pattern.get(host, ())}
    dot = host.find(".", 1)
    while dot >= 0:
        chosen.update(by_pattern.get(host[dot:], ()))
        dot = host.find(".", dot + 1)
    return tuple(sorted(chosen))


def _pattern(host: str) -> str:
    return "." + _bare(host[2:]) if host.startswith("*.") else _bare(host)


def _bare(host: str) -> str:
    """Lower-case, without port and root dot; addresses in one spelling, without brackets."""
    host = host.lower()
    if host.startswith("["):
        return _address(host[1:].partition("]")[0])
    name, colon, _ = host.partition(":")
    return _address(host) if ":" in host[len(name) + len(colon) :] else name.removesuffix(".")


def _address(text: str) -> str:
    try:
        return ip_address(text).compressed
    except ValueError:
        return text


def _agree(one: _Found, other: _Found) -> bool:
    if isinstance(one, RouteMatch) and isinstance(other, RouteMatch):
        return one.route is other.route
    return one == other


def _strips_alike(found: _Found, path: bytes, ways: tuple[bytes, ...]) -> bool:
    """Whether reading what is left of the path gives what is left of its readings, and no `//` comes to its front.

    In none of them: `/orders/%2fevil.example` without its prefix is `//evil.example` to an upstream that decodes it.

    Raises UnreadablePath where the rest has more readings than are worth trying.
    """
    if not isinstance(found, RouteMatch) or not found.route.config.strip_prefix:
        return True
    left = {found.forwarded(way) for way in ways}
    if any(way.startswith((b"//", b"/\\")) for way in left):
        return False
    return set(readings(found.forwarded(path))) == left


def _without_segments(path: bytes, count: int) -> bytes:
    end = 0
    for _ in range(count):
        end = path.find(b"/", end + 1)
        if end < 0:
            return b"/"
    return path[end:]
