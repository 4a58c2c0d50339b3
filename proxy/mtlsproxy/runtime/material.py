"""The files that a configuration names, read and checked: what a start would load, and all that is wrong with it."""

import dataclasses
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from mtlsproxy.config.errors import ConfigErrors, ConfigWarning
from mtlsproxy.config.load import LoadedConfig
from mtlsproxy.config.model import Config, Listener, Revocation
from mtlsproxy.fetch.cache import CacheError, readable_folder, state_folder
from mtlsproxy.revocation.crl import Crl
from mtlsproxy.revocation.crlset import CrlSet, Problem
from mtlsproxy.revocation.sources import load_sources
from mtlsproxy.runtime.denials import DenialsError, read_denials
from mtlsproxy.runtime.issuers import unknown_issuers
from mtlsproxy.runtime.lists import Known, Lists, LoadCrls, Source
from mtlsproxy.runtime.report import Report
from mtlsproxy.runtime.servers import check_names, load_client_credentials, servers_key
from mtlsproxy.runtime.token import Token, TokenError, read_token
from mtlsproxy.runtime.trusts import load_fetch_anchors, load_trust
from mtlsproxy.runtime.watched import Signature, signature, watched_paths
from mtlsproxy.tls.credentials import Credential, CredentialError, load_credential
from mtlsproxy.verdict.trust import Denial, Trust
from mtlsproxy.x509.certificate import Certificate

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Material:
    """credentials: by listener name, in the file's order. warnings: weaker choices and what will soon be a problem.

    servers: what an upstream's servers are judged by, by its name; each Trust is called `servers_key(name)`.
    client_credentials: this proxy's own certificate towards an upstream, by its name, where it has one.
    denials: made through the API, for whatever truststore; they are among the trusts' already.
    """

    loaded: LoadedConfig
    credentials: dict[str, tuple[Credential, ...]]
    trusts: dict[str, Trust]
    lists: dict[str, Lists]
    """What CRL files held, by the trust's name; a trust's own set may have fetched ones besides."""
    fetch_anchors: dict[str, str]
    """PEM of the CAs that servers of CRLs and OCSP answers are verified with, by the trust's name."""
    servers: dict[str, Trust]
    client_credentials: dict[str, Credential]
    warnings: tuple[ConfigWarning, ...]
    token: Token | None = None
    denials: tuple[Denial, ...] = ()
    fetched: Mapping[str, tuple[tuple[Crl, ...], tuple[Certificate, ...]]] = field(default_factory=dict)
    """Lists, and CAs met in chains alone, that `with_sources` has put into the trusts."""
    seen: Signature = field(default_factory=dict)
    """The files before they were read."""

    @property
    def all_trusts(self) -> dict[str, Trust]:
        """Truststores, and what servers are judged by, by their names."""
        return self.trusts | {trust.name: trust for trust in self.servers.values()}

    @property
    def revocations(self) -> dict[str, Revocation | None]:
        """The settings of `all_trusts`."""
        config = self.loaded.config
        of_servers = {servers_key(name): up.tls.revocation for name, up in config.upstreams.items() if up.tls}
        return {name: store.revocation for name, store in config.truststores.items()} | of_servers

    def known(self, name: str) -> Known | None:
        """What a reload starts from, of one of `all_trusts`."""
        trust = self.all_trusts.get(name)
        return Known(trust, self.lists[name]) if trust is not None else None

    def with_sources(self, sources: Mapping[str, Source]) -> "Material":
        """The same with what has been fetched: lists beside those of files, and OCSP answers to look up."""
        trusts = {name: self._sourced(trust, sources) for name, trust in self.trusts.items()}
        servers = {name: self._sourced(trust, sources) for name, trust in self.servers.items()}
        fetched = {name: (source.crls, source.issuers) for name, source in sources.items()}
        return dataclasses.replace(self, trusts=trusts, servers=servers, fetched=fetched)

    def _sourced(self, trust: Trust, sources: Mapping[str, Source]) -> Trust:
        source = sources.get(trust.name)
        if source is None:
            return trust
        if self.fetched.get(trust.name) == (source.crls, source.issuers):
            # Verified once: signatures of many lists take longer than all else that a denial changes.
            return dataclasses.replace(trust, ocsp=source.ocsp, points=source.points)
        sourced, problems = self.trust_with(trust.name, source)
        for problem in problems:
            log.warning("truststore %s: %s", trust.name, problem.detail)
        return sourced

    def trust_with(self, name: str, source: Source) -> tuple[Trust, tuple[Problem, ...]]:
        """One of `all_trusts` with what has been fetched for it, and the lists that are left out of it."""
        trust = self.all_trusts[name]
        issuers = (*trust.truststore.anchors, *trust.truststore.intermediates, *source.issuers)
        crls, problems = CrlSet.build((*self.lists[name].loaded, *source.crls), issuers, trust.crls)
        return dataclasses.replace(trust, crls=crls, ocsp=source.ocsp, points=source.points), problems

    def with_denials(self, denials: tuple[Denial, ...]) -> "Material":
        """The same with these denials in place of its own."""
        trusts = {
            name: dataclasses.replace(trust, deny=trust.deny.with_denials(_applying_to(name, denials)))
            for name, trust in self.trusts.items()
        }
        return dataclasses.replace(self, trusts=trusts, denials=denials)


