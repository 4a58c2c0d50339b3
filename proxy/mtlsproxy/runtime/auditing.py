"""What changes of configuration and trust look like in the audit log: who asked, what changed, old and new hash."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import orjson

import mtlsproxy
from mtlsproxy.fetch.client import CrlEvent
from mtlsproxy.runtime.material import Material
from mtlsproxy.telemetry.access_log import shortened
from mtlsproxy.telemetry.audit import AuditLog
from mtlsproxy.verdict.trust import Denial, Trust

MAX_SAID = 200
"""Changes and errors of one reload that are told one by one; of more, how many there were besides."""

_NEWS = ("restored", "updated", "refused")
"""Outcomes of a fetch after which another list is in use, or somebody tried to have one used."""


class Auditing:
    """Tells `log` of changes; with None, nobody.

    role: of this process, in its first line. reloads, lists: whether those are for this process to tell, where several
    do alike.
    """

    def __init__(self, log: AuditLog | None, role: str, *, reloads: bool = True, lists: bool = True) -> None:
        self._log = log
        self._role = role
        self._reloads = reloads
        self._lists = lists
        self._in_use: dict[tuple[str, str, str], list[str]] = {}
        """Hashes of the lists of each URL, by truststore, scope and URL."""

    def started(self, material: Material) -> None:
        if self._log is not None:
            fields = {"role": self._role, "pid": os.getpid(), "version": mtlsproxy.__version__}
            self._log.note("started", fields | {"file": material.loaded.document.file} | _hashes(None, material))

    def reloaded(
        self,
        by: str,
        errors: Iterable[str],
        generation: int,
        before: Material,
        after: Material,
        changed: Iterable[tuple[str, bool]],
    ) -> None:
        """by: who or what asked for it. errors: why it was refused. changed: as `changes` finds them."""
        if self._log is None or not self._reloads:
            return
        refused = list(errors)
        said = [{"what": words, "trust": trust} for words, trust in changed]
        fields: dict[str, object] = {"by": by, "ok": not refused, "generation": generation}
        fields |= _hashes(before, after) | {"changes": said[:MAX_SAID], "errors": refused[:MAX_SAID]}
        more = sum(max(0, len(some) - MAX_SAID) for some in (said, refused))
        self._log.note("reload", fields | ({"more": more} if more else {}))

    def denied(self, denial: Denial, words: str, ended: int) -> None:
        """words: who is denied. ended: connections."""
        if self._log is not None:
            self._log.note("denial_made", _denial(denial, denial.by, words) | {"connections_ended": ended})

    def lifted(self, denial: Denial, by: str, words: str) -> None:
        if self._log is not None:
            self._log.note("denial_lifted", _denial(denial, by, words))

    def fetched(self, truststore: str, event: CrlEvent) -> None:
        """A list came from a URL, or one that came is not used."""
        if self._log is None or not self._lists or event.outcome not in _NEWS:
            return
        key = (truststore, event.source.scope, event.source.url)
        old, new = self._in_use.get(key, []), [crl.sha256 for crl in event.crls]
        self._in_use[key] = new
        issuers = list(dict.fromkeys(shortened(crl.issuer) for crl in event.crls))
        fields: dict[str, object] = {
            "truststore": truststore,
            "url": event.source.url,
            "named_by": event.source.named_by,
            "outcome": event.outcome,
            "detail": event.detail,
            "issuers": issuers,
            "entries": sum(crl.entries for crl in event.crls),
            "crls": {"old": old, "new": new},
        }
        self._log.note("crl", fields)


def _denial(denial: Denial, by: str, words: str) -> dict[str, object]:
    return {
        "by": by,
        "id": denial.id,
        "truststore": denial.truststore,
        "denied": words,
        "expires": _moment(denial.expires),
        "reason": denial.reason,
    }


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _hashes(before: Material | None, after: Material) -> dict[str, object]:
    """Of the configuration file's bytes, and of all that decides whom the proxy trusts; old and new."""
    return {
        "configuration": {"old": before.loaded.sha256 if before else None, "new": after.loaded.sha256},
        "trust": {"old": trust_hash(before) if before else None, "new": trust_hash(after)},
    }


def trust_hash(material: Material) -> str:
    """SHA-256 over every truststore's anchors, intermediates, policies, CRLs and deny entries of files: the same for
    the same trust, in whatever order its files are listed."""
    trusts = material.all_trusts
    said = {name: [sorted(part) for part in _parts(trust)] for name, trust in trusts.items()}
    return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _parts(trust: Trust) -> Iterator[Iterable[str]]:
    yield (anchor.fingerprint_sha256 for anchor in trust.truststore.anchors)
    yield (each.fingerprint_sha256 for each in trust.truststore.intermediates)
    yield (_steady(trust.truststore.policy), _steady(trust.revocation))
    yield (crl.sha256 for crl in trust.crls.crls)
    yield (entry.model_dump_json(exclude_none=True) for entry in (*trust.deny.configured, *trust.deny.from_file))


def _steady(policy: Any) -> str:
    """A dataclass of settings, written the same in every process: a set's own order is another in each."""
    fields = dataclasses.asdict(policy)
    plain = {key: sorted(value) if isinstance(value, frozenset) else value for key, value in fields.items()}
    return json.dumps(plain, default=_written, sort_keys=True)


def _written(value: object) -> object:
    return sorted(value) if isinstance(value, frozenset) else str(value)
