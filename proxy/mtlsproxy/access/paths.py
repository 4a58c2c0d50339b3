r"""The ways in which a request path can be read (interfaces.md, "Paths are matched and forwarded byte for byte").

Upstreams differ in what they make of `%2f`, `%5c`, `\`, `//`, dot segments and path parameters. Whoever checks one
reading and forwards to a server with another one has checked nothing (Caddy, `/public/..%2fadmin`). So an ambiguous
path is given here in every reading, and the router asks that they all lead to the same route.

NOTE: decoding twice (`%252f`) is no reading: RFC 3986 §2.4 forbids it.
"""

import re
from itertools import product

MAX_SEGMENTS = 100
"""Of a path with several readings, in its finest one: bounds the time that a hostile path can take."""

MAX_READINGS = 36
"""Combinations of readings, of 72 that there are: a path with that many kinds of ambiguity is nobody's mistake."""

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
_PARAMETERS = re.compile(rb"(?:;|%3B)[^/]*")
_DOT_SEGMENT = re.compile(rb"/(?:\.|%2E){1,2}(?=/|\Z)")


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
    # In the finest split every slash, parameter and dot segment shows that any combination of choices can bring about.
    finest = _SEPARATOR.sub(b"/", path)
    segments = finest.count(b"/")
    parameters = (False, True) if _PARAMETERS.search(path) else (False,)
    finest = _PARAMETERS.sub(b"", finest)
    slash = (False, True) if b"%2F" in path else (False,)
    merged = (False, True) if b"//" in finest else (False,)
    choices = (slash, _backslash_choices(path), parameters, merged, _dot_choices(finest))
    count = 1
    for options in choices:
        count *= len(options)
    if count == 1:
        return (_settled(path),)
    if count > MAX_READINGS or segments > MAX_SEGMENTS:
        raise UnreadablePath("the path can be read in too many ways")
    return tuple(dict.fromkeys(_read(path, *choice) for choice in product(*choices)))


def _backslash_choices(path: bytes) -> tuple[int, ...]:
    """0: a character like any other. 1: plain ones separate segments. 2: encoded ones too."""
    encoded = b"%5C" in path
    if b"\\" in path:
        return (0, 1, 2) if encoded else (0, 1)
    return (0, 2) if encoded else (0,)


def _dot_choices(finest: bytes) -> tuple[int, ...]:
    """0: segments like any other. 1: resolved before decoding. 2: resolved after it."""
    found = _DOT_SEGMENT.findall(finest)
    if not found:
        return (0,)
    return (0, 1, 2) if any(b"%" in segment for segment in found) else (0, 2)


def _read(path: bytes, slash: int, backslash: int, parameters: int, merged: int, dots: int) -> bytes:
    if slash:
        path = path.replace(b"%2F", b"/")
    if backslash:
        path = path.replace(b"\\", b"/")
    if backslash == 2:
        path = path.replace(b"%5C", b"/")
    if parameters:
        path = _PARAMETERS.sub(b"", path)
    if merged:
        path = _SLASHES.sub(b"/", path)
    if dots == 2:
        path = path.replace(b"%2E", b".")
    return _settled(_resolved(path) if dots else path)


def _resolved(path: bytes) -> bytes:
    """RFC 3986 §5.2.4; `..` at the root stays there."""
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
