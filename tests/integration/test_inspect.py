"""`mtlsproxy inspect` on files as openssl and this program write them: whole, encrypted, bundled and broken."""

import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import certifi
import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from tests.integration.certificates import DAY, NOW, identity, issue, key_pem, pem
from tests.integration.conftest import Material
from tests.unit.x509.build import Issued, dn, new_key

from mtlsproxy.cli import cli

OPENSSL = shutil.which("openssl")
PASSWORD = "open sesame"

needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="no openssl command on this machine")


def inspect(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(cli, ["inspect", *map(str, arguments)], input=stdin, prog_name="mtlsproxy")


def inspected(*arguments: object) -> list[dict[str, Any]]:
    """The items, of files that can all be read."""
    result = inspect(*arguments, "--format", "json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["ok"] is True and found["errors"] == []
    items: list[dict[str, Any]] = found["items"]
    assert [item["number"] for item in items] == list(range(1, len(items) + 1))
    return items


def refused(*arguments: object, stdin: bytes | None = None) -> str:
    """What is said of files that cannot be read."""
    result = inspect(*arguments, stdin=stdin)
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    return result.stderr


def openssl(*arguments: object, stdin: bytes = b"") -> bytes:
    done = subprocess.run([str(OPENSSL), *map(str, arguments)], input=stdin, capture_output=True, check=True)
    return done.stdout


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(data: bytes, name: str = "file") -> Path:
        file = tmp_path / name
        file.write_bytes(data)
        return file

    return write_file


# -- certificates -----------------------------------------------------------------------------------------------------


def test_a_certificate_to_the_letter(write: Write) -> None:
    ca = issue("Test CA", ca=True)
    leaf = issue(
        "alice", ca, sans=[x509.DNSName("a.test"), x509.UniformResourceIdentifier("spiffe://a/b")], serial=0x0ABC,
        policies=["2.23.140.1.2.2"],
    )  # fmt: skip
    (item,) = inspected(write(pem(leaf)))
    assert item["type"] == "certificate"
    assert item["role"] == "client certificate"
    assert (item["subject"], item["issuer"], item["serial"]) == ("CN=alice", "CN=Test CA", "0ABC")
    assert item["names"] == ["DNS:a.test", "URI:spiffe://a/b"]
    assert (item["key"], item["key_usage"], item["extended_key_usage"]) == (
        "P-256",
        ["digitalSignature"],
        ["clientAuth"],
    )
    assert (item["validation"], item["policies"]) == ("OV", ["2.23.140.1.2.2"])
    assert item["days_left"] in (29, 30) and item["expiry"] in ("expires in 29 days", "expires in 30 days")
    assert item["fingerprint_sha256"] == leaf.certificate.fingerprint_sha256
    assert item["signature"]["result"] == "no_issuer"
    assert item["is_ca"] is False and item["private_key"] is None
    assert (item["line"], item["inside"], item["notes"]) == (1, None, [])


@pytest.mark.parametrize(
    ("policies", "level"),
    [
        (["2.23.140.1.2.1"], "DV"),
        (["2.23.140.1.2.2"], "OV"),
        (["2.23.140.1.2.3"], "IV"),
        (["2.23.140.1.1"], "EV"),
        (["1.2.3.4", "2.23.140.1.2.1"], "DV"),
        (["2.23.140.1.2.1", "2.23.140.1.1"], "EV"),
        (["1.2.3.4"], None),
        ([], None),
    ],
)
def test_the_level_of_validation_is_what_the_policies_say(write: Write, policies: list[str], level: str | None) -> None:
    (item,) = inspected(write(pem(issue("x", policies=policies))))
    assert item["validation"] == level


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        (NOW - DAY, NOW + timedelta(days=12, hours=5), "expires in 12 days"),
        (NOW - DAY, NOW + timedelta(hours=5, minutes=30), "expires in 5 hours"),
        (NOW - 9 * DAY, NOW - timedelta(days=3, hours=1), "expired 3 days ago"),
        (NOW + timedelta(days=2, hours=1), NOW + 9 * DAY, "not valid yet: begins in 2 days"),
    ],
)
def test_when_it_ends_is_said_in_words(write: Write, start: Any, end: Any, words: str) -> None:
    file = write(pem(issue("x", start=start, end=end)))
    assert inspected(file)[0]["expiry"] == words
    assert words in inspect(file).stdout


