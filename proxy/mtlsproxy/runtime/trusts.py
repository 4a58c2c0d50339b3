"""The files of a truststore, read and checked: trust anchors, intermediates, CRLs, deny file."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from mtlsproxy.config.errors import ConfigErrors
from mtlsproxy.config.load import UnreadableFile, load_deny_file
from mtlsproxy.config.model import DenyEntry
from mtlsproxy.config.model import Truststore as TruststoreConfig
from mtlsproxy.runtime.lists import Known, Lists, LoadCrls, load_lists, revocation_policy
from mtlsproxy.runtime.report import Report
from mtlsproxy.verdict.trust import DenyList, Trust
from mtlsproxy.x509.certificate import Certificate, MalformedCertificate, load_pem_certificates
from mtlsproxy.x509.policy import Policy, Truststore

_CERTIFICATE_SUFFIXES = (".pem", ".crt", ".cer")
_WILDCARDS = frozenset("*?[")


def load_trust(
    name: str,
    config: TruststoreConfig,
    path: str,
    report: Report,
    at: datetime,
    known: Known | None,
    load: LoadCrls,
    whose: str = "clients",
) -> tuple[Trust, Lists]:
    """The files of a truststore; what is wrong with them goes into `report`, at keys below `path`.

    known: what is in force at a reload. whose: certificates are judged by it, for the words.
    """
    anchors = _certificates(config.trust_anchors, f"{path}.trust_anchors", report, whose)
    intermediates = _certificates(config.intermediates, f"{path}.intermediates", report, whose)
    _judge_anchors(anchors, f"{path}.trust_anchors", report, at, whose)
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


def load_fetch_anchors(config: TruststoreConfig, path: str, report: Report) -> str:
    """PEM of the CAs that https servers of revocation data are verified with. path: of `revocation`."""
    if config.revocation is None:
        return ""
    found = _certificates(config.revocation.fetch.trust_anchors, f"{path}.fetch.trust_anchors", report, "servers")
    return "".join(c.x509.public_bytes(Encoding.PEM).decode("ascii") for c in found)


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


def _certificates(patterns: Iterable[Path], path: str, report: Report, whose: str) -> tuple[Certificate, ...]:
    """The CA certificates of PEM files, folders and globs, each once."""
    found: dict[Certificate, None] = {}
    for number, pattern in enumerate(patterns):
        where = f"{path}[{number}]"
        files = _expand(pattern, where, report)
        for file in files:
            for certificate in _read_pem(file, where, report):
                problem = _why_no_ca(certificate, whose)
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


def _why_no_ca(certificate: Certificate, whose: str) -> str | None:
    if certificate.is_ca or (certificate.version == 1 and certificate.self_issued):
        return None
    return f"is not a CA certificate (basicConstraints cA): name the certificate of the CA that issues the {whose}'"


def _judge_anchors(anchors: Iterable[Certificate], path: str, report: Report, at: datetime, whose: str) -> None:
    for anchor in anchors:
        if anchor.not_after < at:
            report.warn(path, f"the trust anchor {anchor.subject} expired on {anchor.not_after:%Y-%m-%d}: its {whose} "
                              "are refused")  # fmt: skip
        elif anchor.not_after < at + timedelta(days=30):
            report.warn(path, f"the trust anchor {anchor.subject} expires on {anchor.not_after:%Y-%m-%d}")
