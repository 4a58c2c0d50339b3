"""Each reason that lies in a certificate: what the client sees, what is logged and counted, and nothing forwarded.

Two gates judge a client. Where OpenSSL's stops it, an alert ends the handshake; where only ours does, the handshake
completes and the answer is a problem. The reason is ours in either case.
"""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.integration.certificates import (
    DAY,
    NOW,
    Identity,
    identity,
    identity_of_der,
    issue,
    key_pem,
    names,
    pem,
    write_key,
)
from tests.integration.clients import VERSIONS, alert, client_context, request, tls
from tests.integration.conftest import Material, Start
from tests.integration.harness import Tree
from tests.integration.refusals import (
    assert_counted,
    assert_fingerprint_logged,
    assert_handshake_counted,
    assert_logged,
    assert_nobody_left,
    assert_nothing_forwarded,
    assert_problem,
)
from tests.integration.upstream import RecordingUpstream
from tests.unit.x509.build import assemble, fields_of, key_usage, rsa_key, tlv

from mtlsproxy.reasons import Reason

SERVER_AUTH = "1.3.6.1.5.5.7.3.1"


@dataclass(frozen=True)
class Case:
    """A client and why it is refused. alert: what it sees of OpenSSL's gate; None: only ours stops it, with a 403.

    truststore: settings that differ from the default. named: whether the log can say who it was.
    """

    client: Callable[[Material], Identity]
    reason: Reason
    alert: str | None = None
    truststore: dict[str, Any] = field(default_factory=dict)
    named: bool = True


def stranger(material: Material) -> Identity:
    return identity(material.folder, issue("stranger", issue("Other CA", ca=True)))


def self_signed(material: Material) -> Identity:
    return identity(material.folder, issue("nobody's"))


def namesake_ca(material: Material) -> Identity:
    """Issued by a CA that merely bears the name of ours."""
    return identity(material.folder, issue("stranger", issue("Partner CA", ca=True)))


def forged(material: Material) -> Identity:
    """Names our CA as its issuer, and nothing but the signature tells that it did not issue it."""
    forger = issue("Partner CA", ca=True)
    return identity(material.folder, issue("forged", forger, identifiers=False))


def altered(material: Material) -> Identity:
    """A good certificate with another name written into it."""
    good = issue("alice", material.ca)
    der = good.certificate.der.replace(b"alice", b"admin")
    return identity_of_der(material.folder, der, good.key)


def below_path_length(material: Material) -> Identity:
    upper = issue("Upper CA", material.ca, ca=True, path_length=0)
    lower = issue("Lower CA", upper, ca=True)
    return identity(material.folder, issue("deep", lower), lower, upper)


def outside_name_constraint(material: Material) -> Identity:
    narrow = issue("Narrow CA", material.ca, ca=True, permitted=names("DNS:inside.test"))
    return identity(material.folder, issue("outside", narrow, sans=names("DNS:outside.test")), narrow)


def long_chain(material: Material) -> Identity:
    issuer, chain = material.ca, []
    for number in range(6):
        issuer = issue(f"CA {number}", issuer, ca=True)
        chain.insert(0, issuer)
    return identity(material.folder, issue("distant", issuer), *chain)


def issued_by_leaf(material: Material) -> Identity:
    leaf = issue("alice", material.ca)
    return identity(material.folder, issue("child of alice", leaf), leaf)


def issued_without_cert_sign(material: Material) -> Identity:
    weak = issue("CRL signer", material.ca, ca=True, usage=key_usage("crl_sign"))
    return identity(material.folder, issue("alice", weak), weak)


def ca_as_client(material: Material) -> Identity:
    what = {"usage": key_usage("digital_signature", "key_cert_sign"), "eku": ["1.3.6.1.5.5.7.3.2"]}
    return identity(material.folder, issue("Sub CA", material.ca, ca=True, **what))


def critical_extension(material: Material) -> Identity:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
    return identity(material.folder, issue("alice", material.ca, extra=[(unknown, True)]))


