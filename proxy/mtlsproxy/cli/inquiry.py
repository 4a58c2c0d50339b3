"""What the data path would say to a client: the same judge, router and decision, asked without a connection."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from mtlsproxy.access.decide import CompiledRoute, Decision, compile_routes, decide
from mtlsproxy.cli.policy import Miss, Policy, Request
from mtlsproxy.config.model import Config, Listener
from mtlsproxy.identity.render import UnrenderableIdentity, render
from mtlsproxy.reasons import Reason
from mtlsproxy.runtime.offline import Consulted
from mtlsproxy.verdict.judge import Verdict, judge
from mtlsproxy.verdict.trust import Trust
from mtlsproxy.x509.certificate import Certificate, parse_certificate
from mtlsproxy.x509.evidence import Check, Result

_NOT_ASKED = "no route was asked for: --route, or --path with --method and --host"
_NOT_VERIFIED = "judged for verified clients only"


class NoSuchRoute(Exception):
    """The question is for a route that none of the listeners has."""

    def __init__(self, name: str, listeners: Sequence[Listener]) -> None:
        super().__init__(f"route {name} is not on listener {', '.join(listener.name for listener in listeners)}")
        self.name = name


@dataclass(frozen=True, slots=True)
class NamedRoute:
    """A question for the route of this name, whatever its hosts, paths and methods."""

    name: str


Asked = NamedRoute | Request | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """What became of the client.

    reason: why not; with `enforced` False shadow mode lets it pass although (as in the access log). detail: one
    sentence. checks: all of CHECK_NAMES, in their order. identity: the header lines that the upstream would get.
    listener, route: which were asked, where any were. consulted: what is known of revocation over the network; None
    where the truststore asks nobody there.
    """

    verdict: Verdict
    at: datetime
    reason: Reason | None
    detail: str
    checks: tuple[Check, ...]
    enforced: bool = True
    truststore: str | None = None
    listener: str | None = None
    route: str | None = None
    identity: bytes = b""
    consulted: Consulted | None = None

    @property
    def accepted(self) -> bool:
        return self.reason is None or not self.enforced


def explain_verification(presented: Sequence[bytes], trusts: Sequence[Trust], at: datetime) -> Explanation:
    """Without a route. presented: DER, leaf first."""
    verdict = judge(presented, trusts, at)
    rule = _NOT_ASKED if verdict.reason is None else _NOT_VERIFIED
    return _unrouted(verdict, at, rule, None, _revocation_to_come(verdict, presented, trusts))


def explain_request(
    presented: Sequence[bytes],
    config: Config,
    trusts: Mapping[str, Trust],
    asked: NamedRoute | Request,
    listeners: Sequence[Listener],
    served: Mapping[str, Sequence[Certificate]],
    at: datetime,
) -> Explanation:
    """On the first of `listeners` that has the route, with those of its truststores that are in `trusts`.

    served: the proxy's own certificates by listener, the default first. Raises NoSuchRoute.
    """
    listener, found = _find(config, asked, listeners, served)
    vouching = [trusts[name] for name in listener.client_auth.truststores if name in trusts]
    verdict = judge(presented, vouching, at)
    if verdict.reason is not None:
        to_come = _revocation_to_come(verdict, presented, vouching)
        return _unrouted(verdict, at, _NOT_VERIFIED, listener.name, to_come)
    if isinstance(found, Miss):
        checks = (*verdict.checks, found.check, _skipped("access", "there is no route to ask"))
        return Explanation(
            verdict, at, found.reason, found.check.seen, checks, truststore=verdict.truststore, listener=listener.name
        )
    return _decided(verdict, at, config, listener, found, asked)


def _unrouted(verdict: Verdict, at: datetime, rule: str, listener: str | None, to_come: str) -> Explanation:
    """to_come: what is said of revocation, where it has not been judged."""
    judged = (replace(c, seen=to_come) if to_come and c.name == "revocation" else c for c in verdict.checks)
    checks = (*judged, _skipped("route", rule), _skipped("access", rule))
    return Explanation(
        verdict, at, verdict.reason, verdict.detail, checks, truststore=verdict.truststore, listener=listener
    )


def _revocation_to_come(verdict: Verdict, presented: Sequence[bytes], trusts: Sequence[Trust]) -> str:
    """What revocation will need once the chain is complete, so that mending the one does not run into the other."""
    if verdict.reason is not Reason.UNTRUSTED_ISSUER:
        return ""
    trust = next(trust for trust in trusts if trust.name == verdict.truststore)
    if trust.revocation.mode == "off":
        return ""
    certificates = [parse_certificate(der) for der in presented]
    asked = certificates[:1] if trust.revocation.scope == "leaf" else certificates
    lists = dict.fromkeys(_list_needed(certificate, trust) for certificate in asked if not certificate.self_issued)
    if not lists:
        return ""
    return f"once the chain is complete, {trust.revocation.mode} asks for a fresh answer of {', '.join(lists)}"


def _list_needed(certificate: Certificate, trust: Trust) -> str:
    issuer = certificate.issuer or "(empty name)"
    if any(crl.issuer_der == certificate.issuer_der for crl in trust.crls.crls):
        return f"{issuer} (its CRL is here)"
    urls = (*certificate.crl_urls, *certificate.ocsp_urls)
    return f"{issuer} (no CRL of it is here{'; certificates name ' + ' and '.join(urls) if urls else ''})"


def _skipped(name: str, rule: str) -> Check:
    return Check(name, Result.SKIPPED, "", rule)


def _find(
    config: Config,
    asked: NamedRoute | Request,
    listeners: Sequence[Listener],
    served: Mapping[str, Sequence[Certificate]],
) -> tuple[Listener, CompiledRoute | Miss]:
    if isinstance(asked, NamedRoute):
        return _by_name(config, asked.name, listeners)
    policy = Policy(config, served)
    misses: list[tuple[Listener, Miss]] = []
    for listener in listeners:
        found = policy.find(asked, listener)
        if not isinstance(found, Miss):
            return listener, found
        misses.append((listener, found))
    return misses[0]


def _by_name(config: Config, name: str, listeners: Sequence[Listener]) -> tuple[Listener, CompiledRoute]:
    for listener in listeners:
        for route in compile_routes(config, listener):
            if route.name == name:
                return listener, route
    raise NoSuchRoute(name, listeners)


def _decided(
    verdict: Verdict,
    at: datetime,
    config: Config,
    listener: Listener,
    route: CompiledRoute,
    asked: NamedRoute | Request,
) -> Explanation:
    assert verdict.client is not None
    decision = decide(route, verdict.client, verdict.truststores)
    assert decision.truststore is not None  # someone vouched
    vouch = verdict.vouch(decision.truststore)
    decision = replace(decision, checks=(_reached(decision.checks[0], route, asked), *decision.checks[1:]))
    reason, enforced, access, identity = decision.reason, decision.enforced, decision.checks, b""
    if decision.allowed:
        try:
            identity = render(config.identities[route.config.identity], verdict.client, vouch.chain, vouch.truststore)
        except UnrenderableIdentity as error:
            reason, enforced, access = Reason.MALFORMED_CERTIFICATE, True, _unrenderable(decision, error)
    return Explanation(
        verdict,
        at,
        reason,
        _first_failure(access),
        (*vouch.checks, *access),
        enforced,
        vouch.truststore,
        listener.name,
        route.name,
        identity,
    )


def _reached(check: Check, route: CompiledRoute, asked: NamedRoute | Request) -> Check:
    """Also why it is this route that was asked."""
    if isinstance(asked, NamedRoute):
        return check
    config = route.config
    limits = (("hosts", config.hosts), ("paths", config.paths), ("methods", config.methods))
    said = ", ".join(f"{key} [{', '.join(values)}]" for key, values in limits if values is not None)
    rule = f"the first route that matches, by {said or 'any host, path and method'}; {check.rule}"
    return replace(check, rule=rule)


def _unrenderable(decision: Decision, error: UnrenderableIdentity) -> tuple[Check, ...]:
    rule, fix = "its names fit into a header", "have the certificate issued again without such characters"
    return (decision.checks[0], Check("access", Result.FAIL, error.detail, rule, fix))


def _first_failure(checks: Iterable[Check]) -> str:
    return next((check.seen for check in checks if check.result is Result.FAIL), "")
