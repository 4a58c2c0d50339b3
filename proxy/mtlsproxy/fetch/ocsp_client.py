"""OCSP answers for one truststore (RFC 6960, over HTTP): asked for once, kept until they end, renewed before they do.

A judgement looks up with `get`, which never waits. Where it wants more, `ensure` asks, and it judges again. Requests of
other clients go on meanwhile.
"""

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Literal

from mtlsproxy.fetch.http import Fetcher
from mtlsproxy.fetch.rules import FetchError, FetchFailure, FetchRules, NamedBy
from mtlsproxy.fetch.slots import HostSlots
from mtlsproxy.revocation.ocsp import (
    MAX_NONCE,
    MAX_RESPONSE,
    OcspAnswer,
    OcspError,
    OcspFailure,
    OcspPolicy,
    build_request,
    read_response,
)
from mtlsproxy.revocation.wording import moment
from mtlsproxy.x509.certificate import Certificate

REQUESTS_AT_A_TIME = 64
"""To one host, of one truststore: thousands of clients may reconnect at once, and a responder is one machine."""

REMEMBERED = 10_000
"""Certificates whose answers are kept; the longest unused go first."""

FAILURE_KEPT = timedelta(seconds=30)
"""How long after a failure nobody asks again about that certificate: a client that reconnects costs no new timeout.
Nor after an answer that is over as it comes, as those of a responder are whose clock is behind."""

RESPONDERS_TRIED = 2
"""Of those that a certificate names, each for its share of the time: a dead one must not take it all."""

_REQUEST_TYPE = "application/ocsp-request"
_RESPONSE_TYPE = "application/ocsp-response"
_RENEW_AT = (0.75, 0.9)  # of an answer's life, by chance
_RENEW_SOONEST = 1.0  # seconds
_RENEW_LATEST = 24 * 3600.0  # seconds; beyond, timers of many years would be kept for nothing

Pair = tuple[Certificate, Certificate]
Result = Literal["good", "revoked", "unknown", "failure"]
_Key = tuple[str, str]
_chance = Random()  # noqa: S311 - spreads load, guards nothing


class _Entry:
    """What is known about one certificate. answer: the last one, however old. failure: of the last try, if it failed.
    came: when the answer did. used: whether somebody asked since."""

    __slots__ = ("answer", "came", "failure", "pair", "timer", "used")

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.answer: OcspAnswer | None = None
        self.came = datetime.min.replace(tzinfo=UTC)
        self.failure: OcspFailure | None = None
        self.used = False
        self.timer: asyncio.TimerHandle | None = None


