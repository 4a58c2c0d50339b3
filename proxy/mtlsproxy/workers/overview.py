"""What the admin shows of all workers, as if they were one process, and what it changes at all of them."""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mtlsproxy.config.model import DenyEntry
from mtlsproxy.runtime.control import Denied, NotServing, denial_of, log_denial, words_of
from mtlsproxy.runtime.issuers import unknown_issuer_of
from mtlsproxy.runtime.reload import Outcome
from mtlsproxy.runtime.token import Token
from mtlsproxy.telemetry.clients import MAX_CLIENTS, merged
from mtlsproxy.telemetry.refusals import MAX_RECENT, OnEvent
from mtlsproxy.telemetry.traffic import counted, traffic_of
from mtlsproxy.verdict.trust import Denial

if TYPE_CHECKING:
    from mtlsproxy.telemetry.exposition import Reading
    from mtlsproxy.workers.crew import Worker
    from mtlsproxy.workers.supervisor import Supervisor

log = logging.getLogger(__name__)

_ADDED_UP = ("connections", "requests_in_flight", "idle", "failures", "retries")
"""What of a status is each worker's own share; the rest is the same in all."""

Tree = dict[str, Any]


class Overview:
    """The admin's `StatusSource` for a supervisor."""

    def __init__(self, supervisor: "Supervisor") -> None:
        self._supervisor = supervisor
        self.control = CrewControl(supervisor)
        self._watchers: dict[object, OnEvent] = {}

    async def readings(self) -> "Sequence[Reading]":
        from mtlsproxy.workers.sums import readings

        crew = self._supervisor.crew
        await crew.ask_all({"op": "readings"})
        return readings(self._supervisor.metrics, crew.departed, crew.numbers)

    async def readiness(self, listener: str | None) -> tuple[bool, list[str]]:
        supervisor = self._supervisor
        if listener is not None and listener not in {each.name for each in supervisor.config.listeners}:
            raise KeyError(listener)
        if supervisor.draining:
            return False, ["draining: the proxy is about to stop"]
        if not supervisor.serving:
            return False, ["starting: not all workers are ready yet"]
        answers = await supervisor.crew.ask_all({"op": "readiness", "listener": listener})
        if not answers:
            return False, ["no worker process is ready"]
        reasons: list[str] = []
        for answer in answers:
            ready, why = answer["readiness"]
            if ready:
                return True, []
            reasons += [line for line in why if line not in reasons]
        return False, reasons

    async def revocation(self, listener: str | None) -> list[Tree]:
        if listener is not None and listener not in {each.name for each in self._supervisor.config.listeners}:
            raise KeyError(listener)
        answers = await self._supervisor.crew.ask_all({"op": "revocation", "listener": listener})
        found: list[Tree] = answers[0]["ends"] if answers else []
        return found

    async def rejections(self, limit: int = MAX_RECENT) -> list[Tree]:
        answers = await self._supervisor.crew.ask_all({"op": "rejections", "limit": limit})
        found = [line for answer in answers for line in answer["rejections"]]
        return sorted(found, key=lambda line: str(line["time"]), reverse=True)[:limit]

    async def rejection(self, request_id: str) -> Tree | None:
        answers = await self._supervisor.crew.ask_all({"op": "rejection", "request_id": request_id})
        found: list[Tree] = [answer["rejection"] for answer in answers if answer["rejection"] is not None]
        return max(found, key=lambda line: str(line["time"]), default=None)

    async def clients(self, limit: int = MAX_CLIENTS) -> list[Tree]:
        answers = await self._supervisor.crew.ask_all({"op": "clients", "limit": limit})
        return merged([answer["clients"] for answer in answers], limit)

    async def traffic(self) -> Tree:
        from mtlsproxy.workers.sums import readings

        crew, own = self._supervisor.crew, self._supervisor.metrics
        found = readings(own, crew.departed, crew.numbers, counted(own))
        return traffic_of({reading.family.name: reading.series for reading in found})

    async def watch(self, on_event: OnEvent) -> Callable[[], None]:
        key = object()
        self._watchers[key] = on_event
        await self._supervisor.crew.ask_all({"op": "watch"})  # those that watch already go on

        def end() -> None:
            self._watchers.pop(key, None)
            if not self._watchers:
                self._supervisor.crew.tell_all({"op": "unwatch"})

        return end

    def worker_ready(self, worker: "Worker") -> None:
        """One that took the place of another."""
        if self._watchers:
            worker.send({"op": "watch", "id": 0})

    def heard(self, event: Tree) -> None:
        """What a worker tells those who watch."""
        for on_event in list(self._watchers.values()):
            on_event(event)

    async def status(self) -> Mapping[str, Any]:
        supervisor = self._supervisor
        answers = await supervisor.crew.ask_all({"op": "status"})
        whole: Tree = {}
        for answer in answers:
            whole = combined(whole, answer["status"]) if whole else answer["status"]
        last = supervisor.reloader.last
        return whole | {
            "started": supervisor.started,
            "draining": supervisor.draining,
            "configuration": whole.get("configuration", {})
            | {
                "file": supervisor.material.loaded.document.file,
                "sha256": supervisor.material.loaded.sha256,
                "generation": supervisor.generation,
                "last_reload": None if last is None else {"at": last.at, "ok": last.ok, "errors": list(last.errors)},
                "warnings": [str(warning) for warning in supervisor.material.warnings],
            },
            "workers": [
                {"number": worker.number, "pid": worker.process.pid, "ready": worker.ready}
                for worker in supervisor.crew.workers
            ],
        }


