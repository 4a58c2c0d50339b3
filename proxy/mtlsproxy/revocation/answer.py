"""What one source says about one certificate, before sources are combined."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Source = Literal["crl", "ocsp", "exempt", "none"]

Freshness = Literal["fresh", "grace", "none"]
"""fresh: up to nextUpdate. grace: past it, and counted by the operator's grace. none: nothing that counts."""


@dataclass(frozen=True, slots=True)
class Answer:
    """seen: what was found, one sentence. fix: how to mend a bad answer.

    deadline: until when the answer holds, or when to ask again. wanted: a new OCSP answer could say something else.
    held: a list says revoked, but merely for now (certificateHold): a newer list, or a delta, could lift that.
    """

    state: Literal["revoked", "good", "unknown", "exempt"]
    source: Source
    seen: str
    fix: str = ""
    deadline: datetime | None = None
    freshness: Freshness = "none"
    wanted: bool = False
    held: bool = False
