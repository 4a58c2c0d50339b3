"""A verified client as the data path remembers it: what it may do and what upstreams are told, once a verdict."""

from collections.abc import Sequence
from dataclasses import dataclass

from mtlsproxy.access.decide import Decision, decide
from mtlsproxy.http1.service import Target
from mtlsproxy.identity.client import principal_of
from mtlsproxy.identity.render import UnrenderableIdentity, render
from mtlsproxy.reasons import Reason
from mtlsproxy.telemetry.clients import KnownClient
from mtlsproxy.verdict.judge import Verdict


@dataclass(frozen=True, slots=True, eq=False)
class Admission:
    """A client at a route. reason: why the request is refused, or None; noted: what shadow mode let pass.

    identity: complete header lines for the upstream.
    """

    target: Target
    reason: Reason | None
    detail: str
    noted: Reason | None
    identity: bytes
    principal: str | None
    truststore: str | None


class Visitor:
    """All connections with the same verdict share one."""

    __slots__ = ("_admissions", "known", "verdict")

    def __init__(self, verdict: Verdict, known: KnownClient | None = None) -> None:
        """known: where the routes it uses are noted."""
        self.verdict = verdict
        self.known = known
        self._admissions: dict[Target, Admission] = {}

    def admission(self, target: Target) -> Admission:
        """May this client use the route of `target`? Decided once."""
        found = self._admissions.get(target)
        if found is None:
            found = self._admissions[target] = _admit(self.verdict, target)
            self._note(found)
        return found

    def be_known_as(self, known: KnownClient) -> None:
        """From now on, and with the routes so far: an inventory forgets, and meets a client anew."""
        if self.known is not known:
            self.known = known
            for admission in self._admissions.values():
                self._note(admission)

    def _note(self, admission: Admission) -> None:
        if self.known is not None and admission.reason is None:
            self.known.used(admission.target.route.name)


def _admit(verdict: Verdict, target: Target) -> Admission:
    client = verdict.client
    assert client is not None
    decision = decide(target.route, client, verdict.truststores)
    principal = principal_of(client, target.identity.principal)
    if not decision.allowed:
        return _refused(target, decision, principal)
    truststore = decision.truststore
    assert truststore is not None
    try:
        identity = render(target.identity, client, verdict.vouch(truststore).chain, truststore)
    except UnrenderableIdentity as error:
        return Admission(target, Reason.MALFORMED_CERTIFICATE, error.detail, None, b"", principal, truststore)
    return Admission(target, None, _words(decision), decision.reason, identity, principal, truststore)


def _refused(target: Target, decision: Decision, principal: str | None) -> Admission:
    return Admission(target, decision.reason, _words(decision), None, b"", principal, decision.truststore)


def _words(decision: Decision) -> str:
    failed = [check for check in decision.checks if check.result == "fail"]
    return failed[0].seen if failed else decision.rule


def sans_of(verdict: Verdict) -> Sequence[str] | None:
    """As in X-Client-San: `URI:spiffe://a/b`, `DNS:x.example`."""
    return None if verdict.client is None else [f"{kind}:{text}" for kind, text in verdict.client.sans]
