"""The event loop: uvloop where it is installed, asyncio's own where it is missing."""

import asyncio
from collections.abc import Callable


def new_event_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    """The factory to hand to `asyncio.Runner(loop_factory=…)`."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
