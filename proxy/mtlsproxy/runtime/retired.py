"""Listeners that a reload has taken away, and whoever is still served there.

Nobody is served on without being judged: an answer or a WebSocket would outlive every revocation.
"""

from collections.abc import Mapping

from mtlsproxy.runtime.listener import ListenerRuntime


class Retired:
    def __init__(self) -> None:
        self._listeners: list[ListenerRuntime] = []

    def add(self, listener: ListenerRuntime, patience: float) -> None:
        """patience: seconds until what is still in flight there is ended."""
        listener.retire(patience)
        self._listeners.append(listener)

    @property
    def busy(self) -> list[ListenerRuntime]:
        """Those where anybody is still."""
        self._listeners = [listener for listener in self._listeners if listener.busy]
        return self._listeners

    def adopt(self, current: Mapping[str, ListenerRuntime], generation: int) -> None:
        """The Snapshot `generation` is in force: one whose name is used at another address goes by its rules. Of one
        that is gone altogether no later Snapshot says anything: it ends with the next."""
        for listener in self.busy:
            follower = current.get(listener.config.name)
            if follower is not None:
                listener.adopt(follower.config, follower.snapshot)
            elif listener.service.rules.generation < generation - 1:
                listener.kill()
