"""The development CA: an offline root, separate intermediates for servers and clients, CSRs, CRLs.

create      makes the folder
pki         the folder: DevPki (issue, sign, revoke, write_crls)
authority   a CA at work: the extensions of leaves, intermediates and CRLs
requests    what a requester has a say in; CSRs
names       subjects and SANs, checked
keys        private keys, and which public keys are certified
ledger      what was issued and revoked
files       created whole or not at all
errors      what all of it raises
"""

from mtlsproxy.devpki.create import create_pki
from mtlsproxy.devpki.errors import PkiError
from mtlsproxy.devpki.keys import KeyType
from mtlsproxy.devpki.pki import (
    CrlFile,
    DevPki,
    IssuedCertificate,
    Revocation,
    SignedCertificate,
)

__all__ = [
    "CrlFile",
    "DevPki",
    "IssuedCertificate",
    "KeyType",
    "PkiError",
    "Revocation",
    "SignedCertificate",
    "create_pki",
]
