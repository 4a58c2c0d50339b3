"""The CRLs of a truststore, by the key that signed them: the newest of each, and what was wrong with the others.

A list counts only for certificates whose issuer, in the chain at hand, holds the key that signed it: two CAs, or two
keys of one CA after a rollover, may share a name. Lists of CAs that are met in clients' chains alone are pending until
then, and never displace one that is verified. Delta lists count beside the base that they fit, see `CombinedCrl`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from mtlsproxy.revocation.combined import CombinedCrl, Group, combine, group_of, is_newer, is_removal, what_fits
from mtlsproxy.revocation.crl import Crl, CrlError, RevokedEntry, verify_crl
from mtlsproxy.x509.certificate import Certificate

__all__ = ["HARMLESS", "CombinedCrl", "CrlSet", "Problem", "ProblemKind", "Signed", "is_newer"]

_REMEMBERED = 4096
"""Issuers, and verifications, good or bad, whose outcome is kept. A CA can make keys without end; our memory is not."""

_Key = tuple[bytes, str]  # issuer's name in DER, SHA-256 of its SubjectPublicKeyInfo


class ProblemKind(StrEnum):
    """What is wrong with a list that was given to `CrlSet.build`.

    superseded: an older one beside its successor; harmless. unverified: no configured certificate of its issuer's name
    signed it; it counts only for chains that bring its key. no_base: a delta that fits no complete list; what it
    revokes is revoked, and its silence says nothing. The others are left out of the set.
    """

    SUPERSEDED = "superseded"
    UNVERIFIED = "unverified"
    ROLLBACK = "rollback"
    NO_NEXT_UPDATE = "no_next_update"
    NOT_SIGNED = "not_signed"
    NO_BASE = "no_base"


HARMLESS = frozenset({ProblemKind.SUPERSEDED, ProblemKind.UNVERIFIED, ProblemKind.NO_BASE})
"""Lists that do not count, or not yet, and leave nothing open that the others would not; the rest is a mistake."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A list that is left out of the set, or is of no use yet. detail: the source, what is wrong, how to mend it."""

    kind: ProblemKind
    crl: Crl
    detail: str


@dataclass(frozen=True, slots=True)
class Signed:
    """The lists that a certificate's issuer signed, the newest of each scope. strays: deltas without a base, which may
    revoke and never vouch. refused: why others of its name do not count."""

    lists: tuple[CombinedCrl, ...]
    strays: tuple[Crl, ...]
    refused: tuple[str, ...]

    def lookup(self, serial: int, at: datetime) -> tuple[RevokedEntry, Crl] | None:
        """The entry that revokes `serial` and the list that has it; None where no list revokes it."""
        for found in self.lists:
            if (hit := found.lookup(serial, at)) is not None:
                return hit
        for stray in self.strays:
            if (entry := stray.lookup(serial)) is not None and not is_removal(entry):
                return entry, stray
        return None


