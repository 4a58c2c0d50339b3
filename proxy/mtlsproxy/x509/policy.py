"""What a truststore demands beyond RFC 5280: its trust anchors and the policy for everything below them."""

from dataclasses import dataclass

from mtlsproxy.x509.certificate import Certificate

CLIENT_AUTH = "1.3.6.1.5.5.7.3.2"
SERVER_AUTH = "1.3.6.1.5.5.7.3.1"
ANY_EXTENDED_KEY_USAGE = "2.5.29.37.0"

CURVES = frozenset({"P-256", "P-384", "P-521", "Ed25519", "Ed448"})
SIGNATURE_HASHES = frozenset({"sha256", "sha384", "sha512"})

EKU_NAMES = {
    CLIENT_AUTH: "clientAuth",
    SERVER_AUTH: "serverAuth",
    ANY_EXTENDED_KEY_USAGE: "anyExtendedKeyUsage",
    "1.3.6.1.5.5.7.3.3": "codeSigning",
    "1.3.6.1.5.5.7.3.4": "emailProtection",
    "1.3.6.1.5.5.7.3.8": "timeStamping",
    "1.3.6.1.5.5.7.3.9": "OCSPSigning",
    "1.3.6.1.4.1.311.20.2.2": "smartcardLogon",
}
"""Dotted OID → the name that operators know (RFC 5280 §4.2.1.12)."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Demands on a path. EKUs and policies are dotted OIDs; hashes are named as in `sha256`.

    max_chain_depth: CA certificates allowed between leaf and trust anchor, self-issued ones included.
    minimum_rsa_bits, curves, signature_hashes: hold for every certificate below the trust anchor.
    """

    max_chain_depth: int = 5
    require_eku: tuple[str, ...] = (CLIENT_AUTH,)
    allow_absent_eku: bool = False
    allow_any_eku: bool = False
    minimum_rsa_bits: int = 2048
    curves: frozenset[str] = CURVES
    signature_hashes: frozenset[str] = SIGNATURE_HASHES
    certificate_policies: tuple[str, ...] = ()
    spiffe_trust_domain: str | None = None


@dataclass(frozen=True, slots=True)
class Truststore:
    """Trust anchors, CA certificates that may help to reach them (trusted for nothing themselves), and the policy."""

    name: str
    anchors: tuple[Certificate, ...]
    intermediates: tuple[Certificate, ...] = ()
    policy: Policy = Policy()