def test_the_extensions_are_told_in_words(write: Write) -> None:
    url = x509.UniformResourceIdentifier
    access = x509.AuthorityInformationAccess(
        [
            x509.AccessDescription(x509.AuthorityInformationAccessOID.OCSP, url("http://ocsp.test")),
            x509.AccessDescription(x509.AuthorityInformationAccessOID.CA_ISSUERS, url("http://ca.test/ca.der")),
        ]
    )
    points = x509.CRLDistributionPoints([x509.DistributionPoint([url("http://crl.test/1.crl")], None, None, None)])
    constrained = issue(
        "A CA", ca=True, path_length=0, permitted=[x509.DNSName("test"), x509.DirectoryName(dn("x"))],
        extra=[(access, False), (points, False), (x509.TLSFeature([x509.TLSFeatureType.status_request]), False)],
        eku=[ExtendedKeyUsageOID.SERVER_AUTH.dotted_string, "1.2.3.4"],
    )  # fmt: skip
    (item,) = inspected(write(pem(constrained)))
    assert (item["is_ca"], item["path_length"], item["role"]) == (True, 0, "root CA certificate")
    assert item["ocsp_urls"] == ["http://ocsp.test"]
    assert item["ca_issuer_urls"] == ["http://ca.test/ca.der"]
    assert item["crl_urls"] == ["http://crl.test/1.crl"]
    told = {shown["name"]: shown for shown in item["extensions"]}
    assert told["name constraints"]["values"] == ["permitted DNS:test", "permitted DN:CN=x"]
    assert told["name constraints"]["critical"] is True
    assert told["basic constraints"]["values"] == ["a CA, at most 0 CAs below it"]
    assert told["extended key usage"]["values"] == ["serverAuth", "1.2.3.4"]
    assert told["TLS feature"]["values"] == ["must staple OCSP"]
    assert told["authority information access"]["values"] == [
        "OCSP http://ocsp.test",
        "CA certificate http://ca.test/ca.der",
    ]
    shown = inspect(write(pem(constrained))).stdout
    for words in ("name constraints (critical) permitted DNS:test", "OCSP http://ocsp.test", "must staple OCSP"):
        assert words in shown


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({"key": new_key("RSA-1024")}, "shorter than 2048 bits"),
        ({"eku": None}, "eku_missing"),
        ({"eku": ["1.3.6.1.5.5.7.3.1"]}, "never known by its common name"),
        ({"extra": [(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0"), True)]}, "1.2.3.4"),
    ],
)
def test_what_verifiers_will_hold_against_it_is_noted(write: Write, what: dict[str, Any], words: str) -> None:
    (item,) = inspected(write(pem(issue("x", issue("CA", ca=True), **what))))
    (note,) = item["notes"]
    assert words in note


def test_every_public_root_is_read(write: Write) -> None:
    """Mozilla's whole bundle: what is odd in there is shown, too."""
    items = inspected(certifi.where())
    assert len(items) > 100
    assert all(item["signature"]["result"] in ("self_signed", "no_issuer") for item in items)
    assert {item["is_ca"] for item in items} <= {True, False}


# -- who signed what --------------------------------------------------------------------------------------------------


def chain() -> tuple[Issued, Issued, Issued]:
    root = issue("Root", ca=True)
    middle = issue("Middle", root, ca=True)
    return issue("leaf", middle), middle, root


def test_signatures_are_verified_where_the_issuer_is_among_the_files(write: Write) -> None:
    leaf, middle, root = chain()
    items = inspected(write(pem(leaf), "leaf.pem"), write(pem(root, middle), "cas.pem"))
    assert [(i["signature"]["result"], i["signature"]["by"]) for i in items] == [
        ("verified", 3),
        ("self_signed", 2),
        ("verified", 2),
    ]
    shown = inspect(write(pem(leaf), "leaf.pem"), write(pem(root, middle), "cas.pem")).stdout
    tree = shown[shown.index("who signed what") :].splitlines()
    assert [line.strip(" │├└─") for line in tree[1:4]] == ["2 CN=Root self-signed", "3 CN=Middle", "1 CN=leaf"]


def test_a_namesake_is_not_taken_for_the_issuer(write: Write) -> None:
    """The name is a claim; the signature proves."""
    leaf, _, _ = chain()
    namesake = issue("Middle", ca=True)
    item = inspected(write(pem(leaf, namesake)))[0]
    assert (item["signature"]["result"], item["signature"]["by"]) == ("no_issuer", None)
    assert "another CA of the name" in item["signature"]["detail"]


def test_a_signature_that_is_wrong_is_called_so(write: Write) -> None:
    leaf, middle, _ = chain()
    forged = bytearray(leaf.certificate.der)
    forged[-1] ^= 1
    item = inspected(write(pem(bytes(forged), middle)))[0]
    assert item["signature"]["result"] == "wrong"


@pytest.mark.parametrize(
    ("order", "best", "words"),
    [
        ((0, 1), [1, 2], "leaf first, each signed by the next"),
        ((0, 1, 2), [1, 2, 3], "the root, 3, need not be sent"),
        ((1, 0), [2, 1], "out of order: put them in the order 2, 1"),
        ((2, 0, 1), [2, 3, 1], "out of order"),
        ((0, 2), None, "not one chain"),
        ((0, 1, 1), None, "twice"),
    ],
)
def test_the_order_of_a_bundle(write: Write, order: Sequence[int], best: list[int] | None, words: str) -> None:
    certificates = chain()
    file = write(pem(*(certificates[index] for index in order)))
    (found,) = json.loads(inspect(file, "--format", "json").stdout)["orders"]
    assert found["best"] == best
    assert words in found["detail"]


def test_the_order_of_a_file_does_not_depend_on_another(write: Write) -> None:
    leaf, middle, root = chain()
    cas = write(pem(middle, root), "cas.pem")
    full = write(pem(leaf, middle, root), "full.pem")
    found = json.loads(inspect(cas, full, "--format", "json").stdout)
    assert [order["best"] for order in found["orders"]] == [[1, 2], [3, 4, 5]]
    assert [item["same_as"] for item in found["items"]] == [None, None, None, 1, 2]


def test_trust_anchors_together_are_no_chain(write: Write) -> None:
    file = write(pem(issue("One", ca=True), issue("Two", ca=True)))
    (found,) = json.loads(inspect(file, "--format", "json").stdout)["orders"]
    assert "trust anchors" in found["detail"]


# -- keys and requests ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["P-256", "P-384", "RSA-2048", "Ed25519", "Ed448"])
def test_a_key_finds_its_certificate_and_stays_secret(write: Write, kind: str) -> None:
    mine, other = issue("mine", key=new_key(kind)), issue("other", key=new_key("P-521"))
    secret = key_pem(mine.key)
    certificate, found, key = inspected(write(pem(mine, other) + secret))
    assert (key["kind"], key["key"], key["form"], key["encrypted"]) == ("private", kind, "PKCS#8", False)
    assert key["belongs_to"] == [1]
    assert (certificate["private_key"], found["private_key"]) == (3, None)
    assert key["spki_sha256"] == certificate["spki_sha256"]
    lines = [line for line in secret.decode().splitlines() if not line.startswith("-")]
    shown = inspect(write(pem(mine, other) + secret)).stdout + json.dumps(key)
    assert not any(line in shown for line in lines)


FORMS: dict[str, tuple[tuple[str, ...], str, bool]] = {
    "traditional EC": (("ec", "-in", "{key}"), "SEC 1", False),
    "traditional EC in DER": (("ec", "-in", "{key}", "-outform", "DER"), "SEC 1", False),
    "legacy encryption": (("ec", "-in", "{key}", "-aes256", "-passout", f"pass:{PASSWORD}"), "SEC 1", True),
    "PKCS#8 in DER": (("pkcs8", "-topk8", "-nocrypt", "-in", "{key}", "-outform", "DER"), "PKCS#8", False),
    "encrypted": (("pkcs8", "-topk8", "-in", "{key}", "-passout", f"pass:{PASSWORD}"), "PKCS#8", True),
    "encrypted in DER": (
        ("pkcs8", "-topk8", "-in", "{key}", "-passout", f"pass:{PASSWORD}", "-outform", "DER"), "PKCS#8", True,
    ),
}  # fmt: skip


@needs_openssl
@pytest.mark.parametrize("what", FORMS)
def test_keys_in_every_form_that_openssl_writes(write: Write, what: str) -> None:
    arguments, form, encrypted = FORMS[what]
    mine = issue("mine")
    plain = write(key_pem(mine.key), "plain.key")
    file = write(openssl(*(argument.format(key=plain) for argument in arguments)), "key")
    password = write(PASSWORD.encode() + b"\r\n", "password")
    certificate = write(pem(mine), "cert.pem")
    key = next(i for i in inspected(file, certificate, "--password-file", password) if i["type"] == "key")
    assert (key["form"], key["encrypted"], key["key"]) == (form, encrypted, "P-256")
    assert key["belongs_to"] == [2]
    without = next(i for i in inspected(file, certificate) if i["type"] == "key")
    assert (without["encrypted"], without["key"]) == (encrypted, None if encrypted else "P-256")
    if encrypted:
        assert "--password-file" in inspect(file).stdout
        wrong = write(b"wrong", "wrong")
        assert "that the password does not open" in refused(file, "--password-file", wrong)


@needs_openssl
def test_rsa_and_public_keys_in_older_forms(write: Write) -> None:
    key = write(key_pem(new_key("RSA-2048")), "plain.key")
    pkcs1 = write(openssl("rsa", "-in", key, "-traditional"), "pkcs1.pem")
    in_der = write(openssl("rsa", "-in", key, "-traditional", "-outform", "DER"), "pkcs1.der")
    public = write(openssl("rsa", "-in", key, "-pubout"), "pub.pem")
    public_der = write(openssl("rsa", "-in", key, "-pubout", "-outform", "DER"), "pub.der")
    old = write(openssl("rsa", "-in", key, "-RSAPublicKey_out"), "old.pem")
    items = inspected(pkcs1, in_der, public, public_der, old)
    assert [(i["kind"], i["form"]) for i in items] == [
        ("private", "PKCS#1"),
        ("private", "PKCS#1"),
        ("public", "SubjectPublicKeyInfo"),
        ("public", "SubjectPublicKeyInfo"),
        ("public", "PKCS#1"),
    ]
    assert len({i["spki_sha256"] for i in items}) == 1


def make_certificate(request: x509.CertificateSigningRequest) -> bytes:
    """By a CA that takes what it is asked for."""
    ca = new_key()
    builder = x509.CertificateBuilder(dn("CA"), request.subject, request.public_key(), 7, NOW - DAY, NOW + DAY)
    return builder.sign(ca, hashes.SHA256()).public_bytes(Encoding.DER)  # type: ignore[arg-type]


needs_ssh = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen command on this machine")


@needs_ssh
@pytest.mark.parametrize("password", ["", PASSWORD])
def test_openssh_s_own_keys(tmp_path: Path, write: Write, password: str) -> None:
    file = tmp_path / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", password, "-f", file], check=True)
    (key,) = inspected(file)
    assert (key["form"], key["encrypted"]) == ("OpenSSH", bool(password))
    assert key["key"] == (None if password else "Ed25519")


def test_a_request_proves_that_its_key_is_held(write: Write, tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "r.csr"), "--out-key", str(tmp_path / "r.key")]
    CliRunner().invoke(cli, ["pki", "csr", "--subject", "CN=orders", "--san", "DNS:orders.test", *out])
    request, key = inspected(tmp_path / "r.csr", tmp_path / "r.key")
    assert (request["type"], request["subject"], request["names"]) == ("request", "CN=orders", ["DNS:orders.test"])
    assert request["signature"]["result"] == "verified"
    assert (request["private_key"], key["belongs_to"]) == (2, [1])
    mine = x509.load_pem_x509_csr((tmp_path / "r.csr").read_bytes())
    certificate = make_certificate(mine)
    found = inspected(tmp_path / "r.csr", write(certificate, "r.pem"), tmp_path / "r.key")
    assert (found[1]["request"], found[1]["private_key"], found[2]["belongs_to"]) == (1, 3, [1, 2])
    assert "the requester holds it" in inspect(tmp_path / "r.csr").stdout
    der = x509.load_pem_x509_csr((tmp_path / "r.csr").read_bytes()).public_bytes(Encoding.DER)
    altered = write(der.replace(b"orders", b"0rders"))
    assert inspected(altered)[0]["signature"]["result"] == "wrong"
    assert "it was altered" in inspect(altered).stdout


# -- CRLs -------------------------------------------------------------------------------------------------------------


def test_crls_say_whom_they_revoke(material: Material, tmp_path: Path) -> None:
    good, bad = material.dev_client("kept"), material.dev_client("revoked")
    material.pki.revoke(bad.leaf, x509.ReasonFlags.key_compromise)
    folder = material.folder / "pki"
    items = inspected(good.certificate, bad.certificate, folder / "root.pem", folder / "crls" / "client-ca.pem")
    crl = items[-1]
    assert crl["type"] == "crl" and crl["signature"]["result"] == "verified"
    assert crl["entries"] >= 1 and crl["expiry"].startswith("expires in ")
    assert f"{bad.leaf.serial_number:X}" in [entry["serial"].lstrip("0") for entry in crl["first_entries"]]
    leaves = [item for item in items if item["type"] == "certificate" and not item["is_ca"]]
    assert [[one["reason"] for one in leaf["revoked"]] for leaf in leaves] == [[], ["keyCompromise"]]
    assert "keyCompromise" in inspect(bad.certificate, folder / "crls" / "client-ca.pem").stdout


def test_a_long_crl_is_shown_by_its_beginning(write: Write) -> None:
    ca = issue("CA", ca=True)
    builder = x509.CertificateRevocationListBuilder(ca.certificate.x509.subject, NOW - DAY, NOW + DAY)
    for serial in range(1, 31):
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW - DAY).build()
        builder = builder.add_revoked_certificate(entry)
    file = write(builder.sign(ca.key, hashes.SHA256()).public_bytes(Encoding.DER))  # type: ignore[arg-type]
    assert "and 20 more" in inspect(file).stdout
    assert len(inspected(file)[0]["first_entries"]) == 30


