"""Remarks on a configuration: what never counts is found, and what counts is not remarked on."""

from pathlib import Path
from typing import Any

import pytest

from mtlsproxy.access.lint import Remark, lint
from mtlsproxy.access.weaker import weaker_ways
from mtlsproxy.config.model import Config, Truststore

Tree = dict[str, Any]


def store(**settings: Any) -> Tree:
    return {"trust_anchors": ["ca.pem"]} | settings


def route(name: str, **settings: Any) -> Tree:
    return {"name": name, "allow": "any", "upstream": f"up-{name}"} | settings


def config(*routes: Tree, stores: Tree | None = None, listeners: dict[str, list[str]] | None = None) -> Config:
    stores = stores or {"a": store()}
    listeners = listeners or {"l": list(stores)}
    return Config.model_validate(
        {
            "version": 1,
            "listeners": [
                {
                    "name": name,
                    "bind": f"127.0.0.1:{8000 + number}",
                    "tls": {"certificates": [{"certificate": "s.pem", "private_key": "s.key"}]},
                    "client_auth": {"truststores": trusted},
                }
                for number, (name, trusted) in enumerate(listeners.items())
            ],
            "truststores": stores,
            "routes": list(routes),
            "upstreams": {one["upstream"]: {"servers": [{"url": "http://127.0.0.1:1"}]} for one in routes},
        },
        context={"folder": Path("/x")},
    )


def remarks(found: tuple[Remark, ...], kind: str) -> list[str]:
    return [remark.path for remark in found if remark.kind == kind]


@pytest.mark.parametrize(
    ("first", "later"),
    [
        ({}, {}),
        ({}, {"hosts": ["a.example"], "paths": ["/x"], "methods": ["GET"]}),
        ({"paths": ["/a"]}, {"paths": ["/a/b", "/a"]}),
        ({"paths": ["/a/"]}, {"paths": ["/a"]}),
        ({"hosts": ["*.example"]}, {"hosts": ["a.example", "*.b.example"]}),
        ({"methods": ["GET", "POST"]}, {"methods": ["POST"]}),
        ({"hosts": ["a.example"], "paths": ["/a"]}, {"hosts": ["a.example"], "paths": ["/a/b"], "methods": ["PUT"]}),
        ({"allow": []}, {}),
    ],
)
def test_a_route_from_which_an_earlier_one_takes_everything(first: Tree, later: Tree) -> None:
    (remark,) = [
        one for one in lint(config(route("first", **first), route("later", **later))) if one.kind == "shadowed"
    ]
    assert (remark.path, "first, before it" in remark.detail) == ("routes[1]", True)


@pytest.mark.parametrize(
    ("first", "later"),
    [
        ({"hosts": ["a.example"], "paths": ["/x"], "methods": ["GET"]}, {}),
        ({"paths": ["/a/b"]}, {"paths": ["/a"]}),
        ({"paths": ["/a"]}, {"paths": ["/ab"]}),
        ({"paths": ["/a"]}, {"paths": ["/a", "/b"]}),
        ({"hosts": ["*.example"]}, {"hosts": ["example"]}),
        ({"hosts": ["a.example"]}, {"hosts": ["*.example"]}),
        ({"hosts": ["*.example"]}, {}),
        ({"methods": ["GET"]}, {"methods": ["GET", "POST"]}),
        ({"methods": ["GET"]}, {}),
        ({"paths": ["/a"], "methods": ["GET"]}, {"paths": ["/a"], "methods": ["POST"]}),
    ],
)
def test_a_route_that_is_left_something(first: Tree, later: Tree) -> None:
    assert remarks(lint(config(route("first", **first), route("later", **later))), "shadowed") == []


def test_several_routes_together_take_everything() -> None:
    found = lint(config(route("a", paths=["/a"]), route("b", paths=["/b"]), route("c", paths=["/b/x", "/a/x"])))
    (remark,) = found
    assert (remark.path, "b and a, before it" in remark.detail) == ("routes[2]", True)


def test_a_route_of_another_listener_takes_nothing() -> None:
    routes = (route("a", listeners=["l"]), route("b", listeners=["l", "m"]))
    listeners = {"l": ["a"], "m": ["a"]}
    assert remarks(lint(config(*routes, listeners=listeners)), "shadowed") == []
    routes = (route("a", listeners=["l", "m"]), route("b", listeners=["m"]))
    assert remarks(lint(config(*routes, listeners=listeners)), "shadowed") == ["routes[1]"]


def test_a_route_that_allows_nobody() -> None:
    assert remarks(lint(config(route("a", allow=[]))), "unreachable") == ["routes[0].allow"]
    assert remarks(lint(config(route("a", allow=[{"common_name": "x"}]))), "unreachable") == []


@pytest.mark.parametrize(
    ("uri", "matches"),
    [("spiffe://a.example/x", True), ("spiffe://b.example/x", False), ("spiffe://**/x", True), ("urn:x:y", True)],
)
def test_an_entry_of_another_trust_domain(uri: str, matches: bool) -> None:
    stores = {"a": store(spiffe_trust_domain="a.example")}
    found = lint(config(route("a", allow=[{"uri": uri}]), stores=stores))
    assert remarks(found, "unreachable") == ([] if matches else ["routes[0].allow[0]"])


def test_an_entry_of_a_trust_domain_where_one_truststore_takes_any() -> None:
    stores = {"a": store(spiffe_trust_domain="a.example"), "b": store()}
    found = lint(config(route("a", allow=[{"uri": "spiffe://b.example/x"}]), stores=stores))
    assert remarks(found, "unreachable") == []


