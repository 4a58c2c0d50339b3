"""What a certificate is for, and what verifiers will hold against it. Hints: verification alone decides."""

from collections.abc import Iterator

from mtlsproxy.x509.certificate import Certificate
from mtlsproxy.x509.checks import eku_name
from mtlsproxy.x509.policy import ANY_EXTENDED_KEY_USAGE, CLIENT_AUTH, CURVES, SERVER_AUTH, SIGNATURE_HASHES

_LEAST_RSA = 2048
_V3 = 3


def role_of(certificate: Certificate) -> str:
    """`root CA certificate`, `client certificate` …"""
    if certificate.is_ca or (certificate.version < _V3 and certificate.self_issued):
        return f"{'root' if certificate.self_issued else 'intermediate'} CA certificate"
    own = "self-signed " if certificate.self_issued else ""
    usages = certificate.extended_key_usage
    if usages is None or ANY_EXTENDED_KEY_USAGE in usages:
        return f"{own}certificate for any purpose"
    sides = [name for oid, name in ((SERVER_AUTH, "server"), (CLIENT_AUTH, "client")) if oid in usages]
    if sides:
        return f"{own}{' and '.join(sides)} certificate"
    return f"{own}certificate for {', '.join(map(eku_name, usages))}"


def notes_on(certificate: Certificate) -> Iterator[str]:
    """What a mutual-TLS proxy refuses by default, or servers' clients do; one sentence each."""
    name = certificate.key_name
    if name.startswith("RSA-") and int(name[4:]) < _LEAST_RSA:
        yield f"{name}: shorter than {_LEAST_RSA} bits, which verifiers refuse"
    elif not name.startswith("RSA-") and name not in CURVES:
        yield f"{name}: not a key that this proxy accepts"
    hashing = certificate.signature_hash
    if hashing is not None and hashing not in SIGNATURE_HASHES and not certificate.self_issued:
        yield f"signed with {hashing}, which verifiers refuse"
    if certificate.version < _V3:
        yield f"version {certificate.version}: it has no extensions, and verifiers refuse it"
    if certificate.unhandled_critical:
        yield f"critical extensions that this proxy does not know: {', '.join(certificate.unhandled_critical)}"
    if certificate.is_ca:
        return
    usages = certificate.extended_key_usage
    if usages is None:
        yield "no extended key usage: by default this proxy refuses it (eku_missing)"
    if usages and SERVER_AUTH in usages and not (certificate.sans.dns or certificate.sans.ips):
        yield "no DNS name or IP address: a server is never known by its common name (RFC 9525)"