@dataclass(frozen=True, slots=True, eq=False)
class CrlSet:
    """Made by `CrlSet.build`. verified: complete lists by the key that signed them; deltas: delta lists likewise.
    pending: lists of both kinds by the name of their issuer, whose key is in no configured certificate."""

    verified: Mapping[_Key, tuple[Crl, ...]]
    deltas: Mapping[_Key, tuple[Crl, ...]]
    pending: Mapping[bytes, tuple[Crl, ...]]
    _verifier: "_Verifier"
    _signed: "dict[str, Signed]" = field(default_factory=dict)

    @classmethod
    def build(
        cls, crls: Iterable[Crl], issuers: Iterable[Certificate], previous: "CrlSet | None" = None
    ) -> "tuple[CrlSet, tuple[Problem, ...]]":
        """The set of `crls`, verified with `issuers` (trust anchors and intermediates), and the lists that it leaves
        out.

        previous: the set in force until now; a list with a lower number than one in there is a rollback (RFC 5280
        §5.2.3), and the known one stays.
        """
        verifier = _Verifier()
        builder = _Builder(tuple(issuers), verifier)
        for crl in crls:
            builder.add(crl)
        if previous is not None:
            builder.keep_newer(previous)
        deltas = builder.combined_deltas()
        verified = {key: tuple(groups.values()) for key, groups in builder.verified.items()}
        pending = {name: tuple(group) for name, group in builder.pending.items()}
        return cls(verified, deltas, pending, verifier), tuple(builder.problems)

    @property
    def crls(self) -> tuple[Crl, ...]:
        """Every complete list of the set."""
        groups = (*self.verified.values(), *self.pending.values())
        return tuple(crl for group in groups for crl in group if not crl.is_delta)

    @property
    def lists(self) -> tuple[CombinedCrl, ...]:
        """The complete lists with their deltas, for metrics and the status page: what they last to together."""
        found: list[CombinedCrl] = []
        for key, group in self.verified.items():
            found += combine({group_of(crl): crl for crl in group}, self.deltas.get(key, ())).lists
        found += (CombinedCrl(crl) for group in self.pending.values() for crl in group if not crl.is_delta)
        return tuple(found)

    def signed_by(self, issuer: Certificate) -> Signed:
        """The lists that count for certificates that `issuer` signed. Pending ones are verified at their first use."""
        known = self._signed.get(issuer.fingerprint_sha256)
        if known is None:
            if len(self._signed) >= _REMEMBERED:
                self._signed.clear()
            known = self._signed[issuer.fingerprint_sha256] = self._find_signed(issuer)
        return known

    def _find_signed(self, issuer: Certificate) -> Signed:
        newest: dict[Group, Crl] = {}
        deltas: list[Crl] = []
        refused: list[str] = []
        key = (issuer.subject_der, issuer.spki_sha256)
        # A verified list is asked again: its certificate may have been granted more than this one of the same key.
        known = (*self.verified.get(key, ()), *self.deltas.get(key, ()), *self.pending.get(issuer.subject_der, ()))
        for crl in known:
            why_not = self._verifier.why_not(crl, issuer)
            if why_not is not None:
                refused.append(why_not)
            elif crl.is_delta:
                deltas.append(crl)
            elif (other := newest.get(group_of(crl))) is None or is_newer(crl, other):
                newest[group_of(crl)] = crl
        if not newest and not refused:
            refused += self._of_other_keys(issuer)
        combination = combine(newest, deltas)
        refused += [
            f"{stray.title} fits no complete CRL that is known: {what_fits(stray)}" for stray in combination.strays
        ]
        return Signed(combination.lists, combination.strays, tuple(refused))

    def _of_other_keys(self, issuer: Certificate) -> list[str]:
        return [
            f"{crl.title} is signed by another key of that name"
            for (name, _), group in self.verified.items()
            if name == issuer.subject_der
            for crl in group
        ]


