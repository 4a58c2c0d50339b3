"""What a connection means: does the server require a client certificate, and would it accept this one? Pure."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from mtlsproxy.probe.answers import HttpAnswer
from mtlsproxy.probe.messages import CertificateRequest


class End(StrEnum):
    """How a connection came to its end. SILENT: nothing more came in time. FAILED: we could not go on."""

    ANSWERED = "answered"
    ALERT = "alert"
    CLOSED = "closed"
    RESET = "reset"
    SILENT = "silent"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Talk:
    """What was seen of one connection, made with a client certificate or without.

    protocol: None where none was agreed on. chain: DER, as the server sent it. requests: for certificates; late: the
    last of them came behind the HTTP request. sent: whether a certificate of ours went out. done: whether our side of
    the handshake completed. passed: whether the server went on behind our answer to its request. detail: why it ended,
    where that is no HTTP answer.
    """

    protocol: str | None
    cipher: str | None
    chain: tuple[bytes, ...]
    requests: tuple[CertificateRequest, ...]
    late: bool
    sent: bool
    done: bool
    passed: bool
    end: End
    alert: str | None
    detail: str
    answer: HttpAnswer | None


class Demand(StrEnum):
    """Interfaces.md's words. From the strictest to the least."""

    REQUIRED = "required"
    REQUESTED = "requested"
    NOT_REQUESTED = "not_requested"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a server demands. refused_by: how it turns away who has no certificate. detail: one sentence."""

    demand: Demand
    refused_by: Literal["handshake", "http"] | None
    detail: str


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What became of a certificate. accepted: None where the server did not ask for one, or nothing can be told.
    detail: one sentence. fix: how to mend a refusal, where that is known, else ""."""

    accepted: bool | None
    detail: str
    fix: str = ""


_FIXES = {
    "unknown_ca": "its issuer is not trusted there: present its intermediates, too, or one of a CA that is",
    "certificate_expired": "renew it; look at the clocks",
    "certificate_revoked": "its CA has revoked it: get a new one",
    "unsupported_certificate": "it is not for this purpose: have it issued with the extended key usage clientAuth",
    "decrypt_error": "certificate and key do not belong together",
    "certificate_required": "the server saw no certificate: look whether its key is of a kind that the server takes",
}
"""Alert (RFC 8446 §6.2) → the mend. Servers are not consistent in their choice: these are the likely ones."""


def conclude(talk: Talk) -> Finding | None:
    """From a connection without a client certificate. None where it failed for another reason, which is its detail."""
    if not talk.requests:
        return _not_requested(talk) if talk.done else None
    if talk.end is End.FAILED or (talk.end is End.SILENT and not talk.done):
        return None
    when = " once it knows the request" if talk.late else ""
    if not talk.passed and talk.end in (End.ALERT, End.CLOSED, End.RESET):
        how = f"with the alert {talk.alert}" if talk.alert else f"without an alert ({talk.detail})"
        return Finding(Demand.REQUIRED, "handshake", f"the server ends TLS{when} where there is none, {how}")
    if talk.answer is not None and talk.answer.wants_certificate:
        words = f"TLS lets pass who has none; then the server answers {talk.answer.title}"
        return Finding(Demand.REQUIRED, "http", words)
    then = _and_then(talk, "for want of one")
    return Finding(Demand.REQUESTED, None, f"the server asks for one{when}, and lets pass who has none{then}")


def _not_requested(talk: Talk) -> Finding:
    words = "the server does not ask for one"
    if talk.answer is not None and talk.answer.wants_certificate:
        words += f", yet answers {talk.answer.title} as if it had: it may ask under another server name or path"
    return Finding(Demand.NOT_REQUESTED, None, words)


def _and_then(talk: Talk, doubted: str) -> str:
    """What follows, since a refusal in words of the server's own may be among it."""
    if talk.answer is not None:
        doubt = f", which may or may not be {doubted}" if talk.answer.status in (401, 403) else ""
        return f"; the request is answered {talk.answer.title}{doubt}"
    return f"; {talk.detail}" if talk.detail else ""


def weakest(findings: tuple[Finding, ...]) -> Finding:
    """What holds of a server on the whole: who gets in by one version need not try the others. At least one."""
    return max(findings, key=lambda finding: list(Demand).index(finding.demand))


def accepts(talk: Talk) -> Acceptance:
    """From a connection with a client certificate."""
    if not talk.requests:
        why = "the server does not ask for one, so it was not sent" if talk.done else talk.detail
        return Acceptance(None, why)
    if talk.end is End.FAILED or (talk.end is End.SILENT and not talk.done):
        return Acceptance(None, talk.detail)
    if not talk.sent:
        words = "it was not sent: the server takes no signature that its key can make"
        return Acceptance(False, words, "use a key of another kind, such as RSA or P-256")
    if not talk.passed and talk.end in (End.ALERT, End.CLOSED, End.RESET):
        how = f"with the alert {talk.alert}" if talk.alert else f"without an alert ({talk.detail})"
        return Acceptance(False, f"the server ends TLS {how}", _FIXES.get(talk.alert or "", ""))
    if talk.answer is not None and talk.answer.refuses_certificate:
        return Acceptance(False, f"TLS passes; then the server answers {talk.answer.title}")
    return Acceptance(True, f"TLS passes{_and_then(talk, 'about the certificate')}")
