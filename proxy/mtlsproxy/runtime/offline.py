"""What a proxy of a configuration knows of revocation, asked from outside: for `explain`, `check` and `probe`.

Each truststore's own `Feed` asks, so that what a proxy asks is asked, by its rules: the copies that it keeps in
state_dir, and the network where that is wished. Nothing is written, and a proxy may run with the same folder.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from mtlsproxy.config.model import Revocation
from mtlsproxy.config.scalars import host_of
from mtlsproxy.fetch.cache import CacheError, readable_folder, state_folder
from mtlsproxy.fetch.client import CrlEvent
from mtlsproxy.fetch.messages import CrlUrl
from mtlsproxy.fetch.once import Found, Lookup, look
from mtlsproxy.fetch.slots import FetchSlots
from mtlsproxy.revocation.crl import Crl
from mtlsproxy.revocation.crlset import CrlSet, Problem
from mtlsproxy.revocation.ocsp_answers import OcspAnswer, OcspAnswers, OcspFailure
from mtlsproxy.revocation.policy import OcspPolicy, RevocationPolicy
from mtlsproxy.runtime.feed import Feed, fetches_lists, needs_feed
from mtlsproxy.runtime.lists import Source
from mtlsproxy.runtime.material import Material
from mtlsproxy.verdict.judge import Wanted, judge
from mtlsproxy.verdict.trust import DistributionPoints, Trust
from mtlsproxy.x509.certificate import Certificate, MalformedCertificate, parse_certificate
from mtlsproxy.x509.evidence import Result


@dataclass(frozen=True, slots=True)
class OcspAsked:
    """What OCSP says of a certificate. answer: None where nobody was asked. responders: URLs."""

    certificate: Certificate
    issuer: Certificate
    responders: tuple[str, ...]
    answer: OcspAnswer | OcspFailure | None


@dataclass(frozen=True, slots=True)
class Consulted:
    """trust: the truststore with all that was found. problems: of lists found that are left out of it, a sentence
    each."""

    trust: Trust
    lists: tuple[Found, ...]
    ocsp: tuple[OcspAsked, ...]
    problems: tuple[str, ...]


def consult(
    material: Material, names: Iterable[str], presented: Sequence[bytes], at: datetime, *, ask: bool
) -> dict[str, Consulted]:
    """For those of the named truststores that hear of revocations over the network; others are left out.

    presented: the chain (DER, leaf first) whose distribution points and responders count, () for none. ask: whether the
    network may be asked. Runs an event loop of its own. Logs nothing; raises nothing for what it meets.
    """
    return asyncio.run(_consult(material, names, presented, at, ask=ask))


def usable_state_folder(material: Material) -> None:
    """Whether a start could keep its lists: as `Feeds.check`, and nothing is made. Raises fetch.cache.CacheError."""
    config = material.loaded.config
    revocations = material.revocations.values()
    if not any(one is not None and one.mode != "off" and fetches_lists(one) for one in revocations):
        return
    folder = state_folder(config.state_dir, os.environ)
    if folder is None:
        raise CacheError("there is no folder to keep fetched CRLs in: set state_dir")
    readable_folder(folder)


async def _consult(
    material: Material, names: Iterable[str], presented: Sequence[bytes], at: datetime, *, ask: bool
) -> dict[str, Consulted]:
    slots = FetchSlots()
    consulted: dict[str, Consulted] = {}
    for name in names:
        config = material.loaded.config.truststores[name].revocation
        if config is None or config.mode == "off" or not needs_feed(config):
            continue
        trust = material.trusts[name]
        once = _Once(
            state_folder(material.loaded.config.state_dir, os.environ),
            slots,
            ask=ask and _comes_to_revocation(presented, trust, at),
        )
        feed = Feed(name, config, trust, material.fetch_anchors[name], once, None)
        try:
            trust_with = partial(material.trust_with, name)
            consulted[name] = await _Consultation(trust_with, feed, once).hold(presented, at)
        finally:
            await feed.close()
    return consulted


def consult_certificates(trust: Trust, lists: Sequence[Crl], presented: Sequence[bytes], at: datetime) -> Consulted:
    """Ask the network, once, for the lists and OCSP answers that the certificates of a chain name themselves, by no
    configuration's rules: where `trust` verifies the chain, every host that it names may be asked, over http.

    lists: those that are known. presented: DER, leaf first. Runs an event loop of its own; raises nothing for what it
    meets. The trust that is returned wants answers (hard_fail).
    """
    return asyncio.run(_consult_certificates(trust, tuple(lists), presented, at))


async def _consult_certificates(
    trust: Trust, lists: tuple[Crl, ...], presented: Sequence[bytes], at: datetime
) -> Consulted:
    config = Revocation.model_validate(
        {
            "mode": "hard_fail",
            "crl": {"distribution_points": True},
            "ocsp": {"enabled": True},
            "fetch": {"allowed_hosts": sorted(_hosts_named_by(presented))},
        }
    )
    trust = replace(trust, revocation=RevocationPolicy("hard_fail", ocsp=OcspPolicy(enabled=True)))

    def trust_with(source: Source) -> tuple[Trust, tuple[Problem, ...]]:
        issuers = (*trust.truststore.anchors, *source.issuers)
        crls, problems = CrlSet.build((*lists, *source.crls), issuers)
        return replace(trust, crls=crls, ocsp=source.ocsp, points=source.points), problems

    once = _Once(None, FetchSlots(), ask=_comes_to_revocation(presented, trust, at))
    feed = Feed(trust.name, config, trust, "", once, None)
    try:
        return await _Consultation(trust_with, feed, once).hold(presented, at)
    finally:
        await feed.close()


def _hosts_named_by(presented: Sequence[bytes]) -> set[str]:
    hosts: set[str] = set()
    for der in presented:
        with contextlib.suppress(MalformedCertificate):  # then nobody is asked: no chain of it verifies
            certificate = parse_certificate(der)
            for url in (*certificate.crl_urls, *certificate.freshest_urls, *certificate.ocsp_urls):
                with contextlib.suppress(ValueError):  # no URL: it is said where it would be asked
                    host = urlsplit(url).hostname or ""
                    hosts.add(f"[{host_of(f'[{host}]')}]" if ":" in host else host_of(host))
    return hosts


def _comes_to_revocation(presented: Sequence[bytes], trust: Trust, at: datetime) -> bool:
    """Whether revocation is what the verdict depends on: for a stranger's chain nobody is asked."""
    checks = judge(presented, [trust], at).checks
    return any(check.name == "revocation" and check.result is not Result.SKIPPED for check in checks)


