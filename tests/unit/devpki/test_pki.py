"""The PKI as a whole: two hierarchies that do not vouch for each other, and revocation that openssl obeys."""

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from mtlsproxy.devpki import DevPki, IssuedCertificate, KeyType, PkiError, create_pki, ledger
from mtlsproxy.devpki.authority import Validity
from mtlsproxy.devpki.keys import generate_key
from mtlsproxy.devpki.names import parse_subject
from mtlsproxy.devpki.pki import pem
from mtlsproxy.devpki.requests import make_csr, make_request

CLIENT, SERVER = "sslclient", "sslserver"
DAY = timedelta(days=1)
T = TypeVar("T", bound=x509.ExtensionType)


def now() -> datetime:
    return datetime.now(UTC)


def crl_of(pki: DevPki, name: str) -> x509.CertificateRevocationList:
    return x509.load_pem_x509_crl(pki.crl_path(name).read_bytes())


def extension(certificate: x509.Certificate, kind: type[T]) -> T:
    return certificate.extensions.get_extension_for_class(kind).value


@pytest.mark.parametrize(
    ("ca_type", "leaf_type", "kind"),
    [
        (KeyType.EC, KeyType.EC, ec.EllipticCurvePrivateKey),
        (KeyType.EC, KeyType.RSA, rsa.RSAPrivateKey),
        (KeyType.EC, KeyType.ED25519, ed25519.Ed25519PrivateKey),
        (KeyType.RSA, KeyType.EC, ec.EllipticCurvePrivateKey),
        (KeyType.ED25519, KeyType.ED25519, ed25519.Ed25519PrivateKey),
        (KeyType.ED25519, KeyType.RSA, rsa.RSAPrivateKey),
    ],
)
def test_leaves_of_every_key_type_verify_under_cas_of_every_key_type(
    tmp_path: Path, verify, ca_type: KeyType, leaf_type: KeyType, kind: type
) -> None:
    pki = create_pki(tmp_path / "dev", "Example", ca_type)
    client = pki.issue("CN=alice,O=Example", ["EMAIL:alice@example.org"], "client", key_type=leaf_type)
    server = pki.issue("CN=localhost", ["DNS:localhost", "IP:127.0.0.1"], "server", key_type=leaf_type)
    assert isinstance(serialization.load_pem_private_key(client.key_pem, None), kind)
    assert verify(pki, client.chain_pem, CLIENT).returncode == 0
    assert verify(pki, server.chain_pem, SERVER, "-verify_hostname", "localhost").returncode == 0
    assert verify(pki, server.chain_pem, SERVER, "-verify_ip", "127.0.0.1").returncode == 0
    assert "hostname mismatch" in verify(pki, server.chain_pem, SERVER, "-verify_hostname", "other").stdout


def test_neither_hierarchy_makes_leaves_for_the_other(pki: DevPki, verify) -> None:
    client, server = pki.issue("CN=alice"), pki.issue("", ["DNS:localhost"], "server")
    for chain, purpose in ((server.chain_pem, CLIENT), (client.chain_pem, SERVER)):
        refused = verify(pki, chain, purpose)
        assert refused.returncode == 2
        assert "error 26 at 0 depth" in refused.stdout
        assert "error 26 at 1 depth" in refused.stdout


def test_the_ca_certificate_itself_forbids_what_the_leaf_claims(pki: DevPki, verify) -> None:
    """A leaf with both usages gets the one that its CA may give: the bound is the CA's, not only our good will."""
    both = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    leaf = pki.issue("CN=odd", ["DNS:localhost"], "client", extended_key_usage=both)
    assert verify(pki, leaf.chain_pem, CLIENT).returncode == 0
    refused = verify(pki, leaf.chain_pem, SERVER)
    assert "error 26 at 1 depth" in refused.stdout
    assert "error 26 at 0 depth" not in refused.stdout


def test_a_ca_that_may_not_give_the_usage_refuses_to_sign(pki: DevPki) -> None:
    authority = pki.authority("client-ca")
    authority.refuse_usages([ExtendedKeyUsageOID.CLIENT_AUTH])
    with pytest.raises(PkiError, match=r"client-ca\.pem: may not give 1\.3\.6\.1\.5\.5\.7\.3\.1"):
        authority.refuse_usages([ExtendedKeyUsageOID.SERVER_AUTH])


