"""Between parts of the file: names exist, are given once, and reach each other."""

from collections.abc import Callable
from typing import Any

import pytest

from mtlsproxy.config.parse import LoadedConfig

Accept = Callable[[dict[str, Any]], LoadedConfig]
Refuse = Callable[[dict[str, Any]], list[tuple[str, str]]]

SECOND_LISTENER = {
    "name": "external",
    "bind": "127.0.0.1:8444",
    "tls": {"certificates": [{"certificate": "a.pem", "private_key": "a.key"}]},
    "client_auth": {"truststores": ["others"]},
}
TWO = {
    "listeners.1": SECOND_LISTENER,
    "truststores.others": {"trust_anchors": ["b.pem"]},
    "routes.0.listeners": ["internal", "external"],
}


@pytest.mark.parametrize(
    ("changes", "path", "words"),
    [
        (
            {"listeners.0.client_auth.truststores": ["partner"]},
            "listeners[0].client_auth.truststores[0]",
            "no truststore 'partner' (did you mean partners?)",
        ),
        ({"routes.0.upstream": "order"}, "routes[0].upstream", "no upstream 'order' (did you mean orders?)"),
        ({"routes.0.upstream": "zzz"}, "routes[0].upstream", "no upstream 'zzz' (known: orders)"),
        ({"routes.0.identity": "nobody"}, "routes[0].identity", "no identity 'nobody' (known: default)"),
        ({"routes.0.listeners": ["intern"]}, "routes[0].listeners[0]", "(did you mean internal?)"),
        ({"routes.0.truststores": ["partners", "x"]}, "routes[0].truststores[1]", "no truststore 'x'"),
        (
            {"listeners.1": {**SECOND_LISTENER, "client_auth": {"truststores": ["partners"]}}},
            "routes[0]",
            "listeners is required where there are several: any of internal, external",
        ),
        (
            {**TWO, "listeners.1": {**SECOND_LISTENER, "name": "internal"}, "routes.0.listeners": ["internal"]},
            "listeners[1].name",
            "internal is the name of listeners[0] already",
        ),
        (
            {**TWO, "listeners.1": {**SECOND_LISTENER, "bind": "127.0.0.1:8443"}},
            "listeners[1].bind",
            "bound above already",
        ),
        ({"admin.bind": "127.0.0.1:8443"}, "admin.bind", "bound above already"),
        ({"admin": {"bind": "[::1]:1", "metrics_bind": "[0::1]:1"}}, "admin.metrics_bind", "bound above already"),
        (
            {**TWO, "routes.0.listeners": ["internal"], "routes.0.truststores": ["others"]},
            "routes[0].truststores",
            "none of these is among client_auth.truststores of the route's listeners (partners)",
        ),
        (
            {"routes.1": {"name": "orders", "allow": [], "upstream": "orders"}},
            "routes[1].name",
            "orders is the name of routes[0] already",
        ),
    ],
)
def test_refused(refused: Refuse, changes: dict[str, Any], path: str, words: str) -> None:
    ((place, message),) = refused(changes)
    assert place == path
    assert words in message


@pytest.mark.parametrize(
    "changes",
    [
        TWO,
        {**TWO, "routes.0.truststores": ["others"]},
        {**TWO, "listeners.0.bind": "127.0.0.1:0", "listeners.1.bind": "127.0.0.1:0"},
        {"routes.0.listeners": ["internal"], "routes.0.truststores": ["partners"], "routes.0.identity": "default"},
        {"identities.legacy": {"forms": ["xfcc"]}, "routes.0.identity": "legacy"},
        {"routes": []},
    ],
)
def test_accepted(accepted: Accept, changes: dict[str, Any]) -> None:
    assert accepted(changes).config.version == 1


def test_default_is_an_identity_whatever_else_is(accepted: Accept) -> None:
    config = accepted({"identities.legacy": {"forms": ["xfcc"]}}).config
    assert set(config.identities) == {"default", "legacy"}


def test_proxy_protocol_needs_to_know_who_may_send_it(refused: Refuse, accepted: Accept) -> None:
    errors = refused({"listeners.0.proxy_protocol": "v2"})
    assert any("needs proxy_protocol_from" in message for _, message in errors)
    accepted({"listeners.0.proxy_protocol": "v2", "listeners.0.proxy_protocol_from": ["10.0.0.0/8"]})
