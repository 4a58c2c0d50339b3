"""The files that a configuration names, read and checked: what a start would load, and all that is wrong with it."""

import dataclasses
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from mtlsproxy.config.errors import ConfigErrors, ConfigWarning
from mtlsproxy.config.load import LoadedConfig, UnreadableFile, load_deny_file
from mtlsproxy.config.model import Config, DenyEntry, Listener
from mtlsproxy.config.model import Truststore as TruststoreConfig
from mtlsproxy.revocation.crlset import CrlSet, Problem
from mtlsproxy.revocation.sources import load_sources
from mtlsproxy.runtime.denials import DenialsError, read_denials, state_folder
from mtlsproxy.runtime.issuers import unknown_issuers
from mtlsproxy.runtime.lists import Known, Lists, LoadCrls, Source, load_lists, revocation_policy
from mtlsproxy.runtime.report import Report
from mtlsproxy.runtime.token import Token, TokenError, read_token
from mtlsproxy.runtime.watched import Signature, signature, watched_paths
from mtlsproxy.tls.credentials import Credential, CredentialError, load_credential
from mtlsproxy.verdict.trust import Denial, DenyList, Trust
from mtlsproxy.x509.certificate import Certificate, MalformedCertificate, load_pem_certificates
from mtlsproxy.x509.policy import Policy, Truststore

log = logging.getLogger(__name__)

_CERTIFICATE_SUFFIXES = (".pem", ".crt", ".cer")
_WILDCARDS = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Material:
    """credentials: by listener name, in the file's order. warnings: weaker choices and what will soon be a problem.

    denials: made through the API, for whatever truststore; they are among the trusts' already.
    """

    loaded: LoadedConfig
    credentials: dict[str, tuple[Credential, ...]]
    trusts: dict[str, Trust]
    lists: dict[str, Lists]
    """What CRL files held, by truststore; a trust's own set may have fetched ones besides."""
    fetch_anchors: dict[str, str]
    """PEM of the CAs that servers of CRLs and OCSP answers are verified with, by truststore."""
    warnings: tuple[ConfigWarning, ...]
    token: Token | None = None
    denials: tuple[Denial, ...] = ()
    seen: Signature = field(default_factory=dict)
    """The files before they were read."""

    def known(self, truststore: str) -> Known | None:
        """What a reload starts from."""
        if truststore not in self.trusts:
            return None
        return Known(self.trusts[truststore], self.lists[truststore])

    def with_sources(self, sources: Mapping[str, Source]) -> "Material":
        """The same with what has been fetched: lists beside those of files, and OCSP answers to look up."""
        trusts = dict(self.trusts)
        for name, source in sources.items():
            trusts[name], problems = self.trust_with(name, source)
            for problem in problems:
                log.warning("truststore %s: %s", name, problem.detail)
        return dataclasses.replace(self, trusts=trusts)

    def trust_with(self, name: str, source: Source) -> tuple[Trust, tuple[Problem, ...]]:
        """One truststore with what has been fetched for it, and the lists that are left out of it."""
        trust = self.trusts[name]
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
    trusts: dict[str, Trust] = {}
    lists: dict[str, Lists] = {}
    anchors: dict[str, str] = {}
    for name, truststore in config.truststores.items():
        known = previous.known(name) if previous is not None else None
        trusts[name], lists[name] = _trust(name, truststore, f"truststores.{name}", report, at, known, load)
        anchors[name] = _fetch_anchors(truststore, f"truststores.{name}.revocation.fetch.trust_anchors", report)
    token = _token(config.admin.token_file, report)
    denials = previous.denials if previous is not None else _denials(config, report, at)
    if report.errors:
        raise ConfigErrors(report.errors)
    for path, wrong in unknown_issuers(config, trusts):
        report.warn(path, wrong)
    warnings = tuple(sorted(set(report.warnings)))
    return Material(loaded, credentials, trusts, lists, anchors, warnings, token, seen=seen).with_denials(denials)


def _fetch_anchors(config: TruststoreConfig, path: str, report: Report) -> str:
    """PEM of the CAs that https servers of revocation data are verified with."""
    if config.revocation is None:
        return ""
    found = _certificates(config.revocation.fetch.trust_anchors, path, report, _must_be_ca)
    return "".join(c.x509.public_bytes(Encoding.PEM).decode("ascii") for c in found)


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
        return read_denials(folder, at) or ()
    except DenialsError as error:
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


