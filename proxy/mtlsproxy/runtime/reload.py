"""Trust that changes while the proxy runs: watches every file that the configuration names, and reloads it whole.

A change is read, checked and made ready in a thread; only when nothing is wrong with it does it take the place of what
is in force. Files are watched by looking at them (a stat of each, twice a second): this sees what notification does
not, such as a swapped Kubernetes `..data` link, a file on NFS, and a folder that appears later.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Protocol

from mtlsproxy.config.errors import ConfigErrors
from mtlsproxy.config.load import LoadedConfig
from mtlsproxy.config.model import Config
from mtlsproxy.revocation.sources import LoadedCrls
from mtlsproxy.runtime.auditing import Auditing
from mtlsproxy.runtime.changes import changes
from mtlsproxy.runtime.gauges import count_refused_files
from mtlsproxy.runtime.material import Material, load_material
from mtlsproxy.runtime.snapshot import Plan, make_plan
from mtlsproxy.runtime.watched import Signature, signature, watched_paths
from mtlsproxy.telemetry.metrics import Metrics

LOOK_EVERY = 0.5
"""Seconds between two looks at the files: with a reload's own time, a change is in force within a second."""

SETTLE = 0.1
"""Seconds that the files must stay as they are before they are read: what replaces several does not do it at once."""

_SETTLE_AT_MOST = 20
"""Looks at files that keep changing, before they are read anyway."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of a reload. errors: a line each; then what was in force before stays. generation: in force after it."""

    at: datetime
    errors: tuple[str, ...]
    generation: int

    @property
    def ok(self) -> bool:
        return not self.errors


class Reloadable(Protocol):
    """What a reload is put in force at: a proxy, or the supervisor of several."""

    loop: asyncio.AbstractEventLoop
    metrics: Metrics
    ticket_secret: bytes
    audit: Auditing

    @property
    def config(self) -> Config: ...

    @property
    def first_config(self) -> Config:
        """The configuration at start, of which some parts stay in force until the end."""

    @property
    def material(self) -> Material: ...

    @property
    def generation(self) -> int: ...

    @property
    def watches(self) -> bool:
        """Whether files are looked at."""

    def read_config(self, file: Path) -> LoadedConfig:
        """In a thread. Raises ConfigErrors."""

    async def load_lists(self, sources: Sequence[str | Path]) -> LoadedCrls:
        """CRL files, large ones off the loop. Raises SourceError, CrlError."""

    def reloading(self) -> None:
        """Tell whoever started us that a reload has begun."""

    def notify(self) -> None:
        """And that it is over."""

    def refresh(self) -> None:
        """Ask for fetched lists again, now."""

    async def adopt(self, plan: Plan) -> None:
        """Put `plan` in force, whole. Raises ConfigErrors with what was in force still there."""