def test_swapped_intermediates_sign_nothing(pki: DevPki) -> None:
    for ending in ("pem", "key"):
        server, client = (pki.directory / f"{name}.{ending}" for name in ("server-ca", "client-ca"))
        aside = server.read_bytes()
        server.write_bytes(client.read_bytes())
        client.write_bytes(aside)
    swapped = DevPki.load(pki.directory)
    with pytest.raises(PkiError, match="may not give"):
        swapped.issue("CN=alice")


def test_a_ca_below_an_intermediate_vouches_for_nobody(pki: DevPki, verify) -> None:
    """pathLen 0 (RFC 5280, section 4.2.1.9) binds even whoever holds client-ca's key."""
    usages, validity = [ExtendedKeyUsageOID.CLIENT_AUTH], Validity(now() - timedelta(minutes=1), now() + DAY)
    client_ca = pki.authority("client-ca")
    rogue = client_ca.sign_intermediate(
        "rogue", parse_subject("CN=Rogue CA"), generate_key(KeyType.EC), usages, validity
    )
    request = make_request("CN=alice", [], generate_key(KeyType.EC).public_key())
    direct, below = (authority.sign_leaf(request, usages, validity) for authority in (client_ca, rogue))
    accepted = verify(pki, pem(direct) + pem(pki.client_ca), CLIENT, crls=False)
    refused = verify(pki, pem(below) + pem(rogue.certificate) + pem(pki.client_ca), CLIENT, crls=False)
    assert accepted.returncode == 0
    assert "path length constraint exceeded" in refused.stdout


def test_the_chain_file_is_the_leaf_then_its_ca_and_not_the_root(pki: DevPki, openssl, tmp_path: Path) -> None:
    issued = pki.issue("CN=alice")
    assert x509.load_pem_x509_certificates(issued.chain_pem) == [issued.certificate, pki.client_ca]
    issued.write(tmp_path / "alice.pem", tmp_path / "alice.key")
    first = openssl("x509", "-in", tmp_path / "alice.pem", "-noout", "-subject").stdout
    assert first.strip() == "subject=CN = alice"
    halves = [
        openssl("x509", "-in", tmp_path / "alice.pem", "-noout", "-pubkey").stdout,
        openssl("pkey", "-in", tmp_path / "alice.key", "-pubout").stdout,
    ]
    assert halves[0] == halves[1]


def test_what_a_leaf_may_do_is_in_it(pki: DevPki) -> None:
    leaf = pki.issue("CN=alice", ["DNS:alice.example"], days=7).certificate
    assert extension(leaf, x509.BasicConstraints) == x509.BasicConstraints(ca=False, path_length=None)
    assert list(extension(leaf, x509.ExtendedKeyUsage)) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical and usage.value.digital_signature
    assert not (usage.value.key_cert_sign or usage.value.crl_sign or usage.value.key_encipherment)
    assert timedelta(days=6, hours=23) < leaf.not_valid_after_utc - now() <= timedelta(days=7)
    assert leaf.not_valid_before_utc < now()
    own = extension(pki.client_ca, x509.SubjectKeyIdentifier)
    assert extension(leaf, x509.AuthorityKeyIdentifier).key_identifier == own.digest


def test_a_leaf_without_subject_has_a_critical_san(pki: DevPki, verify) -> None:
    """RFC 5280, section 4.2.1.6."""
    nameless = pki.issue("", ["URI:spiffe://example.org/a"])
    named = pki.issue("CN=a", ["URI:spiffe://example.org/a"])
    kind = x509.SubjectAlternativeName
    assert nameless.certificate.extensions.get_extension_for_class(kind).critical
    assert not named.certificate.extensions.get_extension_for_class(kind).critical
    assert verify(pki, nameless.chain_pem, CLIENT).returncode == 0


@pytest.mark.parametrize(("name", "length"), [("root", 1), ("server-ca", 0), ("client-ca", 0)])
def test_every_ca_is_bounded(pki: DevPki, name: str, length: int) -> None:
    extensions = pki.certificate(name).extensions
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert constraints.critical and constraints.value == x509.BasicConstraints(ca=True, path_length=length)
    assert usage.critical and usage.value.key_cert_sign and usage.value.crl_sign and not usage.value.digital_signature


