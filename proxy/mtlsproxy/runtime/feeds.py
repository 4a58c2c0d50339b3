"""Revocation data that comes over the network: CRL URLs, distribution points, OCSP. One feed a truststore, or
an upstream whose servers' certificates are checked so.

Nothing here holds up the loop: lists are fetched, verified and indexed by the helper process (fetch.client), answers
asked for by aiohttp. What has come is looked up at once; what a verdict wants besides is asked for, and the verdict
made again.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mtlsproxy.config.model import Revocation
from mtlsproxy.fetch.cache import CacheError
from mtlsproxy.fetch.client import CrlEvent, FetchClient, HelperFailed
from mtlsproxy.fetch.messages import CrlUrl
from mtlsproxy.fetch.rules import FetchRules
from mtlsproxy.revocation.crl import Crl, CrlError, verify_crl
from mtlsproxy.revocation.policy import OcspPolicy
from mtlsproxy.revocation.sources import LoadedCrls, SourceError
from mtlsproxy.runtime.gauges import crl_labels
from mtlsproxy.runtime.hub import Hub, Subscribed
from mtlsproxy.runtime.lasting import Asked
from mtlsproxy.runtime.lists import Source
from mtlsproxy.runtime.material import Material
from mtlsproxy.telemetry.metrics import Metrics
from mtlsproxy.verdict.judge import Wanted
from mtlsproxy.verdict.trust import Trust
from mtlsproxy.x509.certificate import Certificate

if TYPE_CHECKING:
    from mtlsproxy.fetch.ocsp_client import OcspClient

MAX_POINTS = 1000
"""Distribution points kept fetched for a truststore; a CA has one, or a few shards. Further ones are not asked."""

MAX_POINTS_OF_ONE = 200
"""Of these for the certificates of one CA: however many one of them names, there is room for those of the others."""

_Key = tuple[str, str]

FIRST_FETCH = 2.0
"""Seconds that a start waits for the first lists: what the disk kept is here at once, a quick server's soon after."""

PUBLISH_EVERY = 0.25
"""Seconds between two new Snapshots because of lists or answers, at least: each lets all connections be judged again,
and the CA of one client decides how often its answers differ."""

log = logging.getLogger(__name__)