class OcspClient:
    """An `OcspAnswers` that can also ask. Belongs to one event loop; `close` it.

    rules: whom it may ask; its timeout is that of a whole answer, waiting for a slot included. count: called with the
    result of every request. changed: called when an answer differs in status from the one before it, or is the first
    and says revoked after failures, so that open connections can be judged again.
    """

    def __init__(
        self,
        policy: OcspPolicy,
        rules: FetchRules,
        count: Callable[[Result], None],
        *,
        changed: Callable[[], None] = lambda: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        remembered: int = REMEMBERED,
        at_a_time: int = REQUESTS_AT_A_TIME,
    ) -> None:
        """Raises FetchError where the rules' trust anchors are none."""
        self._policy = policy
        # An answer is read into the memory of the process that serves requests.
        rules = replace(rules, max_size=min(rules.max_size, MAX_RESPONSE))
        self._rules = rules
        self._count = count
        self._changed = changed
        self._now = now
        self._remembered = remembered
        self._fetcher = Fetcher(rules)
        self._slots = HostSlots(at_a_time)
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()
        self._flights: dict[_Key, asyncio.Task[None]] = {}
        self.last_answer: datetime | None = None
        self.last_failure: OcspFailure | None = None

    def get(self, certificate: Certificate, issuer: Certificate) -> OcspAnswer | OcspFailure | None:
        """What is known, at once. None also where a newer answer is due and was not asked for yet. Of an answer that
        has ended, the failure to get another, where that is recent; but `revoked` stays until another answer comes."""
        key = _key(certificate, issuer)
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        entry.used = True
        now, answer = self._now(), entry.answer
        if answer is not None and answer.status == "revoked":
            if entry.timer is None and now > answer.due:
                self._renew_in(entry, 0)  # nobody asked while it lived; a hold may have been lifted since
            return answer
        if answer is not None and now <= answer.expires:
            return None if _is_due(entry, now) else answer
        return entry.failure if _is_recent(entry.failure, now) else answer

    @property
    def known(self) -> int:
        """Certificates of which something is known."""
        return len(self._entries)

    async def ensure(self, wanted: Iterable[Pair]) -> None:
        """Return when every pair has a fresh answer or a recent failure. Who asks for the same one shares a request."""
        flights = [self._flight(pair) for pair in wanted if self._is_wanted(pair)]
        if flights:
            await asyncio.wait(flights)  # cancels none of them when the caller is cancelled: others may wait as well

    async def close(self) -> None:
        for entry in self._entries.values():
            _stop(entry)
        self._entries.clear()
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        await self._fetcher.close()

    def _is_wanted(self, pair: Pair) -> bool:
        entry = self._entries.get(_key(*pair))
        if entry is None:
            return True
        now = self._now()
        fresh = entry.answer is not None and now <= entry.answer.expires and not _is_due(entry, now)
        return not fresh and not _is_recent(entry.failure, now)

    def _flight(self, pair: Pair) -> "asyncio.Task[None]":
        key = _key(*pair)
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = asyncio.get_running_loop().create_task(self._ask(key, pair))
            flight.add_done_callback(lambda _: self._flights.pop(key, None))
        return flight

    async def _ask(self, key: _Key, pair: Pair) -> None:
        try:
            answer = await self._fetch(*pair)
        except OcspError as error:
            self._failed(key, pair, error.detail)
        else:
            self._take(key, pair, answer)

    async def _fetch(self, certificate: Certificate, issuer: Certificate) -> OcspAnswer:
        """Raises OcspError, which says of every responder that was tried what came of it."""
        nonce = secrets.token_bytes(MAX_NONCE) if self._policy.require_nonce else None
        request = build_request(certificate, issuer, nonce)
        failures: list[str] = []
        responders = self._responders(certificate)
        for url, named_by in responders:
            try:
                response = await self._post(url, named_by, request, self._rules.timeout / len(responders))
                return read_response(response, certificate, issuer, nonce, self._now(), self._policy)
            except FetchError as error:
                failures.append(error.detail)
            except OcspError as error:
                failures.append(f"{url}: {error.detail}")
        raise OcspError("; ".join(failures) or "the certificate names no OCSP responder")

    async def _post(self, url: str, named_by: NamedBy, request: bytes, seconds: float) -> bytes:
        try:
            async with asyncio.timeout(seconds), self._slots.to(url):
                answer = await self._fetcher.post(url, named_by, request, _REQUEST_TYPE)
        except TimeoutError as error:
            text = f"{url}: no complete answer within {seconds:g} s: it is slow, or too many requests wait for it"
            raise FetchError(FetchFailure.TIMEOUT, text, retryable=True) from error
        if answer.content_type != _RESPONSE_TYPE:
            raise OcspError(f"the answer is {answer.content_type or 'of no type'}, not {_RESPONSE_TYPE}")
        assert answer.body is not None  # only conditional requests are answered without
        return answer.body

    def _responders(self, certificate: Certificate) -> list[tuple[str, NamedBy]]:
        if self._policy.responder is not None:
            return [(self._policy.responder, "configuration")]
        return [(url, "certificate") for url in certificate.ocsp_urls[:RESPONDERS_TRIED]]

    def _take(self, key: _Key, pair: Pair, answer: OcspAnswer) -> None:
        """OCSP travels over plain http: an answer from before a revocation can be played back to its end."""
        entry = self._entries.get(key)
        known = entry.answer if entry is not None else None
        if known is not None and known.status == "revoked" != answer.status and answer.this_update < known.this_update:
            text = (
                f"the answer {answer.status} is of {moment(answer.this_update)}, and revoked since "
                f"{moment(known.this_update)} is known: it was played back, or the responder is behind"
            )
            self._failed(key, pair, text)
        else:
            self._answered(key, pair, answer)

    def _answered(self, key: _Key, pair: Pair, answer: OcspAnswer) -> None:
        self._count(answer.status)
        entry = self._entry(key, pair)
        is_news = _is_news(entry, answer)
        entry.answer, entry.failure, entry.used, entry.came = answer, None, False, self._now()
        self.last_answer = entry.came
        self._renew_in(entry, _left(answer, entry.came) * _chance.uniform(*_RENEW_AT))
        if is_news:
            self._changed()

    def _failed(self, key: _Key, pair: Pair, detail: str) -> None:
        self._count("failure")
        entry = self._entry(key, pair)
        entry.failure = self.last_failure = OcspFailure(detail, self._now())
        if entry.answer is None:
            return
        left = _left(entry.answer, entry.failure.at)
        if left > 0 or entry.answer.status == "revoked":
            entry.used = True  # that renewal was wanted, and still is
            # `revoked` stays in force past its end, and a hold may have been lifted meanwhile.
            self._renew_in(entry, left / 2 if left > 0 else FAILURE_KEPT.total_seconds())

    def _entry(self, key: _Key, pair: Pair) -> _Entry:
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry(pair)
            while len(self._entries) > self._remembered:
                _stop(self._entries.popitem(last=False)[1])
        return entry

    def _renew_in(self, entry: _Entry, seconds: float) -> None:
        _stop(entry)
        wait = min(max(seconds, _RENEW_SOONEST), _RENEW_LATEST)
        entry.timer = asyncio.get_running_loop().call_later(wait, self._renew, entry)

    def _renew(self, entry: _Entry) -> None:
        """What nobody asked about since it came is left to end."""
        entry.timer = None
        if entry.used:
            self._flight(entry.pair)


def _key(certificate: Certificate, issuer: Certificate) -> _Key:
    return certificate.fingerprint_sha256, issuer.fingerprint_sha256


def _is_news(entry: _Entry, answer: OcspAnswer) -> bool:
    """Whether verdicts may stand that this answer changes. After a failure soft_fail has let in who is now revoked."""
    if entry.answer is None:
        return entry.failure is not None and answer.status == "revoked"
    return entry.answer.status != answer.status


def _is_recent(failure: OcspFailure | None, now: datetime) -> bool:
    return failure is not None and timedelta(0) <= now - failure.at < FAILURE_KEPT


def _is_due(entry: _Entry, now: datetime) -> bool:
    """Whether a newer answer should be there, and nobody has just tried to get it."""
    answer = entry.answer
    if answer is None or now <= answer.due or _is_recent(entry.failure, now):
        return False
    return not timedelta(0) <= now - entry.came < FAILURE_KEPT


def _left(answer: OcspAnswer, now: datetime) -> float:
    """Seconds until a newer one is due; where it is overdue, until this one counts no more."""
    return ((answer.due if now < answer.due else answer.expires) - now).total_seconds()


def _stop(entry: _Entry) -> None:
    if entry.timer is not None:
        entry.timer.cancel()
        entry.timer = None
