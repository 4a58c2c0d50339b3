"""Weaker choices are named, each at its key; the default names none."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.config.conftest import ABSENT

from mtlsproxy.config.base import Section
from mtlsproxy.config.parse import LoadedConfig
from mtlsproxy.config.weaknesses import _unsafe

Accept = Callable[[dict[str, Any]], LoadedConfig]
REVOCATION = "truststores.partners.revocation"


@pytest.mark.parametrize(
    ("path", "value", "at", "words"),
    [
        (REVOCATION, ABSENT, REVOCATION, "is absent: revoked certificates are let in"),
        (f"{REVOCATION}.mode", False, f"{REVOCATION}.mode", "is off: revoked certificates are let in"),
        (f"{REVOCATION}.mode", "soft_fail", f"{REVOCATION}.mode", "is soft_fail"),
        (
            "truststores.partners.extended_key_usage.allow_absent",
            True,
            "truststores.partners.extended_key_usage.allow_absent",
            "do not say what they are for",
        ),
        (
            f"{REVOCATION}.crl.sources",
            ["http://a.example/", "HTTPS://b.example/"],
            f"{REVOCATION}.crl.sources[1]",
            "is never asked: https needs",
        ),
        (
            f"{REVOCATION}.ocsp",
            {"enabled": True, "responder": "https://o.example/"},
            f"{REVOCATION}.ocsp.responder",
            "is never asked: https needs",
        ),
        ("routes.0.allow", "any", "routes[0].allow", "is any"),
        ("routes.0.enforce", False, "routes[0].enforce", "is false"),
        ("listeners.0.proxy_protocol_from", ["10.0.0.0/8"], "listeners[0].proxy_protocol_from", "is of no use"),
        ("listeners.0.trusted_proxies", ["0.0.0.0/0", "10.0.0.0/8"], "listeners[0].trusted_proxies[0]", "everybody"),
    ],
)
def test_a_weaker_choice_is_one_warning(accepted: Accept, path: str, value: object, at: str, words: str) -> None:
    (warning,) = accepted({path: value}).warnings
    assert warning.path == at
    assert words in warning.message
    assert str(warning).startswith("proxy.yaml:")


def test_who_may_send_a_proxy_header_and_is_everybody_is_one_warning(accepted: Accept) -> None:
    listener = {"listeners.0.proxy_protocol": "v2", "listeners.0.proxy_protocol_from": ["10.0.0.0/8", "::/0"]}
    (warning,) = accepted(listener).warnings
    assert warning.path == "listeners[0].proxy_protocol_from[1]"
    assert "is everybody" in warning.message


def test_https_that_trust_anchors_vouch_for_or_nobody_asks_is_no_weakness(accepted: Accept) -> None:
    sources = {f"{REVOCATION}.crl.sources": ["https://b.example/"]}
    assert accepted({**sources, f"{REVOCATION}.fetch": {"trust_anchors": ["web-ca.pem"]}}).warnings == ()
    off = accepted({f"{REVOCATION}.ocsp": {"enabled": False, "responder": "https://o.example/"}})
    assert off.warnings == ()


def test_the_default_has_none(accepted: Accept) -> None:
    assert accepted({}).warnings == ()


def test_an_absent_block_is_pointed_at_where_it_would_be(accepted: Accept) -> None:
    loaded = accepted({REVOCATION: ABSENT})
    (warning,) = loaded.warnings
    assert warning.position == loaded.locate("truststores.partners.revocation")
    line = int(warning.position.split(":")[1])
    assert loaded.document.node(("truststores", "partners")) is not None
    assert line < int(loaded.locate("truststores.partners.trust_anchors[0]").split(":")[1])


def test_an_unsafe_key_warns_wherever_the_model_will_have_one() -> None:
    class Inner(Section):
        unsafe_anything: bool = False

    class Outer(Section):
        inner: tuple[Inner, ...]
        named: dict[str, Inner]

    safe, unsafe = Inner(), Inner(unsafe_anything=True)
    found = list(_unsafe(Outer(inner=(safe, unsafe), named={"unsafe_name": safe, "b": unsafe}), ()))
    assert [path for path, _ in found] == [("inner", 1, "unsafe_anything"), ("named", "b", "unsafe_anything")]


SECURE: dict[str, Any] = {
    "upstreams.orders.servers.0.url": "https://a.example",
    "upstreams.orders.tls": {"trust_anchors": ["up.pem"], "revocation": {"crl": {"sources": ["up.crl"]}}},
}


@pytest.mark.parametrize(
    ("changes", "at", "words"),
    [
        ({"upstreams.orders.tls.revocation": ABSENT}, "revocation", "is absent: servers with revoked certificates"),
        ({"upstreams.orders.tls.revocation.mode": "off"}, "revocation.mode", "is off: servers with revoked"),
        ({"upstreams.orders.tls.revocation.mode": "soft_fail"}, "revocation.mode", "servers with revoked"),
        (
            {"upstreams.orders.tls.extended_key_usage": {"allow_absent": True}},
            "extended_key_usage.allow_absent",
            "do not say what they are for",
        ),
        ({"upstreams.orders.servers.0.url": "http://a.example"}, "", "requests go there unencrypted"),
    ],
)
def test_a_weaker_choice_about_servers_is_one_warning(
    accepted: Accept, changes: dict[str, Any], at: str, words: str
) -> None:
    assert accepted(copy.deepcopy(SECURE)).warnings == ()
    (warning,) = accepted(copy.deepcopy(SECURE) | changes).warnings
    assert warning.path == f"upstreams.orders.tls.{at}".removesuffix(".")
    assert words in warning.message
