"""Several workers end as one process would: when asked twice, at once."""

import signal
import threading

import pytest
from tests.integration.certificates import Identity
from tests.integration.clients import PATIENCE, request
from tests.integration.harness import Tree, eventually
from tests.integration.upstream import OK, RecordingUpstream
from tests.integration.workers.conftest import Run, runs


@pytest.mark.parametrize("shutdown", [{"drain": "60s"}, {"delay": "60s", "drain": "60s"}], ids=["drain", "delay"])
def test_a_second_signal_ends_all_workers_at_once(
    config: Tree, run: Run, alice: Identity, upstream: RecordingUpstream, shutdown: Tree
) -> None:
    """What is in flight is cut off; the exit status is that of a stop that was asked for."""
    released = threading.Event()

    def answer_late(*_: object) -> bytes:
        released.wait(2 * PATIENCE)
        return OK

    upstream.script = answer_late
    config["shutdown"] = shutdown
    several = run()
    pids = several.pids
    with several.connect(alice) as client:
        client.send(request())
        eventually(lambda: upstream.requests)
        several.process.send_signal(signal.SIGTERM)
        eventually(lambda: any("draining" in line["message"] for line in several.messages()))
        assert several.process.poll() is None
        several.process.send_signal(signal.SIGTERM)
        assert several.process.wait(PATIENCE) == 0
        assert client.response().problem["reason"] == "upstream_timeout", "told, not reset"
    released.set()
    assert not any(runs(pid) for pid in pids)
