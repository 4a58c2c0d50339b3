"""What is known from OCSP about a certificate: answers, failures, and the lookup that a decision asks."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from mtlsproxy.x509.certificate import Certificate


@dataclass(frozen=True, slots=True)
class OcspAnswer:
    """One verified answer (RFC 6960 §2.2, §4.2.1). Times are aware UTC.

    expires: until when `good` counts: nextUpdate and the clock skew, or thisUpdate and max_age where there is none;
    never later than the responder's own certificate. `revoked` counts for longer: until another answer replaces it.
    responder: the subject of who signed. delegate: its certificate, None where the issuer itself signed.
    revoked_at, reason (RFC 5280 §5.3.1): of `revoked` alone.
    """

    status: Literal["good", "revoked", "unknown"]
    this_update: datetime
    next_update: datetime | None
    revoked_at: datetime | None
    reason: str | None
    responder: str
    expires: datetime
    delegate: Certificate | None = None

    @property
    def due(self) -> datetime:
        """When its responder has a newer one (RFC 6960 §4.2.2.1). From then to `expires` it counts for want of that
        alone: the clock skew excuses clocks, it does not lengthen an answer's life."""
        return self.expires if self.next_update is None else min(self.next_update, self.expires)


@dataclass(frozen=True, slots=True)
class OcspFailure:
    """There is no answer: why (one sentence), and when it was tried."""

    detail: str
    at: datetime


class OcspAnswers(Protocol):
    """What was fetched so far. Looks up only, at once; None means that nobody asked yet, or that it is time to."""

    def get(self, certificate: Certificate, issuer: Certificate) -> OcspAnswer | OcspFailure | None: ...
