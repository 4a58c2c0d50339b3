r"""The ways in which a request path can be read (interfaces.md, "Paths are matched and forwarded byte for byte").

Upstreams differ in what they make of `%2f`, `%5c`, `\`, `//`, dot segments and path parameters. Whoever checks one
reading and forwards to a server with another one has checked nothing (Caddy, `/public/..%2fadmin`). So an ambiguous
path is given here in every reading, and the router asks that they all lead to the same route.

NOTE: decoding twice (`%252f`) is no reading: RFC 3986 §2.4 forbids it.
"""

import re
from collections.abc import Callable

MAX_SEGMENTS = 100
"""Of a path with several readings, in its finest one: bounds the time that a hostile path can take."""

MAX_READINGS = 64
"""A path with more kinds of ambiguity than it takes for that is nobody's mistake."""

_PLAIN = re.compile(rb"(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9\-._~!$&'()*+,=:@]+)+/?|/")
"""One reading, itself: nothing to decode, no empty or dot segment, no path parameter."""

_WELL_FORMED = re.compile(rb"/(?:[!-\"$&->@-~]|%[0-9A-Fa-f]{2})*")
"""Printable ASCII but `#` and `?`, and whole escapes. Non-ASCII and spaces are sent escaped (RFC 3986 §2)."""

_CONTROL = re.compile(rb"%(?:[01][0-9A-Fa-f]|7[Ff])")
_ESCAPE = re.compile(rb"%[0-9A-Fa-f]{2}")
_DECODED = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_~!$&'()*+,=:@")
"""All that may stand in a segment as itself; the dot and the semicolon wait, for there the spelling can matter."""

_SEPARATOR = re.compile(rb"/|\\|%2F|%5C")
_SLASHES = re.compile(rb"//+")
_PARAMETERS = re.compile(rb";[^/]*")
_DOT_SEGMENT = re.compile(rb"/\.{1,2}(?:/|\Z)")
_AMBIGUOUS = re.compile(rb"//|\\|;|%(?:2F|5C|3B)|/(?:\.|%2E){1,2}(?:/|\Z)")
"""Without any of these no step below changes more than the spelling."""


class UnreadablePath(Exception):
    """A path of which no reading is worth having (reason bad_request)."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


def readings(path: bytes) -> tuple[bytes, ...]:
    """Every reading of `path` (the request target without its query), each canonical and once.

    Canonical: unreserved characters and the others that may stand in a segment as themselves (`!$&'()*+,=:@;`) decoded,
    other escapes in upper case. Raises UnreadablePath for `%00` and other control characters, malformed escapes, what
    does not begin with `/`, and paths ambiguous beyond the bounds above.
    """
    if _PLAIN.fullmatch(path):
        return (path,)
    if not _WELL_FORMED.fullmatch(path):
        raise UnreadablePath(r"the path has a control character or a malformed escape, or does not begin with /")
    if _CONTROL.search(path):
        raise UnreadablePath("the path has an encoded control character")
    return _enumerated(_respelled(path))


def canonical(path: bytes) -> bytes:
    """`path`, which has one reading, with its escapes in one spelling; see `readings`."""
    return _settled(_respelled(path))


def _respelled(path: bytes) -> bytes:
    return _ESCAPE.sub(_respelled_escape, path)


def _respelled_escape(escape: re.Match[bytes]) -> bytes:
    value = int(escape[0][1:], 16)
    return bytes((value,)) if value in _DECODED else escape[0].upper()


def _settled(path: bytes) -> bytes:
    return path.replace(b"%2E", b".").replace(b"%3B", b";")


def _enumerated(path: bytes) -> tuple[bytes, ...]:
    """Whatever any of _STEPS make of the path, in any order and selection; the untouched one first."""
    if not _AMBIGUOUS.search(path):
        return (_settled(path),)
    if len(_SEPARATOR.findall(path)) > MAX_SEGMENTS:
        raise UnreadablePath("the path can be read in too many ways")
    reached = {path: None}
    unread = [path]
    while unread:
        current = unread.pop()
        for step in _STEPS:
            changed = step(current)
            if changed not in reached:
                reached[changed] = None
                unread.append(changed)
        if len(reached) > MAX_READINGS:
            raise UnreadablePath("the path can be read in too many ways")
    return tuple(dict.fromkeys(map(_settled, reached)))


def _resolved(path: bytes) -> bytes:
    """RFC 3986 §5.2.4; `..` at the root stays there."""
    if not _DOT_SEGMENT.search(path):
        return path
    kept: list[bytes] = []
    segments = path.split(b"/")[1:]
    for segment in segments:
        if segment == b"..":
            del kept[-1:]
        elif segment != b".":
            kept.append(segment)
    if segments[-1] in (b".", b"..") and kept:
        kept.append(b"")
    return b"/" + b"/".join(kept)


_STEPS: tuple[Callable[[bytes], bytes], ...] = (
    lambda path: path.replace(b"%2F", b"/"),
    lambda path: path.replace(b"%5C", b"\\"),
    lambda path: path.replace(b"\\", b"/"),
    lambda path: path.replace(b"%2E", b"."),
    lambda path: path.replace(b"%3B", b";"),
    lambda path: _PARAMETERS.sub(b"", path),
    lambda path: _SLASHES.sub(b"/", path),
    _resolved,
)
"""What upstreams do to paths. Their orders differ, and with the order the result: so every order is tried."""