# -- bundles ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def p12(write: Write, tmp_path: Path) -> Path:
    leaf, middle, _ = chain()
    mine = identity(tmp_path, leaf)
    cas = write(pem(middle), "cas.pem")
    openssl(
        "pkcs12", "-export", "-in", mine.certificate, "-inkey", mine.key, "-certfile", cas, "-name", "my card",
        "-passout", f"pass:{PASSWORD}", "-out", tmp_path / "card.p12",
    )  # fmt: skip
    return tmp_path / "card.p12"


@needs_openssl
def test_a_pkcs12_file_with_its_password(write: Write, p12: Path) -> None:
    leaf, key, middle = inspected(p12, "--password-file", write(PASSWORD.encode(), "password"))
    assert (leaf["inside"], leaf["friendly_name"], leaf["subject"]) == ("PKCS#12", "my card", "CN=leaf")
    assert leaf["signature"]["by"] == 3
    assert (key["encrypted"], key["belongs_to"]) == (True, [1])
    assert middle["subject"] == "CN=Middle"


@needs_openssl
def test_a_pkcs12_file_without_its_password(write: Write, p12: Path) -> None:
    assert "give it with --password-file" in refused(p12)
    assert "give the right one" in refused(p12, "--password-file", write(b"wrong", "wrong"))


