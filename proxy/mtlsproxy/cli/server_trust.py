"""What `probe` judges a server's certificate by: CAs and CRLs of files, and where that is wished the network."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mtlsproxy.cli.report import BadInput
from mtlsproxy.probe.checks import check_server
from mtlsproxy.probe.survey import Survey
from mtlsproxy.revocation.crl import Crl
from mtlsproxy.revocation.crlset import CrlSet
from mtlsproxy.revocation.decide import RevocationPolicy
from mtlsproxy.revocation.errors import CrlError
from mtlsproxy.revocation.sources import SourceError, load_sources
from mtlsproxy.runtime.offline import Consulted, consult_certificates
from mtlsproxy.verdict.trust import DenyList, Trust
from mtlsproxy.x509.certificate import Certificate, MalformedCertificate, load_pem_certificates
from mtlsproxy.x509.evidence import Check
from mtlsproxy.x509.policy import SERVER_AUTH, Policy, Truststore


@dataclass(frozen=True, slots=True)
class Servers:
    """Whom to trust of servers. lists: the CRLs of files."""

    trust: Trust
    lists: tuple[Crl, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """consulted: what the network said; None where it was not asked."""

    checks: tuple[Check, ...]
    consulted: Consulted | None


def read_servers(cas: Sequence[Path], crls: Sequence[Path]) -> Servers:
    """With the default policy, and revocation hard_fail where there are CRLs. Raises BadInput."""
    anchors = tuple(dict.fromkeys(certificate for file in cas for certificate in _read_certificates(file)))
    try:
        lists = load_sources(crls).crls
    except (SourceError, CrlError) as error:
        raise BadInput(error.detail) from error
    truststore = Truststore("--ca", anchors, policy=Policy(require_eku=(SERVER_AUTH,)))
    known, _ = CrlSet.build(lists, anchors)
    return Servers(Trust(truststore, RevocationPolicy("hard_fail" if crls else "off"), known, DenyList(())), lists)


def _read_certificates(file: Path) -> tuple[Certificate, ...]:
    try:
        return load_pem_certificates(file.read_bytes())
    except OSError as error:
        raise BadInput(f"{file}: cannot be read: {error.strerror}") from error
    except MalformedCertificate as error:
        raise BadInput(f"{file}: {error.detail}") from error


def judge_server(found: Survey, name: str, servers: Servers | None, at: datetime, *, fetch: bool) -> Judged:
    """fetch: ask the CRL and OCSP servers that the certificates name."""
    chain = found.talk.chain
    if servers is None or not fetch:
        return Judged(check_server(chain, name, servers.trust if servers else None, at), None)
    consulted = consult_certificates(servers.trust, servers.lists, chain, at)
    return Judged(check_server(chain, name, consulted.trust, at), consulted)