def test_a_server_is_signed_under_the_name_that_clients_dial(pki: DevPki) -> None:
    for sans in ([], ["URI:spiffe://example.org/a"], ["EMAIL:a@example.org"]):
        with pytest.raises(PkiError, match="--san DNS"):
            pki.issue("CN=localhost", sans, "server")
    pki.issue("CN=localhost", ["IP:::1"], "server")


def test_a_leaf_does_not_outlive_its_ca(pki: DevPki) -> None:
    with pytest.raises(PkiError, match=r"client-ca\.pem expires .* give --days 18\d\d or fewer"):
        pki.issue("CN=alice", days=1900)
    for days in (0, -1, 10**9):
        with pytest.raises(PkiError, match=f"{days} days"):
            pki.issue("CN=alice", days=days)


def test_odd_leaves_can_be_had_for_tests(pki: DevPki, verify) -> None:
    start = now()
    expired = pki.issue("CN=a", not_before=start - 2 * DAY, not_after=start - DAY)
    future = pki.issue("CN=a", not_before=start + DAY, not_after=start + 2 * DAY)
    plain = pki.issue("CN=a", extended_key_usage=())
    assert "error 10 at 0 depth" in verify(pki, expired.chain_pem, CLIENT).stdout
    assert "error 9 at 0 depth" in verify(pki, future.chain_pem, CLIENT).stdout
    with pytest.raises(x509.ExtensionNotFound):
        extension(plain.certificate, x509.ExtendedKeyUsage)


def test_a_signed_request_keeps_its_names_and_gets_its_rights_from_the_profile(pki: DevPki, verify) -> None:
    key = generate_key(KeyType.RSA)
    csr = make_csr("CN=orders,O=Example", ["DNS:orders.internal"], key)
    client, server = (pki.sign(csr, "orders.csr", profile) for profile in ("client", "server"))
    for signed, purpose, other in ((client, CLIENT, SERVER), (server, SERVER, CLIENT)):
        assert signed.certificate.subject == parse_subject("CN=orders,O=Example")
        assert list(extension(signed.certificate, x509.SubjectAlternativeName)) == [x509.DNSName("orders.internal")]
        assert signed.certificate.public_key() == key.public_key()
        assert verify(pki, signed.chain_pem, purpose).returncode == 0
        assert verify(pki, signed.chain_pem, other).returncode == 2


@pytest.mark.parametrize("profile", ["server", "client"])
def test_a_revoked_leaf_is_refused_and_its_neighbour_is_not(pki: DevPki, verify, profile: str) -> None:
    purpose = {"server": SERVER, "client": CLIENT}[profile]
    revoked, other = (pki.issue(f"CN={name}", ["DNS:a.example"], profile) for name in ("mallory", "alice"))
    pki.revoke(revoked.certificate, x509.ReasonFlags.key_compromise)
    refused = verify(pki, revoked.chain_pem, purpose)
    assert "error 23 at 0 depth lookup: certificate revoked" in refused.stdout
    assert verify(pki, other.chain_pem, purpose).returncode == 0
    entry = crl_of(pki, f"{profile}-ca").get_revoked_certificate_by_serial_number(revoked.certificate.serial_number)
    assert entry is not None
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason is x509.ReasonFlags.key_compromise


def test_a_revoked_intermediate_takes_its_leaves_along(pki: DevPki, verify) -> None:
    client, server = pki.issue("CN=alice"), pki.issue("", ["DNS:localhost"], "server")
    assert pki.revoke(pki.client_ca, x509.ReasonFlags.ca_compromise).authority == "root"
    assert "error 23 at 1 depth" in verify(pki, client.chain_pem, CLIENT).stdout
    assert verify(pki, server.chain_pem, SERVER).returncode == 0


def test_unspecified_is_left_out_of_the_crl(pki: DevPki) -> None:
    """RFC 5280, section 5.3.1: SHOULD be absent instead."""
    pki.revoke(pki.issue("CN=alice").certificate)
    (entry,) = crl_of(pki, "client-ca")
    assert len(entry.extensions) == 0


def test_revoking_twice_keeps_the_first_record_and_mends_the_crl(pki: DevPki, verify) -> None:
    issued = pki.issue("CN=alice")
    stale = pki.crl_path("client-ca").read_bytes()
    first = pki.revoke(issued.certificate, x509.ReasonFlags.superseded, at=now() - timedelta(hours=1))
    pki.crl_path("client-ca").write_bytes(stale)  # as if the first had been cut short
    second = pki.revoke(issued.certificate, x509.ReasonFlags.key_compromise)
    assert (first.already, second.already) == (False, True)
    assert second.record == first.record
    assert len(crl_of(pki, "client-ca")) == 1
    assert "error 23" in verify(pki, issued.chain_pem, CLIENT).stdout


