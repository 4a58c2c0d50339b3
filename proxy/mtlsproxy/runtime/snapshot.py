"""A configuration with its material, ready to serve: contexts, routers, judges. Made whole or not at all."""

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mtlsproxy.access.decide import CompiledRoute, compile_routes
from mtlsproxy.access.router import Router
from mtlsproxy.config.errors import ConfigErrors
from mtlsproxy.config.model import Config, Listener
from mtlsproxy.config.networks import Networks
from mtlsproxy.http1.fields import request_rules, trusted_request_rules
from mtlsproxy.http1.service import Rules, Target
from mtlsproxy.identity.strip import StripRules
from mtlsproxy.runtime.judging import Judge
from mtlsproxy.runtime.material import Material
from mtlsproxy.runtime.servers import make_client_context
from mtlsproxy.telemetry.metrics import Metrics
from mtlsproxy.tls.client_context import ClientContext
from mtlsproxy.tls.contexts import ContextError, Contexts, Resumption, VerifySettings, build_contexts
from mtlsproxy.tls.tickets import policy_hash
from mtlsproxy.upstream.pool import Upstream
from mtlsproxy.verdict.trust import Trust
from mtlsproxy.x509.policy import CLIENT_AUTH, Policy


@dataclass(frozen=True, slots=True)
class ListenerPlan:
    """What takes time to make of a listener, and touches nothing that runs: it can be made in a thread."""

    contexts: Contexts
    routes: tuple[CompiledRoute, ...]
    router: Router


@dataclass(frozen=True, slots=True)
class Plan:
    """Material made ready; listeners by name, and the contexts towards the servers of upstreams that have TLS."""

    material: Material
    listeners: Mapping[str, ListenerPlan]
    upstreams: Mapping[str, ClientContext]


@dataclass(frozen=True, slots=True)
class ListenerSnapshot:
    """What a listener serves by. judge: that of the rules."""

    contexts: Contexts
    rules: Rules
    judge: Judge


@dataclass(frozen=True, slots=True)
class Snapshot:
    """generation grows by one with each; listeners by name."""

    generation: int
    plan: Plan
    listeners: Mapping[str, ListenerSnapshot]

    @property
    def material(self) -> Material:
        return self.plan.material


def build_listener_contexts(material: Material, secret: bytes) -> dict[str, Contexts]:
    """The TLS contexts of every listener. secret: what session ticket keys derive from. Raises ConfigErrors."""
    contexts: dict[str, Contexts] = {}
    errors = []
    for number, listener in enumerate(material.loaded.config.listeners):
        try:
            settings = _verify_settings(listener, _trusts(listener, material), secret)
            contexts[listener.name] = build_contexts(material.credentials[listener.name], settings)
            contexts[listener.name].renew_ticket_keys(time.time())
        except ContextError as error:
            errors.append(material.loaded.error(f"listeners[{number}].{error.key}", error.detail))
    if errors:
        raise ConfigErrors(errors)
    return contexts


def build_upstream_contexts(material: Material) -> dict[str, ClientContext]:
    """By upstream, where it has TLS. Raises ConfigErrors."""
    contexts: dict[str, ClientContext] = {}
    errors = []
    for name, trust in material.servers.items():
        upstream = material.loaded.config.upstreams[name]
        try:
            contexts[name] = make_client_context(upstream, trust, material.client_credentials.get(name))
        except ContextError as error:
            errors.append(material.loaded.error(f"upstreams.{name}.tls.{error.key}", error.detail))
    if errors:
        raise ConfigErrors(errors)
    return contexts


def make_plan(material: Material, secret: bytes) -> Plan:
    """secret: see build_listener_contexts. Raises ConfigErrors."""
    contexts = build_listener_contexts(material, secret)
    listeners = {}
    for listener in material.loaded.config.listeners:
        routes = compile_routes(material.loaded.config, listener)
        listeners[listener.name] = ListenerPlan(contexts[listener.name], routes, Router(routes, listener.name))
    return Plan(material, listeners, build_upstream_contexts(material))


