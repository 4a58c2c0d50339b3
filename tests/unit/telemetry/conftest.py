"""A loop whose timers fire when a test says so: windows of ten seconds, tested in none."""

import asyncio
from collections.abc import Callable

import pytest


class ManualLoop(asyncio.SelectorEventLoop):
    """An event loop that only keeps time. `advance` moves its clock and runs the timers that come due."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def time(self) -> float:
        return getattr(self, "now", 0.0)

    def advance(self, seconds: float) -> None:
        self.now += seconds
        # Timers that are due move to the ready queue in one iteration and run in the same.
        self.call_soon(self.stop)
        self.run_forever()


@pytest.fixture
def manual_loop(request: pytest.FixtureRequest) -> ManualLoop:
    loop = ManualLoop()
    close: Callable[[], None] = loop.close
    request.addfinalizer(close)
    return loop
