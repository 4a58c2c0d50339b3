"""What the configuration can already say and this version cannot do yet: a line an item, removed as features arrive."""

from collections.abc import Callable, Iterator

from mtlsproxy.config.document import Document, Path
from mtlsproxy.config.errors import ConfigError


def _is(*values: object) -> Callable[[object], bool]:
    return lambda value: any(value == other and type(value) is type(other) for other in values)


def _begins(*prefixes: str) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and value.startswith(prefixes)


NOT_YET: tuple[tuple[str, Callable[[object], bool], str], ...] = (
    ("listeners[].protocols[]", _is("h2"), "HTTP/2; write [http/1.1]"),
    ("upstreams.*.protocol", _is("h2"), "HTTP/2 to upstreams; write http/1.1"),
    ("admin.bind", _begins("fd:"), "sockets from systemd; write host:port"),
    ("admin.metrics_bind", _begins("fd:"), "sockets from systemd; write host:port"),
)
"""(key; does a value ask for the feature; the feature, what to write instead). `[]` is each item, `*` each name."""


def not_available(document: Document) -> list[ConfigError]:
    """An error for each value that asks for something of NOT_YET."""
    return [
        document.error(path, f"not available in this version: {words}")
        for pattern, asks, words in NOT_YET
        for path, value in _values(document.data, pattern.replace("[]", ".[]").split("."), ())
        if asks(value)
    ]


def _values(data: object, steps: list[str], path: Path) -> Iterator[tuple[Path, object]]:
    if not steps:
        yield path, data
    elif steps[0] == "[]" and isinstance(data, list):
        for index, item in enumerate(data):
            yield from _values(item, steps[1:], (*path, index))
    elif steps[0] == "*" and isinstance(data, dict):
        for name, item in data.items():
            yield from _values(item, steps[1:], (*path, name))
    elif isinstance(data, dict) and steps[0] in data:
        yield from _values(data[steps[0]], steps[1:], (*path, steps[0]))
