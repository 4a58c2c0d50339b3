"""Whatever a file holds, loading it ends in a configuration or in ConfigErrors, whose positions are within the file."""

from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.config.conftest import MINIMAL, changed

from mtlsproxy.config.errors import ConfigErrors
from mtlsproxy.config.parse import parse_config

REFERENCE = (Path(__file__).parent / "reference.yaml").read_bytes()


def feed(data: bytes) -> None:
    try:
        loaded = parse_config(data, "f.yaml", Path("/f"), {"X": "x"})
    except ConfigErrors as refusal:
        assert refusal.errors
        lines = len(data.decode(errors="replace").splitlines()) + 1
        for error in refusal.errors:
            assert 1 <= error.line <= lines + 1
            assert error.column >= 1
            assert error.message
            assert "Input should" not in error.message, "pydantic's words, not ours"
            assert len(str(error).splitlines()) == 1
    else:
        assert loaded.config.listeners


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    feed(data)


@settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from("ab:-[]{}&*!#|>'\",?%@`$<~ \t\n\r0123456789.é\x85\u2028"), max_size=80))
def test_any_text_of_yaml_punctuation(text: str) -> None:
    feed(text.encode())


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(REFERENCE) - 1), st.integers(0, 255))
def test_one_byte_changed(position: int, value: int) -> None:
    feed(REFERENCE[:position] + bytes([value]) + REFERENCE[position + 1 :])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(REFERENCE)))
def test_truncated(length: int) -> None:
    feed(REFERENCE[:length])


@settings(max_examples=40, deadline=None)
@given(st.binary(min_size=1, max_size=20))
def test_trailing_bytes(tail: bytes) -> None:
    feed(changed({}) + tail)


def paths(value: object, prefix: str = "") -> list[str]:
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, inner in items for path in (f"{prefix}{key}", *paths(inner, f"{prefix}{key}."))]


WRITTEN = paths(yaml.safe_load(REFERENCE))
ODD = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=10),
        st.sampled_from(
            ["any", "off", "${X}", "fd:a", "[::]:1", "http://[", "unix:", "1.2.3", "*", "/", "CN=", "=", "\\"]
        ),
    ),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["name", "dns", "issuer"]), inner),
    max_leaves=4,
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(WRITTEN), ODD)
def test_an_odd_value_at_any_key_of_the_reference(path: str, value: object) -> None:
    data = yaml.safe_load(REFERENCE)
    target: Any = data
    *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    for step in steps:
        target = target[step]
    target[last] = value
    feed(yaml.safe_dump(data, allow_unicode=True).encode())


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=30))
def test_any_distinguished_name(text: str) -> None:
    feed(changed({"routes.0.allow": [{"issuer": text}]}))


def test_the_starting_point_is_valid() -> None:
    """Else the tests above would try refusals alone."""
    assert (
        parse_config(changed({}), "f.yaml", Path("/f"), {}).config.listeners[0].name == MINIMAL["listeners"][0]["name"]
    )
