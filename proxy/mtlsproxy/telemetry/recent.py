"""The latest refusals, and what their clients presented: for who has a request id in hand and wants to know why."""

import ssl
from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson

from mtlsproxy.telemetry.access_log import (
    CONNECTION,
    REQUEST_ID,
    TIME,
    AccessEntry,
    encode,
    escape_controls,
    request_fields,
    timestamp,
)

MAX_RECENT = 500
MAX_PRESENTED_BYTES = 4 * 1024 * 1024
"""Of all presented chains together: a client can send a hundred kilobytes that only look like certificates."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refusal as it happened. detail: one sentence for the operator. enforced: False where it was let pass."""

    entry: AccessEntry
    detail: str
    enforced: bool


@dataclass(slots=True)
class _Kept:
    """presented: DER, leaf first; None once it had to make room."""

    refusal: Refusal
    presented: tuple[bytes, ...] | None
    size: int


class Recent:
    """At most MAX_RECENT refusals; of the oldest ones the chains may be gone."""

    def __init__(self, max_bytes: int = MAX_PRESENTED_BYTES) -> None:
        self._max_bytes = max_bytes
        self._kept: deque[_Kept] = deque()
        self._with_chain: deque[_Kept] = deque()
        """Those of `_kept` whose chain is here, in the same order."""
        self._size = 0

    def add(self, refusal: Refusal, presented: tuple[bytes, ...]) -> None:
        size = sum(map(len, presented))
        kept = _Kept(refusal, presented, size)
        self._kept.append(kept)
        if size:
            self._with_chain.append(kept)
            self._size += size
        if len(self._kept) > MAX_RECENT and self._kept.popleft() is self._oldest_chain:
            self._drop_chain()
        while self._size > self._max_bytes:
            self._drop_chain()

    def newest(self, limit: int = MAX_RECENT) -> list[dict[str, Any]]:
        """Newest first, with the fields of the refusal log."""
        return [as_dict(kept.refusal) for kept in islice(reversed(self._kept), limit)]

    def find(self, request_id: str) -> dict[str, Any] | None:
        """The newest of this id, which a client may have chosen, and `presented`: its chain as PEM, leaf first; ""
        where it presented nothing, None where the chain had to make room."""
        for kept in reversed(self._kept):
            if kept.refusal.entry[REQUEST_ID] == request_id:
                return as_dict(kept.refusal) | {"presented": _pem(kept.presented)}
        return None

    @property
    def _oldest_chain(self) -> _Kept | None:
        return self._with_chain[0] if self._with_chain else None

    def _drop_chain(self) -> None:
        oldest = self._with_chain.popleft()
        self._size -= oldest.size
        oldest.presented = None


def as_dict(refusal: Refusal) -> dict[str, Any]:
    """As the refusal log has it."""
    found: dict[str, Any] = orjson.loads(as_json(refusal, 0))
    return found


def as_json(refusal: Refusal, suppressed: int) -> bytes:
    """`suppressed`: how many folded refusals this line stands for; 0 on the line of a single one."""
    entry = refusal.entry
    after: dict[str, object] = {**request_fields(entry), "detail": refusal.detail, "enforced": refusal.enforced}
    if suppressed:
        after["suppressed"] = suppressed
    before = f'{{"time":"{timestamp(entry[TIME])}","level":"warning","message":"refused",'.encode("ascii")
    return escape_controls(before + entry[CONNECTION] + b"," + encode(after)[1:])


def _pem(presented: tuple[bytes, ...] | None) -> str | None:
    return None if presented is None else "".join(map(ssl.DER_cert_to_PEM_cert, presented))
