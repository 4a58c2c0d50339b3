"""The four checks of the server's own certificate: chain, validity, hostname, revocation. Pure.

By the code that judges the servers of upstreams, with the many checks on a path told as one: `chain`.
"""

from collections.abc import Sequence
from datetime import datetime

from mtlsproxy.verdict.judge import judge
from mtlsproxy.verdict.trust import Trust
from mtlsproxy.x509.certificate import Certificate, MalformedCertificate, parse_certificate
from mtlsproxy.x509.evidence import CHECK_NAMES, Check, Result
from mtlsproxy.x509.hostname import InvalidServerName, check_server_name

NAMES = ("chain", "validity", "hostname", "revocation")
"""Interfaces.md's, in its order."""

_OF_THE_PATH = [name for name in CHECK_NAMES[: CHECK_NAMES.index("revocation")] if name != "validity"]
_CHAIN_RULE = "a path to a trust anchor (RFC 5280 §6.1)"
_REVOCATION_RULE = "no certificate below the trust anchor is revoked (RFC 5280 §6.3)"
_NOT_ASKED = "nobody was asked: name CRLs with --crl, or let --fetch ask those whom the certificates name"


def check_server(presented: Sequence[bytes], name: str, trust: Trust | None, at: datetime) -> tuple[Check, ...]:
    """Judge a server's DER certificates, leaf first, at an aware time; NAMES says which checks, in which order.

    name: what the server was asked for as. trust: whom to trust, None where nobody said. Never raises for what it
    meets.
    """
    try:
        chain = [parse_certificate(der) for der in presented]
    except MalformedCertificate as error:
        return _unreadable(error.detail)
    if not chain:
        return _unreadable("the server presented no certificate that could be read")
    hostname = _hostname(chain[0], name)
    if trust is None:
        no_anchor = Check(
            "chain", Result.SKIPPED, "no trust anchor is known: name the server's CAs with --ca", _CHAIN_RULE
        )
        revocation = Check("revocation", Result.SKIPPED, "judged for verified chains only: give --ca", _REVOCATION_RULE)
        return no_anchor, _validity(chain, at), hostname, revocation
    judged = {check.name: check for check in judge(presented, (trust,), at).checks}
    revocation = judged["revocation"]
    if trust.revocation.mode == "off" and revocation.rule.startswith("none"):
        revocation = Check("revocation", Result.SKIPPED, _NOT_ASKED, _REVOCATION_RULE)
    elif revocation.result is Result.SKIPPED:
        revocation = Check("revocation", Result.SKIPPED, revocation.seen or revocation.rule, _REVOCATION_RULE)
    return _chain(judged), judged["validity"], hostname, revocation


def _chain(judged: dict[str, Check]) -> Check:
    """The first that fails of the checks on the path, by its own name where it is another's."""
    failed = next((judged[name] for name in _OF_THE_PATH if judged[name].result is Result.FAIL), None)
    if failed is None:
        return judged["chain"]
    seen = failed.seen if failed.name == "chain" else f"{failed.name}: {failed.seen}"
    return Check("chain", Result.FAIL, seen, failed.rule, failed.fix)


def _validity(chain: Sequence[Certificate], at: datetime) -> Check:
    """Of all that was sent, where no path is known."""
    rule = "every certificate that was sent is valid now (RFC 5280 §4.1.2.5)"
    for certificate in chain:
        whose = certificate.subject or "(empty subject)"
        if at > certificate.not_after:
            return Check("validity", Result.FAIL, f"{whose} expired on {_day(certificate.not_after)}", rule, "renew it")
        if at < certificate.not_before:
            seen = f"{whose} is not valid before {_day(certificate.not_before)}"
            return Check("validity", Result.FAIL, seen, rule, "wait, or look at the clocks")
    first = min(certificate.not_after for certificate in chain)
    return Check("validity", Result.PASS, f"until {_day(first)}", rule)


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _hostname(leaf: Certificate, name: str) -> Check:
    try:
        return check_server_name(leaf, name)
    except InvalidServerName as error:
        fix = "connect under a name that a certificate can have, or say it with --server-name"
        return Check("hostname", Result.FAIL, str(error), f"a subjectAltName for {name} (RFC 9525 §6)", fix)


def _unreadable(detail: str) -> tuple[Check, ...]:
    fix = "have the server present its certificate, issued by a CA that follows RFC 5280"
    chain = Check("chain", Result.FAIL, detail, _CHAIN_RULE, fix)
    return chain, *(Check(name, Result.SKIPPED, detail, "judged for readable certificates only") for name in NAMES[1:])
