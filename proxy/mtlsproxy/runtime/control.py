"""What the admin listener may change: reload, deny, lift. Who asked and what for is logged."""

import logging
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mtlsproxy.access.matcher import compile_match
from mtlsproxy.access.pattern import Use
from mtlsproxy.config.model import DenyEntry
from mtlsproxy.reasons import Reason
from mtlsproxy.runtime.issuers import unknown_issuer_of
from mtlsproxy.runtime.reload import Outcome
from mtlsproxy.runtime.token import Token
from mtlsproxy.verdict.trust import Denial

if TYPE_CHECKING:
    from mtlsproxy.runtime.server import Proxy

log = logging.getLogger(__name__)


class NotServing(Exception):
    """The proxy is starting or about to stop: str() is one sentence."""


@dataclass(frozen=True, slots=True)
class Denied:
    """A denial in force. made: False where there was one of the same words. ended: open connections that it ended,
    or will with the answer under way. warning: why it may match nobody."""

    denial: Denial
    made: bool
    ended: int
    warning: str | None = None


class Control:
    """The admin's hands. by: who asks, for log and file."""

    def __init__(self, proxy: "Proxy") -> None:
        self._proxy = proxy

    @property
    def token(self) -> Token | None:
        """What a caller must present; None: nobody may change anything."""
        return self._proxy.snapshot.material.token

    @property
    def truststores(self) -> tuple[str, ...]:
        return tuple(self._proxy.snapshot.material.trusts)

    def denials(self) -> tuple[Denial, ...]:
        """Those that count now, oldest first."""
        return self._proxy.denials.active(datetime.now(UTC))

    async def reload(self, by: str) -> Outcome:
        """Of the files; CRL URLs are asked at once as well, without waiting for them. Raises NotServing."""
        if not self._proxy.serving or self._proxy.draining:
            raise NotServing("the proxy is starting, or about to stop: nothing is reloaded now")
        log.info("reload asked for by %s", by)
        outcome = await self._proxy.reloader.reload(by)
        self._proxy.feeds.refresh()
        return outcome

    async def deny(self, entry: DenyEntry, truststore: str | None, by: str) -> Denied:
        """In force on open connections and on disk when this returns.

        Raises TooManyDenials with nothing changed, and DenialsError when it is in force and not on disk.
        """
        now = datetime.now(UTC)
        wanted = words_of(entry, truststore)
        warning = unknown_issuer_of(entry, self._proxy.snapshot.material.trusts, truststore)
        known = next((d for d in self._proxy.denials.active(now) if words_of(d, d.truststore) == wanted), None)
        if known is not None:
            await self._proxy.denials.save(now)  # it may not be on disk yet
            return Denied(known, False, 0, warning)
        denial = denial_of(entry, truststore, now, by)
        self._proxy.denials.enforce(denial)
        log_denial(denial, wanted, warning)
        ended = self.end_connections(denial)
        self._proxy.audit.denied(denial, wanted, ended)
        try:
            await self._proxy.denials.save(now)
        finally:
            # Those that do not match are unchanged, but a reload before this may not have come to them yet.
            await self._proxy.judge_all_again()
        return Denied(denial, True, ended, warning)

    async def lift(self, ident: str, by: str) -> Denial | None:
        """The denial that no longer counts; None: there is none of this id. Raises DenialsError with it in force."""
        lifted = await self._proxy.denials.lift(ident, datetime.now(UTC))
        if lifted is not None:
            words = words_of(lifted, lifted.truststore)
            log.info("denial %s lifted by %s: %s", ident, by, words)
            self._proxy.audit.lifted(lifted, by, words)
        return lifted

    def end_connections(self, denial: Denial) -> int:
        """Judge those again whose client the entry matches, before all others; how many no longer pass."""
        matcher = compile_match(denial, Use.DENY)
        ended = 0
        for listener in self._proxy.listeners.values():
            for connection in list(listener.service.connections):
                verdict = connection.visitor.verdict
                if verdict.reason is None and verdict.client is not None and matcher.matches(verdict.client):
                    connection.trust_changed()
                    ended += connection.visitor.verdict.reason is Reason.DENIED
        return ended


def denial_of(entry: DenyEntry, truststore: str | None, at: datetime, by: str) -> Denial:
    said = entry.model_dump(exclude_none=True) | ({} if truststore is None else {"truststore": truststore})
    return Denial.model_validate({**said, "id": secrets.token_hex(8), "created": at, "by": by})


def log_denial(denial: Denial, words: str, warning: str | None) -> None:
    log.info("denial %s made by %s: %s", denial.id, denial.by, words)
    if warning is not None:
        log.warning("denial %s: issuer: %s", denial.id, warning)


def words_of(entry: DenyEntry, truststore: str | None) -> str:
    """What is denied, in one line; equal for entries that are."""
    said = entry.model_dump(mode="json", include=set(DenyEntry.model_fields), exclude_none=True)
    return ", ".join(f"{key} {value}" for key, value in said.items()) + f"; truststore {truststore or '(all)'}"