class _Once:
    """A `Hub` whose URLs are looked at once."""

    def __init__(self, folder: Path | None, slots: FetchSlots, *, ask: bool) -> None:
        self.ask = ask
        self._folder = folder
        self._slots = slots
        self._lookups: list[Lookup] = []

    def client(self) -> "_Once":
        return self

    def subscribe(self, source: CrlUrl, on_event: Callable[[CrlEvent], None]) -> Lookup:
        looking = asyncio.get_running_loop().create_task(look(source, self._folder, self._slots, ask=self.ask))
        lookup = Lookup(source, looking, on_event)
        self._lookups.append(lookup)
        return lookup

    @property
    def found(self) -> tuple[Found, ...]:
        return tuple(lookup.found for lookup in self._lookups if lookup.found is not None)

    async def settle(self) -> None:
        """Until all has been looked at; what is found may lead to more."""
        while waiting := [lookup for lookup in self._lookups if lookup.found is None]:
            await asyncio.gather(*(lookup.first() for lookup in waiting))

    def on_crl(self, truststore: str, event: CrlEvent) -> None:
        """Nobody counts."""

    def on_passed_over(self, truststore: str, detail: str) -> None:
        """The proxy's log says so."""

    def count_ocsp(self, truststore: str, result: str) -> None:
        """Nobody counts."""

    def changed(self) -> None:
        """Nothing is in force that could be renewed."""


class _Consultation:
    """Of one truststore. trust_with: it with what has been found, and the lists that are left out of it."""

    def __init__(
        self, trust_with: Callable[[Source], tuple[Trust, tuple[Problem, ...]]], feed: Feed, once: _Once
    ) -> None:
        self._trust_with = trust_with
        self._feed = feed
        self._once = once

    async def hold(self, presented: Sequence[bytes], at: datetime) -> Consulted:
        """Ask for what the verdict wants until it wants nothing else, as the data path does."""
        await self._once.settle()
        wanted: dict[Wanted, None] = {}
        while news := [want for want in self._wants(presented, at) if want not in wanted]:
            wanted.update(dict.fromkeys(news))
            asking = news if self._once.ask else [replace(want, ocsp=False) for want in news]
            await asyncio.gather(*map(self._feed.ensure, asking))
            await self._once.settle()
        pairs = dict.fromkeys((want.certificate, want.issuer) for want in wanted if want.ocsp)
        ocsp = tuple(self._asked(*pair) for pair in pairs)
        source = _Known(self._feed.crls, self._feed.issuers, _Answers(ocsp) if self._feed.ocsp is not None else None)
        trust, problems = self._trust_with(source)
        ours = {id(crl) for crl in source.crls}
        said = tuple(problem.detail for problem in problems if id(problem.crl) in ours)
        return Consulted(trust, self._once.found, ocsp, said)

    def _wants(self, presented: Sequence[bytes], at: datetime) -> tuple[Wanted, ...]:
        trust, _ = self._trust_with(self._feed)
        return judge(presented, [trust], at).wanted

    def _asked(self, certificate: Certificate, issuer: Certificate) -> OcspAsked:
        assert self._feed.ocsp is not None  # else nobody would have wanted an answer
        configured = self._feed.config.ocsp.responder
        responders = certificate.ocsp_urls if configured is None else (configured,)
        return OcspAsked(certificate, issuer, responders, self._feed.ocsp.get(certificate, issuer))


class _Answers:
    """An `OcspAnswers` of what was asked once."""

    def __init__(self, asked: Iterable[OcspAsked]) -> None:
        self._answers: Mapping[tuple[Certificate, Certificate], OcspAnswer | OcspFailure | None] = {
            (one.certificate, one.issuer): one.answer for one in asked
        }

    def get(self, certificate: Certificate, issuer: Certificate) -> OcspAnswer | OcspFailure | None:
        return self._answers.get((certificate, issuer))


@dataclass(frozen=True, slots=True)
class _Known:
    """A `lists.Source` that asks for nothing more."""

    crls: tuple[Crl, ...]
    issuers: tuple[Certificate, ...]
    ocsp: OcspAnswers | None
    points: DistributionPoints | None = None
