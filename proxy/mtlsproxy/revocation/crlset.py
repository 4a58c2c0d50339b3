"""The CRLs of a truststore, by the key that signed them: the newest of each, and what was wrong with the others.

A list counts only for certificates whose issuer, in the chain at hand, holds the key that signed it: two CAs, or two
keys of one CA after a rollover, may share a name. Lists of CAs that are met in clients' chains alone are pending until
then, and never displace one that is verified.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from mtlsproxy.revocation.crl import Crl, CrlError, Scope, verify_crl
from mtlsproxy.x509.certificate import Certificate

_REMEMBERED = 4096
"""Verifications that are kept, good or bad. A CA can make keys without end; our memory is not."""

_Key = tuple[bytes, str]  # issuer's name in DER, SHA-256 of its SubjectPublicKeyInfo


class ProblemKind(StrEnum):
    """What is wrong with a list that was given to `CrlSet.build`.

    superseded: an older one beside its successor; harmless. unverified: no configured certificate of its issuer's name
    signed it; it counts only for chains that bring its key. The others are left out of the set.
    """

    SUPERSEDED = "superseded"
    UNVERIFIED = "unverified"
    ROLLBACK = "rollback"
    NO_NEXT_UPDATE = "no_next_update"
    NOT_SIGNED = "not_signed"
    NO_BASE = "no_base"


@dataclass(frozen=True, slots=True)
class Problem:
    """A list that is left out of the set, or is of no use yet. detail: the source, what is wrong, how to mend it."""

    kind: ProblemKind
    crl: Crl
    detail: str


@dataclass(frozen=True, slots=True)
class Signed:
    """The lists that a certificate's issuer signed, the newest of each scope; refused: why others of its name do not
    count."""

    crls: tuple[Crl, ...]
    refused: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class CrlSet:
    """Made by `CrlSet.build`. verified: lists by the key that signed them. pending: by the name of their issuer, whose
    key is in no configured certificate."""

    verified: Mapping[_Key, tuple[Crl, ...]]
    pending: Mapping[bytes, tuple[Crl, ...]]
    _verifier: "_Verifier"

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
        verified = {key: tuple(groups.values()) for key, groups in builder.verified.items()}
        pending = {name: tuple(group) for name, group in builder.pending.items()}
        return cls(verified, pending, verifier), tuple(builder.problems)

    @property
    def crls(self) -> tuple[Crl, ...]:
        """Every list of the set, for metrics and the status page."""
        groups = (*self.verified.values(), *self.pending.values())
        return tuple(crl for group in groups for crl in group)

    def signed_by(self, issuer: Certificate) -> Signed:
        """The lists that count for certificates that `issuer` signed. Pending ones are verified at their first use."""
        newest: dict[_Group, Crl] = {}
        refused: list[str] = []
        # A verified list is asked again: its certificate may have been granted more than this one of the same key.
        verified = self.verified.get((issuer.subject_der, issuer.spki_sha256), ())
        for crl in (*verified, *self.pending.get(issuer.subject_der, ())):
            why_not = self._verifier.why_not(crl, issuer)
            if why_not is not None:
                refused.append(why_not)
            elif (known := newest.get(_group(crl))) is None or is_newer(crl, known):
                newest[_group(crl)] = crl
        if not newest and not refused:
            refused += [
                f"{crl.title} is signed by another key of that name"
                for (name, _), group in self.verified.items()
                if name == issuer.subject_der
                for crl in group
            ]
        return Signed(tuple(newest.values()), tuple(refused))


_Group = tuple[Scope, frozenset[str]]  # lists of one key that replace one another (RFC 5280 §5.2.3)


def is_newer(crl: Crl, known: Crl) -> bool:
    """Whether `crl` replaces `known`: by number where both have one (RFC 5280 §5.2.3), else by date of issue."""
    if crl.number is not None and known.number is not None and crl.number != known.number:
        return crl.number > known.number
    return crl.this_update > known.this_update


def _group(crl: Crl) -> _Group:
    return (crl.scope, crl.urls)


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
        self.verified: dict[_Key, dict[_Group, Crl]] = {}
        self.pending: dict[bytes, list[Crl]] = {}
        self.problems: list[Problem] = []

    def add(self, crl: Crl) -> None:
        if crl.is_delta:
            self._problem(ProblemKind.NO_BASE, crl, "cannot be combined yet: publish the complete CRL")
            return
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
        groups = self.verified.setdefault(key, {})
        known = groups.get(_group(crl))
        if known is not None and not is_newer(crl, known):
            self._superseded(crl, known)
            return
        if known is not None:
            self._superseded(known, crl)
        groups[_group(crl)] = crl

    def _add_pending(self, crl: Crl) -> None:
        group = self.pending.setdefault(crl.issuer_der, [])
        if all(crl.sha256 != known.sha256 for known in group):
            group.append(crl)

    def _superseded(self, old: Crl, new: Crl) -> None:
        if old.sha256 == new.sha256:
            return
        if old.this_update > new.this_update:
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
                offered = groups.get(_group(known))
                if offered is not None and is_newer(known, offered):
                    text = f"is older than {known.title}, known already and kept (rollback): publish the latest one"
                    self._problem(ProblemKind.ROLLBACK, offered, text)
                    groups[_group(known)] = known

    def _problem(self, kind: ProblemKind, crl: Crl, text: str) -> None:
        self.problems.append(Problem(kind, crl, f"{crl.title} of {crl.issuer} {text}"))


def _is_meant(crl: Crl, issuer: Certificate) -> bool:
    """Whether the list says that this very key signed it, so that no other issuer is worth waiting for."""
    return crl.authority_key_id is not None and crl.authority_key_id == issuer.subject_key_id
