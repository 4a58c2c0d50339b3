"""A path that upstreams can read in several ways is admitted only where every reading reaches the same route."""

import re
from collections.abc import Callable
from itertools import combinations, permutations
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.access.build import found, paths, route

from mtlsproxy.access.paths import MAX_READINGS, UnreadablePath, readings
from mtlsproxy.access.router import RouteMatch, Router

ROUTER = paths(admin="/admin/", public="/public")
CATCH_ALL = paths(admin="/admin", public="/public", rest="/")

PLAIN = [
    ("/public", "public"),
    ("/public/", "public"),
    ("/public/a/b.c", "public"),
    ("/public/.well-known/x", "public"),
    ("/public/..a/...", "public"),
    ("/admin", "admin"),
    ("/admin/", "admin"),
    ("/%61dmin", "admin"),
    ("/%61%64%6D%69%6e/x", "admin"),
    ("/administrator", "no_route"),
    ("/publi", "no_route"),
    ("/", "no_route"),
    ("/Admin", "no_route"),
    ("/public/100%25", "public"),
    ("/public/a%20b%C3%A9", "public"),
    ("/public/%252e%252e/admin", "public"),
    ("/public/a=b&c", "public"),
]
SAME_EVERYWHERE = [
    ("/public/a/../b", "public"),
    ("/public/./b", "public"),
    ("/public//b", "public"),
    ("/public/a%2fb", "public"),
    ("/public/a%5Cb", "public"),
    ("/public/a\\b", "public"),
    ("/public/a;v=1/b", "public"),
    ("/public/..;/public/x", "public"),
    ("/public/x/%2e%2e/y", "public"),
    ("/nothing/a/../b", "no_route"),
]
ATTACKS = [
    "/public/../admin",
    "/public/..",
    "/public/..%2fadmin",
    "/public/..%2Fadmin",
    "/public/%2e%2e/admin",
    "/public/%2E%2e%2fadmin",
    "/public/.%2e/admin",
    "/public/..\\admin",
    "/public\\..\\admin",
    "/public/..%5cadmin",
    "/public/..;/admin",
    "/public/..;x=1/admin",
    "/public/%2e%2e;/admin",
    "/public/..%3b/admin",
    "/public/x/../../admin",
    "/public/%2e/../admin",
    "/public/.;/../admin",
    "//admin",
    "///admin/x",
    "/public%2f..%2fadmin",
    "/public/..//admin",
    "/admin%2fx",
    "/admin\\x",
    "/admin%5cx",
    "/./admin",
    "/;/admin",
    "/admin;x",
    "/x;/../admin",
    "/;%2fpublic/admin%2f",
    "/%2fadmin",
    "/\\admin",
    "/public/..%2f..%2fadmin",
    "/public/../public/../admin",
]
MALFORMED = [
    b"",
    b"*",
    b"admin",
    b"?",
    b"/public/%00",
    b"/public/%00/../admin",
    b"/public/a\x00b",
    b"/public/a b",
    b"/public/\t",
    b"/public/\r\n",
    b"/public/\n",
    b"/public\n",
    b"/public/\x7f",
    b"/public/%0d%0aX:%20y",
    b"/public/%7f",
    b"/public/%1F",
    b"/public/%",
    b"/public/%2",
    b"/public/%zz",
    b"/public/%u002f",
    b"/public/%%32",
    b"/public/\xc3\xa9",
    b"/public/\xff",
    b"/public/#/../admin",
    b"/public?x",
    b"http://x/public",
]


@pytest.mark.parametrize(("path", "expected"), PLAIN + SAME_EVERYWHERE)
def test_a_path_reaches_its_route(path: str, expected: str) -> None:
    assert found(ROUTER, path) == expected


@pytest.mark.parametrize("path", ATTACKS)
def test_a_path_with_two_destinations_is_refused(path: str) -> None:
    """Row "path confusion" (Caddy `/public/..%2fadmin`): never the one route, never the other."""
    assert found(ROUTER, path) == "bad_request"
    assert found(CATCH_ALL, path) == "bad_request"


@pytest.mark.parametrize("path", MALFORMED)
def test_a_malformed_path_is_refused_even_where_every_path_would_do(path: bytes) -> None:
    assert found(Router([route()], "internal"), path) == "bad_request"


