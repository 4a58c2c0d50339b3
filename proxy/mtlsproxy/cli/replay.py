"""What a new configuration would say to requests that a log has: who would gain access, who would lose it.

A log has names, not certificates. What cannot be told from it is counted as that, never guessed.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal

from mtlsproxy.access.matcher import Matcher, compile_match
from mtlsproxy.access.pattern import Use
from mtlsproxy.cli.mends import NOT_ABOUT_THE_CLIENT
from mtlsproxy.cli.policy import Answer, Request, bare_host
from mtlsproxy.cli.site import Site
from mtlsproxy.config.model import Config, Match, Truststore
from mtlsproxy.identity.client import Client
from mtlsproxy.identity.described import Description, client_described
from mtlsproxy.reasons import Reason

REMEMBERED = 65_536
"""Clients, and requests of them, whose answers are not worked out again."""

_CUT = "…"
_REPLACED = "\ufffd"
_NOT_LOGGED = ("spki_sha256", "policy_oid")
"""Of matchers: what no log line has."""

_HANGS = f"entries by {' or '.join(_NOT_LOGGED)}, which is not known of them"
_UNKNOWN = "names that are written in no known way"

Said = Mapping[str, Any]
Kind = Literal["loses", "gains", "moves"]


class CannotTell(Exception):
    """Of one line. The message is what many lines may share."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A client as a log line has it."""

    description: Description
    principal: str | None
    truststores: tuple[str, ...]
    listener: str

    @property
    def identity(self) -> str:
        return self.principal or self.description.subject


@dataclass(frozen=True, slots=True)
class Change:
    """For one client and route. before, after: the route, None where there was none; upstreams likewise. reason: of the
    refusal, before or after; detail: of the one after, or what the log had."""

    kind: Kind
    identity: str
    subject: str
    issuer: str
    truststores: tuple[str, ...]
    listener: str
    before: str | None
    after: str | None
    reason: str | None
    detail: str


@dataclass(slots=True)
class Weight:
    """How often, and the last time with its request."""

    count: int = 0
    last: str = ""
    example: str = ""


@dataclass(frozen=True, slots=True)
class _Before:
    allowed: bool
    route: str | None
    reason: str | None
    detail: str


class Replay:
    """new: the configuration to be tried. current: the one in force, which it is compared with; None: with what became
    of the requests, as the log says. at: aware, for entries of deny lists that expire."""

    def __init__(self, new: Site, current: Site | None, at: datetime) -> None:
        self.lines = 0
        self.replayed = 0
        self.cannot_tell: Counter[str] = Counter()
        self.changes: dict[Change, Weight] = {}
        self.callers: set[str] = set()
        self._new = _Asked(new, at)
        self._current = _Asked(current, at) if current is not None else None

    def add(self, said: Said) -> None:
        """One line of an access log, as JSON."""
        self.lines += 1
        try:
            caller, request = _caller(said), _request(said)
            before = self._before(said, caller, request)
            after = self._new.answer(caller, request)
        except CannotTell as why:
            self.cannot_tell[str(why)] += 1
            return
        self.replayed += 1
        self.callers.add(caller.identity)
        change = self._change(caller, before, after)
        if change is not None:
            weight = self.changes.setdefault(change, Weight())
            weight.count += 1
            if str(said["time"]) >= weight.last:
                weight.last = str(said["time"])
                weight.example = f"{request.method} {request.host}{said['path']}"

    def add_client(self, said: Said) -> None:
        """One of `/api/clients`: of the routes that it has used, which would it still be let through?"""
        self.lines += 1
        try:
            caller = _caller({**said, "listener": "", "principal": said.get("identity")})
            if isinstance(vouched := said.get("truststores"), list) and vouched:
                caller = replace(caller, truststores=tuple(map(str, vouched)))
            routes = said.get("routes")
            used = map(str, routes) if isinstance(routes, list) else ()
            answers = [(name, self._new.answer_route(caller, name)) for name in used]
        except CannotTell as why:
            self.cannot_tell[str(why)] += 1
            return
        self.replayed += 1
        self.callers.add(caller.identity)
        for name, answer in answers:
            change = self._change(caller, _Before(True, name, None, ""), answer)
            if change is not None:
                self.changes[replace(change, listener=answer.listener)] = Weight(0, str(said.get("last_seen")), "")

    def _before(self, said: Said, caller: Caller, request: Request) -> _Before:
        if self._current is not None:
            answer = self._current.answer(caller, request)
            return _Before(answer.allowed, answer.route, answer.reason, answer.detail)
        route, reason = _text(said, "route"), _text(said, "reason")
        ended_otherwise = reason in NOT_ABOUT_THE_CLIENT
        if ended_otherwise and route is None:
            raise CannotTell(f"refused before a route was found ({reason})")
        # Who was let through has an upstream, whatever came back from it.
        allowed = said.get("upstream") is not None or ended_otherwise
        return _Before(allowed, route, reason, str(said.get("detail") or ""))

    def _change(self, caller: Caller, before: _Before, after: Answer) -> Change | None:
        kind: Kind
        reason: str | None
        if before.allowed and not after.allowed:
            kind, reason, detail = "loses", after.reason, after.detail
        elif after.allowed and not before.allowed:
            kind, reason, detail = "gains", before.reason, before.detail
        elif after.allowed and before.route != after.route:
            kind, reason, detail = "moves", None, ""
        else:
            return None
        what = caller.description
        return Change(
            kind, caller.identity, what.subject, what.issuer, caller.truststores, caller.listener,
            before.route, after.route, reason, detail,
        )  # fmt: skip


