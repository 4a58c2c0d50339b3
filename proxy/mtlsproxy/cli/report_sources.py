"""How revocation data that comes over the network looks: where from, how old, for how long; and what is missing."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from rich.text import Text

from mtlsproxy.cli.report import line, moment
from mtlsproxy.fetch.once import Found, State
from mtlsproxy.revocation.crl import Crl
from mtlsproxy.revocation.ocsp_answers import OcspAnswer, OcspFailure
from mtlsproxy.revocation.wording import ago, span, title
from mtlsproxy.runtime.offline import Consulted, OcspAsked

_WORDS: dict[State, tuple[str, str]] = {
    "kept": ("kept copy", "green"),
    "fetched": ("fetched now", "green"),
    "not_asked": ("not asked", "yellow"),
    "not_allowed": ("not allowed", "bold red"),
    "failed": ("failed", "bold red"),
}
_WIDTH = max(len(words) for words, _ in _WORDS.values())


def missing(consulted: Consulted) -> tuple[str, ...]:
    """What a proxy would have asked, and nobody did here."""
    lists = [found.source.url for found in consulted.lists if found.state == "not_asked"]
    return (*lists, *dict.fromkeys(_responder(asked) for asked in consulted.ocsp if asked.answer is None))


def as_json(consulted: Consulted) -> list[dict[str, Any]]:
    return [*map(list_as_json, consulted.lists), *map(_ocsp_as_json, consulted.ocsp)]


def list_as_json(found: Found) -> dict[str, Any]:
    """Of a CRL URL. named_by: configuration or certificate."""
    return {
        "kind": "crl",
        "url": found.source.url,
        "named_by": found.source.named_by,
        "state": found.state,
        "detail": found.detail,
        "fetched_at": _moment(found.fetched_at),
        "lists": [_crl_as_json(crl) for crl in found.crls],
    }


def _crl_as_json(crl: Crl) -> dict[str, Any]:
    return {
        "issuer": crl.issuer,
        "number": crl.number,
        "delta": crl.is_delta,
        "this_update": moment(crl.this_update),
        "next_update": _moment(crl.next_update),
        "entries": crl.entries,
    }


def _ocsp_as_json(asked: OcspAsked) -> dict[str, Any]:
    answer = asked.answer
    known = answer if isinstance(answer, OcspAnswer) else None
    return {
        "kind": "ocsp",
        "responders": list(asked.responders),
        "certificate": title(asked.certificate),
        "state": _state_of(asked),
        "detail": answer.detail if isinstance(answer, OcspFailure) else "",
        "status": known.status if known else None,
        "this_update": _moment(known.this_update if known else None),
        "next_update": _moment(known.next_update if known else None),
    }


def _moment(value: datetime | None) -> str | None:
    return None if value is None else moment(value)


def _state_of(asked: OcspAsked) -> State:
    if asked.answer is None:
        return "not_asked"
    return "fetched" if isinstance(asked.answer, OcspAnswer) else "failed"


# -- for people ----------------------------------------------------------------------------------------------------


def show(consulted: Consulted, now: datetime) -> list[Text]:
    shown = [*show_lists(consulted.lists, now), *(_show_ocsp(asked, now) for asked in consulted.ocsp)]
    return shown + [line(_word("failed", "left out"), problem) for problem in consulted.problems]


def show_lists(lists: Iterable[Found], now: datetime) -> Iterator[Text]:
    """A line for each list, and for each URL that has none in use."""
    for found in lists:
        if not found.crls:
            by = " (named by a certificate)" if found.source.named_by == "certificate" else ""
            why = found.detail.removeprefix(f"{found.source.url}: ")
            yield line(_word(found.state), f"{found.source.url}{by}: {why}")
        for crl in found.crls:
            yield line(_word(found.state), _list(crl, found, now))
        if found.crls and found.detail:
            yield line(_word("failed"), found.detail)


def _word(state: State, words: str = "") -> tuple[str, str]:
    usual, style = _WORDS[state]
    return f"{words or usual:{_WIDTH}}", style


def _list(crl: Crl, found: Found, now: datetime) -> str:
    kind = "delta CRL" if crl.is_delta else "CRL"
    number = "" if crl.number is None else f", number {crl.number}"
    fetched = "" if found.fetched_at is None else f", fetched {ago(found.fetched_at, now)}"
    entries = f", {crl.entries} revoked"
    pending = "" if found.verified else ", counts for chains that bring its issuer's key"
    url = found.source.url
    return f"{kind} of {crl.issuer}{number}, from {url}{fetched}{_ends(crl.next_update, now)}{entries}{pending}"


def _ends(next_update: datetime | None, now: datetime) -> str:
    if next_update is None:
        return ""
    if next_update < now:
        return f", ended {ago(next_update, now)}"
    return f", next update in {span(next_update - now)}"


def _show_ocsp(asked: OcspAsked, now: datetime) -> Text:
    about = f"{_responder(asked)} about {title(asked.certificate)}"
    match asked.answer:
        case None:
            return line(_word("not_asked"), f"{about}: OCSP answers are not kept on disk")
        case OcspFailure(detail=detail):
            return line(_word("failed"), f"{about}: {detail}")
        case OcspAnswer() as answer:
            age = f"as of {ago(answer.this_update, now)}{_ends(answer.next_update, now)}"
            return line(_word("fetched"), f"{about}: {answer.status}, {age}")


def _responder(asked: OcspAsked) -> str:
    return f"OCSP ({', '.join(asked.responders)})"
