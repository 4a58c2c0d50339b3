"""May this client use this route: truststore, then deny, then allow; and the rule that decided.

The data path, shadow mode and `explain` all ask here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mtlsproxy.access.matcher import compile_match
from mtlsproxy.access.paths import canonical
from mtlsproxy.access.pattern import Use
from mtlsproxy.access.rules import RuleList
from mtlsproxy.config.model import Config, Listener, Route
from mtlsproxy.identity.client import Client
from mtlsproxy.reasons import Reason
from mtlsproxy.x509.evidence import Check, Result


@dataclass(frozen=True, slots=True, eq=False)
class CompiledRoute:
    """A route, ready to be asked.

    truststores: names, in the route's order, or the listener's where the route has none. prefixes: canonical paths
    without a trailing slash, the root's empty. allow: None for `any`.
    """

    config: Route
    truststores: tuple[str, ...]
    prefixes: tuple[bytes, ...]
    allow: RuleList | None
    deny: RuleList

    @property
    def name(self) -> str:
        return self.config.name


@dataclass(frozen=True, slots=True)
class Decision:
    """What access control says.

    allowed: whether the request may pass; with enforced False it may although `reason` says why not (shadow mode).
    reason: TRUSTSTORE_MISMATCH, DENIED, NOT_ALLOWED, or None where nothing was wrong. rule: the text of what decided.
    truststore: the first of the route's that vouched; where none of them did, the first that vouched at all.
    checks: `route` and `access`.
    """

    allowed: bool
    reason: Reason | None
    rule: str
    enforced: bool
    truststore: str | None
    checks: tuple[Check, ...]


def compile_route(route: Route, listener_truststores: Sequence[str]) -> CompiledRoute:
    """`route` as it stands on a listener whose client_auth names `listener_truststores`."""
    prefixes = (canonical(path.encode("ascii")).rstrip(b"/") for path in route.paths or ("/",))
    allow = None if route.allow == "any" else RuleList([compile_match(entry) for entry in route.allow])
    return CompiledRoute(
        config=route,
        truststores=tuple(listener_truststores if route.truststores is None else route.truststores),
        prefixes=tuple(prefixes),
        allow=allow,
        deny=RuleList([compile_match(entry, Use.DENY) for entry in route.deny]),
    )


def compile_routes(config: Config, listener: Listener) -> tuple[CompiledRoute, ...]:
    """The routes of a listener, in their order."""
    truststores = listener.client_auth.truststores
    return tuple(compile_route(route, truststores) for route in config.routes if route.is_on(listener.name))


def decide(route: CompiledRoute, client: Client, vouched: Sequence[str]) -> Decision:
    """May `client` use `route`? vouched: the truststores that verified the client, in the listener's order.

    With nothing vouched the client has not been verified, and shadow mode does not let that pass.
    """
    accepted = next((name for name in route.truststores if name in vouched), None)
    if accepted is None:
        return _mismatch(route, vouched)
    matched = Check("route", Result.PASS, f"route {route.name}, truststore {accepted}", _truststore_rule(route))
    denied = route.deny.first(client) if len(route.deny) else None
    if denied is not None:
        rule = f"deny[{denied}] {{{route.deny.matchers[denied].text}}}"
        fix = f"remove the entry from deny of route {route.name}, if it is mistaken"
        return _refused(route, Reason.DENIED, rule, accepted, matched, fix, f"matched by {rule}", "deny comes first")
    if route.allow is None:
        return _allowed(route, "allow: any", accepted, matched)
    granted = route.allow.first(client)
    if granted is not None:
        return _allowed(route, f"allow[{granted}] {{{route.allow.matchers[granted].text}}}", accepted, matched)
    rule = _no_entry(len(route.allow), route.name)
    fix = f"add an allow entry to route {route.name} that names this client{_such_as(client)}"
    seen = f"{rule}: {_presented(client)}"
    return _refused(route, Reason.NOT_ALLOWED, rule, accepted, matched, fix, seen, _one_is_enough(route.allow))


def _mismatch(route: CompiledRoute, vouched: Sequence[str]) -> Decision:
    truststore = vouched[0] if vouched else None
    seen = f"route {route.name}, verified by {', '.join(vouched) or 'no truststore'}"
    fix = f"present a certificate that {' or '.join(route.truststores)} verifies, or widen the route's truststores"
    rule = _truststore_rule(route)
    return Decision(
        allowed=bool(vouched) and not route.config.enforce,
        reason=Reason.TRUSTSTORE_MISMATCH,
        rule=rule,
        enforced=route.config.enforce or not vouched,
        truststore=truststore,
        checks=(
            Check("route", Result.FAIL, seen, rule, fix),
            Check("access", Result.SKIPPED, "", "the route's truststores come first"),
        ),
    )


def _allowed(route: CompiledRoute, rule: str, truststore: str, matched: Check) -> Decision:
    checks = (matched, Check("access", Result.PASS, f"matched by {rule}", "deny, then allow, of the route"))
    return Decision(True, None, rule, route.config.enforce, truststore, checks)


def _refused(
    route: CompiledRoute, reason: Reason, rule: str, truststore: str, matched: Check, fix: str, seen: str, asked: str
) -> Decision:
    access = Check("access", Result.FAIL, seen, asked, fix)
    enforced = route.config.enforce
    return Decision(not enforced, reason, rule, enforced, truststore, (matched, access))


def _no_entry(entries: int, route: str) -> str:
    if entries == 0:
        return f"route {route} allows nobody (allow: [])"
    if entries == 1:
        return f"the one allow entry of route {route} does not match"
    return f"none of the {entries} allow entries of route {route} matches"


_SHOWN = 4
"""Names quoted as evidence: certificates may carry thousands."""


def _presented(client: Client) -> str:
    names = [f"{kind}:{text}" for kind, text in client.sans[:_SHOWN]]
    more = len(client.sans) - len(names)
    return "; ".join([client.subject, *names] + ([f"and {more} more"] if more > 0 else []))


def _one_is_enough(allow: RuleList) -> str:
    entries = [f"allow[{number}] {{{matcher.text}}}" for number, matcher in enumerate(allow.matchers[:_SHOWN])]
    more = [f"{len(allow) - _SHOWN} more"] if len(allow) > _SHOWN else []
    return "one allow entry is enough" + (f" of {', '.join([*entries, *more])}" if entries else "")


def _such_as(client: Client) -> str:
    """An entry to copy: the most telling of the names, none that a matcher would take for a pattern."""
    names = (("uri", client.uris), ("dns", client.dns), ("email", client.emails), ("common_name", client.common_names))
    for field, values in names:
        for value in values[:1]:
            if "*" not in value:
                return f", such as {{{field}: {value}}}"
    return ""


def _truststore_rule(route: CompiledRoute) -> str:
    return f"truststores [{', '.join(route.truststores)}]"
