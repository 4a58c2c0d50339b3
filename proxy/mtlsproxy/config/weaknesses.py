"""Choices that are weaker than the default: listed at every start and by `check`, whose `--strict` refuses them."""

from collections.abc import Iterator

from mtlsproxy.config.base import Section
from mtlsproxy.config.document import Document, Path, printed
from mtlsproxy.config.errors import ConfigWarning
from mtlsproxy.config.model import Config, Listener, Revocation, Route, Truststore, Upstream


def warnings(config: Config, document: Document) -> list[ConfigWarning]:
    """Every weaker choice of `config`, in the file's order, at its position in `document`."""
    found = []
    for path, message in _weak(config):
        line, column = document.position(path)
        found.append(ConfigWarning(document.file, line, column, printed(path), message))
    return sorted(found)


def _weak(config: Config) -> Iterator[tuple[Path, str]]:
    for index, listener in enumerate(config.listeners):
        yield from _weak_listener(("listeners", index), listener)
    for name, truststore in config.truststores.items():
        yield from _weak_truststore(("truststores", name), truststore)
    for name, upstream in config.upstreams.items():
        yield from _weak_upstream(("upstreams", name, "tls"), upstream)
    for index, route in enumerate(config.routes):
        yield from _weak_route(("routes", index), route)
    yield from _unsafe(config, ())


def _weak_listener(path: Path, listener: Listener) -> Iterator[tuple[Path, str]]:
    if listener.proxy_protocol_from and listener.proxy_protocol == "off":
        yield (
            (*path, "proxy_protocol_from"),
            "is of no use with proxy_protocol off: no PROXY header is read, whoever sends it",
        )
    means = (
        ("proxy_protocol_from", listener.proxy_protocol_from, "who connects directly may claim any address"),
        ("trusted_proxies", listener.trusted_proxies, "any client may claim to have come from anywhere"),
    )
    for key, networks, words in means:
        for index, network in enumerate(networks):
            if network.prefixlen == 0:
                yield (*path, key, index), f"is everybody: {words}"


def _weak_truststore(path: Path, truststore: Truststore) -> Iterator[tuple[Path, str]]:
    if truststore.revocation is None:
        yield (*path, "revocation"), "is absent: revoked certificates are let in"
    else:
        yield from _weak_revocation((*path, "revocation"), truststore.revocation)
    if truststore.extended_key_usage.allow_absent:
        yield (*path, "extended_key_usage", "allow_absent"), "certificates that do not say what they are for are let in"


def _weak_revocation(
    path: Path, revocation: Revocation, whom: str = "revoked certificates are let in"
) -> Iterator[tuple[Path, str]]:
    if revocation.mode == "off":
        yield (*path, "mode"), f"is off: {whom}"
        return
    if revocation.mode == "soft_fail":
        yield (*path, "mode"), f"is soft_fail: without a usable answer {whom}"
    if not revocation.fetch.trust_anchors:
        yield from _unverifiable(path, revocation)


def _unverifiable(path: Path, revocation: Revocation) -> Iterator[tuple[Path, str]]:
    """https that nobody vouches for: it is never asked, and the mode decides about everybody who depends on it."""
    means = "is never asked: https needs the CA of its server in revocation.fetch.trust_anchors"
    for index, source in enumerate(revocation.crl.sources):
        if isinstance(source, str) and source.lower().startswith("https:"):
            yield (*path, "crl", "sources", index), means
    if revocation.ocsp.enabled and (revocation.ocsp.responder or "").lower().startswith("https:"):
        yield (*path, "ocsp", "responder"), means


def _weak_upstream(path: Path, upstream: Upstream) -> Iterator[tuple[Path, str]]:
    tls = upstream.tls
    if tls is None:
        return
    if not any(server.scheme == "https" for server in upstream.servers):
        yield path, "is of no use: no server has an https:// URL, and requests go there unencrypted"
    elif tls.revocation is None:
        yield (*path, "revocation"), "is absent: servers with revoked certificates are trusted"
    else:
        whom = "servers with revoked certificates are trusted"
        yield from _weak_revocation((*path, "revocation"), tls.revocation, whom)
    if tls.extended_key_usage.allow_absent:
        yield (
            (*path, "extended_key_usage", "allow_absent"),
            "servers whose certificates do not say what they are for are trusted",
        )


def _weak_route(path: Path, route: Route) -> Iterator[tuple[Path, str]]:
    if route.allow == "any":
        yield (*path, "allow"), f"is any: every client that the truststores verify may use route {route.name}"
    if not route.enforce:
        yield (*path, "enforce"), f"is false: what allow and deny refuse on route {route.name} is let pass"


def _unsafe(value: object, path: Path) -> Iterator[tuple[Path, str]]:
    """Keys called unsafe_… that are switched on, wherever the model has them."""
    if isinstance(value, Section):
        for key in type(value).model_fields:
            if key.startswith("unsafe_") and getattr(value, key):
                yield (*path, key), "switches a protection off"
            yield from _unsafe(getattr(value, key), (*path, key))
    elif isinstance(value, dict):
        for name, member in value.items():
            yield from _unsafe(member, (*path, name))
    elif isinstance(value, tuple):
        for index, member in enumerate(value):
            yield from _unsafe(member, (*path, index))