def combined(one: Any, other: Any) -> Any:
    """Two workers' statuses as one. Lists are of the same things in the same order, or the first one's is taken."""
    if isinstance(one, dict) and isinstance(other, dict):
        return {
            key: value + other[key] if key in _ADDED_UP and key in other else combined(value, other.get(key, value))
            for key, value in one.items()
        }
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [combined(a, b) for a, b in zip(one, other, strict=True)]
    return one


class CrewControl:
    """The admin's hands on all workers; see runtime.control.Control."""

    def __init__(self, supervisor: "Supervisor") -> None:
        self._supervisor = supervisor

    @property
    def token(self) -> Token | None:
        return self._supervisor.material.token

    @property
    def truststores(self) -> tuple[str, ...]:
        return tuple(self._supervisor.material.trusts)

    def denials(self) -> tuple[Denial, ...]:
        return self._supervisor.denials.active(datetime.now(UTC))

    async def reload(self, by: str) -> Outcome:
        """Raises NotServing."""
        if not self._supervisor.serving or self._supervisor.draining:
            raise NotServing("the proxy is starting, or about to stop: nothing is reloaded now")
        log.info("reload asked for by %s", by)
        outcome = await self._supervisor.reloader.reload(by)
        self._supervisor.refresh()
        return outcome

    async def deny(self, entry: DenyEntry, truststore: str | None, by: str) -> Denied:
        """As runtime.control.Control.deny."""
        supervisor, now = self._supervisor, datetime.now(UTC)
        wanted = words_of(entry, truststore)
        warning = unknown_issuer_of(entry, supervisor.material.trusts, truststore)
        known = next((d for d in supervisor.denials.active(now) if words_of(d, d.truststore) == wanted), None)
        if known is not None:
            await supervisor.denials.save(now)
            return Denied(known, False, 0, warning)
        denial = denial_of(entry, truststore, now, by)
        supervisor.denials.enforce(denial)
        log_denial(denial, wanted, warning)
        ended = await supervisor.tell_denials(denial)
        supervisor.audit.denied(denial, wanted, ended)
        await supervisor.denials.save(now)
        return Denied(denial, True, ended, warning)

    async def lift(self, ident: str, by: str) -> Denial | None:
        lifted = await self._supervisor.denials.lift(ident, datetime.now(UTC))
        if lifted is not None:
            await self._supervisor.tell_denials(None)
            words = words_of(lifted, lifted.truststore)
            log.info("denial %s lifted by %s: %s", ident, by, words)
            self._supervisor.audit.lifted(lifted, by, words)
        return lifted
