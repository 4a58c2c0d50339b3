"""What a configuration amounts to: one inventory, as JSON and as a summary for people."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.text import Text
from rich.tree import Tree

from mtlsproxy.access.matcher import compile_match
from mtlsproxy.cli import report_sources
from mtlsproxy.cli.report import days_left, findings, in_days, line, moment, print_tree, text, tree
from mtlsproxy.config.errors import ConfigWarning
from mtlsproxy.config.model import Config, Listener, Match, Route, Upstream
from mtlsproxy.config.model import Truststore as TruststoreConfig
from mtlsproxy.revocation.crl import Crl
from mtlsproxy.runtime.material import Material
from mtlsproxy.runtime.offline import Consulted
from mtlsproxy.tls import native
from mtlsproxy.tls.credentials import Credential
from mtlsproxy.verdict.trust import Trust
from mtlsproxy.x509.certificate import Certificate
from mtlsproxy.x509.checks import eku_name

Inventory = dict[str, Any]


def inventory(
    material: Material, consulted: Mapping[str, Consulted], warnings: Iterable[ConfigWarning], at: datetime
) -> Inventory:
    """Everything that a start would work with, as of `at`. consulted: copies of CRL URLs, by truststore."""
    config = material.loaded.config
    return {
        "listeners": [_listener(listener, material.credentials[listener.name], at) for listener in config.listeners],
        "truststores": [
            _truststore(trust, consulted.get(name), config.truststores[name], at)
            for name, trust in material.trusts.items()
        ],
        "routes": [_route(route, config) for route in config.routes],
        "upstreams": [
            {
                "name": name,
                "servers": [server.url for server in upstream.servers],
                **_lending(upstream),
                "tls": _upstream_tls(material, name, at) if upstream.tls else None,
            }
            for name, upstream in config.upstreams.items()
        ],
        "admin": {"bind": str(config.admin.bind), "metrics_bind": _text_or_none(config.admin.metrics_bind)},
        "access_log": str(config.logging.access),
        "audit_log": _text_or_none(config.logging.audit),
        "workers": config.workers,
        "user": config.user,
        "native_services_missing": native.unavailable_because(),
        "warnings": findings(warnings),
    }


def _text_or_none(value: object | None) -> str | None:
    return None if value is None else str(value)


def _listener(listener: Listener, credentials: Iterable[Credential], at: datetime) -> Inventory:
    return {
        "name": listener.name,
        "bind": str(listener.bind),
        "minimum_version": listener.tls.minimum_version,
        "protocols": list(listener.protocols),
        "truststores": list(listener.client_auth.truststores),
        "missing_certificate": listener.client_auth.missing_certificate,
        "proxy_protocol": listener.proxy_protocol,
        "proxy_protocol_from": [str(network) for network in listener.proxy_protocol_from],
        "trusted_proxies": [str(network) for network in listener.trusted_proxies],
        "certificates": [
            {
                **_certificate(credential.leaf, at),
                "names": [name for _, name in credential.leaf.sans.ordered],
                "file": str(credential.certificate_file),
            }
            for credential in credentials
        ],
    }


def _certificate(certificate: Certificate, at: datetime) -> Inventory:
    return {
        "subject": certificate.subject,
        "key": certificate.key_name,
        "fingerprint_sha256": certificate.fingerprint_sha256,
        "not_after": moment(certificate.not_after),
        "days_left": days_left(certificate.not_after, at),
    }


def _truststore(trust: Trust, consulted: Consulted | None, config: TruststoreConfig, at: datetime) -> Inventory:
    policy, ocsp = trust.truststore.policy, trust.revocation.ocsp
    points = config.revocation is not None and config.revocation.crl.distribution_points
    pending = {crl for group in trust.crls.pending.values() for crl in group}
    return {
        "name": trust.name,
        "trust_anchors": [_certificate(anchor, at) for anchor in trust.truststore.anchors],
        "intermediates": [_certificate(ca, at) for ca in trust.truststore.intermediates],
        "extended_key_usage": [eku_name(oid) for oid in policy.require_eku],
        "spiffe_trust_domain": policy.spiffe_trust_domain,
        "revocation": {
            "mode": trust.revocation.mode,
            "scope": trust.revocation.scope,
            "distribution_points": points,
            "ocsp": {"responder": ocsp.responder} if ocsp.enabled else None,
        },
        "crls": [_crl(crl, at, pending=crl in pending) for crl in trust.crls.crls],
        "crl_urls": [report_sources.list_as_json(found) for found in consulted.lists] if consulted else [],
        "deny": len(config.deny),
    }


def _crl(crl: Crl, at: datetime, *, pending: bool) -> Inventory:
    """pending: no configured certificate has the key that signed it; it waits for a chain that brings one."""
    return {
        "issuer": crl.issuer,
        "number": crl.number,
        "this_update": moment(crl.this_update),
        "next_update": None if crl.next_update is None else moment(crl.next_update),
        "days_left": None if crl.next_update is None else days_left(crl.next_update, at),
        "entries": crl.entries,
        "pending": pending,
        "source": crl.source,
    }


def _route(route: Route, config: Config) -> Inventory:
    return {
        "name": route.name,
        "listeners": list(route.listeners or (listener.name for listener in config.listeners)),
        "hosts": None if route.hosts is None else list(route.hosts),
        "paths": None if route.paths is None else list(route.paths),
        "methods": None if route.methods is None else list(route.methods),
        "truststores": None if route.truststores is None else list(route.truststores),
        "allow": "any" if route.allow == "any" else _entries(route.allow),
        "deny": _entries(route.deny),
        "enforce": route.enforce,
        "upstream": route.upstream,
        "strip_prefix": route.strip_prefix,
    }


def _lending(upstream: Upstream) -> Inventory:
    """Which server is next, and which is left out. Times in seconds."""
    check, breaker = upstream.health_check, upstream.circuit_breaker
    return {
        "weights": [server.weight for server in upstream.servers],
        "balance": upstream.balance,
        "host": upstream.host,
        "health_check": None if check.path is None else {"path": check.path, "interval": check.interval},
        "circuit_breaker": {"failures": breaker.failures, "open_for": breaker.open_for},
    }


def _upstream_tls(material: Material, name: str, at: datetime) -> Inventory:
    trust, own = material.servers[name], material.client_credentials.get(name)
    tls = material.loaded.config.upstreams[name].tls
    assert tls is not None
    return {
        "trust_anchors": [_certificate(anchor, at) for anchor in trust.truststore.anchors],
        "server_name": tls.server_name,
        "certificate": None if own is None else {**_certificate(own.leaf, at), "file": str(own.certificate_file)},
        "revocation": {"mode": trust.revocation.mode, "scope": trust.revocation.scope},
        "crls": [_crl(crl, at, pending=False) for crl in trust.crls.crls],
    }


def _entries(matches: Iterable[Match]) -> list[str]:
    return [compile_match(entry).text for entry in matches]


# -- for people ----------------------------------------------------------------------------------------------------


def print_inventory(file: Path, found: Inventory, consulted: Mapping[str, Consulted], at: datetime) -> None:
    warnings = found["warnings"]
    number = f"{len(warnings)} warning{'s' if len(warnings) != 1 else ''}" if warnings else "no warnings"
    copies = {name: list(report_sources.show(one, at)) for name, one in consulted.items()}
    print_tree(
        line((f"{file}: no errors, {number}", "bold yellow" if warnings else "bold green")),
        tree(line(("listeners", "bold")), map(_show_listener, found["listeners"])),
        tree(
            line(("truststores", "bold")),
            (_show_truststore(t, copies.get(t["name"], [])) for t in found["truststores"]),
        ),
        tree(line(("routes", "bold"), "(the first that matches decides)"), map(_show_route, found["routes"])),
        tree(line(("upstreams", "bold")), map(_show_upstream, found["upstreams"])),
        line(("admin", "bold"), *_show_admin(found["admin"])),
        line(("access log", "bold"), found["access_log"]),
        *([line(("audit log", "bold"), found["audit_log"])] if found["audit_log"] else []),
        *([line(("workers", "bold"), str(found["workers"]))] if found["workers"] != 1 else []),
        *([line(("user", "bold"), found["user"])] if found["user"] else []),
        line(("native services", "bold"), found["native_services_missing"] or "all there"),
        *_show_warnings(warnings),
    )


def _show_listener(listener: Mapping[str, Any]) -> Tree:
    without = listener["missing_certificate"]
    return tree(
        line((listener["name"], "cyan"), listener["bind"], f"{listener['minimum_version']} or later"),
        [
            text(f"clients of {', '.join(listener['truststores'])}; without a certificate: {without}"),
            *_show_proxies(listener),
            *(
                line(
                    "certificate", c["subject"], f"for {', '.join(c['names'])},", *_ends(c["not_after"], c["days_left"])
                )
                for c in listener["certificates"]
            ),
        ],
    )


def _show_proxies(listener: Mapping[str, Any]) -> list[Text]:
    version, trusted = listener["proxy_protocol"], listener["trusted_proxies"]
    senders = ", ".join(listener["proxy_protocol_from"])
    return [
        *([text(f"PROXY {version} header from {senders}")] if version != "off" else []),
        *([text(f"X-Forwarded-* kept of {', '.join(trusted)}")] if trusted else []),
    ]


_SOON_DAYS = 30
"""Certificates are renewed weeks ahead. CRLs are not: theirs is one day."""


def _ends(when: str, days: int, soon: int = _SOON_DAYS) -> tuple[str, tuple[str, str]]:
    style = "red" if days < 0 else "yellow" if days < soon else "green"
    return f"until {when}", (f"({in_days(days)})", style)


def _show_truststore(truststore: Mapping[str, Any], copies: Iterable[Text]) -> Tree:
    """copies: lines on its CRL URLs."""
    revocation = truststore["revocation"]
    domain, ocsp = truststore["spiffe_trust_domain"], revocation["ocsp"]
    children: list[Text] = [
        *(_show_ca("trust anchor", anchor) for anchor in truststore["trust_anchors"]),
        *(_show_ca("intermediate", ca) for ca in truststore["intermediates"]),
        text(f"leaves with extended key usage {', '.join(truststore['extended_key_usage'])}"),
        *([text(f"leaves of SPIFFE trust domain {domain}")] if domain else []),
        text(f"revocation {_mode(revocation)}"),
        *([text("CRLs where certificates say that they are")] if revocation["distribution_points"] else []),
        *([text(f"OCSP of {ocsp['responder'] or 'the responders that certificates name'}")] if ocsp else []),
        *map(_show_crl, truststore["crls"]),
        *copies,
        *([text(f"deny: {truststore['deny']} entries")] if truststore["deny"] else []),
    ]
    return tree(line((truststore["name"], "cyan")), children)


def _mode(revocation: Mapping[str, Any]) -> str:
    return revocation["mode"] if revocation["mode"] == "off" else f"{revocation['mode']}, {revocation['scope']}"


def _show_ca(kind: str, ca: Mapping[str, Any]) -> Text:
    return line(kind, f"{ca['subject'] or '(empty subject)'},", *_ends(ca["not_after"], ca["days_left"]))


def _show_crl(crl: Mapping[str, Any]) -> Text:
    number = "without number" if crl["number"] is None else f"number {crl['number']}"
    waits = ("pending: counts for chains that bring its issuer's key", "yellow") if crl["pending"] else ""
    ends = _ends(crl["next_update"], crl["days_left"], 1) if crl["next_update"] else ("without nextUpdate",)
    what = f"CRL {number} of {crl['issuer']}, {crl['entries']} revoked,"
    return line(what, *ends, waits, (crl["source"], "dim"))


def _show_route(route: Mapping[str, Any]) -> Tree:
    allow = route["allow"]
    who: list[Text] = [text("allow: any verified client", "yellow")] if allow == "any" else []
    who += [line("allow", entry) for entry in allow] if isinstance(allow, list) else []
    who += [text("allow: nobody")] if allow == [] else []
    who += [line(("deny", "red"), entry) for entry in route["deny"]]
    who += [text(f"truststores {', '.join(route['truststores'])}")] if route["truststores"] else []
    who += [] if route["enforce"] else [text("shadow mode: whom it refuses is logged and let pass", "yellow")]
    label = line(
        (route["name"], "cyan"),
        f"on {', '.join(route['listeners'])}:",
        ", ".join(route["methods"] or ("any method",)),
        ", ".join(route["hosts"] or ("any host",)),
        ", ".join(route["paths"] or ("any path",)),
        f"to {route['upstream']}",
        "without the path's prefix" if route["strip_prefix"] else "",
    )
    return tree(label, who)


def _show_upstream(upstream: Mapping[str, Any]) -> Tree:
    urls, weights = upstream["servers"], upstream["weights"]
    check, breaker = upstream["health_check"], upstream["circuit_breaker"]
    left_out = f"left alone for {breaker['open_for']:g}s after {breaker['failures']} failures in a row"
    checked = f"; checked with GET {check['path']} every {check['interval']:g}s" if check else "; no health check"
    return tree(
        line((upstream["name"], "cyan"), upstream["balance"] if len(urls) > 1 else ""),
        [
            *(
                line(url, f"weight {weight}" if len(set(weights)) > 1 else "")
                for url, weight in zip(urls, weights, strict=True)
            ),
            text(left_out + checked),
            *_show_upstream_tls(upstream["tls"]),
        ],
    )


def _show_upstream_tls(tls: Mapping[str, Any] | None) -> list[Text]:
    if tls is None:
        return []
    own = tls["certificate"]
    return [
        *(_show_ca("servers of", anchor) for anchor in tls["trust_anchors"]),
        *([text(f"their certificates are for {tls['server_name']}")] if tls["server_name"] else []),
        *([line("shows them", f"{own['subject']},", *_ends(own["not_after"], own["days_left"]))] if own else []),
        text(f"their revocation {_mode(tls['revocation'])}"),
        *map(_show_crl, tls["crls"]),
    ]


def _show_admin(admin: Mapping[str, Any]) -> list[str]:
    metrics = admin["metrics_bind"]
    return [admin["bind"], f"metrics and health on {metrics}" if metrics else ""]


def _show_warnings(warnings: Iterable[Mapping[str, Any]]) -> list[Text]:
    """At the left margin and each on one line, so that an editor can follow them."""
    return [
        line(("warning:", "yellow"), str(ConfigWarning(w["file"], w["line"], w["column"], w["path"], w["message"])))
        for w in warnings
    ]