@needs_openssl
@pytest.mark.parametrize("inside", ["PEM", "DER"])
def test_a_pkcs7_bundle(write: Write, inside: str) -> None:
    leaf, middle, root = chain()
    file = write(pem(leaf, middle, root), "chain.pem")
    bundle = write(openssl("crl2pkcs7", "-nocrl", "-certfile", file, "-outform", inside), "bundle.p7b")
    assert {(i["inside"], i["subject"]) for i in inspected(bundle)} == {
        ("PKCS#7", name) for name in ("CN=leaf", "CN=Middle", "CN=Root")
    }


@needs_openssl
def test_what_openssl_puts_around_is_passed_over(write: Write) -> None:
    """Text before blocks, parameters, and OpenSSL's own trust settings behind a certificate."""
    leaf = issue("leaf")
    file = write(pem(leaf), "leaf.pem")
    text = write(openssl("x509", "-in", file, "-text"), "text.pem")
    trusted = write(openssl("x509", "-in", file, "-trustout", "-addtrust", "serverAuth"), "trusted.pem")
    parameters = write(openssl("ecparam", "-name", "prime256v1", "-genkey"), "ec.pem")
    items = inspected(text, trusted, parameters)
    assert [item["type"] for item in items] == ["certificate", "certificate", "other", "key"]
    assert items[1]["same_as"] == 1
    assert items[0]["line"] > 10
    assert items[2]["label"] == "EC PARAMETERS"