class Reloader:
    """Reloads when asked, and when a file has changed. One reload at a time; requests meanwhile are one more."""

    def __init__(self, proxy: Reloadable) -> None:
        self._proxy = proxy
        self._wanted = asyncio.Event()
        self._busy = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._paths: tuple[Path, ...] = ()
        self._seen: Signature = {}
        """The files as they were before they were read: what changes meanwhile differs from it at the next look."""
        self.last: Outcome | None = None

    def start(self) -> None:
        self._paths = watched_paths(self._proxy.config, self._file)
        self._seen = self._proxy.material.seen
        for result in ("success", "failure"):
            self._proxy.metrics.config_reloads_total.cell(result)  # from zero: a first failure is an increase, too
        self._proxy.metrics.config_last_reload_success_timestamp_seconds.set(value=time.time())
        self._proxy.metrics.config_last_reload_successful.set(value=1)
        loop = self._proxy.loop
        self._tasks = [loop.create_task(self._serve())]
        if self._proxy.watches:
            self._tasks.append(loop.create_task(self._watch()))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks = []

    def reload_soon(self) -> None:
        self._wanted.set()

    @property
    def _file(self) -> Path:
        return Path(self._proxy.material.loaded.document.file)

    async def reload(self, by: str) -> Outcome:
        """Now. by: who or what asks for it. Never raises for what is wrong with files: the outcome says it."""
        async with self._busy:
            self._proxy.reloading()
            before = self._proxy.material
            outcome = await self._reload()
            after = self._proxy.material
            self._proxy.notify()
        changed = list(changes(before, after)) if outcome.ok else []
        _say_changes(changed, before, after)
        self._proxy.audit.reloaded(by, outcome.errors, outcome.generation, before, after, changed)
        self.last = outcome
        metrics = self._proxy.metrics
        metrics.config_reloads_total.cell("success" if outcome.ok else "failure").value += 1
        metrics.config_last_reload_successful.set(value=float(outcome.ok))
        if outcome.ok:
            metrics.config_last_reload_success_timestamp_seconds.set(value=outcome.at.timestamp())
            log.info("reloaded: generation %d is in force", outcome.generation)
        else:
            for line in outcome.errors:
                log.error("reload refused, generation %d stays: %s", outcome.generation, line)
        return outcome

    async def _reload(self) -> Outcome:
        self._seen = await self._look()
        at = datetime.now(UTC)
        try:
            loaded = await asyncio.to_thread(self._proxy.read_config, self._file)
            await self._watch_also(loaded.config)
            plan = await asyncio.to_thread(self._prepare, loaded, at)
            await self._proxy.adopt(plan)
        except ConfigErrors as errors:
            return Outcome(at, tuple(map(str, errors.errors)), self._proxy.generation)
        generation = self._proxy.generation
        self._paths = watched_paths(self._proxy.config, self._file)
        count_refused_files(self._proxy.metrics, plan.material)
        _say_what_needs_a_restart(plan.material.loaded.config, self._proxy.first_config)
        return Outcome(at, (), generation)

    async def _watch_also(self, config: Config) -> None:
        """The files of a configuration that is about to be read. Where it is refused, that goes on beside what is in
        force: the file that it lacks may come later."""
        paths = (*watched_paths(self._proxy.config, self._file), *watched_paths(config, self._file))
        self._paths = tuple(dict.fromkeys(paths))
        self._seen = {**await self._look(), **self._seen}

    def _prepare(self, loaded: LoadedConfig, at: datetime) -> Plan:
        """In a thread: everything that reads files or takes long."""
        known = self._proxy.material
        material = load_material(loaded, at, known, self._load_lists)
        return make_plan(material, self._proxy.ticket_secret)

    def _load_lists(self, sources: Sequence[str | Path]) -> LoadedCrls:
        """In the thread of a reload: large lists are read by the helper process, whose work no request feels."""
        loading = asyncio.run_coroutine_threadsafe(self._proxy.load_lists(sources), self._proxy.loop)
        return loading.result()

    async def _serve(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            await self._reload_safely("SIGHUP")
            self._proxy.refresh()

    async def _reload_safely(self, by: str) -> None:
        try:
            await self.reload(by)
        except Exception:
            log.exception("a reload failed by a mistake of ours; what is in force stays")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if self._differs(await self._look()):
                await self._settle()
                await self._reload_safely("a file that has changed")

    async def _settle(self) -> None:
        last = await self._look()
        for _ in range(_SETTLE_AT_MOST):
            await asyncio.sleep(SETTLE)
            now = await self._look()
            if now == last:
                return
            last = now

    async def _look(self) -> Signature:
        return await asyncio.to_thread(signature, self._paths)

    def _differs(self, found: Signature) -> bool:
        """Of what is watched; a file that is gone from a folder shows in the folder itself."""
        return any(self._seen.get(path) != state for path, state in found.items())


def _say_changes(changed: Sequence[tuple[str, bool]], before: Material, after: Material) -> None:
    for words, about_trust in changed:
        log.log(logging.WARNING if about_trust else logging.INFO, "changed: %s", words)
    for warning in after.warnings:
        if warning.message not in {known.message for known in before.warnings}:
            log.warning("%s", warning)


_AT_START_ONLY = {
    **{f"admin.{key}": attrgetter(f"admin.{key}") for key in ("bind", "metrics_bind", "allowed_hosts")},
    **{key: attrgetter(key) for key in ("logging", "state_dir", "user", "workers")},
}


def _say_what_needs_a_restart(new: Config, first: Config) -> None:
    for key, value_in in _AT_START_ONLY.items():
        if value_in(new) != value_in(first):
            log.warning("%s has changed: it is read at start alone; restart to apply it", key)
