"""How a Survey looks."""

from datetime import datetime

from rich.text import Text
from rich.tree import Tree

from mtlsproxy.cli import report_sources
from mtlsproxy.cli.report import days_left, in_days, line, moment, print_json, print_tree, text, tree
from mtlsproxy.cli.report_checks import check_tree
from mtlsproxy.cli.server_trust import Judged
from mtlsproxy.probe.conclude import Demand
from mtlsproxy.probe.messages import ca_name_text, names_an_issuer
from mtlsproxy.probe.survey import Survey, Target
from mtlsproxy.tls.credentials import Credential
from mtlsproxy.x509.certificate import Certificate, MalformedCertificate, parse_certificate, serial_hex

_DEMANDS = {Demand.REQUIRED: "bold green", Demand.REQUESTED: "bold yellow", Demand.NOT_REQUESTED: "bold red"}
_BY = {"handshake": "in the TLS handshake", "http": "in HTTP, after the handshake"}
_NAME_WIDTH = 11
_NOT_NAMED = "its issuer is none of the acceptable CAs: browsers, Java and others would not send it"


def print_survey(
    target: Target,
    found: Survey,
    judged: Judged,
    credential: Credential | None,
    at: datetime,
    output_format: str,
) -> None:
    """credential: what was presented, if anything was. at: aware UTC, when the server was asked."""
    named = credential is None or names_an_issuer(_names(found), credential.chain)
    if output_format == "json":
        print_json(_as_json(target, found, judged, named=named))
    else:
        print_tree(*_as_text(target, found, judged, credential, at, named=named))


def _names(found: Survey) -> tuple[bytes, ...]:
    """Of all requests of that connection: one that comes behind the HTTP request may name others."""
    return tuple(dict.fromkeys(name for request in found.talk.requests for name in request.ca_names))


def _as_json(target: Target, found: Survey, judged: Judged, *, named: bool) -> dict[str, object]:
    """The shape that interfaces.md fixes, and after it what else is known."""
    acceptance, answer = found.acceptance, found.talk.answer
    return {
        "client_certificate": found.finding.demand,
        "acceptable_ca_names": [ca_name_text(name) for name in _names(found)],
        "protocol": found.talk.protocol,
        "cipher": found.talk.cipher,
        "server_chain": [_certificate_json(der) for der in found.talk.chain],
        "checks": [
            {"name": c.name, "result": c.result, "seen": c.seen, "rule": c.rule, "fix": c.fix} for c in judged.checks
        ],
        "refused_by": found.finding.refused_by,
        "detail": found.finding.detail,
        "alert": found.talk.alert,
        "http_status": answer.status if answer else None,
        "versions": [
            {
                "protocol": version.protocol,
                "cipher": version.cipher,
                "client_certificate": version.finding.demand,
                "refused_by": version.finding.refused_by,
                "detail": version.finding.detail,
            }
            for version in found.versions
        ],
        "not_spoken": [{"protocol": protocol, "detail": detail} for protocol, detail in found.untold],
        "client_certificate_accepted": acceptance.accepted if acceptance else None,
        "client_certificate_detail": acceptance.detail if acceptance else None,
        "client_certificate_issuer_acceptable": named if acceptance else None,
        "sources": report_sources.as_json(judged.consulted) if judged.consulted else [],
        "server_name": target.server_name,
        "address": found.address,
        "port": target.port,
    }


def _certificate_json(der: bytes) -> dict[str, object]:
    try:
        certificate = parse_certificate(der)
    except MalformedCertificate as error:
        return {"malformed": error.detail}
    return {
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        "serial": serial_hex(certificate.serial),
        "not_before": moment(certificate.not_before),
        "not_after": moment(certificate.not_after),
        "names": [f"{kind}:{name}" for kind, name in certificate.sans.ordered],
        "key": certificate.key_name,
        "fingerprint_sha256": certificate.fingerprint_sha256,
    }


def _as_text(
    target: Target,
    found: Survey,
    judged: Judged,
    credential: Credential | None,
    at: datetime,
    *,
    named: bool,
) -> list[Tree | Text]:
    finding = found.finding
    by = f"{_BY[finding.refused_by]}:" if finding.refused_by else ""
    parts: list[Tree | Text] = [
        line((f"client certificate {finding.demand}", _DEMANDS[finding.demand]), by, finding.detail),
        _server(target, found),
    ]
    if finding.demand is not Demand.NOT_REQUESTED:
        parts.append(_acceptable(found))
    if found.acceptance is not None and credential is not None:
        parts.append(_accepted(found, credential, named=named))
    parts.append(tree(text("server chain, as it was sent"), (_certificate(der, at) for der in found.talk.chain)))
    if judged.consulted is not None and (shown := report_sources.show(judged.consulted, at)):
        parts.append(tree(text("revocation data over the network"), shown))
    parts.append(
        tree(text("checks of the server's certificate"), (check_tree(check, _NAME_WIDTH) for check in judged.checks))
    )
    return parts


def _server(target: Target, found: Survey) -> Tree:
    name = target.server_name
    called = f"as {name}" if name != found.address else ""
    label = line("server", (f"{found.address} port {target.port}", "bold"), called)
    children = [
        line(
            (version.protocol, "bold"),
            version.cipher or "",
            (f"{version.finding.demand}:", "dim"),
            version.finding.detail,
        )
        for version in found.versions
    ]
    children += [line((protocol, "dim"), (detail, "dim")) for protocol, detail in found.untold]
    return tree(label, children)


def _acceptable(found: Survey) -> Tree:
    names = _names(found)
    if not names:
        return tree(text("acceptable client CAs: it names none, so that clients cannot choose by them"))
    return tree(text(f"acceptable client CAs ({len(names)})"), (text(ca_name_text(name), "cyan") for name in names))


def _accepted(found: Survey, credential: Credential, *, named: bool) -> Tree:
    acceptance = found.acceptance
    assert acceptance is not None
    words, style = {
        True: ("accepted", "bold green"),
        False: ("refused", "bold red"),
        None: ("not told", "bold yellow"),
    }[acceptance.accepted]
    children = [line(("fix", "yellow"), acceptance.fix)] if acceptance.fix else []
    children += [] if named else [line(("note", "yellow"), _NOT_NAMED)]
    children += [line(("note", "yellow"), warning) for warning in credential.warnings]
    label = line(
        "certificate", (credential.leaf.subject or "(empty subject)", "bold"), (words, style), acceptance.detail
    )
    return tree(label, children)


def _certificate(der: bytes, at: datetime) -> Tree:
    try:
        certificate = parse_certificate(der)
    except MalformedCertificate as error:
        return tree(line(("a certificate that cannot be read:", "bold red"), error.detail))
    return tree(line((certificate.subject or "(empty subject)", "bold")), _facts(certificate, at))


def _facts(certificate: Certificate, at: datetime) -> list[Text]:
    names = ", ".join(f"{kind}:{name}" for kind, name in certificate.sans.ordered)
    ends = "expired" if at > certificate.not_after else "expires"
    return [
        line(("issued by", "dim"), certificate.issuer or "(empty name)"),
        *([line(("names", "dim"), names)] if names else []),
        line(("key", "dim"), certificate.key_name),
        line(
            ("valid", "dim"),
            f"{moment(certificate.not_before)} to {moment(certificate.not_after)},",
            f"{ends} {in_days(days_left(certificate.not_after, at))}",
        ),
        line(("sha256", "dim"), certificate.fingerprint_sha256),
    ]
