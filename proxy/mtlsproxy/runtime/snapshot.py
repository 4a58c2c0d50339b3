"""A configuration with its material, ready to serve: contexts, routers, judges. Made whole or not at all."""

from collections.abc import Mapping
from dataclasses import dataclass

from mtlsproxy.access.decide import CompiledRoute, compile_route
from mtlsproxy.access.router import Router
from mtlsproxy.config.errors import ConfigErrors
from mtlsproxy.config.model import Config, Listener
from mtlsproxy.http1.fields import request_rules
from mtlsproxy.http1.service import Rules, Target
from mtlsproxy.identity.strip import StripRules
from mtlsproxy.runtime.judging import Judge
from mtlsproxy.runtime.material import Material
from mtlsproxy.telemetry.metrics import Metrics
from mtlsproxy.tls.contexts import ContextError, Contexts, VerifySettings, build_contexts
from mtlsproxy.upstream.pool import Upstream
from mtlsproxy.verdict.trust import Trust
from mtlsproxy.x509.policy import CLIENT_AUTH


@dataclass(frozen=True, slots=True)
class ListenerSnapshot:
    """What a listener serves by."""

    contexts: Contexts
    rules: Rules


@dataclass(frozen=True, slots=True)
class Snapshot:
    """generation grows by one with each; listeners by name."""

    generation: int
    material: Material
    listeners: Mapping[str, ListenerSnapshot]


def build_listener_contexts(material: Material) -> dict[str, Contexts]:
    """The TLS contexts of every listener. Raises ConfigErrors."""
    contexts: dict[str, Contexts] = {}
    errors = []
    for number, listener in enumerate(material.loaded.config.listeners):
        try:
            contexts[listener.name] = build_contexts(
                material.credentials[listener.name], _verify_settings(listener, _trusts(listener, material))
            )
        except ContextError as error:
            errors.append(material.loaded.error(f"listeners[{number}].{error.key}", error.detail))
    if errors:
        raise ConfigErrors(errors)
    return contexts


def build_snapshot(
    material: Material, generation: int, upstreams: Mapping[str, Upstream], metrics: Metrics
) -> Snapshot:
    """Raises ConfigErrors."""
    config = material.loaded.config
    contexts = build_listener_contexts(material)
    strip = StripRules(config.identities.values())
    listeners = {}
    for listener in config.listeners:
        targets = _targets(listener, config, upstreams, metrics)
        rules = Rules(
            generation=generation,
            router=Router(targets, listener.name),
            targets=targets,
            judge=Judge(_trusts(listener, material)),
            default_identity=config.identities["default"],
            fields=request_rules(strip.strips),
        )
        listeners[listener.name] = ListenerSnapshot(contexts[listener.name], rules)
    return Snapshot(generation, material, listeners)


def _trusts(listener: Listener, material: Material) -> tuple[Trust, ...]:
    return tuple(material.trusts[name] for name in listener.client_auth.truststores)


def _verify_settings(listener: Listener, trusts: tuple[Trust, ...]) -> VerifySettings:
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
    )


def _targets(
    listener: Listener, config: Config, upstreams: Mapping[str, Upstream], metrics: Metrics
) -> dict[CompiledRoute, Target]:
    targets: dict[CompiledRoute, Target] = {}
    for route in config.routes:
        if route.listeners is not None and listener.name not in route.listeners:
            continue
        compiled = compile_route(route, listener.client_auth.truststores)
        upstream = config.upstreams[route.upstream]
        targets[compiled] = Target(
            route=compiled,
            upstream=upstreams[route.upstream],
            identity=config.identities[route.identity],
            host_of_server=upstream.host == "server",
            response_timeout=route.timeouts.response,
            body_timeout=route.timeouts.response_body,
            retries=upstream.retries,
            duration=metrics.request_duration_seconds.histogram(route.name),
            upstream_duration=metrics.upstream_response_duration_seconds.histogram(route.upstream),
        )
    return targets
