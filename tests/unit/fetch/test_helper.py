"""The helper process goes on with its housekeeping when the disk does not."""

import asyncio
import logging
from datetime import datetime
from pathlib import Path

import pytest

from mtlsproxy.fetch import helper as module
from mtlsproxy.fetch.helper import Helper


async def test_what_cannot_be_removed_is_said_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    helper, tries = Helper(tmp_path / "state"), asyncio.Queue[datetime]()

    def prune(in_use: set[str], at: datetime) -> int:
        tries.put_nowait(at)
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(helper._cache, "prune", prune)
    monkeypatch.setattr(module, "_PRUNE_EVERY", 0.01)
    pruning = asyncio.get_running_loop().create_task(helper._prune())
    async with asyncio.timeout(10):
        await tries.get()
        await tries.get()
    assert not pruning.done()
    pruning.cancel()
    assert caplog.record_tuples[0][1:] == (
        logging.WARNING,
        f"what is of no more use in {tmp_path / 'state'} cannot be removed: [Errno 1] Operation not permitted",
    )