@pytest.mark.parametrize("path", [p for p in ATTACKS if p.isascii()])
def test_with_one_route_for_everything_nothing_is_ambiguous(path: str) -> None:
    assert found(Router([route()], "internal"), path) == "r"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/a/b", {b"/a/b"}),
        (b"/%7Ea/%3A%40", {b"/~a/:@"}),
        (b"/a%c3%a9%2a", {b"/a%C3%A9*"}),
        (b"/a//b", {b"/a//b", b"/a/b"}),
        (b"/a%2fb", {b"/a%2Fb", b"/a/b"}),
        (b"/a/../b", {b"/a/../b", b"/b"}),
        (b"/a/..", {b"/a/..", b"/"}),
        (b"/../b", {b"/../b", b"/b"}),
        (b"/a/b/.", {b"/a/b/.", b"/a/b/"}),
        (b"/a/../%2e%2e/b/%2e", {b"/a/../../b/.", b"/../b/.", b"/b/"}),
        (b"/a;b/c", {b"/a;b/c", b"/a/c"}),
        (b"/a\\b%5cc", {b"/a\\b%5Cc", b"/a/b%5Cc", b"/a\\b\\c", b"/a/b\\c", b"/a/b/c"}),
    ],
)
def test_readings_are_these_and_no_others(path: bytes, expected: set[bytes]) -> None:
    assert set(readings(path)) == expected
    assert readings(path)[0] in expected


def test_hostile_lengths_are_refused_rather_than_worked_through() -> None:
    with pytest.raises(UnreadablePath, match="too many"):
        readings(b"/a/.." * 100)
    with pytest.raises(UnreadablePath, match="too many"):
        readings(b"/;/%2f//\\%5c/../%2e%2e/")
    assert len(readings(b"/" + b"a/" * 4000)) == 1
    assert len(readings(b"/a%20b" * 1000)) == 1


PIECES = st.sampled_from(
    [
        "/",
        "/",
        "/",
        "admin",
        "public",
        "a",
        ".",
        "..",
        "%2f",
        "%2F",
        "%5c",
        "\\",
        "//",
        ";",
        "%3b",
        "%2e",
        "%2E",
        "%61",
        ":",
    ]
)
PATHS = st.lists(PIECES, max_size=12).map(lambda pieces: "/" + "".join(pieces))


@given(PATHS)
@settings(max_examples=200, deadline=None)
def test_an_admitted_path_has_one_destination_whatever_the_upstream_makes_of_it(path: str) -> None:
    """Upstreams decode, merge slashes, cut parameters, resolve dots in some order: all 261 must end at our route."""
    chosen = found(CATCH_ALL, path)
    if chosen == "bad_request":
        return
    for order in ORDERS:
        read = path
        for step in order:
            read = step(read)
        first = read.split("/")[1]
        assert (first if first in ("admin", "public") else "rest") == chosen, (path, read)


def _resolved(path: str) -> str:
    kept: list[str] = []
    for segment in path.split("/")[1:]:
        if segment == "..":
            kept = kept[:-1]
        elif segment != ".":
            kept.append(segment)
    return "/" + "/".join(kept)


STEPS: list[Callable[[str], str]] = [
    unquote,
    _resolved,
    lambda path: re.sub("/+", "/", path),
    lambda path: path.replace("\\", "/"),
    lambda path: "/".join(segment.split(";")[0] for segment in path.split("/")),
]
ORDERS = [
    order
    for count in range(1, 6)
    for some in combinations(STEPS, count)
    for order in permutations(some)
    if unquote in order
]


@given(st.binary(max_size=30))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for path in (data, b"/" + data):
        try:
            ways = readings(path)
        except UnreadablePath as error:
            assert error.detail
            continue
        assert 1 <= len(ways) == len(set(ways)) <= MAX_READINGS
        assert all(way.startswith(b"/") for way in ways)


@pytest.mark.parametrize(
    ("path", "forwarded"),
    [
        ("/orders", b"/"),
        ("/orders/", b"/"),
        ("/orders/a/b", b"/a/b"),
        ("/%6frders/a%2fb", b"/a%2fb"),
        ("/orders/a//b", b"/a//b"),
        ("/orders/a/../b", b"/a/../b"),
    ],
)
def test_a_stripped_prefix_leaves_the_rest_byte_for_byte(path: str, forwarded: bytes) -> None:
    router = Router([route(paths=["/orders/"], strip_prefix=True)], "internal")
    match = router.match("h", path.encode(), "GET")
    assert isinstance(match, RouteMatch)
    assert match.forwarded(path.encode()) == forwarded


@pytest.mark.parametrize(
    "path", ["/orders//evil.example/x", "/orders/../orders/x", "/orders/a/../../orders/x", "/orders/\\x"]
)
def test_what_stripping_would_turn_into_something_else_is_refused(path: str) -> None:
    strips, keeps = (Router([route(paths=["/orders"], strip_prefix=on)], "internal") for on in (True, False))
    assert found(strips, path) == "bad_request"
    assert found(keeps, path) == "r"


def test_without_strip_prefix_a_path_passes_byte_for_byte() -> None:
    match = ROUTER.match("h", b"/public/%61//b%2f", "GET")
    assert isinstance(match, RouteMatch)
    assert match.forwarded(b"/public/%61//b%2f") == b"/public/%61//b%2f"