def make_snapshot(
    plan: Plan,
    generation: int,
    upstreams: Mapping[str, Upstream],
    metrics: Metrics,
    judges: Mapping[str, Judge] = MappingProxyType({}),
) -> Snapshot:
    """On the event loop: it hands out the cells that requests count in.

    judges: by listener, those whose acceptances count on, see Judge.
    """
    config = plan.material.loaded.config
    strip = StripRules(config.identities.values())
    listeners = {}
    for listener in config.listeners:
        planned = plan.listeners[listener.name]
        judge = Judge(_trusts(listener, plan.material), judges.get(listener.name))
        rules = Rules(
            generation=generation,
            router=planned.router,
            targets={route: _target(route, config, upstreams, metrics) for route in planned.routes},
            judge=judge,
            default_identity=config.identities["default"],
            fields=request_rules(strip.strips),
            trusted_fields=trusted_request_rules(strip.strips),
            trusted_proxies=Networks(listener.trusted_proxies),
        )
        listeners[listener.name] = ListenerSnapshot(planned.contexts, rules, judge)
    return Snapshot(generation, plan, listeners)


def _target(route: CompiledRoute, config: Config, upstreams: Mapping[str, Upstream], metrics: Metrics) -> Target:
    settings = config.upstreams[route.config.upstream]
    return Target(
        route=route,
        upstream=upstreams[route.config.upstream],
        identity=config.identities[route.config.identity],
        host_of_server=settings.host == "server",
        response_timeout=route.config.timeouts.response,
        body_timeout=route.config.timeouts.response_body,
        tunnel_idle=route.config.timeouts.tunnel_idle,
        retries=settings.retries,
        duration=metrics.request_duration_seconds.histogram(route.name),
        upstream_duration=metrics.upstream_response_duration_seconds.histogram(route.config.upstream),
    )


def _trusts(listener: Listener, material: Material) -> tuple[Trust, ...]:
    return tuple(material.trusts[name] for name in listener.client_auth.truststores)


def _verify_settings(listener: Listener, trusts: tuple[Trust, ...], secret: bytes) -> VerifySettings:
    stores = [trust.truststore for trust in trusts]
    return VerifySettings(
        certificate_required=listener.client_auth.missing_certificate == "handshake_failure",
        anchors=tuple(dict.fromkeys(anchor for store in stores for anchor in store.anchors)),
        intermediates=tuple(dict.fromkeys(ca for store in stores for ca in store.intermediates)),
        advertise_ca_names=listener.client_auth.advertise_ca_names,
        own_purpose_check=any(
            store.policy.allow_any_eku or CLIENT_AUTH not in store.policy.require_eku for store in stores
        ),
        minimum_version=listener.tls.minimum_version,
        ciphers=listener.tls.ciphers,
        protocols=tuple(listener.protocols),
        resumption=Resumption(secret, _policy(listener, trusts)) if listener.tls.session_resumption else None,
    )


def _policy(listener: Listener, trusts: tuple[Trust, ...]) -> bytes:
    """A hash over all that a handshake at this listener verifies: sessions of another one are of no use here."""
    parts = [repr((listener.name, listener.tls, listener.client_auth)).encode()]
    for trust in trusts:
        store = trust.truststore
        parts += [store.name.encode(), repr(_stable(store.policy)).encode()]
        parts += [certificate.der for certificate in (*store.anchors, *store.intermediates)]
    return policy_hash(*parts)


def _stable(policy: Policy) -> list[tuple[str, object]]:
    """The policy's values in a fixed order: sets have none, and workers must agree on the hash."""
    values = ((field.name, getattr(policy, field.name)) for field in dataclasses.fields(policy))
    return [(name, sorted(value) if isinstance(value, frozenset) else value) for name, value in values]