def version_one(material: Material) -> Identity:
    good = issue("alice", material.ca)
    parts = fields_of(good.certificate.der)[1:-1]  # without the version and the extensions
    return identity_of_der(material.folder, assemble(parts, material.ca.key), good.key)


def control_in_name(name: bytes) -> Callable[[Material], Identity]:
    """A subject of one common name (UTF8String) with any bytes in it."""

    def make(material: Material) -> Identity:
        good = issue("alice", material.ca)
        parts = fields_of(good.certificate.der)
        attribute = tlv(0x30, bytes.fromhex("0603550403"), tlv(0x0C, name))
        parts[5] = tlv(0x30, tlv(0x31, attribute))
        return identity_of_der(material.folder, assemble(parts, material.ca.key), good.key)

    return make


def nul_in_dns_name(material: Material) -> Identity:
    """Envoy CVE-2026-47778: `good.test` NUL `evil.test` must not be read as good.test."""
    good = issue("alice", material.ca, sans=names("DNS:good.test-evil.test"))
    parts = fields_of(good.certificate.der)
    parts[-1] = parts[-1].replace(b"good.test-", b"good.test\0")
    return identity_of_der(material.folder, assemble(parts, material.ca.key), good.key)


def sha1(material: Material) -> Identity:
    """By the openssl command: cryptography no longer signs with SHA-1."""
    good = issue("alice", material.ca)
    ca, key, public, extensions = (material.folder / f"sha1.{kind}" for kind in ("pem", "key", "pub", "cnf"))
    ca.write_bytes(pem(material.ca))
    write_key(key, key_pem(material.ca.key))
    public.write_bytes(good.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    extensions.write_text("keyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n")
    words = ["openssl", "x509", "-new", "-sha1", "-subj", "/CN=old", "-set_serial", "77", "-days", "9"]
    words += ["-force_pubkey", public, "-CA", ca, "-CAkey", key, "-extfile", extensions, "-outform", "DER"]
    der = subprocess.run(words, capture_output=True, check=True).stdout
    return identity_of_der(material.folder, der, good.key)


def plain(**what: Any) -> Callable[[Material], Identity]:
    return lambda material: material.client(**what)


CASES = {
    "unknown CA": Case(stranger, Reason.UNTRUSTED_ISSUER, "unknown_ca"),
    "self-signed": Case(self_signed, Reason.UNTRUSTED_ISSUER, "unknown_ca"),
    "a CA of the same name": Case(namesake_ca, Reason.UNTRUSTED_ISSUER, "unknown_ca"),
    "expired": Case(plain(start=NOW - 9 * DAY, end=NOW - DAY), Reason.EXPIRED, "certificate_expired"),
    "not yet valid": Case(plain(start=NOW + DAY), Reason.NOT_YET_VALID, "bad_certificate"),
    "forged": Case(forged, Reason.BAD_SIGNATURE, "decrypt_error"),
    "altered": Case(altered, Reason.BAD_SIGNATURE, "decrypt_error"),
    "path length": Case(below_path_length, Reason.PATH_LENGTH, "unknown_ca"),
    "name constraint": Case(outside_name_constraint, Reason.NAME_CONSTRAINT, "certificate_unknown"),
    "seven issuers": Case(long_chain, Reason.CHAIN_TOO_LONG),
    "issued by a leaf": Case(issued_by_leaf, Reason.NOT_A_CA, "unknown_ca"),
    "issuer without keyCertSign": Case(issued_without_cert_sign, Reason.NOT_A_CA, "unknown_ca"),
    "a CA as client": Case(ca_as_client, Reason.CA_AS_LEAF),
    "key usage": Case(plain(usage=key_usage("key_encipherment")), Reason.KEY_USAGE, "unsupported_certificate"),
    "unknown critical extension": Case(critical_extension, Reason.MALFORMED_CERTIFICATE, "certificate_unknown"),
    "version 1": Case(version_one, Reason.MALFORMED_CERTIFICATE),
    "NUL in the common name": Case(control_in_name(b"alice\0admin"), Reason.MALFORMED_CERTIFICATE, named=False),
    "line end in the common name": Case(control_in_name(b"alice\r\nX-A: b"), Reason.MALFORMED_CERTIFICATE, named=False),
    "NUL in a DNS name": Case(nul_in_dns_name, Reason.MALFORMED_CERTIFICATE, named=False),
    "no EKU": Case(plain(eku=None), Reason.EKU_MISSING),
    "server EKU": Case(plain(eku=[SERVER_AUTH]), Reason.EKU_MISMATCH, "unsupported_certificate"),
    "RSA 1024": Case(lambda m: m.client(key=rsa_key(1024)), Reason.WEAK_KEY, "bad_certificate"),
    "curve": Case(plain(), Reason.WEAK_KEY, None, {"keys": {"curves": ["P-384"]}}),
    "RSA below the truststore's minimum": Case(
        lambda m: m.client(key=rsa_key(2048)), Reason.WEAK_KEY, None, {"keys": {"minimum_rsa_bits": 3072}}
    ),
    "SHA-1": Case(sha1, Reason.WEAK_SIGNATURE, "bad_certificate"),
    "hash": Case(plain(), Reason.WEAK_SIGNATURE, None, {"signature_hashes": ["sha384"]}),
    "policy": Case(plain(policies=["1.2.3.4"]), Reason.POLICY_OID, None, {"certificate_policies": ["1.2.3.5"]}),
    "no SVID": Case(plain(), Reason.NOT_A_SVID, None, {"spiffe_trust_domain": "example.org"}),
    "another trust domain": Case(
        plain(sans=("URI:spiffe://other.test/a",)), Reason.NOT_A_SVID, None, {"spiffe_trust_domain": "example.org"}
    ),
    "denied by the truststore": Case(
        plain(sans=("DNS:eve.test",)), Reason.DENIED, None, {"deny": [{"dns": "eve.test"}]}
    ),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_refused(
    case: Case, version: str, config: Tree, material: Material, upstream: RecordingUpstream, start: Start
) -> None:
    """By alert or by answer as the case says, under our reason, and without a byte at the upstream."""
    config["truststores"]["partners"] |= case.truststore
    proxy, who = start(config), case.client(material)
    context = client_context(material.root, who, VERSIONS[version])
    if case.alert is not None:
        assert alert(proxy.port(), context) == case.alert
    else:
        with tls(proxy.port(), context) as connection:
            connection.send(request())
            assert_problem(connection.response(), case.reason, closes=True)
            assert connection.ended()
    if case.named:
        assert_logged(proxy, case.reason, who)
    else:
        assert_fingerprint_logged(proxy, case.reason, who.der)
    assert_counted(proxy, case.reason)
    assert_handshake_counted(proxy, case.reason, version)
    assert proxy.refusal()["tls_version"] == version
    assert_nothing_forwarded(upstream)


def test_a_refused_client_that_asks_for_nothing_is_logged_all_the_same(
    config: Tree, material: Material, upstream: RecordingUpstream, start: Start
) -> None:
    """Refused by our gate alone, so there is no alert, and without a request no answer either."""
    proxy, who = start(config), material.client(eku=None)
    with tls(proxy.port(), client_context(material.root, who)):
        pass
    assert_logged(proxy, Reason.EKU_MISSING, who)
    assert_counted(proxy, Reason.EKU_MISSING)
    assert_nothing_forwarded(upstream)
    assert_nobody_left(proxy)


@pytest.mark.parametrize("refused", [False, True], ids=["ok", "refused"])
def test_every_handshake_has_a_duration(config: Tree, material: Material, start: Start, refused: bool) -> None:
    """handshake_duration_seconds: successful or not."""
    proxy = start(config)
    if refused:
        assert alert(proxy.port(), client_context(material.root, stranger(material))) == "unknown_ca"
    else:
        with tls(proxy.port(), client_context(material.root, material.client())) as connection:
            assert connection.get().status == 200
    assert proxy.series("handshake_duration_seconds_count") == {("internal",): 1}