class _Verifier:
    """`verify_crl`, each pair of list and issuer once: a signature costs more than all the rest of a decision."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], str | None] = {}

    def why_not(self, crl: Crl, issuer: Certificate) -> str | None:
        """Why `crl` does not count for what `issuer` signed; None when it does."""
        key = (crl.sha256, issuer.fingerprint_sha256)
        if key not in self._known:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[key] = _why_not(crl, issuer)
        return self._known[key]


def _why_not(crl: Crl, issuer: Certificate) -> str | None:
    try:
        verify_crl(crl, issuer)
    except CrlError as error:
        return error.detail
    return None


class _Builder:
    """`CrlSet.build` in progress."""

    def __init__(self, issuers: tuple[Certificate, ...], verifier: _Verifier) -> None:
        self.issuers = issuers
        self.verifier = verifier
        self.verified: dict[_Key, dict[Group, Crl]] = {}
        self.deltas: dict[_Key, list[Crl]] = {}
        self.pending: dict[bytes, list[Crl]] = {}
        self.problems: list[Problem] = []

    def add(self, crl: Crl) -> None:
        if crl.next_update is None:
            fix = "have the CA say when the next one comes"
            self._problem(ProblemKind.NO_NEXT_UPDATE, crl, f"has no nextUpdate (RFC 5280 §5.1.2.5): {fix}")
            return
        named = [issuer for issuer in self.issuers if issuer.subject_der == crl.issuer_der]
        refusals = []
        for issuer in named:
            why_not = self.verifier.why_not(crl, issuer)
            if why_not is None:
                self._add_verified(crl, (issuer.subject_der, issuer.spki_sha256))
                return
            refusals.append(why_not)
        reasons = "; ".join(dict.fromkeys(refusals))
        if any(_is_meant(crl, issuer) for issuer in named):
            self.problems.append(Problem(ProblemKind.NOT_SIGNED, crl, f"{reasons}: publish one that it signed"))
            return
        if named:
            mend = "it counts only for chains that bring its key; if it is a CA of yours, add its certificate"
            self.problems.append(Problem(ProblemKind.UNVERIFIED, crl, f"{reasons}: {mend}"))
        self._add_pending(crl)

    def _add_verified(self, crl: Crl, key: _Key) -> None:
        if crl.is_delta:
            deltas = self.deltas.setdefault(key, [])
            if all(crl.sha256 != known.sha256 for known in deltas):
                deltas.append(crl)
            return
        groups = self.verified.setdefault(key, {})
        known = groups.get(group_of(crl))
        if known is not None and not is_newer(crl, known):
            self._superseded(crl, known)
            return
        if known is not None:
            self._superseded(known, crl)
        groups[group_of(crl)] = crl

    def _add_pending(self, crl: Crl) -> None:
        group = self.pending.setdefault(crl.issuer_der, [])
        if all(crl.sha256 != known.sha256 for known in group):
            group.append(crl)

    def _superseded(self, old: Crl, new: Crl) -> None:
        if old.sha256 == new.sha256:
            return
        if old.this_update > new.this_update and old.number != new.number:
            text = f"has a lower number than {new.title}, though it was issued later (rollback): publish a higher one"
            self._problem(ProblemKind.ROLLBACK, old, text)
        else:
            self._problem(
                ProblemKind.SUPERSEDED, old, f"is older than {new.title}, which is used: remove the older one"
            )

    def keep_newer(self, previous: CrlSet) -> None:
        """Refuse what is older than what was known, however it came to be served again."""
        for key, group in previous.verified.items():
            groups = self.verified.get(key, {})
            for known in group:
                offered = groups.get(group_of(known))
                if offered is not None and is_newer(known, offered):
                    text = f"is older than {known.title}, known already and kept (rollback): publish the latest one"
                    self._problem(ProblemKind.ROLLBACK, offered, text)
                    groups[group_of(known)] = known
        for key, deltas in previous.deltas.items():
            for known in deltas:
                self._keep_newer_delta(key, known)

    def _keep_newer_delta(self, key: _Key, known: Crl) -> None:
        offered = [crl for crl in self.deltas.get(key, ()) if group_of(crl) == group_of(known)]
        if offered and all(is_newer(known, crl) for crl in offered):
            text = f"is older than {known.title}, known already and kept (rollback): publish the latest one"
            for crl in offered:
                self._problem(ProblemKind.ROLLBACK, crl, text)
                self.deltas[key].remove(crl)
            self.deltas[key].append(known)

    def combined_deltas(self) -> dict[_Key, tuple[Crl, ...]]:
        """The deltas that count, by key; the others become problems."""
        kept: dict[_Key, tuple[Crl, ...]] = {}
        for key, deltas in self.deltas.items():
            combination = combine(self.verified.get(key, {}), deltas)
            for old, new in combination.superseded:
                self._superseded(old, new)
            for stray in combination.strays:
                mend = "its revocations count, and it vouches for nobody: add that list"
                self._problem(
                    ProblemKind.NO_BASE, stray, f"fits no complete CRL that is known, {what_fits(stray)}: {mend}"
                )
            kept[key] = (*(found.delta for found in combination.lists if found.delta), *combination.strays)
        return kept

    def _problem(self, kind: ProblemKind, crl: Crl, text: str) -> None:
        self.problems.append(Problem(kind, crl, f"{crl.title} of {crl.issuer} {text}"))


def _is_meant(crl: Crl, issuer: Certificate) -> bool:
    """Whether the list says that this very key signed it, so that no other issuer is worth waiting for."""
    return crl.authority_key_id is not None and crl.authority_key_id == issuer.subject_key_id
