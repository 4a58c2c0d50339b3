"""What the routes of a configuration say to a client that is known already: the router and the decision of requests."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address

from mtlsproxy.access.decide import CompiledRoute, Decision, compile_routes, decide
from mtlsproxy.access.router import NoMatch, Router
from mtlsproxy.config.model import Config, Listener
from mtlsproxy.identity.client import Client
from mtlsproxy.reasons import Reason
from mtlsproxy.tls.names import covers
from mtlsproxy.verdict.trust import DenyList
from mtlsproxy.x509.certificate import Certificate
from mtlsproxy.x509.evidence import Check, Result

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/@\[\]]*)(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class Request:
    """A question for the route that this request reaches.

    path: as it would be sent, without a query. host: a name or an address, without port and brackets; "" for none.
    """

    method: str
    path: bytes
    host: str


@dataclass(frozen=True, slots=True)
class Miss:
    """No route for a request, and why."""

    reason: Reason
    check: Check


@dataclass(frozen=True, slots=True)
class Answer:
    """reason: why not; with `enforced` False shadow mode lets it pass although. detail: one sentence."""

    listener: str
    route: str | None
    reason: Reason | None
    detail: str
    enforced: bool = True
    truststore: str | None = None
    """By which the route takes the client."""

    @property
    def allowed(self) -> bool:
        return self.reason is None or not self.enforced


class Policy:
    """Routes and deny lists of a configuration.

    served: the proxy's own certificates by listener, the default first; None: whether a Host is what they stand for is
    not asked. denies: by truststore.
    """

    def __init__(
        self,
        config: Config,
        served: Mapping[str, Sequence[Certificate]] | None,
        denies: Mapping[str, DenyList] | None = None,
    ) -> None:
        self.config = config
        self._served = served
        self._denies = denies or {}
        self._routers: dict[str, Router] = {}

    def find(self, asked: Request, listener: Listener) -> CompiledRoute | Miss:
        """In the order of the data path: the host first, then the route."""
        if self._served is not None and asked.host and not stands_for(self._served[listener.name], asked.host):
            return _misdirected(self._served[listener.name], asked.host, listener.name)
        found = self._router(listener).match(asked.host, asked.path, asked.method)
        return Miss(found.reason, found.check) if isinstance(found, NoMatch) else found.route

    def answer(
        self, client: Client, vouched: Sequence[str], asked: Request, listener: Listener, at: datetime
    ) -> Answer:
        """To a client that these truststores have verified."""
        vouching = [name for name in listener.client_auth.truststores if name in vouched]
        if (shut_out := self._shut_out(client, vouching, vouched, listener, at)) is not None:
            return shut_out
        found = self.find(asked, listener)
        if isinstance(found, Miss):
            return Answer(listener.name, None, found.reason, found.check.seen)
        return _answer(listener.name, found.name, decide(found, client, vouching))

    def answer_route(self, client: Client, vouched: Sequence[str], name: str, at: datetime) -> Answer:
        """As `answer`, of a route on whatever listener the client may use it; by its name, whatever it matches."""
        found = Answer("", None, Reason.NO_ROUTE, f"there is no route {name}")
        for listener in self.config.listeners:
            route = next((each for each in compile_routes(self.config, listener) if each.name == name), None)
            if route is not None:
                vouching = [each for each in listener.client_auth.truststores if each in vouched]
                found = self._shut_out(client, vouching, vouched, listener, at) or _answer(
                    listener.name, name, decide(route, client, vouching)
                )
            if found.allowed:
                break
        return found

    def _shut_out(
        self, client: Client, vouching: Sequence[str], vouched: Sequence[str], listener: Listener, at: datetime
    ) -> Answer | None:
        """Before any route is asked."""
        if not vouching:
            detail = f"listener {listener.name} takes no clients of {' or '.join(vouched) or 'any truststore'}"
            return Answer(listener.name, None, Reason.UNTRUSTED_ISSUER, detail)
        for name in vouching:
            denied = self._denies[name].check(client, at) if name in self._denies else None
            if denied is not None and denied.result is Result.FAIL:
                return Answer(listener.name, None, Reason.DENIED, f"truststore {name}: {denied.seen}")
        return None

    def _router(self, listener: Listener) -> Router:
        router = self._routers.get(listener.name)
        if router is None:
            router = self._routers[listener.name] = Router(compile_routes(self.config, listener), listener.name)
        return router


def _answer(listener: str, route: str, decision: Decision) -> Answer:
    failed = next((check.seen for check in decision.checks if check.result is Result.FAIL), decision.rule)
    return Answer(listener, route, decision.reason, failed, decision.enforced, decision.truststore)


def bare_host(host: str | None) -> str | None:
    """Lower-case, without port, brackets and root dot, as the data path compares it; None for what is no host."""
    found = _HOST.fullmatch(host or "")
    return None if found is None else found[1].strip("[]").removesuffix(".").lower()


def stands_for(served: Sequence[Certificate], host: str) -> bool:
    """As a client sees it that names the host in SNI, or, for an address, cannot (RFC 6066 §3)."""
    try:
        ip_address(host)
    except ValueError:
        return any(covers(leaf, host) for leaf in served)
    return covers(served[0], host)


def _misdirected(served: Sequence[Certificate], host: str, listener: str) -> Miss:
    subjects = " nor ".join(leaf.subject for leaf in served)
    seen = f"the certificate served on listener {listener} ({subjects}) is not {host}'s"
    rule = "Host is what the certificate served stands for (RFC 9110 §7.4)"
    fix = f"send another Host, or add a certificate for {host} to the listener"
    return Miss(Reason.MISDIRECTED, Check("route", Result.FAIL, seen, rule, fix))
