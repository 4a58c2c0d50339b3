"""The `chain` check: does the path reach a trust anchor through certificates that may stand where they stand."""

from mtlsproxy.reasons import Reason
from mtlsproxy.x509.certificate import Certificate
from mtlsproxy.x509.path import Finding, Link, Path, failed, passed
from mtlsproxy.x509.policy import Policy, Truststore

NAME = "chain"
_V3 = 3


def check_chain(path: Path, truststore: Truststore) -> Finding:
    """RFC 5280 §6.1.3 (a)(4), §6.1.4 (a), (k)-(o), and the truststore's max_chain_depth."""
    policy = truststore.policy
    return (
        _reaches_anchor(path, truststore)
        or _well_formed(path)
        or _issued_by_cas(path)
        or _path_lengths(path)
        or _depth(path, policy)
        or passed(NAME, _drawn(path), f"a path to a trust anchor of truststore {truststore.name} (RFC 5280 §6.1)")
    )


def _drawn(path: Path) -> str:
    return " ← ".join(c.subject or "(empty subject)" for c in path.certificates)


def _reaches_anchor(path: Path, truststore: Truststore) -> Finding | None:
    rule = f"a path to a trust anchor of truststore {truststore.name} (RFC 5280 §6.1)"
    if Link.OTHER_KEY in path.links:
        index = path.links.index(Link.OTHER_KEY)
        issuer = path.certificates[index].issuer
        seen = f"{path.role(index)} names {issuer} as its issuer, but another CA of that name signed it"
        return failed(NAME, Reason.UNTRUSTED_ISSUER, seen, rule, _add_ca(issuer, truststore))
    if path.anchored:
        return None
    if path.gave_up:
        seen = f"no path was found among the many certificates that were sent with {path.leaf.subject or 'the leaf'}"
        fix = "send the leaf and the CA certificates that lead to the trust anchor, and no others"
        return failed(NAME, Reason.UNTRUSTED_ISSUER, seen, rule, fix)
    if path.cut:
        return _too_long(len(path.certificates) - 1, truststore.policy, "without a trust anchor in sight")
    return failed(NAME, Reason.UNTRUSTED_ISSUER, *_stops_short(path, truststore, rule))


def _stops_short(path: Path, truststore: Truststore, rule: str) -> tuple[str, str, str]:
    """What is seen, the rule and the mend, of a path whose end no trust anchor issued."""
    tip = path.certificates[-1]
    whose = path.role(len(path.certificates) - 1)
    if tip.self_issued:
        seen = f"{whose} is self-signed and no trust anchor of truststore {truststore.name}"
        if len(path.certificates) == 1:
            seen = f"the leaf {tip.subject} is self-signed and no CA of truststore {truststore.name} issued it"
        return (
            seen,
            rule,
            f"no CA of this chain is trusted here; {_trusted(truststore)}; {_add_ca(tip.issuer, truststore)}",
        )
    issuer = tip.issuer or "(empty name)"
    seen = f"the issuer of {whose}, {issuer}, was not sent and is no trust anchor of truststore {truststore.name}"
    fix = f"send the certificate of {issuer} after the leaf, or list it under intermediates; "
    return seen, rule, f"{fix}{_trusted(truststore)}; {_add_ca(issuer, truststore)}"


_SHOWN = 5
"""Trust anchors named in a fix."""


def _trusted(truststore: Truststore) -> str:
    names = [anchor.subject or "(empty subject)" for anchor in truststore.anchors]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"trusted are: {'; '.join(names[:_SHOWN])}{more}"


def _add_ca(issuer: str, truststore: Truststore) -> str:
    return (
        f"if {issuer} is to be trusted, add its certificate to trust_anchors of truststore {truststore.name}; "
        "if not, get a certificate from a CA that is"
    )


def _well_formed(path: Path) -> Finding | None:
    """What parses but cannot be relied upon: RFC 5280 §4.1.2.1, §4.2, §4.1.2.4, §4.1.2.6, §4.2.1.10."""
    for index, certificate in enumerate(path.certificates):
        problem = _flaw(certificate, leaf=index == 0)
        if problem is not None:
            seen, rule = problem
            fix = "have it issued anew by a CA that follows RFC 5280"
            return failed(NAME, Reason.MALFORMED_CERTIFICATE, f"{path.role(index)} {seen}", rule, fix)
    return None


def _flaw(certificate: Certificate, *, leaf: bool) -> tuple[str, str] | None:
    if certificate.version != _V3:
        return f"is an X.509 version {certificate.version} certificate", "version 3 (RFC 5280 §4.1.2.1)"
    if certificate.unhandled_critical:
        oids = ", ".join(certificate.unhandled_critical)
        return f"has a critical extension that is not processed: {oids}", "none (RFC 5280 §4.2)"
    if not certificate.x509.issuer.rdns:
        return "has an empty issuer", "CAs have distinguished names (RFC 5280 §4.1.2.4, §4.1.2.6)"
    if leaf and certificate.name_constraints is not None and not certificate.is_ca:
        return "carries nameConstraints", "they are for CA certificates (RFC 5280 §4.2.1.10)"
    return None


def _issued_by_cas(path: Path) -> Finding | None:
    """RFC 5280 §6.1.4 (k) and (n): cA asserted, and keyCertSign where there is a key usage at all."""
    rule = "every issuer has basicConstraints cA and, where it has a key usage, keyCertSign (RFC 5280 §6.1.4)"
    if path.anchored and len(path.certificates) == 1 and not path.leaf.is_ca:
        seen = "the leaf is itself listed as a trust anchor and is no CA"
        return failed(
            NAME, Reason.NOT_A_CA, seen, rule, "list the CA that issues clients; a client cannot vouch for itself"
        )
    for index, issuer in enumerate(path.issuers, 1):
        if not issuer.is_ca:
            lacks = "has no basicConstraints" if issuer.is_ca is None else "says cA=FALSE"
        elif issuer.key_usage is not None and "keyCertSign" not in issuer.key_usage:
            lacks = "has a key usage without keyCertSign"
        else:
            continue
        fix = "have the certificate issued by a CA; this issuer may not sign certificates"
        return failed(NAME, Reason.NOT_A_CA, f"{path.role(index)} {lacks}", rule, fix)
    return None


def _path_lengths(path: Path) -> Finding | None:
    """RFC 5280 §6.1.4 (l), (m): self-issued CAs and the leaf do not count; the trust anchor's limit holds too."""
    below = 0
    for index, issuer in enumerate(path.issuers, 1):
        limit = issuer.path_length
        if limit is not None and below > limit:
            seen = f"{path.role(index)} allows {limit} CA certificates below it, here are {below}"
            rule = "no more CA certificates than pathLenConstraint (RFC 5280 §4.2.1.9)"
            return failed(
                NAME, Reason.PATH_LENGTH, seen, rule, "leave out the extra CA, or have the upper one reissued"
            )
        below += not issuer.self_issued
    return None


def _depth(path: Path, policy: Policy) -> Finding | None:
    between = len(path.certificates) - 2
    return _too_long(between, policy, "to the trust anchor") if between > policy.max_chain_depth else None


def _too_long(between: int, policy: Policy, where: str) -> Finding:
    seen = f"{between} CA certificates {where}"
    rule = f"at most {policy.max_chain_depth} between leaf and trust anchor (max_chain_depth)"
    return failed(NAME, Reason.CHAIN_TOO_LONG, seen, rule, "use a shorter chain, or raise max_chain_depth")
