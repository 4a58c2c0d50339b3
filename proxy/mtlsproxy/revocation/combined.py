"""A complete CRL and the delta that brings it up to date: one list, as RFC 5280 §5.2.4 constructs it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from mtlsproxy.revocation.crl import Crl, RevokedEntry, Scope
from mtlsproxy.revocation.entry import REASONS, REMOVE_FROM_CRL
from mtlsproxy.revocation.policy import CLOCK_SKEW
from mtlsproxy.x509.certificate import Certificate

_REMOVED = REASONS[REMOVE_FROM_CRL]
HOLD = "certificateHold"
"""The one reason that can be taken back (RFC 5280 §5.3.1)."""


@dataclass(frozen=True, slots=True)
class CombinedCrl:
    """base: complete for its scope. delta: of the same key and scope, with its base number not above and its number
    above that of `base`; None where there is none.

    While the delta is fresh, its dates are those of the whole, however old the base is (§5.2.4). Later the base answers
    for itself, to its own nextUpdate; what the delta revoked stays revoked, and what it removed stays removed.
    """

    base: Crl
    delta: Crl | None = None

    @property
    def title(self) -> str:
        return self.base.title if self.delta is None else f"{self.base.title} with {self.delta.title}"

    def covers(self, certificate: Certificate) -> bool:
        return self.base.covers(certificate)  # the delta has the same scope

    def lookup(self, serial: int, at: datetime) -> tuple[RevokedEntry, Crl] | None:
        """The entry of `serial` and the list that has it; None where it is not revoked.

        removeFromCRL lifts a hold and nothing else (§5.3.1): what was revoked for good stays so, whatever a delta says.
        """
        change = None if self.delta is None else self.delta.lookup(serial)
        if self.delta is not None and change is not None and not is_removal(change):
            return change, self.delta
        known = self.base.lookup(serial)
        if known is None:
            return None
        lifted = self.delta is not None and change is not None and known.reason == HOLD and has_begun(self.delta, at)
        return None if lifted else (known, self.base)

    def in_force(self, at: datetime) -> Crl:
        """The list whose dates bound what silence means: the delta while it is fresh, else whichever ends later."""
        if self.delta is None or not has_begun(self.delta, at):
            return self.base
        ends, base_ends = self.delta.next_update, self.base.next_update
        assert ends is not None and base_ends is not None  # CrlSet.build leaves the others out
        return self.delta if at <= ends or base_ends <= ends else self.base


def is_removal(entry: RevokedEntry) -> bool:
    """Whether the entry takes one of the base out, and revokes nothing (RFC 5280 §5.3.1)."""
    return entry.reason == _REMOVED


def has_begun(crl: Crl, at: datetime) -> bool:
    return crl.this_update <= at + CLOCK_SKEW


Group = tuple[Scope, frozenset[str]]
"""Lists of one key and one group replace one another (RFC 5280 §5.2.3), and a delta fits none of another group."""


def group_of(crl: Crl) -> Group:
    return (crl.scope, crl.urls)


def is_newer(crl: Crl, known: Crl) -> bool:
    """Whether `crl` replaces `known`: by number where both have one (RFC 5280 §5.2.3), else by date of issue."""
    if crl.number is not None and known.number is not None and crl.number != known.number:
        return crl.number > known.number
    return crl.this_update > known.this_update


@dataclass(frozen=True, slots=True)
class Combination:
    """lists: one a group. strays: the newest delta of each group where it is newer than all that is known and fits no
    base. superseded: other deltas, each with the list that replaces it."""

    lists: tuple[CombinedCrl, ...]
    strays: tuple[Crl, ...]
    superseded: tuple[tuple[Crl, Crl], ...]


def combine(complete: Mapping[Group, Crl], deltas: Iterable[Crl]) -> Combination:
    """Give every complete list of one key the newest of that key's deltas which fits it."""
    newest_first = sorted(deltas, key=lambda delta: (delta.number or 0, delta.this_update), reverse=True)
    chosen: dict[Group, Crl] = {}
    for delta in newest_first:
        if _fits(delta, complete.get(group_of(delta))):
            chosen.setdefault(group_of(delta), delta)
    known = {**complete, **chosen}
    strays: dict[Group, Crl] = {}
    superseded: list[tuple[Crl, Crl]] = []
    for delta in newest_first:
        group = group_of(delta)
        if chosen.get(group) is delta:
            continue
        if (replaced_by := _successor(delta, known.get(group)) or strays.get(group)) is not None:
            superseded.append((delta, replaced_by))
        else:
            strays[group] = delta
    lists = tuple(CombinedCrl(base, chosen.get(group)) for group, base in complete.items())
    return Combination(lists, tuple(strays.values()), tuple(superseded))


def _successor(delta: Crl, known: Crl | None) -> Crl | None:
    """`known`, where it tells all that the delta does: a list of the same number is of the same moment (§5.2.3)."""
    if known is None or known.number is None or delta.number is None:
        return None
    return known if delta.number <= known.number else None


def _fits(delta: Crl, base: Crl | None) -> bool:
    """RFC 5280 §5.2.4 (c) and (d); group and key are (a) and (b)."""
    if base is None or base.number is None or delta.number is None or delta.base_number is None:
        return False
    return delta.base_number <= base.number < delta.number


def what_fits(delta: Crl) -> str:
    """The base that a stray delta wants, in words."""
    return f"it changes those from number {delta.base_number} on"