def test_only_a_hold_gives_way_to_another_reason(pki: DevPki) -> None:
    leaf = pki.issue("CN=alice").certificate
    pki.revoke(leaf, x509.ReasonFlags.certificate_hold)
    assert pki.revoke(leaf, x509.ReasonFlags.certificate_hold).already
    final = pki.revoke(leaf, x509.ReasonFlags.key_compromise)
    assert (final.already, final.record.reason) == (False, x509.ReasonFlags.key_compromise)
    with pytest.raises(PkiError, match="delta CRLs"):
        pki.revoke(leaf, x509.ReasonFlags.remove_from_crl)


def test_what_the_pki_did_not_issue_is_not_revoked(pki: DevPki, tmp_path: Path) -> None:
    """Another PKI with the very same names: the signature tells them apart."""
    stranger = create_pki(tmp_path / "other", "Example").issue("CN=alice")
    before = (pki.directory / "ledger.json").read_bytes()
    with pytest.raises(PkiError, match="revoke it where it was issued"):
        pki.revoke(stranger.certificate)
    with pytest.raises(PkiError, match="trust anchor"):
        pki.revoke(pki.root)
    assert (pki.directory / "ledger.json").read_bytes() == before


def test_crl_numbers_only_rise(pki: DevPki) -> None:
    assert [crl.number for crl in pki.write_crls()] == [2, 2, 2]
    pki.revoke(pki.issue("CN=alice").certificate)
    assert [crl.number for crl in pki.write_crls(days=2)] == [4, 4, 4]
    for name in ("root", "server-ca", "client-ca"):
        crl = crl_of(pki, name)
        assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 4
        assert crl.is_signature_valid(pki.certificate(name).public_key())


def test_crl_numbers_rise_even_after_an_old_ledger_was_restored(pki: DevPki) -> None:
    old = (pki.directory / "ledger.json").read_bytes()
    pki.write_crls()
    pki.write_crls()
    (pki.directory / "ledger.json").write_bytes(old)
    assert [crl.number for crl in pki.write_crls()] == [4, 4, 4]


def test_a_crl_lives_as_long_as_asked_and_then_as_its_predecessor(pki: DevPki, verify) -> None:
    def period(name: str) -> timedelta:
        crl = crl_of(pki, name)
        assert crl.next_update_utc is not None
        return crl.next_update_utc - crl.last_update_utc

    assert [period(name) for name in ("root", "server-ca", "client-ca")] == [365 * DAY, 30 * DAY, 30 * DAY]
    pki.write_crls(days=3)
    leaf = pki.issue("CN=alice")
    pki.revoke(pki.issue("CN=mallory").certificate)
    assert period("client-ca") == 3 * DAY
    pki.write_crls(days=1, at=now() - 2 * DAY)
    assert "error 12 at 0 depth lookup: CRL has expired" in verify(pki, leaf.chain_pem, CLIENT).stdout
    with pytest.raises(PkiError, match="0 days"):
        pki.write_crls(days=0)


def test_openssl_reads_the_crls(pki: DevPki, openssl) -> None:
    for name in ("root", "server-ca", "client-ca"):
        ca = pki.directory / ("root.pem" if name == "root" else f"{name}.pem")
        shown = openssl("crl", "-in", pki.crl_path(name), "-CAfile", ca, "-noout", "-text", "-verify")
        assert shown.returncode == 0
        assert "verify OK" in shown.stdout
        assert "X509v3 CRL Number" in shown.stdout
        assert "X509v3 Authority Key Identifier" in shown.stdout


def test_the_root_key_may_be_elsewhere(pki: DevPki, verify, tmp_path: Path) -> None:
    (pki.directory / "root.key").rename(tmp_path / "safe")
    online = DevPki.load(pki.directory)
    alice, mallory = online.issue("CN=alice"), online.issue("CN=mallory")
    online.revoke(mallory.certificate)
    assert [(crl.path.stem, crl.written, crl.number) for crl in online.write_crls()] == [
        ("root", False, 1),
        ("server-ca", True, 3),
        ("client-ca", True, 3),
    ]
    assert verify(online, alice.chain_pem, CLIENT).returncode == 0
    assert "error 23" in verify(online, mallory.chain_pem, CLIENT).stdout
    with pytest.raises(PkiError, match=r"root\.key: no such file"):
        online.revoke(online.client_ca)
    (pki.directory / "crls" / "root.pem").unlink()
    with pytest.raises(PkiError, match=r"crls/root\.pem: missing"):
        online.write_crls()