def _applying_to(truststore: str, denials: Iterable[Denial]) -> list[Denial]:
    return [denial for denial in denials if denial.truststore in (None, truststore)]


def load_material(
    loaded: LoadedConfig, at: datetime, previous: Material | None = None, load: LoadCrls = load_sources
) -> Material:
    """Read every file that `loaded` names. Raises ConfigErrors with all that is wrong.

    load: reads CRL files; while requests are served, one that leaves large lists to another process.
    previous: what is in force at a reload; a CRL file that cannot be read leaves its truststore's CRLs as they were,
    and denials are taken from there: the file that keeps them is read at start alone.
    """
    report = Report(loaded)
    config = loaded.config
    seen = signature(watched_paths(config, Path(loaded.document.file)))
    credentials = {
        listener.name: _credentials(listener, f"listeners[{number}].tls.certificates", report, at)
        for number, listener in enumerate(config.listeners)
    }
    trusts, servers = {}, {}
    lists: dict[str, Lists] = {}
    anchors: dict[str, str] = {}
    for name, truststore in config.truststores.items():
        known = previous.known(name) if previous is not None else None
        trusts[name], lists[name] = load_trust(name, truststore, f"truststores.{name}", report, at, known, load)
        anchors[name] = load_fetch_anchors(truststore, f"truststores.{name}.revocation", report)
    for name, upstream in config.upstreams.items():
        if upstream.tls is None:
            continue
        path, key, store = f"upstreams.{name}.tls", servers_key(name), upstream.tls.truststore
        known = previous.known(key) if previous is not None else None
        servers[name], lists[key] = load_trust(key, store, path, report, at, known, load, "servers")
        anchors[key] = load_fetch_anchors(store, f"{path}.revocation", report)
        check_names(name, upstream, report)
    client_credentials = load_client_credentials(config.upstreams, report, at)
    token = _token(config.admin.token_file, report)
    denials = previous.denials if previous is not None else _denials(config, report, at)
    if report.errors:
        raise ConfigErrors(report.errors)
    for path, wrong in unknown_issuers(config, trusts):
        report.warn(path, wrong)
    warnings = tuple(sorted(set(report.warnings)))
    return Material(
        loaded, credentials, trusts, lists, anchors, servers, client_credentials, warnings, token, seen=seen
    ).with_denials(denials)


def _token(file: Path | None, report: Report) -> Token | None:
    if file is None:
        return None
    try:
        token, warnings = read_token(file)
    except TokenError as error:
        report.error("admin.token_file", error.detail)
        return None
    for warning in warnings:
        report.warn("admin.token_file", warning)
    return token


def _denials(config: Config, report: Report, at: datetime) -> tuple[Denial, ...]:
    folder = state_folder(config.state_dir, os.environ)
    if folder is None:
        if config.admin.token_file is not None:
            report.error("state_dir", "is required here: there is no home directory to keep denials in")
        return ()
    try:
        if config.admin.token_file is not None:
            readable_folder(folder)  # also where there is no file: somebody may have removed it
        return read_denials(folder, at) or ()
    except (DenialsError, CacheError) as error:
        report.error("state_dir", error.detail)
        return ()


def _credentials(listener: Listener, path: str, report: Report, at: datetime) -> tuple[Credential, ...]:
    out = []
    for number, entry in enumerate(listener.tls.certificates):
        try:
            credential = load_credential(entry.certificate, entry.private_key, entry.private_key_password_file, at)
        except CredentialError as error:
            report.error(f"{path}[{number}].{error.key}", error.detail)
            continue
        for warning in credential.warnings:
            report.warn(f"{path}[{number}]", warning)
        out.append(credential)
    return tuple(out)
