"""What the proxy still has in memory when its clients are gone, without the help of a garbage collection."""

import contextlib
import gc
from collections import Counter
from collections.abc import Iterator

from tests.integration.harness import eventually

_BOUNDED = frozenset(
    {
        "mtlsproxy.transport.wheel.Timer",
        "mtlsproxy.telemetry.recent.Refusal",
        "mtlsproxy.telemetry.recent._Kept",
    }
)
"""A closed timer has let go of everything and waits in its slot until that comes up; the latest refusals are kept."""


@contextlib.contextmanager
def no_collections() -> Iterator[None]:
    """Only reference counts free memory meanwhile: whatever is part of a cycle stays, and is seen to."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect()


def ours() -> Counter[str]:
    """Objects of the proxy's own types and its TLS objects and contexts, by type. Clients here use SSLSocket."""
    found = Counter(map(_name, map(type, gc.get_objects())))
    return Counter({name: count for name, count in found.items() if _is_ours(name) and name not in _BOUNDED})


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _is_ours(name: str) -> bool:
    return name.startswith("mtlsproxy.") or name in ("ssl.SSLObject", "ssl.SSLContext")


def assert_nothing_more_than(before: Counter[str]) -> None:
    """Polls: connections end a moment after their clients."""
    with contextlib.suppress(AssertionError):
        eventually(lambda: not ours() - before, 2)
    left = ours() - before
    assert not left, left