def _caller(said: Said) -> Caller:
    subject, fingerprint = said.get("subject"), said.get("fingerprint")
    if not isinstance(subject, str) or not isinstance(fingerprint, str):
        raise CannotTell("no client certificate")
    truststore = said.get("truststore")
    if not isinstance(truststore, str):
        raise CannotTell(f"refused by verification ({said.get('reason')}), which needs the certificate: explain --cert")
    sans = said.get("san")
    if not isinstance(sans, list):
        raise CannotTell("no list of alternative names, as from an earlier version's admin")
    issuer, serial = str(said.get("issuer") or ""), str(said.get("serial") or "")
    if _CUT in (subject[-1:], issuer[-1:], *sans[-1:]):
        raise CannotTell("names too long for the log")
    description = Description(subject, issuer, serial, fingerprint, "", tuple(map(str, sans)))
    return Caller(description, _text(said, "principal"), (truststore,), str(said.get("listener")))


def _text(said: Said, key: str) -> str | None:
    value = said.get(key)
    return value if isinstance(value, str) else None


def _request(said: Said) -> Request:
    method, path, host = _text(said, "method"), _text(said, "path"), bare_host(_text(said, "host"))
    if method is None or path is None or host is None:
        raise CannotTell("no request that could be read")
    if _REPLACED in path:
        raise CannotTell("paths that are no UTF-8")
    return Request(method, path.encode("utf-8", "surrogateescape"), host)


@lru_cache(REMEMBERED)
def _client(description: Description) -> Client | None:
    try:
        return client_described(description)
    except ValueError:
        return None


class _Asked:
    """One configuration, asked again and again."""

    def __init__(self, site: Site, at: datetime) -> None:
        self._site = site
        self._at = at
        self._listeners = {listener.name: listener for listener in site.config.listeners}
        self._doubts = _Doubts(site.config)
        self._remembered = lru_cache(REMEMBERED)(self._work_out)

    def answer(self, caller: Caller, request: Request) -> Answer:
        """Raises CannotTell."""
        answer = self._remembered(caller, request)
        if isinstance(answer, str):
            raise CannotTell(answer)
        return answer

    def _work_out(self, caller: Caller, request: Request) -> Answer | str:
        """Or why it cannot be told."""
        client, listener = _client(caller.description), self._listeners.get(caller.listener)
        if client is None:
            return _UNKNOWN
        if listener is None:
            detail = f"there is no listener {caller.listener}"
            return Answer(caller.listener, None, Reason.NO_ROUTE, detail)
        answer = self._site.policy.answer(client, caller.truststores, request, listener, self._at)
        return _HANGS if self._doubts.about(answer, caller.truststores, client) else answer

    def answer_route(self, caller: Caller, route: str) -> Answer:
        """Raises CannotTell."""
        client = _client(caller.description)
        if client is None:
            raise CannotTell(_UNKNOWN)
        answer = self._site.policy.answer_route(client, caller.truststores, route, self._at)
        if self._doubts.about(answer, caller.truststores, client):
            raise CannotTell(_HANGS)
        return answer


class _Doubts:
    """Whether an answer hangs on an entry that names what the log does not have."""

    def __init__(self, config: Config) -> None:
        self._allow = {
            route.name: _known_parts(route.allow, Use.ALLOW) for route in config.routes if route.allow != "any"
        }
        self._deny = {route.name: _known_parts(route.deny, Use.DENY) for route in config.routes}
        self._stores = {name: _known_parts(store.deny, Use.DENY) for name, store in config.truststores.items()}

    def about(self, answer: Answer, truststores: Sequence[str], client: Client) -> bool:
        if answer.reason is Reason.DENIED:
            return False
        of_stores = (part for name in truststores for part in self._stores.get(name, ()))
        denying = (*of_stores, *self._deny.get(answer.route or "", ()))
        if _any_matches(denying, client):
            return True
        return answer.reason is Reason.NOT_ALLOWED and _any_matches(self._allow.get(answer.route or "", ()), client)


def _known_parts(entries: Sequence[Match] | str, use: Use) -> list[Matcher | None]:
    """Of entries that name what is not logged, the rest; None where there is none."""
    found: list[Matcher | None] = []
    for entry in entries:
        if isinstance(entry, Match) and any(getattr(entry, key) is not None for key in _NOT_LOGGED):
            rest = entry.model_copy(update=dict.fromkeys(_NOT_LOGGED))
            said = any(getattr(rest, key) is not None for key in Match.model_fields)
            found.append(compile_match(rest, use) if said else None)
    return found


def _any_matches(parts: Iterable[Matcher | None], client: Client) -> bool:
    return any(part is None or part.matches(client) for part in parts)


# -- what a log cannot show --------------------------------------------------------------------------------------------

_ANSWERED_HERE = frozenset({"deny", "deny_file"})


def trust_changes(new: Config, current: Config) -> list[str]:
    """Truststores that verify by other rules: whom they let in then, a log of names does not tell."""
    found = []
    for name in sorted(current.truststores.keys() & new.truststores.keys()):
        keys = _different(new.truststores[name], current.truststores[name])
        if keys:
            found.append(f"truststore {name}: {', '.join(keys)} changed: whom it verifies may be others, see explain")
    found += [f"truststore {name} is new" for name in sorted(new.truststores.keys() - current.truststores.keys())]
    return found


def _different(one: Truststore, other: Truststore) -> list[str]:
    keys = (key for key in Truststore.model_fields if key not in _ANSWERED_HERE)
    return [key for key in keys if getattr(one, key) != getattr(other, key)]
