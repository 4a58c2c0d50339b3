"""CRL files: read, verified, and kept as they were where a reload finds them broken."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from mtlsproxy.config.model import Revocation
from mtlsproxy.config.model import Truststore as TruststoreConfig
from mtlsproxy.revocation.crl import Crl
from mtlsproxy.revocation.crlset import HARMLESS, CrlSet
from mtlsproxy.revocation.errors import CrlError
from mtlsproxy.revocation.ocsp_answers import OcspAnswers
from mtlsproxy.revocation.policy import OcspPolicy, RevocationPolicy
from mtlsproxy.revocation.sources import LoadedCrls, SourceError
from mtlsproxy.runtime.report import Report
from mtlsproxy.verdict.trust import DistributionPoints, Trust
from mtlsproxy.x509.certificate import Certificate

LoadCrls = Callable[[Sequence[str | Path]], LoadedCrls]
"""Reads CRL files, folders and globs. Raises SourceError, CrlError."""


class Source(Protocol):
    """What the network brings for a truststore. issuers: CAs met in chains alone, whose lists were fetched."""

    @property
    def crls(self) -> tuple[Crl, ...]: ...
    @property
    def issuers(self) -> tuple[Certificate, ...]: ...
    @property
    def ocsp(self) -> OcspAnswers | None: ...
    @property
    def points(self) -> DistributionPoints | None: ...


@dataclass(frozen=True, slots=True)
class Lists:
    """crls: verified, ready to be asked. loaded: what the files held. files: those that were read. refused: lists that
    a reload read and did not take, or where it could not read the files, those that therefore stay."""

    crls: CrlSet
    loaded: tuple[Crl, ...]
    files: tuple[Path, ...]
    read_at: datetime | None = None
    refused: tuple[Crl, ...] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """A truststore as it is in force when a reload begins."""

    trust: Trust
    lists: Lists


_NONE = Lists(CrlSet.build((), ())[0], (), ())


def revocation_policy(config: TruststoreConfig) -> RevocationPolicy:
    revocation = config.revocation
    if revocation is None or revocation.mode == "off":
        return RevocationPolicy("off")
    ocsp = OcspPolicy(
        enabled=revocation.ocsp.enabled,
        responder=revocation.ocsp.responder,
        max_age=timedelta(seconds=revocation.ocsp.max_age),
        require_nonce=revocation.ocsp.require_nonce,
        minimum_rsa_bits=config.keys.minimum_rsa_bits,
        curves=frozenset(config.keys.curves),
        signature_hashes=frozenset(config.signature_hashes),
    )
    grace, short_lived = timedelta(seconds=revocation.crl.grace), timedelta(seconds=revocation.short_lived)
    lists = bool(revocation.crl.sources) or revocation.crl.distribution_points
    return RevocationPolicy(revocation.mode, revocation.scope, grace, short_lived, ocsp, lists)


def load_lists(
    config: TruststoreConfig,
    issuers: tuple[Certificate, ...],
    path: str,
    report: Report,
    at: datetime,
    known: Known | None,
    load: LoadCrls,
) -> Lists:
    """The CRL files of a truststore. path: of its sources in the configuration."""
    revocation = config.revocation
    if revocation is None or revocation.mode == "off":
        return _NONE
    try:
        found = load([source for source in revocation.crl.sources if isinstance(source, Path)])
    except (SourceError, CrlError) as error:
        if known is not None and known.trust.revocation.mode != "off":
            # At a reload the last good lists stay, and other changes go on; their own end is what limits them.
            report.warn(path, f"{error.detail}; the CRLs known so far stay in force")
            return replace(known.lists, refused=known.lists.loaded)
        report.error(path, error.detail)
        return _NONE
    crls, problems = CrlSet.build(found.crls, issuers, known.trust.crls if known is not None else None)
    for problem in problems:
        if known is not None or problem.kind in HARMLESS:
            report.warn(path, problem.detail)
        else:
            report.error(path, problem.detail)
    for crl in crls.crls:
        if crl.next_update is not None and crl.next_update < at:
            ended = crl.next_update.astimezone(UTC)
            report.warn(path, f"{crl.title} ended on {ended:%Y-%m-%d %H:%M} UTC: publish a fresh one")
    if not _comes_over_the_network(revocation) and revocation.mode == "hard_fail":
        for issuer in issuers:
            if not crls.signed_by(issuer).lists:
                report.warn(path, f"no CRL of {issuer.subject} (key {issuer.spki_sha256[:16]}) is here: with hard_fail "
                                  "every client that it issued is refused; add the CA's CRL")  # fmt: skip
    refused = tuple(problem.crl for problem in problems if known is not None and problem.kind not in HARMLESS)
    return Lists(crls, found.crls, found.files, at, refused)


def _comes_over_the_network(revocation: Revocation) -> bool:
    """Whether what files do not say may still be heard from elsewhere."""
    urls = any(isinstance(source, str) for source in revocation.crl.sources)
    return urls or revocation.crl.distribution_points or revocation.ocsp.enabled