def test_windows_line_ends_a_byte_order_mark_and_stdin(write: Write) -> None:
    leaf, middle, _ = chain()
    data = b"\xef\xbb\xbf" + pem(leaf, middle).replace(b"\n", b"\r\n")
    assert [item["subject"] for item in inspected(write(data))] == ["CN=leaf", "CN=Middle"]
    result = inspect("-", "--format", "json", stdin=data)
    found = json.loads(result.stdout)["items"]
    assert {item["file"] for item in found} == {"standard input"}
    assert found[1]["line"] == data[: data.rindex(b"-----BEGIN")].count(b"\n") + 1


# -- what cannot be read ----------------------------------------------------------------------------------------------

GOOD = pem(issue("good"))
LINES = GOOD.splitlines(keepends=True)
BROKEN: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "file: a certificate, signing request, CRL, key"),
    "blanks": (b" \n\n", "it is empty"),
    "text": (b"hello there, I am text", "it begins with b'hello there"),
    "a page": (b"<html><body>404</body></html>", "it begins with"),
    "UTF-16": (GOOD.decode().encode("utf-16"), "UTF-16"),
    "no BEGIN": (b"".join(LINES[1:-1]), "without its BEGIN and END lines"),
    "half a BEGIN": (b"----BEGIN CERTIFICATE-----\n" + b"".join(LINES[1:]), "no whole BEGIN line"),
    "no END": (b"".join(LINES[:-1]), "file:1: BEGIN CERTIFICATE has no END CERTIFICATE"),
    "another END": (b"".join(LINES[:-1]) + b"-----END X509 CRL-----\n", "has no END CERTIFICATE"),
    "not base64": (b"".join([*LINES[:3], b"what is this?\n", *LINES[4:]]), "file:4: a line of base64 was expected"),
    "a line missing": (b"".join([*LINES[:3], LINES[3][:30], b"\n", *LINES[4:]]), "file:1: "),
    "an empty block": (b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", "file:1: a certificate that"),
    "a label": (b"-----BEGIN PGP MESSAGE-----\nAAAA\n-----END PGP MESSAGE-----\n", "BEGIN PGP MESSAGE is none"),
    "a wrong label": (GOOD.replace(b"CERTIFICATE", b"CERTIFICATE REQUEST"), "signing request (RFC 2986) was expected"),
    "a wrong CRL": (GOOD.replace(b"CERTIFICATE", b"X509 CRL"), "a CRL that can be relied upon was expected"),
    "a wrong key": (GOOD.replace(b"CERTIFICATE", b"PRIVATE KEY"), "a private key (PKCS#8) was expected"),
    "a wrong public key": (GOOD.replace(b"CERTIFICATE", b"PUBLIC KEY"), "a public key (SubjectPublicKeyInfo)"),
    "a wrong bundle": (GOOD.replace(b"CERTIFICATE", b"PKCS7"), "a PKCS#7 bundle"),
    "cut DER": (issue("x").certificate.der[:-5], "cut short, damaged"),
    "DER and more": (issue("x").certificate.der + b"x", "ExtraData"),
    "another structure": (b"\x30\x03\x02\x01\x05", "none of them"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_wrong_is_said_with_file_and_line(write: Write, what: str) -> None:
    data, words = BROKEN[what]
    said = refused(write(data))
    assert words in said
    assert len(said.splitlines()) == 1


def test_a_certificate_that_verifiers_refuse_is_named(write: Write) -> None:
    """So that it can be found, and why it is refused is what the proxy logs."""
    key = new_key()
    builder = x509.CertificateBuilder(dn("CA"), dn("eve\0.test"), key.public_key(), 7, NOW - DAY, NOW + DAY)
    file = write(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))  # type: ignore[arg-type]
    said = refused(file)
    assert "file:1: a certificate that verifiers refuse (subject CN=eve" in said
    assert "issuer CN=CA): a control character in the name" in said
    assert "\0" not in said


def test_what_is_good_is_shown_beside_what_is_not(write: Write) -> None:
    file = write(GOOD + b"".join(LINES[:-1]) + pem(issue("also good")))
    result = inspect(file, write(b"", "empty"), write(b"x", "absent").with_name("nowhere"), "--format", "json")
    assert result.exit_code == 2
    found = json.loads(result.stdout)
    assert found["ok"] is False
    assert [item["subject"] for item in found["items"]] == ["CN=good", "CN=also good"]
    assert [(Path(e["file"]).name, e["line"]) for e in found["errors"]] == [
        ("file", len(LINES) + 1),
        ("empty", None),
        ("nowhere", None),
    ]
    assert len(result.stderr.splitlines()) == 3
    assert "cannot be read: No such file or directory" in result.stderr


def test_a_folder_and_an_endless_file_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "is a folder: name its files" in refused(tmp_path)
    monkeypatch.setattr("mtlsproxy.cli.inspect.MAX_SIZE", 4096)
    assert "larger than 4096 bytes" in refused("/dev/zero")


def test_no_file_is_a_mistake_and_two_passwords_are(write: Write) -> None:
    assert inspect().exit_code == 2
    both = inspect(write(GOOD), "--password-file", write(b"x", "p"), "--ask-password")
    assert both.exit_code == 2 and "not both" in both.stderr
    absent = inspect(write(GOOD), "--password-file", "/nowhere", "--format", "json")
    assert absent.exit_code == 2 and json.loads(absent.stdout)["ok"] is False


def test_a_password_can_be_asked_for(write: Write, p12: Path) -> None:
    result = inspect(p12, "--ask-password", stdin=PASSWORD.encode() + b"\n")
    assert result.exit_code == 0
    assert "CN=leaf" in result.stdout
    assert PASSWORD not in result.output


def test_names_that_play_with_the_terminal_are_shown_as_they_are(write: Write) -> None:
    odd = issue("evil\u202etxt.exe", sans=[x509.DNSName("[red]x[/red].test")])
    shown = inspect(write(pem(odd))).stdout
    assert "\u202e" not in shown and "\\u202e" in shown
    assert "[red]x[/red].test" in shown