def test_a_host_that_no_certificate_stands_for() -> None:
    asked = []

    def stands_for(listener: str, host: str) -> bool:
        asked.append((listener, host))
        return host == "a.example"

    found = lint(config(route("a", hosts=["a.example", "b.example"])), stands_for)
    assert remarks(found, "unreachable") == ["routes[0].hosts[1]"]
    assert asked[0] == ("l", "a.example")
    assert lint(config(route("a", hosts=["b.example"]))) == (), "not asked, not remarked on"


@pytest.mark.parametrize(
    ("wide", "narrow", "covered"),
    [
        ({"common_name": "x"}, {"common_name": "x"}, True),
        ({"common_name": "x"}, {"common_name": "x", "organization": "y"}, True),
        ({"common_name": "x", "organization": "y"}, {"common_name": "x"}, False),
        ({"dns": "*.example.org"}, {"dns": "a.example.org"}, True),
        ({"dns": "*.example.org"}, {"dns": "a.b.example.org"}, False),
        ({"dns": "*.example.org"}, {"dns": "*.example.org"}, True),
        ({"dns": "a.example.org"}, {"dns": "*.example.org"}, False),
        ({"dns": "x"}, {"common_name": "x"}, False),
        ({"uri": "spiffe://a/**"}, {"uri": "spiffe://a/b/c"}, True),
        ({"email": "*@a.example"}, {"email": "b@a.example"}, True),
        ({"ip": "10.0.0.0/8"}, {"ip": "10.1.0.0/16"}, True),
        ({"ip": "10.1.0.0/16"}, {"ip": "10.0.0.0/8"}, False),
        ({"ip": "::/0"}, {"ip": "10.0.0.0/8"}, False),
        ({"serial": "0a:0b"}, {"serial": "A0B"}, True),
        ({"serial": "0a:0b"}, {"serial": "A0C"}, False),
    ],
)
def test_an_entry_that_another_says_already(wide: Tree, narrow: Tree, covered: bool) -> None:
    found = lint(config(route("a", allow=[wide, narrow])))
    assert remarks(found, "redundant") == (["routes[0].allow[1]"] if covered else [])
    found = lint(config(route("a", allow=[narrow], deny=[wide])))
    assert remarks(found, "shadowed") == (["routes[0].allow[0]"] if covered else [])


HARD: Tree = {"mode": "hard_fail", "crl": {"sources": ["crls/"]}}


@pytest.mark.parametrize(
    ("weak", "strict", "words"),
    [
        ({}, {"revocation": HARD}, "revocation off instead of hard_fail"),
        ({"revocation": HARD | {"mode": "soft_fail"}}, {"revocation": HARD}, "soft_fail instead of hard_fail"),
        ({"revocation": HARD | {"scope": "leaf"}}, {"revocation": HARD}, "the leaf alone"),
        ({"revocation": HARD | {"short_lived": "1h"}}, {"revocation": HARD}, "leaves of up to 3600 s"),
        ({"revocation": HARD | {"crl": {"sources": ["x"], "grace": "1h"}}}, {"revocation": HARD}, "past their end"),
        ({"extended_key_usage": {"allow_absent": True}}, {}, "allow_absent"),
        ({"extended_key_usage": {"allow_any": True}}, {}, "allow_any"),
        ({}, {"extended_key_usage": {"require": ["clientAuth", "1.2.3"]}}, "extended key usage 1.2.3 not required"),
        ({}, {"keys": {"minimum_rsa_bits": 3072}}, "RSA keys of 2048 bits instead of 3072"),
        ({}, {"keys": {"curves": ["P-256"]}}, "keys of P-384"),
        ({}, {"signature_hashes": ["sha384"]}, "signatures by sha256, sha512, too"),
        ({}, {"certificate_policies": ["1.2.3"]}, "no certificate policy"),
        ({}, {"spiffe_trust_domain": "a.example"}, "no SPIFFE ID"),
    ],
)
def test_a_weaker_truststore_is_named_with_its_ways(weak: Tree, strict: Tree, words: str) -> None:
    found = config(route("a"), stores={"weak": store(**weak), "strict": store(**strict)})
    (remark,) = lint(found)
    assert (remark.kind, remark.path) == ("weaker", "routes[0]")
    assert "truststore weak, too, which is weaker than strict" in remark.detail
    assert words in remark.detail
    assert weaker_ways(found.truststores["strict"], found.truststores["weak"]) == ()


def test_truststores_that_ask_for_the_same_are_not_remarked_on() -> None:
    stores = {"a": store(revocation=HARD), "b": store(revocation=HARD | {"crl": {"sources": ["other/"]}})}
    assert lint(config(route("a"), stores=stores)) == ()
    assert weaker_ways(*[Truststore.model_validate(store(), context={"folder": Path("/")})] * 2) == ()


def test_a_weaker_way_to_the_same_upstream() -> None:
    stores = {"weak": store(), "strict": store(revocation=HARD)}
    routes = (
        route("guarded", paths=["/a"], truststores=["strict"], upstream="u"),
        route("open", paths=["/b"], truststores=["weak"], upstream="u"),
        route("other", paths=["/c"], truststores=["weak"]),
    )
    (remark,) = lint(config(*routes, stores=stores))
    assert remark.path == "routes[1]"
    assert "upstream u is reached by truststore weak on route open, which is weaker than strict of route guarded" in (
        remark.detail
    )
