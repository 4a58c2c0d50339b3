"""May this request pass, and to where: verdict, host, route, access, size, in that order. Decides; does nothing."""

from dataclasses import dataclass

from mtlsproxy.access.router import NoMatch
from mtlsproxy.http1.request_head import RequestHead
from mtlsproxy.http1.service import Rules
from mtlsproxy.http1.visitor import Admission, Visitor
from mtlsproxy.reasons import Reason
from mtlsproxy.tls.contexts import ServerContext

_REMEMBERED_HOSTS = 64


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request does not pass. allow: for the Allow header. close: the connection is of no more use."""

    reason: Reason
    detail: str
    allow: tuple[str, ...] = ()
    admission: Admission | None = None
    close: bool = False


class ServedHosts:
    """The hosts that the certificate served on a connection was found to cover."""

    __slots__ = ("_context", "_covered")

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        self._covered: set[str] = set()

    def covers(self, host: str) -> bool:
        if host in self._covered:
            return True
        if not self._context.covers(host):
            return False
        if len(self._covered) < _REMEMBERED_HOSTS:
            self._covered.add(host)
        return True

    @property
    def subject(self) -> str:
        return self._context.credential.leaf.subject


def judge_request(
    head: RequestHead, visitor: Visitor, rules: Rules, served: ServedHosts, body_limit: int
) -> Admission | Refusal:
    """The admission of a request that passes; its `head.target` is then what the upstream gets."""
    verdict = visitor.verdict
    if verdict.reason is not None:
        return Refusal(verdict.reason, verdict.detail, close=True)
    host = head.host
    if host is not None and not served.covers(host):
        return Refusal(Reason.MISDIRECTED, f"the certificate served ({served.subject}) is not {host}'s")
    # `OPTIONS *` is about the server as a whole: for those who may use its root.
    match = rules.match(host or "", b"/" if head.path == b"*" else head.path, head.method)
    if isinstance(match, NoMatch):
        return Refusal(match.reason, match.detail, match.allow)
    target = rules.targets[match.route]
    admission = visitor.admission(target)
    if admission.reason is not None:
        return Refusal(admission.reason, admission.detail, admission=admission)
    length = head.content_length
    if body_limit and length is not None and length > body_limit:
        detail = f"a body of {length} bytes; {body_limit} allowed (limits.body)"
        return Refusal(Reason.BODY_TOO_LARGE, detail, admission=admission)
    if target.route.config.strip_prefix:
        head.target = match.forwarded(head.path) + head.target[len(head.path) :]
    return admission
