"""Admin servers on loopback and on every address."""

from collections.abc import AsyncIterator

import pytest
from tests.unit.admin.site import Site, serve

from mtlsproxy.config.service import Admin


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async for running in serve(Admin.model_validate({"bind": "127.0.0.1:0", "metrics_bind": "127.0.0.1:0"})):
        yield running


@pytest.fixture
async def open_site() -> AsyncIterator[Site]:
    """Bound to every address: reachable from outside."""
    async for running in serve(Admin.model_validate({"bind": "0.0.0.0:0"})):
        yield running
