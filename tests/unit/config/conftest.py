"""A small valid configuration, and what becomes of it when keys are changed."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mtlsproxy.config.errors import ConfigErrors
from mtlsproxy.config.parse import LoadedConfig, parse_config

FOLDER = Path("/etc/proxy")
MINIMAL: dict[str, Any] = {
    "version": 1,
    "listeners": [
        {
            "name": "internal",
            "bind": "127.0.0.1:8443",
            "tls": {"certificates": [{"certificate": "server.pem", "private_key": "server.key"}]},
            "client_auth": {"truststores": ["partners"]},
        }
    ],
    "truststores": {"partners": {"trust_anchors": ["ca.pem"], "revocation": {"crl": {"sources": ["crls/"]}}}},
    "routes": [{"name": "orders", "allow": [{"dns": "a.example"}], "upstream": "orders"}],
    "upstreams": {"orders": {"servers": [{"url": "http://127.0.0.1:9000"}]}},
}


ABSENT = "<absent>"
"""Put in place of a value, removes its key."""


def changed(changes: dict[str, Any]) -> bytes:
    """MINIMAL with `a.0.b`: value set, made on the way where missing; as YAML."""
    data = copy.deepcopy(MINIMAL)
    for path, value in changes.items():
        *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
        target: Any = data
        for step in steps:
            target = target[step] if isinstance(step, int) else target.setdefault(step, {})
        if value == ABSENT:
            del target[last]
        elif isinstance(target, list) and last == len(target):
            target.append(value)
        else:
            target[last] = value
    return yaml.safe_dump(data, sort_keys=False).encode()


@pytest.fixture
def parse() -> Callable[..., LoadedConfig]:
    """Parses text or bytes as `proxy.yaml` in /etc/proxy."""

    def parse_text(text: str | bytes, **environ: str) -> LoadedConfig:
        data = text.encode() if isinstance(text, str) else text
        return parse_config(data, "proxy.yaml", FOLDER, environ)

    return parse_text


@pytest.fixture
def accepted(parse: Callable[..., LoadedConfig]) -> Callable[[dict[str, Any]], LoadedConfig]:
    """The configuration that results from changes to MINIMAL."""
    return lambda changes: parse(changed(changes))


@pytest.fixture
def refused(parse: Callable[..., LoadedConfig]) -> Callable[[dict[str, Any]], list[tuple[str, str]]]:
    """The (path, message) of every error that changes to MINIMAL cause; there must be one."""

    def errors_of(changes: dict[str, Any]) -> list[tuple[str, str]]:
        with pytest.raises(ConfigErrors) as caught:
            parse(changed(changes))
        return [(error.path, error.message) for error in caught.value.errors]

    return errors_of
