"""All feeds in use: revocation data that comes over the network, and what becomes of it when a configuration changes.

Nothing here holds up the loop: lists are fetched, verified and indexed by the helper process (fetch.client), answers
asked for by aiohttp. What has come is looked up at once; what a verdict wants besides is asked for, and the verdict
made again.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mtlsproxy.fetch.cache import CacheError
from mtlsproxy.fetch.client import CrlEvent, FetchClient, HelperFailed, read_here
from mtlsproxy.revocation.sources import LoadedCrls, SourceError
from mtlsproxy.runtime.feed import Feed, fetches_lists, needs_feed
from mtlsproxy.runtime.gauges import crl_labels
from mtlsproxy.runtime.lasting import Asked
from mtlsproxy.runtime.lists import Source
from mtlsproxy.runtime.material import Material
from mtlsproxy.telemetry.metrics import Metrics
from mtlsproxy.verdict.judge import Wanted

if TYPE_CHECKING:
    from mtlsproxy.fetch.ocsp_client import OcspClient

FIRST_FETCH = 2.0
"""Seconds that a start waits for the first lists: what the disk kept is here at once, a quick server's soon after."""

PUBLISH_EVERY = 0.25
"""Seconds between two new Snapshots because of lists or answers, at least: each lets all connections be judged again,
and the CA of one client decides how often its answers differ."""

log = logging.getLogger(__name__)


class Feeds:
    """All feeds in use, by truststore. `publish` is called on the loop when lists or answers have changed."""

    def __init__(
        self,
        folder: Path | None,
        metrics: Metrics,
        publish: Callable[[], None],
        make_client: Callable[[Path], FetchClient] = FetchClient,
        on_list: Callable[[str, CrlEvent], None] = lambda truststore, event: None,
    ) -> None:
        """folder: for what is kept on disk, made when it is first needed; None where there is none. on_list: is told
        what became of each fetch."""
        self._make_client = make_client
        self._folder = folder
        self._metrics = metrics
        self._publish = publish
        self._on_list = on_list
        self._feeds: dict[str, Feed] = {}
        self._keys: dict[str, object] = {}
        self._client: FetchClient | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._due: asyncio.Handle | None = None
        self._soonest = 0.0

    def client(self) -> FetchClient:
        """Started when the first URL needs it. Raises fetch.cache.CacheError."""
        if self._client is None:
            if self._folder is None:
                raise CacheError("there is no folder to keep fetched CRLs in: set state_dir")
            self._client = self._make_client(self._folder)
        return self._client

    async def load_files(self, sources: Sequence[str | Path]) -> LoadedCrls:
        """CRL files; large ones are read by the helper process. Raises SourceError, CrlError."""
        if (lists := read_here(sources)) is not None:
            return lists  # also where there is no folder to keep anything in
        try:
            return await self.client().load_files(sources)
        except (HelperFailed, CacheError) as error:
            raise SourceError(error.detail) from error

    def check(self, material: Material) -> None:
        """Whether `adopt` can do it. Raises CacheError."""
        revocations = material.revocations.values()
        if any(config is not None and config.mode != "off" and fetches_lists(config) for config in revocations):
            self.client()

    def adopt(self, material: Material) -> None:
        """Feeds for its truststores; those whose settings and issuers are the same go on. Raises CacheError."""
        trusts, pems = material.all_trusts, material.fetch_anchors
        wanted: dict[str, object] = {}
        for name, config in material.revocations.items():
            if config is None or config.mode == "off" or not needs_feed(config):
                continue
            store = trusts[name].truststore
            key = (config, store.anchors, store.intermediates, trusts[name].revocation, pems[name])
            wanted[name] = key
            if self._keys.get(name) != key:
                before = self._feeds.get(name)
                feed = Feed(name, config, trusts[name], pems[name], self, before)
                self._retire(name)
                self._feeds[name] = feed
        for name in [n for n in self._feeds if n not in wanted]:
            self._retire(name)
        self._keys = wanted

    def _retire(self, name: str) -> None:
        feed = self._feeds.pop(name, None)
        if feed is not None:
            self._spawn(feed.close())

    @property
    def sources(self) -> Mapping[str, Source]:
        """What is here, by truststore."""
        return self._feeds

    def asked(self, truststore: str) -> tuple[Asked, ...]:
        """The CRL URLs of a truststore, and what became of them."""
        feed = self._feeds.get(truststore)
        return () if feed is None else feed.tries

    def ocsp(self, truststore: str) -> "OcspClient | None":
        """None where OCSP is not asked."""
        feed = self._feeds.get(truststore)
        return None if feed is None else feed.ocsp

    def refresh(self) -> None:
        """Ask every CRL URL now."""
        for feed in self._feeds.values():
            feed.refresh()

    async def first(self) -> None:
        """Wait a moment for the first lists."""
        if self._feeds:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FIRST_FETCH):
                    await asyncio.gather(*(feed.first() for feed in self._feeds.values()))

    def resolve(self, wanted: tuple[Wanted, ...], done: Callable[[], None]) -> None:
        """http1.service.Resolve."""
        self._spawn(self._resolve(wanted, done))

    async def _resolve(self, wanted: tuple[Wanted, ...], done: Callable[[], None]) -> None:
        try:
            feeds = [(self._feeds[want.truststore], want) for want in wanted if want.truststore in self._feeds]
            await asyncio.gather(*(feed.ensure(want) for feed, want in feeds))
            if self._due is not None and any(want.points for want in wanted):
                self._due.cancel()  # who has waited for lists is judged by them; points are not asked for twice
                self._publish_now()
        finally:
            done()

    # -- what the sources say --------------------------------------------------------------------------------------

    def on_crl(self, truststore: str, event: CrlEvent) -> None:
        self._on_list(truststore, event)
        ok = event.outcome in ("restored", "updated", "unchanged")
        # The issuer of what nobody verified is whoever its sender likes, a new label each time.
        known = event.crls and event.verified
        labels = crl_labels(truststore, event.crls[0]) if known else (truststore, "", "")
        self._metrics.crl_refresh_total.cell(*labels, "success" if ok else "failure").value += 1
        if ok:
            # A list that has ended counts by grace alone, if at all: until that is over nothing else tells of it here.
            log.log(logging.WARNING if event.failure else logging.INFO, "truststore %s: %s", truststore, event.detail)
        else:
            log.warning("truststore %s: %s; next try at %s", truststore, event.detail,
                        event.next_at.isoformat(timespec="seconds"))  # fmt: skip
        if ok and event.fetched_at is not None:
            for crl in event.crls:
                labels = crl_labels(truststore, crl)
                self._metrics.crl_last_success_timestamp_seconds.set(*labels, value=event.fetched_at.timestamp())
        # What was refused or did not come has changed nothing, and judging all connections again costs something.
        if event.outcome in ("restored", "updated"):
            self.changed()

    def on_passed_over(self, truststore: str, detail: str) -> None:
        log.warning("truststore %s: %s", truststore, detail)

    def count_ocsp(self, truststore: str, result: str) -> None:
        self._metrics.ocsp_requests_total.cell(truststore, result).value += 1

    def changed(self) -> None:
        """A first change is published at once; those that follow closely together, a moment later."""
        if self._due is None:
            loop = asyncio.get_running_loop()
            self._due = loop.call_at(max(loop.time(), self._soonest), self._publish_now)

    def _publish_now(self) -> None:
        self._due = None
        self._soonest = asyncio.get_running_loop().time() + PUBLISH_EVERY
        self._publish()

    async def close(self) -> None:
        if self._due is not None:
            self._due.cancel()
        for name in list(self._feeds):
            self._retire(name)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.close()

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