class Feed:
    """Of one truststore. Also its `DistributionPoints`: which URLs of certificates were asked."""

    def __init__(
        self, name: str, config: Revocation, trust: Trust, anchors_pem: str, feeds: Hub, before: "Feed | None"
    ) -> None:
        """before: of the same truststore, in use until now and closed next. What it knows counts until this one has
        heard for itself: a reload of other settings must shut nobody out for a moment."""
        self.name = name
        self.config = config
        self._feeds = feeds
        self._issuers = (*trust.truststore.anchors, *trust.truststore.intermediates)
        urls = [source for source in config.crl.sources if isinstance(source, str)]
        self._rules = rules_of(config, urls, anchors_pem, config.fetch.timeout)
        self._subscriptions: dict[_Key, Subscribed] = {}
        """By URL and the fingerprint of the issuer whose certificates name it, "" for a configured URL: who is the
        first to name a URL must not decide whose lists may come from it."""
        self._given_up: set[_Key] = set()
        """Those of the above that did not answer in time: nobody waits for them again."""
        self._passed_over: set[str] = set()
        """URLs of deltas, named by lists, that may not be asked; logged once each."""
        self._inherited: dict[_Key, tuple[Crl, ...]] = {}
        self.issuers: tuple[Certificate, ...] = ()
        """CAs met in chains alone, whose lists are fetched."""
        self._points_of: Counter[str] = Counter()
        self._closed = False
        for url in urls:
            self._subscribe(url)
        if before is not None:
            self._inherit(before)
        responders = [config.ocsp.responder] if config.ocsp.responder is not None else []
        self._ocsp_settings = (
            trust.revocation.ocsp,
            rules_of(config, responders, anchors_pem, config.ocsp.timeout),
        )
        self.ocsp = None if before is None else before.hand_over_ocsp(self._ocsp_settings)
        if self.ocsp is None and config.ocsp.enabled:
            from mtlsproxy.fetch import ocsp_client  # loads aiohttp: only who needs it pays

            self.ocsp = ocsp_client.OcspClient(
                *self._ocsp_settings, lambda result: feeds.count_ocsp(name, result), changed=feeds.changed
            )

    def hand_over_ocsp(self, settings: tuple[OcspPolicy, FetchRules]) -> "OcspClient | None":
        """The answers known here, where they were asked for by these very settings; from then on they are another's."""
        if self._ocsp_settings != settings:
            return None
        ocsp, self.ocsp = self.ocsp, None
        return ocsp

    @property
    def points(self) -> "Feed | None":
        """Itself, where certificates' distribution points are asked."""
        return self if self.config.crl.distribution_points else None

    @property
    def crls(self) -> tuple[Crl, ...]:
        """What has been fetched and is in use."""
        return tuple(crl for key in self._subscriptions for crl in self.held(key))

    def held(self, key: _Key) -> tuple[Crl, ...]:
        """The lists of one subscription."""
        subscription = self._subscriptions.get(key)
        latest = subscription.latest if subscription is not None else None
        return latest.crls if latest is not None and latest.crls else self._inherited.get(key, ())

    @property
    def tries(self) -> tuple[Asked, ...]:
        return tuple((url, subscription.latest) for (url, _), subscription in self._subscriptions.items())

    def refresh(self) -> None:
        """Ask every URL now: whoever has just published a list need not wait."""
        for subscription in self._subscriptions.values():
            subscription.refresh()

    def asked(self, url: str, issuer: Certificate) -> bool:
        key = (url, issuer.fingerprint_sha256)
        subscription = self._subscriptions.get(key)
        if subscription is not None:
            return subscription.latest is not None or key in self._given_up
        return self._is_full(issuer)

    def _is_full(self, issuer: Certificate) -> bool:
        of_one = self._points_of[issuer.fingerprint_sha256]
        return of_one >= MAX_POINTS_OF_ONE or self._points_of.total() >= MAX_POINTS

    async def ensure(self, wanted: Wanted) -> None:
        if self._closed:
            return  # who waits is judged again, by what has taken this one's place
        waits = []
        for url in wanted.points:
            key = self._point(url, wanted.issuer)
            if key is not None:
                waits.append(self._first(key))
        if wanted.ocsp and self.ocsp is not None:
            waits.append(self.ocsp.ensure([(wanted.certificate, wanted.issuer)]))
        await asyncio.gather(*waits)

    async def first(self) -> None:
        """Return when every configured URL has been asked, or lists of it are here from the disk; their deltas too."""
        await asyncio.gather(*(self._heard(key) for key in list(self._subscriptions)))

    async def close(self) -> None:
        self._closed = True
        for subscription in self._subscriptions.values():
            subscription.close()
        if self.ocsp is not None:
            await self.ocsp.close()

    async def _first(self, key: _Key) -> None:
        """Bounded: many URLs may wait for the same few connections of the helper."""
        try:
            async with asyncio.timeout(self.config.fetch.timeout):
                await self._heard(key)
        except TimeoutError:
            self._given_up.add(key)

    async def _heard(self, key: _Key) -> None:
        await self._subscriptions[key].first()
        for delta in self._follow(self.held(key)):
            await self._subscriptions[delta].first()

    def _inherit(self, before: "Feed") -> None:
        """What `before` knows by the URLs of this one, and by those where these lists say that their deltas are."""
        keys = list(self._subscriptions)
        while keys:
            key = keys.pop()
            if key not in self._inherited:
                self._inherited[key] = before.held(key)
                keys += self._follow(self._inherited[key])

    def _point(self, url: str, issuer: Certificate) -> _Key | None:
        """Subscribe to what a certificate or a list of `issuer` names, where there is room for it."""
        key = (url, issuer.fingerprint_sha256)
        if key in self._subscriptions:
            return key
        if self._is_full(issuer):
            return None
        self._subscribe(url, issuer)
        self._points_of[issuer.fingerprint_sha256] += 1
        if issuer not in (*self._issuers, *self.issuers):
            self.issuers = (*self.issuers, issuer)
        return key

    def _follow(self, crls: Iterable[Crl]) -> list[_Key]:
        """Subscribe to the deltas of complete lists that were fetched (RFC 5280 §5.2.6). Whoever configured a list has
        not chosen what it names: that needs `allowed_hosts`, like what certificates name."""
        found: list[_Key] = []
        for crl in crls:
            if crl.is_delta or not crl.freshest_urls or (issuer := self._issuer_of(crl)) is None:
                continue
            keys = (self._point(url, issuer) for url in crl.freshest_urls if self._may_ask(url, crl))
            found += (key for key in keys if key is not None)
        return found

    def _issuer_of(self, crl: Crl) -> Certificate | None:
        """A list that nobody known has signed is no reason to ask anybody."""
        for issuer in (*self._issuers, *self.issuers):
            with contextlib.suppress(CrlError):
                verify_crl(crl, issuer)
                return issuer
        return None

    def _may_ask(self, url: str, crl: Crl) -> bool:
        try:
            parts = urlsplit(url)
            why_not = self._rules.why_not_url(parts.scheme, parts.hostname or "", "certificate")
        except ValueError as error:
            why_not = f"it is no URL: {error}"
        if why_not and url not in self._passed_over and len(self._passed_over) < MAX_POINTS_OF_ONE:
            self._passed_over.add(url)
            log.warning("truststore %s: deltas to %s at %s are not asked for: %s", self.name, crl.title, url,
                        why_not.replace("a certificate", "the list", 1))  # fmt: skip
        return not why_not

    def _subscribe(self, url: str, issuer: Certificate | None = None) -> None:
        """issuer: of the certificate that names the URL; None for one of the configuration."""
        who = issuer.fingerprint_sha256 if issuer is not None else ""
        source = CrlUrl(
            url=url,
            scope=f"{self.name}/{who}" if who else self.name,
            named_by="configuration" if issuer is None else "certificate",
            issuers=self._issuers if issuer is None else (issuer,),
            rules=self._rules,
            refresh=self.config.crl.refresh,
        )
        self._subscriptions[url, who] = self._feeds.client().subscribe(source, self._on_event)

    def _on_event(self, event: CrlEvent) -> None:
        if event.outcome in ("restored", "updated"):
            self._follow(event.crls)
        self._feeds.on_crl(self.name, event)


def rules_of(config: Revocation, configured: Iterable[str], anchors_pem: str, timeout: float) -> FetchRules:
    """What this truststore may fetch; `configured` URLs need no permission."""
    return FetchRules.of(
        configured_hosts=(urlsplit(url).hostname or "" for url in configured),
        allowed_hosts=config.fetch.allowed_hosts,
        max_size=config.fetch.max_size,
        timeout=timeout,
        trust_anchors=anchors_pem,
    )


class Feeds:
    """All feeds in use, by truststore. `publish` is called on the loop when lists or answers have changed."""

    def __init__(
        self,
        folder: Path | None,
        metrics: Metrics,
        publish: Callable[[], None],
        make_client: Callable[[Path], FetchClient] = FetchClient,
    ) -> None:
        """folder: for what is kept on disk, made when it is first needed; None where there is none."""
        self._make_client = make_client
        self._folder = folder
        self._metrics = metrics
        self._publish = publish
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


def fetches_lists(config: Revocation) -> bool:
    """Whether CRLs come over the network."""
    return config.crl.distribution_points or any(isinstance(source, str) for source in config.crl.sources)


def needs_feed(config: Revocation) -> bool:
    """Whether anything of it comes over the network."""
    return config.ocsp.enabled or fetches_lists(config)
