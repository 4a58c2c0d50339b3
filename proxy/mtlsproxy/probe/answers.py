"""What a server answers in HTTP, as far as it is about certificates. Pure.

Many servers ask in TLS, let everybody pass, and refuse in HTTP who came without: nginx's `ssl_verify_client on`, this
proxy's `missing_certificate: http_400`. Nothing standardises how they say it; these are the ways that are met.
"""

import json
import re
from dataclasses import dataclass

from mtlsproxy.reasons import Reason

MAX_ANSWER = 16 * 1024
"""Bytes of head and body that are read; what a refusal has to say is at its beginning."""

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: ([^\r\n]*))?\r?")
_LENGTH = re.compile(rb"\r?\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r?\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r?\ntransfer-encoding:[ \t]*chunked[ \t]*\r?\n", re.IGNORECASE)

_REFUSING = frozenset({400, 401, 403, 495, 496})
"""nginx calls a bad certificate 495 and a missing one 496, and answers 400 unless told otherwise."""

_MISSING = re.compile(
    r"no required ssl certificate|ssl certificate required|client certificate (?:is )?required"
    r"|requires? (?:a |an )?(?:valid )?(?:ssl )?client certificate|(?:no|missing) client certificate"
    r"|client certificate (?:was )?(?:not |un)(?:sent|provided|presented|supplied)|\b403\.7\b",
    re.IGNORECASE,
)
_BAD = re.compile(
    r"the ssl certificate error|ssl certificate error|(?:invalid|bad|untrusted|revoked|expired) client certificate"
    r"|client certificate (?:is |was |has )?(?:invalid|not valid|untrusted|not trusted|revoked|expired|been revoked)"
    r"|\b403\.(?:12|13|16|17)\b",
    re.IGNORECASE,
)

_ABOUT_THE_CERTIFICATE = frozenset(
    {
        Reason.NO_CERTIFICATE,
        Reason.UNTRUSTED_ISSUER,
        Reason.EXPIRED,
        Reason.NOT_YET_VALID,
        Reason.BAD_SIGNATURE,
        Reason.PATH_LENGTH,
        Reason.NAME_CONSTRAINT,
        Reason.CHAIN_TOO_LONG,
        Reason.NOT_A_CA,
        Reason.CA_AS_LEAF,
        Reason.KEY_USAGE,
        Reason.MALFORMED_CERTIFICATE,
        Reason.EKU_MISSING,
        Reason.EKU_MISMATCH,
        Reason.WEAK_KEY,
        Reason.WEAK_SIGNATURE,
        Reason.POLICY_OID,
        Reason.NOT_A_SVID,
        Reason.REVOKED,
        Reason.REVOCATION_UNKNOWN,
        Reason.DENIED,
    }
)
"""The others a verified client meets, too: another route, or another request, is another matter."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer's status and phrase, and the beginning of all that came, as text. reason: of this proxy's refusals."""

    status: int
    phrase: str
    text: str
    reason: str | None

    @property
    def wants_certificate(self) -> bool:
        """Whether it refuses for want of a client certificate."""
        if self.reason is not None:
            return self.reason == Reason.NO_CERTIFICATE
        return self.status == 496 or (self.status in _REFUSING and bool(_MISSING.search(self.text)))

    @property
    def refuses_certificate(self) -> bool:
        """Whether it refuses the certificate that was presented, or did not see one."""
        if self.reason is not None:
            return self.reason in _ABOUT_THE_CERTIFICATE
        bad = self.status == 495 or (self.status in _REFUSING and bool(_BAD.search(self.text)))
        return bad or self.wants_certificate

    @property
    def title(self) -> str:
        """`400 Bad Request`, with this proxy's reason where there is one."""
        return f"{self.status} {self.phrase}".rstrip() + (f" ({self.reason})" if self.reason else "")


def parse_answer(data: bytes) -> HttpAnswer | None:
    """The HTTP/1 answer that `data` begins with, whole or not; None where it is none."""
    first, end, _ = data.partition(b"\n")
    found = _STATUS_LINE.fullmatch(first)
    if found is None or not end:
        return None
    head, _, body = data.partition(b"\r\n\r\n")
    phrase = (found[2] or b"").decode("latin-1").strip()
    return HttpAnswer(int(found[1]), phrase, data.decode("utf-8", "replace"), _reason(head, body))


def is_complete(data: bytes) -> bool:
    """Whether nothing more of the answer is needed, or will come, without the connection's end."""
    head, separator, body = data.partition(b"\r\n\r\n")
    if len(data) >= MAX_ANSWER:
        return True
    if not separator:
        return False
    if _STATUS_LINE.fullmatch(data.partition(b"\n")[0]) and data[9:12] in (b"204", b"304"):
        return True  # never with a body (RFC 9112 §6.3)
    length = _LENGTH.search(head + b"\r\n")
    if length is not None:
        return len(body) >= int(length[1])
    return bool(_CHUNKED.search(head + b"\r\n")) and body.endswith(b"0\r\n\r\n")


def _reason(head: bytes, body: bytes) -> str | None:
    """This proxy's word for why (application/problem+json, RFC 9457)."""
    if b"application/problem+json" not in head.lower():
        return None
    try:
        problem = json.loads(body)
    except (ValueError, RecursionError):  # another program's, cut short, or nested to hurt
        return None
    reason = problem.get("reason") if isinstance(problem, dict) else None
    return reason if isinstance(reason, str) and reason in frozenset(Reason) else None