def test_a_key_of_another_certificate_signs_nothing(pki: DevPki) -> None:
    (pki.directory / "client-ca.key").write_bytes((pki.directory / "server-ca.key").read_bytes())
    with pytest.raises(PkiError, match=r"client-ca\.key: not the key of client-ca\.pem"):
        pki.issue("CN=alice")


@pytest.mark.parametrize("data", [b"", b"x", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_damaged_key_or_certificate_is_named(pki: DevPki, data: bytes) -> None:
    (pki.directory / "client-ca.key").write_bytes(data)
    with pytest.raises(PkiError, match=r"client-ca\.key: not a PEM private key"):
        pki.issue("CN=alice")
    (pki.directory / "client-ca.pem").write_bytes(data)
    with pytest.raises(PkiError, match=r"client-ca\.pem: not a certificate"):
        DevPki.load(pki.directory)


def test_a_key_with_a_passphrase_is_named(pki: DevPki) -> None:
    locked = pki.authority("client-ca").key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    (pki.directory / "client-ca.key").write_bytes(locked)
    with pytest.raises(PkiError, match="passphrase"):
        pki.issue("CN=alice")


def test_intermediates_of_another_root_are_not_loaded(pki: DevPki, tmp_path: Path) -> None:
    other = create_pki(tmp_path / "other", "Example")
    (pki.directory / "root.pem").write_bytes((other.directory / "root.pem").read_bytes())
    with pytest.raises(PkiError, match=r"server-ca\.pem: not issued by root\.pem"):
        DevPki.load(pki.directory)
    with pytest.raises(PkiError, match="mtlsproxy pki init"):
        DevPki.load(tmp_path / "nothing")


def test_every_key_is_private_and_everything_else_is_not(pki: DevPki) -> None:
    files = [path for path in pki.directory.rglob("*") if path.is_file()]
    modes = {str(path.relative_to(pki.directory)): stat.S_IMODE(path.stat().st_mode) for path in files}
    keys = {"root.key", "server-ca.key", "client-ca.key"}
    certificates = {"root.pem", "server-ca.pem", "client-ca.pem"}
    assert {name for name, mode in modes.items() if mode == 0o600} == keys
    assert set(modes) == keys | certificates | {f"crls/{name}" for name in certificates} | {"ledger.json"}


def test_nobody_else_may_write_to_the_folder_under_any_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        create_pki(tmp_path / "dev")
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("dev", "dev/crls")] == [0o755, 0o755]


@pytest.mark.parametrize("survivor", ["root.pem", "client-ca.key", "crls/root.pem", "ledger.json"])
def test_a_new_pki_overwrites_nothing(pki: DevPki, survivor: str) -> None:
    for path in sorted(pki.directory.rglob("*")):
        if path.is_file() and path != pki.directory / survivor:
            path.unlink()
    before = (pki.directory / survivor).read_bytes()
    with pytest.raises(PkiError, match=f"{survivor}: exists already"):
        create_pki(pki.directory, "Example")
    assert [path for path in pki.directory.rglob("*") if path.is_file()] == [pki.directory / survivor]
    assert (pki.directory / survivor).read_bytes() == before


def test_an_organization_that_is_no_name_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for organization in ("", "a\nb", "x" * 65):
        with pytest.raises(PkiError, match="subject: O"):
            create_pki(tmp_path / "dev", organization)
    assert not (tmp_path / "dev").exists()


def test_what_was_issued_is_in_the_ledger(pki: DevPki) -> None:
    issued: IssuedCertificate = pki.issue("CN=alice,O=Example")
    (record,) = ledger.load(pki.directory).book("client-ca").issued
    assert int(record.serial, 16) == issued.certificate.serial_number
    assert (record.subject, record.not_after) == ("CN=alice,O=Example", issued.certificate.not_valid_after_utc)
    assert len(ledger.load(pki.directory).book("root").issued) == 2
