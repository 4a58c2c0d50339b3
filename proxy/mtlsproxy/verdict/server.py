"""Is this the server that was asked for? Chain, validity, name and revocation of what it presents (RFC 9525, RFC 5280).

Clients are asked who they are; of a server it is known who it has to be.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from mtlsproxy.reasons import Reason
from mtlsproxy.verdict.judge import Verdict, Wanted, judge
from mtlsproxy.verdict.trust import Trust
from mtlsproxy.x509.certificate import Certificate
from mtlsproxy.x509.evidence import Check, Result
from mtlsproxy.x509.hostname import check_server_name

_OF_REVOCATION = (Reason.REVOKED, Reason.REVOCATION_UNKNOWN)

_SHOWN = 5
"""Names of a certificate that a sentence tells."""


@dataclass(frozen=True, slots=True)
class ServerVerdict:
    """Trusted when `failed` is None.

    failed: the check that decides (`chain`, `validity`, `hostname`, `revocation` …), with how to mend it. detail: one
    sentence that says which, and of which certificate. checks: `chain` … `deny`, then `hostname`.
    deadline: until when trust holds; None for a refusal. wanted: fetch these and judge again.
    """

    leaf: Certificate | None
    failed: Check | None
    detail: str
    checks: tuple[Check, ...]
    deadline: datetime | None
    wanted: tuple[Wanted, ...] = ()


def judge_server(presented: Sequence[bytes], trust: Trust, name: str, at: datetime) -> ServerVerdict:
    """Judge the DER certificates of a server that was asked for as `name`, leaf first, at an aware time.

    trust: its policy asks for serverAuth. name: as in x509.hostname.check_server_name. Raises InvalidServerName.
    """
    verdict = judge(presented, (trust,), at)
    leaf = verdict.leaf
    if verdict.reason is Reason.UNTRUSTED_ISSUER:
        failed = dataclasses.replace(_first_failed(verdict.checks), fix=_whom_to_trust(trust))
        return _refused(verdict, verdict.checks, f"is not accepted ({verdict.reason}): {verdict.detail}", failed)
    if leaf is None or (verdict.reason is not None and verdict.reason not in _OF_REVOCATION):
        return _refused(verdict, verdict.checks, f"is not accepted ({verdict.reason}): {verdict.detail}")
    hostname = check_server_name(leaf, name)
    checks = (*verdict.checks, hostname)
    if hostname.result is Result.FAIL:
        # Before revocation: nobody needs to be asked about a server that is another's.
        return _refused(verdict, checks, f"is for {_names(leaf)}, not {name}", hostname)
    if verdict.wanted:
        return ServerVerdict(leaf, None, "", checks, None, verdict.wanted)
    if verdict.reason is not None:
        known = "is revoked" if verdict.reason is Reason.REVOKED else f"is not accepted ({verdict.reason})"
        return _refused(verdict, checks, f"{known}: {verdict.detail}")
    return ServerVerdict(leaf, None, "", checks, verdict.deadline)


def _refused(verdict: Verdict, checks: tuple[Check, ...], words: str, failed: Check | None = None) -> ServerVerdict:
    failed = failed or _first_failed(checks)
    leaf = verdict.leaf
    shown = f" ({describe(leaf)})" if leaf is not None else ""
    return ServerVerdict(leaf, failed, f"the server's certificate {words}{shown}", checks, None)


def _first_failed(checks: tuple[Check, ...]) -> Check:
    return next(check for check in checks if check.result is Result.FAIL)


def _whom_to_trust(trust: Trust) -> str:
    """What a client would be told names a truststore, and settings that servers have not."""
    names = [anchor.subject or "(empty subject)" for anchor in trust.truststore.anchors]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (
        f"have the server send the CA certificates above its own; trusted are: {'; '.join(names[:_SHOWN])}{more}; "
        "another CA that is to be trusted belongs into the upstream's tls.trust_anchors"
    )


def describe(certificate: Certificate) -> str:
    """Which certificate it is, in words."""
    subject, issuer = certificate.subject or "(empty subject)", certificate.issuer or "(empty name)"
    return f"subject {subject}, issuer {issuer}, SHA-256 {certificate.fingerprint_sha256}"


def _names(leaf: Certificate) -> str:
    names = [text for kind, text in leaf.sans.ordered if kind in ("DNS", "IP")]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more or "no host (it has no DNS name or IP address)"
