"""Revocation data of one truststore that comes over the network, or of an upstream whose servers' certificates are
checked so: CRL URLs, distribution points, deltas, OCSP. What a verdict wants besides is asked for here.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mtlsproxy.config.model import Revocation
from mtlsproxy.fetch.client import CrlEvent
from mtlsproxy.fetch.messages import CrlUrl
from mtlsproxy.fetch.rules import FetchRules
from mtlsproxy.revocation.crl import Crl, CrlError, verify_crl
from mtlsproxy.revocation.policy import OcspPolicy
from mtlsproxy.runtime.hub import Hub, Subscribed
from mtlsproxy.runtime.lasting import Asked
from mtlsproxy.verdict.judge import Wanted
from mtlsproxy.verdict.trust import Trust
from mtlsproxy.x509.certificate import Certificate

if TYPE_CHECKING:
    from mtlsproxy.fetch.ocsp_client import OcspClient

MAX_POINTS = 1000
"""Distribution points kept fetched for the CAs of a truststore that are met in chains alone, together: a CA can make
others without end. Further points are not asked."""

MAX_POINTS_OF_ONE = 200
"""For the certificates of one CA, which has one point, or a few shards. A CA that the configuration names always has
room for these, whatever others do."""

_Key = tuple[str, str]


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
        self._configured = frozenset(issuer.fingerprint_sha256 for issuer in self._issuers)
        self._points_of: Counter[str] = Counter()
        self._points_of_met = 0
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
        who = issuer.fingerprint_sha256
        if self._points_of[who] >= MAX_POINTS_OF_ONE:
            return True
        return who not in self._configured and self._points_of_met >= MAX_POINTS

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
        self._points_of_met += issuer.fingerprint_sha256 not in self._configured
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
            why_not = why_not.replace("a certificate", "the list", 1)
            self._feeds.on_passed_over(self.name, f"deltas to {crl.title} at {url} are not asked for: {why_not}")
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


def fetches_lists(config: Revocation) -> bool:
    """Whether CRLs come over the network."""
    return config.crl.distribution_points or any(isinstance(source, str) for source in config.crl.sources)


def needs_feed(config: Revocation) -> bool:
    """Whether anything of it comes over the network."""
    return config.ocsp.enabled or fetches_lists(config)
