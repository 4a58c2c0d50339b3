"""The hostile messages of this folder as frozen values. What a vector may say is in README.md; anything else raises."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from mtlsproxy.reasons import Reason, status_of

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class RequestVector:
    """send: a client's bytes. upstream: the whole requests that it must see, without the lines that the proxy adds.

    refused: why the last of them is, or None. within_body: it is refused when its head has passed already.
    ends: the client ends behind `send`, and gets no further answer. keeps: the connection goes on after the refusal.
    """

    name: str
    source: str
    send: bytes
    upstream: tuple[bytes, ...]
    refused: Reason | None
    within_body: bool
    ends: bool
    keeps: bool

    @property
    def outcome(self) -> str:
        if self.refused is not None:
            return f"{status_of(self.refused)} {self.refused.value}"
        return "cut short" if self.ends else "passes"


@dataclass(frozen=True, slots=True)
class ResponseVector:
    """answer: an upstream's bytes to `request`; then it waits, closes or resets (`then`).

    client: the whole answer that the client must see, or its beginning where it is `cut`; empty: 502. reused: the
    upstream's connection may serve another request.
    """

    name: str
    source: str
    request: bytes
    answer: bytes
    then: str
    client: bytes
    cut: bool
    reused: bool

    @property
    def outcome(self) -> str:
        if not self.client:
            return "502 upstream_error"
        return "cut short" if self.cut else "passes"


@dataclass(frozen=True, slots=True)
class PathVector:
    """path: a request target. beside, under: its fate beside `/admin` alone, and where a route for `/` takes the rest:
    the route's name, or the reason that refuses. stripped: what is forwarded where that is not `path`."""

    path: bytes
    source: str
    beside: str
    under: str
    stripped: bytes | None


def request_vectors(name: str) -> list[RequestVector]:
    return [_request(entry) for entry in _entries(FOLDER / "requests" / f"{name}.yaml")]


def request_files() -> list[str]:
    return sorted(file.stem for file in (FOLDER / "requests").glob("*.yaml"))


def response_vectors() -> list[ResponseVector]:
    return [_response(entry) for entry in _entries(FOLDER / "responses.yaml")]


def path_vectors() -> list[PathVector]:
    return [_path(entry) for entry in _entries(FOLDER / "paths.yaml")]


def _entries(file: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = yaml.safe_load(file.read_text())
    names = [entry.get("name", entry.get("path")) for entry in entries]
    assert len(set(names)) == len(names), f"{file.name}: {sorted(n for n in names if names.count(n) > 1)}"
    return entries


def _request(entry: dict[str, Any]) -> RequestVector:
    name, source = entry.pop("name"), entry.pop("source")
    refused = entry.pop("refused", None)
    vector = RequestVector(
        name=name,
        source=source,
        send=_bytes(entry.pop("send")),
        upstream=tuple(map(_bytes, entry.pop("upstream", []))),
        refused=_reason(name, refused),
        within_body=entry.pop("within", None) == "body",
        ends=entry.pop("ends", False),
        keeps=entry.pop("keeps", False),
    )
    assert not entry, f"{name}: {entry}"
    assert vector.refused or vector.upstream or vector.ends, f"{name}: expects nothing"
    return vector


def _reason(name: str, said: str | None) -> Reason | None:
    """`400 bad_request`: the status is there for readers, and must be the reason's."""
    if said is None:
        return None
    status, _, reason = said.partition(" ")
    assert status_of(Reason(reason)) == int(status), f"{name}: {said}"
    return Reason(reason)


def _response(entry: dict[str, Any]) -> ResponseVector:
    name = entry.pop("name")
    passed, cut = entry.pop("passed", None), entry.pop("cut", None)
    assert (entry.pop("refused", None) == "502 upstream_error") is (passed is None and cut is None), name
    vector = ResponseVector(
        name=name,
        source=entry.pop("source"),
        request=_bytes(entry.pop("request", "GET /lie HTTP/1.1\r\nHost: proxy.test\r\n\r\n")),
        answer=_bytes(entry.pop("answer")),
        then=entry.pop("then", "closes"),
        client=_bytes(passed or cut or ""),
        cut=cut is not None,
        reused=entry.pop("reused", False),
    )
    assert vector.then in ("waits", "closes", "resets"), name
    assert not entry, f"{name}: {entry}"
    return vector


def _path(entry: dict[str, Any]) -> PathVector:
    stripped = entry.pop("stripped", None)
    beside = entry.pop("beside")
    vector = PathVector(
        path=_bytes(entry.pop("path")),
        source=entry.pop("source"),
        beside=beside,
        under=entry.pop("under", beside),
        stripped=None if stripped is None else _bytes(stripped),
    )
    assert not entry, f"{vector.path!r}: {entry}"
    return vector


def _bytes(said: str | list[Any]) -> bytes:
    """One byte a character (U+0000 to U+00FF); a list is joined, `{repeat: x, times: n}` in it repeated."""
    if isinstance(said, str):
        return said.encode("latin-1")
    return b"".join(
        _bytes(part) if isinstance(part, str) else _bytes(part["repeat"]) * int(part["times"]) for part in said
    )


def behind(first: bytes, vector: RequestVector) -> RequestVector:
    """`vector` on a connection on which `first`, a good request, came just before it."""
    return replace(vector, send=first + vector.send, upstream=(first, *vector.upstream))
