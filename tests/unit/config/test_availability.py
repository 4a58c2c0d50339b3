"""What this version cannot do is refused at its key; written with its inert default, it is accepted."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtlsproxy.config.availability import NOT_YET
from mtlsproxy.config.parse import LoadedConfig

Accept = Callable[[dict[str, Any]], LoadedConfig]
Refuse = Callable[[dict[str, Any]], list[tuple[str, str]]]

ASKS: list[tuple[str, object, object]] = [
    ("listeners.0.protocols", ["h2", "http/1.1"], ["http/1.1"]),
    ("upstreams.orders.protocol", "h2", "http/1.1"),
    ("admin.bind", "fd:admin", "127.0.0.1:2"),
    ("admin.metrics_bind", "fd:metrics", None),
]


def pattern(path: str) -> str:
    path = re.sub(r"^(truststores|upstreams)\.[^.]*", r"\1.*", path.replace(".0", "[]"))
    return f"{path}[]" if path.endswith(("protocols", "sources")) else path


@pytest.mark.parametrize(("path", "asks"), [(path, asks) for path, asks, _ in ASKS])
def test_refused_at_its_key(refused: Refuse, path: str, asks: object) -> None:
    errors = refused({path: asks})
    place = path.replace(".0", "[0]")
    assert [message for at, message in errors if at.startswith(place) and "not available in this version" in message]


@pytest.mark.parametrize(("path", "inert"), [(path, inert) for path, _, inert in ASKS])
def test_accepted_where_it_asks_for_nothing(accepted: Accept, path: str, inert: object) -> None:
    assert accepted({path: inert}).config.version == 1


def test_every_line_of_the_table_is_tried_here() -> None:
    assert {pattern(path) for path, *_ in ASKS} == {key for key, _, _ in NOT_YET}


def test_what_is_available_is_not_refused(accepted: Accept) -> None:
    changes = {
        "upstreams.orders.retries": 2,
        "upstreams.orders.servers.0.weight": 2,
        "upstreams.orders.balance": "client_hash",
        "upstreams.orders.health_check.path": "/healthz",
        "upstreams.orders.circuit_breaker": {"failures": 3, "open_for": "1s"},
        "routes.0.strip_prefix": True,
        "truststores.partners.extended_key_usage.allow_any": True,
        "shutdown": {"delay": "1s", "drain": "2s"},
        "admin.metrics_bind": "127.0.0.1:9902",
        "admin.token_file": "admin.token",
        "truststores.partners.deny_file": "deny.yaml",
        "state_dir": "state",
        "listeners.0.tls.session_resumption": True,
        "upstreams.orders.servers.0.url": "https://a.example",
        "upstreams.orders.tls": {"trust_anchors": ["ca.pem"]},
    }
    assert accepted(changes).config.upstreams["orders"].retries == 2


def test_the_whole_reference_is_understood_by_the_model_and_refused_only_for_what_comes_later(
    parse: Callable[..., LoadedConfig],
) -> None:
    """reference.yaml is an example with every key there is."""
    from mtlsproxy.config.errors import ConfigErrors

    with pytest.raises(ConfigErrors) as caught:
        parse((Path(__file__).parent / "reference.yaml").read_bytes())
    assert [(error.path, error.message.partition(":")[0]) for error in caught.value.errors] == [
        ("listeners[0].protocols[0]", "not available in this version"),
    ]
