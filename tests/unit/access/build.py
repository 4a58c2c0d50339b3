"""Routes for the tests of access, written as an operator writes them."""

from typing import Any

from mtlsproxy.access.decide import CompiledRoute, compile_route
from mtlsproxy.access.router import NoMatch, RouteMatch, Router
from mtlsproxy.config.model import Match, Route


def route(name: str = "r", *, truststores: list[str] | None = None, **keys: Any) -> CompiledRoute:
    written = {"name": name, "allow": "any", "upstream": "u", **keys}
    if truststores is not None:
        written["truststores"] = truststores
    return compile_route(Route.model_validate(written), ["partners", "staff"])


def entry(**fields: str) -> Match:
    return Match.model_validate(fields)


def paths(**prefixes: str) -> Router:
    """A router with one route a path, in the order written."""
    return Router([route(name, paths=[prefix]) for name, prefix in prefixes.items()], "internal")


def found(router: Router, path: bytes | str, *, host: str = "h.example", method: str = "GET") -> str:
    """The route's name, or the reason for none."""
    result = router.match(host, path.encode() if isinstance(path, str) else path, method)
    assert isinstance(result, RouteMatch | NoMatch)
    return result.route.name if isinstance(result, RouteMatch) else result.reason.value
