"""X509-SVID rules for a leaf (SPIFFE X509-SVID §2, §4, §5.2; SPIFFE-ID §2)."""

import re

from mtlsproxy.reasons import Reason
from mtlsproxy.x509.certificate import Certificate
from mtlsproxy.x509.path import Finding, failed, passed, skipped

NAME = "spiffe"
_MAX_ID = 2048  # SPIFFE-ID §2.3
_MAX_TRUST_DOMAIN = 255  # SPIFFE-ID §2.1
_ID = re.compile(r"spiffe://([a-z0-9._-]+)((?:/[A-Za-z0-9._-]+)+)")
_SIGNING_USAGES = frozenset({"keyCertSign", "cRLSign"})


def check_spiffe(leaf: Certificate, trust_domain: str | None) -> Finding:
    """Skipped when the truststore names no trust domain. Reason not_a_svid."""
    rule = f"an X509-SVID of trust domain {trust_domain} (SPIFFE X509-SVID §4)"
    if trust_domain is None:
        return skipped(NAME, "not demanded", "spiffe_trust_domain is not set")
    problem = _problem(leaf, trust_domain)
    if problem is None:
        return passed(NAME, leaf.sans.uris[0], rule)
    fix = f"present the workload's X509-SVID of spiffe://{trust_domain}/…, as its SPIFFE agent issued it"
    return failed(NAME, Reason.NOT_A_SVID, problem, rule, fix)


def _problem(leaf: Certificate, trust_domain: str) -> str | None:
    uris = leaf.sans.uris
    if len(uris) != 1:
        return f"the leaf has {len(uris)} URI names; an SVID has exactly one"
    found = _ID.fullmatch(uris[0])
    if found is None or len(uris[0]) > _MAX_ID or len(found[1]) > _MAX_TRUST_DOMAIN or _dot_segments(found[2]):
        return f"{uris[0]!r} is no SPIFFE ID of a workload"
    if found[1] != trust_domain:
        return f"{uris[0]} belongs to the trust domain {found[1]}"
    if leaf.is_ca:
        return "the leaf is a CA certificate"
    if leaf.key_usage is None or "digitalSignature" not in leaf.key_usage:
        return "the leaf has no key usage digitalSignature, which an SVID must set"
    if _SIGNING_USAGES & leaf.key_usage:
        return "the leaf's key usage has keyCertSign or cRLSign, which an SVID must not"
    return None


def _dot_segments(path: str) -> bool:
    return bool({".", ".."} & set(path.split("/")))