def _trust(
    name: str,
    config: TruststoreConfig,
    path: str,
    report: Report,
    at: datetime,
    known: Known | None,
    load: LoadCrls,
) -> tuple[Trust, Lists]:
    anchors = _certificates(config.trust_anchors, f"{path}.trust_anchors", report, _must_be_ca)
    intermediates = _certificates(config.intermediates, f"{path}.intermediates", report, _must_be_ca)
    _judge_anchors(anchors, f"{path}.trust_anchors", report, at)
    policy = Policy(
        max_chain_depth=config.max_chain_depth,
        require_eku=config.extended_key_usage.require,
        allow_absent_eku=config.extended_key_usage.allow_absent,
        allow_any_eku=config.extended_key_usage.allow_any,
        minimum_rsa_bits=config.keys.minimum_rsa_bits,
        curves=frozenset(config.keys.curves),
        signature_hashes=frozenset(config.signature_hashes),
        certificate_policies=config.certificate_policies,
        spiffe_trust_domain=config.spiffe_trust_domain,
    )
    truststore = Truststore(name, anchors, intermediates, policy)
    revocation = revocation_policy(config)
    lists = load_lists(config, (*anchors, *intermediates), f"{path}.revocation.crl.sources", report, at, known, load)
    deny = DenyList(config.deny, _deny_file(config.deny_file, f"{path}.deny_file", report))
    return Trust(truststore, revocation, lists.crls, deny), lists


def _deny_file(file: Path | None, path: str, report: Report) -> tuple[DenyEntry, ...]:
    if file is None:
        return ()
    try:
        return load_deny_file(file)
    except UnreadableFile as error:
        report.error(path, f"{file} {error.detail}")
    except ConfigErrors as found:
        report.errors += found.errors
    return ()


def _certificates(
    patterns: Iterable[Path], path: str, report: Report, check: Callable[[Certificate], str | None]
) -> tuple[Certificate, ...]:
    """The CA certificates of PEM files, folders and globs, each once."""
    found: dict[Certificate, None] = {}
    for number, pattern in enumerate(patterns):
        where = f"{path}[{number}]"
        files = _expand(pattern, where, report)
        for file in files:
            for certificate in _read_pem(file, where, report):
                problem = check(certificate)
                if problem is None:
                    found[certificate] = None
                else:
                    report.error(where, f"{file}: {certificate.subject} {problem}")
    return tuple(found)


def _expand(pattern: Path, where: str, report: Report) -> list[Path]:
    if pattern.is_dir():
        files = sorted(p for p in pattern.iterdir() if p.suffix in _CERTIFICATE_SUFFIXES and p.is_file())
        what = f"the folder {pattern} holds no {', '.join(_CERTIFICATE_SUFFIXES)} file"
    elif _WILDCARDS & set(pattern.name) and not pattern.exists():
        files = sorted(p for p in pattern.parent.glob(pattern.name) if p.is_file())
        what = f"no file matches {pattern}"
    else:
        return [pattern]
    if not files:
        report.error(where, f"{what}: a truststore without a trust anchor trusts nobody")
    return files


def _read_pem(file: Path, where: str, report: Report) -> tuple[Certificate, ...]:
    try:
        certificates = load_pem_certificates(file.read_bytes())
    except OSError as error:
        report.error(where, f"cannot read {file}: {error.strerror}")
        return ()
    except MalformedCertificate as error:
        report.error(where, f"{file}: {error.detail}")
        return ()
    if not certificates:
        report.error(where, f"{file} holds no PEM certificate (BEGIN CERTIFICATE)")
    return certificates


def _must_be_ca(certificate: Certificate) -> str | None:
    if certificate.is_ca or (certificate.version == 1 and certificate.self_issued):
        return None
    return "is not a CA certificate (basicConstraints cA): name the certificate of the CA that issues the clients'"


def _judge_anchors(anchors: Iterable[Certificate], path: str, report: Report, at: datetime) -> None:
    for anchor in anchors:
        if anchor.not_after < at:
            report.warn(path, f"the trust anchor {anchor.subject} expired on {anchor.not_after:%Y-%m-%d}: its clients "
                              "are refused")  # fmt: skip
        elif anchor.not_after < at + timedelta(days=30):
            report.warn(path, f"the trust anchor {anchor.subject} expires on {anchor.not_after:%Y-%m-%d}")
