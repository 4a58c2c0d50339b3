"""The first route whose host, path and method match wins, however many there are."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.access.build import found, route

from mtlsproxy.access.router import NoMatch, RouteMatch, Router
from mtlsproxy.reasons import Reason
from mtlsproxy.x509.evidence import Result


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("orders.internal", "exact"),
        ("ORDERS.Internal", "exact"),
        ("orders.internal:8443", "exact"),
        ("orders.internal.:8443", "exact"),
        ("orders.internal.", "exact"),
        ("a.apps.internal", "suffix"),
        ("a.b.apps.internal:1", "suffix"),
        ("special.apps.internal", "special"),
        ("x.deep.apps.internal", "deep"),
        ("192.0.2.1:443", "v4"),
        ("[2001:DB8:0::1]:443", "v6"),
        ("[2001:db8::1]", "v6"),
        ("apps.internal", "no_route"),
        (".apps.internal", "no_route"),
        ("xapps.internal", "no_route"),
        ("orders.internal.evil", "no_route"),
        ("evil-orders.internal", "no_route"),
        ("", "no_route"),
    ],
)
def test_hosts_are_exact_or_everything_below_a_suffix(host: str, expected: str) -> None:
    router = Router(
        [
            route("special", hosts=["special.apps.internal"]),
            route("deep", hosts=["*.deep.apps.internal"]),
            route("suffix", hosts=["*.apps.internal"]),
            route("exact", hosts=["Orders.internal"]),
            route("v4", hosts=["192.0.2.1"]),
            route("v6", hosts=["[2001:db8::1]"]),
        ],
        "internal",
    )
    assert found(router, "/", host=host) == expected


def test_an_earlier_wider_route_wins_over_a_later_exact_one() -> None:
    router = Router([route("wide", hosts=["*.internal"]), route("narrow", hosts=["a.internal"]), route("any")], "i")
    assert [found(router, "/", host=h) for h in ("a.internal", "other", "")] == ["wide", "any", "any"]


@pytest.mark.parametrize(
    ("order", "expected"),
    [(["/", "/a", "/a/b"], ["/", "/", "/", "/"]), (["/a/b", "/a", "/"], ["/", "/a", "/a/b", "/a/b"])],
)
def test_the_order_decides_between_prefixes_and_not_their_length(order: list[str], expected: list[str]) -> None:
    router = Router([route(path.strip("/").replace("/", "-") or "root", paths=[path]) for path in order], "i")
    names = [path.strip("/").replace("/", "-") or "root" for path in expected]
    assert [found(router, path) for path in ("/x", "/a/x", "/a/b", "/a/b/c")] == names


@pytest.mark.parametrize("configured", ["/orders", "/orders/", "/%6Frders/"])
@pytest.mark.parametrize(
    ("path", "expected"),
    [("/orders", "r"), ("/orders/", "r"), ("/orders/1", "r"), ("/ordersX", "no_route"), ("/", "no_route")],
)
def test_a_prefix_ends_on_a_segment_boundary_and_its_trailing_slash_does_not_count(
    configured: str, path: str, expected: str
) -> None:
    assert found(Router([route(paths=[configured])], "i"), path) == expected


def test_methods_decide_between_routes_and_a_route_that_lacks_only_the_method_is_405() -> None:
    router = Router(
        [
            route("read", paths=["/a"], methods=["GET", "HEAD"]),
            route("write", paths=["/a", "/b"], methods=["POST"]),
            route("sub", paths=["/a/sub"], methods=["PUT"]),
        ],
        "i",
    )
    assert found(router, "/a") == "read"
    assert found(router, "/a", method="POST") == "write"
    refused = router.match("h", b"/a/x", "DELETE")
    assert isinstance(refused, NoMatch)
    assert (refused.reason, refused.allow) == (Reason.METHOD_NOT_ALLOWED, ("GET", "HEAD", "POST"))
    assert "DELETE" in refused.detail
    assert found(router, "/a/sub/x", method="PUT") == "sub"
    assert found(router, "/c", method="DELETE") == "no_route"
    assert found(router, "/b", method="post") == "method_not_allowed"


def test_readings_that_are_refused_differently_are_ambiguous_too() -> None:
    router = Router([route("a", paths=["/a"], methods=["POST"])], "i")
    assert found(router, "/a/../b") == "bad_request"
    assert found(router, "/a//b") == "method_not_allowed"


def test_a_listener_has_its_own_routes_only() -> None:
    routes = [route("one", listeners=["one"]), route("two", listeners=["two", "three"]), route("all")]
    assert [found(Router(routes, name), "/") for name in ("one", "two", "four")] == ["one", "two", "all"]
    assert found(Router([], "one"), "/") == "no_route"


def test_a_refusal_carries_its_evidence() -> None:
    refused = Router([], "i").match("h", b"/", "GET")
    assert isinstance(refused, NoMatch)
    assert (refused.check.name, refused.check.result) == ("route", Result.FAIL)
    assert refused.check.fix


HOSTS = st.lists(st.sampled_from(["a.x", "b.x", "*.x", "*.y.x", "q.y.x"]), min_size=1, max_size=2, unique=True)
PREFIXES = st.lists(st.sampled_from(["/", "/a", "/a/b", "/a/b/c", "/b/"]), min_size=1, max_size=2, unique=True)
METHODS = st.lists(st.sampled_from(["GET", "POST"]), min_size=1, max_size=2, unique=True)


@given(
    st.lists(st.tuples(st.none() | HOSTS, st.none() | PREFIXES, st.none() | METHODS), max_size=6),
    st.sampled_from(["a.x", "b.x", "q.y.x", "z", "x", "B.X:1"]),
    st.sampled_from(["/", "/a", "/a/", "/a/b", "/ab", "/a/b/c/d", "/b"]),
    st.sampled_from(["GET", "POST", "PUT"]),
)
@settings(max_examples=200, deadline=None)
def test_the_index_finds_what_trying_each_route_in_turn_finds(
    specification: list[tuple[list[str] | None, list[str] | None, list[str] | None]], host: str, path: str, method: str
) -> None:
    routes = []
    for number, (hosts, prefixes, methods) in enumerate(specification):
        keys = {"hosts": hosts, "paths": prefixes, "methods": methods}
        routes.append(route(f"r{number}", **{key: value for key, value in keys.items() if value is not None}))
    name = host.lower().partition(":")[0]
    candidates = [
        f"r{number}" if methods is None or method in methods else None
        for number, (hosts, prefixes, methods) in enumerate(specification)
        if (hosts is None or any(name == h or (h[0] == "*" and name.endswith(h[1:])) for h in hosts))
        and (prefixes is None or any((path + "/").startswith(p.rstrip("/") + "/") for p in prefixes))
    ]
    expected = next((c for c in candidates if c), "method_not_allowed" if candidates else "no_route")
    assert found(Router(routes, "i"), path, host=host, method=method) == expected


def test_a_match_names_the_longest_prefix_of_its_route() -> None:
    match = Router([route(paths=["/a", "/a/b"])], "i").match("h", b"/a/b/c", "GET")
    assert isinstance(match, RouteMatch)
    assert match.prefix == b"/a/b"
