"""Who signed what, held against cryptography's own verify_directly_issued_by."""

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa
from cryptography.hazmat.primitives.serialization import Encoding
from tests.unit.x509.build import DAY, NOW, Issued, dn, issue, new_key

from mtlsproxy.x509.certificate import parse_certificate
from mtlsproxy.x509.path import Link
from mtlsproxy.x509.signatures import link

KINDS = ("P-256", "P-384", "P-521", "Ed25519", "Ed448", "RSA-2048", "RSA-1024")
CAS = {kind: issue("ca", ca=True, key=new_key(kind)) for kind in KINDS}
NAMESAKES = CAS | {"P-256 again": issue("ca", ca=True)}


def directly_issued(leaf: Issued, issuer: Issued) -> bool:
    try:
        leaf.certificate.x509.verify_directly_issued_by(issuer.certificate.x509)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


@pytest.mark.parametrize("signer", sorted(CAS))
@pytest.mark.parametrize("candidate", sorted(NAMESAKES))
def test_a_signature_links_to_its_maker_and_to_nobody_else(signer: str, candidate: str) -> None:
    leaf, issuer = issue("leaf", CAS[signer]), NAMESAKES[candidate]
    found = link(leaf.certificate, issuer.certificate)
    assert (found is Link.SIGNED) == directly_issued(leaf, issuer) == (signer == candidate)
    assert found in (Link.SIGNED, Link.OTHER_KEY)


@pytest.mark.parametrize("kind", sorted(CAS))
def test_a_changed_signature_or_content_is_a_forgery(kind: str) -> None:
    leaf = issue("leaf", CAS[kind], serial=0x5EA1)
    changed = bytearray(leaf.certificate.der)
    changed[-1] ^= 1
    content = leaf.certificate.der.replace(b"\x5e\xa1", b"\x5e\xa2", 1)
    for der in (bytes(changed), content):
        assert link(parse_certificate(der), CAS[kind].certificate) is Link.FORGED


def test_a_key_that_is_too_long_is_not_verified_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is lowered here: keys beyond the real one take seconds to make."""
    leaf = issue("leaf", CAS["RSA-2048"])
    assert link(leaf.certificate, CAS["RSA-2048"].certificate) is Link.SIGNED
    monkeypatch.setattr("mtlsproxy.x509.signatures.MAX_RSA_BITS", 2047)
    assert link(leaf.certificate, CAS["RSA-2048"].certificate) is Link.UNSUPPORTED


def test_algorithms_that_are_not_supported_are_called_so() -> None:
    """DSA, and keys that could not be loaded."""
    key = dsa.generate_private_key(2048)
    name = dn("dsa")
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, NOW, NOW + DAY)
    certificate = parse_certificate(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER))
    assert certificate.key_name == "DSA-2048"
    assert link(certificate, certificate) is Link.UNSUPPORTED
    assert link(issue("leaf", CAS["P-256"]).certificate, certificate) is Link.UNSUPPORTED
