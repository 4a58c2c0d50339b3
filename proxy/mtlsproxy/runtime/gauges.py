"""What certificates and CRLs say of themselves, as metrics: set anew with each Snapshot."""

import math
import platform
import ssl
from datetime import UTC, datetime

import mtlsproxy
from mtlsproxy.revocation.crl import Crl
from mtlsproxy.runtime.material import Material
from mtlsproxy.telemetry.metrics import Metrics
from mtlsproxy.x509.certificate import Certificate


def show_material(metrics: Metrics, material: Material, now: float) -> None:
    """Replace every series that comes from files. now: Unix seconds."""
    certificates: dict[tuple[str, ...], float] = {}

    def show(kind: str, certificate: Certificate) -> None:
        labels = (kind, certificate.subject, certificate.fingerprint_sha256[:16])
        certificates[labels] = certificate.not_after.timestamp()

    for credentials in material.credentials.values():
        for credential in credentials:
            show("server", credential.leaf)
    for credential in material.client_credentials.values():
        show("upstream_client", credential.leaf)
    for trust in material.all_trusts.values():
        for anchor in trust.truststore.anchors:
            show("trust_anchor", anchor)
    metrics.certificate_not_after_timestamp_seconds.replace(certificates)
    _show_crls(metrics, material, now)
    metrics.config_info.state(material.loaded.sha256)


def _show_crls(metrics: Metrics, material: Material, now: float) -> None:
    """A key's lists of several scopes share a series: it shows the first end, and the entries of all."""
    ends: dict[tuple[str, ...], float] = {}
    entries: dict[tuple[str, ...], float] = {}
    loaded: dict[tuple[str, ...], float] = {}
    known = dict(metrics.crl_last_success_timestamp_seconds.read())  # of what was fetched, as the feeds wrote it
    for name, trust in material.all_trusts.items():
        for combined in trust.crls.lists:
            crl = combined.base
            labels = crl_labels(name, crl)
            until = combined.in_force(datetime.fromtimestamp(now, UTC)).next_update
            if until is not None:
                ends[labels] = min(until.timestamp(), ends.get(labels, math.inf))
            entries[labels] = entries.get(labels, 0) + crl.entries
            lists = material.lists[name]
            from_file = lists.read_at is not None and crl in lists.loaded
            when = lists.read_at.timestamp() if from_file and lists.read_at is not None else known.get(labels, now)
            loaded[labels] = min(when, loaded.get(labels, math.inf))
    metrics.crl_next_update_timestamp_seconds.replace(ends)
    metrics.crl_entries.replace(entries)
    metrics.crl_last_success_timestamp_seconds.replace(loaded)


def count_refused_files(metrics: Metrics, material: Material) -> None:
    """CRL files that a reload did not take: what it was in force with goes on, but a start would fail."""
    for name, lists in material.lists.items():
        for labels in dict.fromkeys(crl_labels(name, crl) for crl in lists.refused):
            metrics.crl_refresh_total.cell(*labels, "failure").value += 1


def crl_labels(truststore: str, crl: Crl) -> tuple[str, str, str]:
    """truststore, issuer, key_id: of every metric about a list."""
    return (truststore, crl.issuer, crl.authority_key_id.hex() if crl.authority_key_id else "")


def show_build(metrics: Metrics) -> None:
    metrics.build_info.state(mtlsproxy.__version__, platform.python_version(), ssl.OPENSSL_VERSION)
