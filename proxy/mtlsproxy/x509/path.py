"""A certification path and what a check found on it: the shapes that building and judging share."""

from dataclasses import dataclass
from enum import Enum

from mtlsproxy.reasons import Reason
from mtlsproxy.x509.certificate import Certificate
from mtlsproxy.x509.evidence import Check, Result


class Link(Enum):
    """What the signature of a certificate says about the candidate for its issuer."""

    SIGNED = "signed"
    FORGED = "forged"
    """The issuer's key does not verify it."""
    OTHER_KEY = "other_key"
    """A namesake of the issuer made it: another kind of key, or another key identifier and no verification."""
    UNSUPPORTED = "unsupported"
    """An algorithm or an issuer's key with which nothing is verified here."""


@dataclass(frozen=True, slots=True)
class Path:
    """Certificates from the leaf upwards; `links[i]` joins certificate i to i + 1.

    anchored: the last one is a trust anchor. cut: building stopped there, because the path had become too long.
    gave_up: the budget was spent, or not all that the client sent was looked at; there may be more to it.
    """

    certificates: tuple[Certificate, ...]
    links: tuple[Link, ...]
    anchored: bool
    cut: bool = False
    gave_up: bool = False

    @property
    def leaf(self) -> Certificate:
        return self.certificates[0]

    @property
    def issuers(self) -> tuple[Certificate, ...]:
        return self.certificates[1:]

    @property
    def genuine(self) -> bool:
        """Whether a trust anchor stands behind every certificate, by signatures that verify."""
        return self.anchored and all(link is Link.SIGNED for link in self.links)

    @property
    def below_anchor(self) -> tuple[Certificate, ...]:
        return self.certificates[:-1] if self.anchored and len(self.certificates) > 1 else self.certificates

    def role(self, index: int) -> str:
        """What certificate `index` is called in evidence: never a value that a client chose without its name."""
        if index == 0:
            return "the leaf"
        kind = "trust anchor" if self.anchored and index == len(self.certificates) - 1 else "CA"
        return f"{kind} {self.certificates[index].subject or '(empty subject)'}"


@dataclass(frozen=True, slots=True)
class Finding:
    """A check and, where it failed, the reason that the refusal carries."""

    check: Check
    reason: Reason | None = None


def passed(name: str, seen: str, rule: str) -> Finding:
    return Finding(Check(name, Result.PASS, seen, rule))


def skipped(name: str, seen: str, rule: str) -> Finding:
    return Finding(Check(name, Result.SKIPPED, seen, rule))


def failed(name: str, reason: Reason, seen: str, rule: str, fix: str) -> Finding:
    return Finding(Check(name, Result.FAIL, seen, rule, fix), reason)
