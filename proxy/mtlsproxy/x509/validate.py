"""Path validation: certificates, a truststore and a time in, evidence out (RFC 5280 §6)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from mtlsproxy.reasons import Reason
from mtlsproxy.x509.building import PathSearch
from mtlsproxy.x509.certificate import Certificate
from mtlsproxy.x509.checks import (
    check_extended_key_usage,
    check_key,
    check_key_usage,
    check_signature,
    check_validity,
)
from mtlsproxy.x509.evidence import Check
from mtlsproxy.x509.name_constraints import Comparisons, check_name_constraints
from mtlsproxy.x509.path import Finding, Path
from mtlsproxy.x509.policies import check_certificate_policies
from mtlsproxy.x509.policy import Truststore
from mtlsproxy.x509.spiffe import check_spiffe
from mtlsproxy.x509.structure import check_chain


@dataclass(frozen=True, slots=True)
class Verified:
    """A leaf that a truststore vouches for. chain: leaf … trust anchor. deadline: the earliest notAfter on it."""

    chain: tuple[Certificate, ...]
    checks: tuple[Check, ...]
    deadline: datetime

    @property
    def leaf(self) -> Certificate:
        return self.chain[0]

    @property
    def anchor(self) -> Certificate:
        return self.chain[-1]


@dataclass(frozen=True, slots=True)
class Refused:
    """A leaf that it does not vouch for: the first failing check's reason, and the checks of its likeliest path."""

    reason: Reason
    detail: str
    checks: tuple[Check, ...]
    leaf: Certificate | None


def validate(
    leaf: Certificate, presented: Sequence[Certificate], truststore: Truststore, at: datetime
) -> Verified | Refused:
    """Judge `leaf` with the certificates sent along (any order, any rubbish) at the aware time `at`.

    The first path on which every check passes decides. Where none does, the one with the fewest failures is reported;
    its checks are all judged, so that everything wrong with it is seen at once. The work is bounded whatever was sent.
    """
    search, comparisons = PathSearch(leaf, presented, truststore), Comparisons()
    best: tuple[Finding, ...] = ()
    for path in search.complete():
        findings = _judge(path, truststore, at, comparisons)
        if all(finding.reason is None for finding in findings):
            return _verified(path, findings)
        if not best or _failures(findings) < _failures(best):
            best = findings
    return _refused(leaf, best or _judge(search.closest(), truststore, at, comparisons))


def _judge(path: Path, truststore: Truststore, at: datetime, comparisons: Comparisons) -> tuple[Finding, ...]:
    """The nine findings, in the order of evidence.CHECK_NAMES."""
    policy = truststore.policy
    return (
        check_chain(path, truststore),
        check_validity(path, at),
        check_key(path, policy),
        check_signature(path, policy),
        check_key_usage(path),
        check_extended_key_usage(path, policy),
        check_name_constraints(path, comparisons),
        check_certificate_policies(path, policy),
        check_spiffe(path.leaf, policy.spiffe_trust_domain),
    )


def _failures(findings: tuple[Finding, ...]) -> tuple[int, int]:
    """Fewer failures, and later ones, make a path more promising."""
    failing = [index for index, finding in enumerate(findings) if finding.reason is not None]
    return len(failing), -failing[0]


def _verified(path: Path, findings: tuple[Finding, ...]) -> Verified:
    deadline = min(certificate.not_after for certificate in path.certificates)
    return Verified(path.certificates, tuple(finding.check for finding in findings), deadline)


def _refused(leaf: Certificate, findings: tuple[Finding, ...]) -> Refused:
    # A path that closest() found fails the chain or the signature check; were it not so, this would raise and not pass.
    first = next(finding for finding in findings if finding.reason is not None)
    assert first.reason is not None
    return Refused(first.reason, first.check.seen, tuple(finding.check for finding in findings), leaf)
