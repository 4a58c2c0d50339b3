"""Requests that OpenSSL's responder understands, and its answers as we read them."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.unit.revocation.build import DAY, Authority, authority, leaf
from tests.unit.revocation.responder import delegate

from mtlsproxy.revocation.ocsp import OcspAnswer, OcspError, OcspPolicy, build_request, read_response
from mtlsproxy.x509.certificate import Certificate

YEARS = 20000 * DAY  # its clock is the real one
LEAF_SERIAL, REVOKED_SERIAL, HELD_SERIAL, UNKNOWN_SERIAL = 0x1005, 0x1006, 0x1007, 0x1008
INDEX = f"""\
V\t491231235959Z\t\t{LEAF_SERIAL:X}\tunknown\t/CN=client
R\t491231235959Z\t250531120000Z,keyCompromise\t{REVOKED_SERIAL:X}\tunknown\t/CN=client
R\t491231235959Z\t250531120000Z,holdInstruction,holdInstructionReject\t{HELD_SERIAL:X}\tunknown\t/CN=client
"""
NONCE = b"0123456789abcdef"
STRICT = OcspPolicy(enabled=True, require_nonce=True)


@pytest.fixture(scope="module", params=["ECDSA", "RSA"])
def issuer(request: pytest.FixtureRequest) -> Authority:
    if request.param == "RSA":
        return authority(key=rsa.generate_private_key(public_exponent=65537, key_size=2048))
    return authority(key=ec.generate_private_key(ec.SECP256R1()))


def ask(
    folder: Path, certificate: Certificate, issuer: Authority, signer: Authority, *options: str, nonce: bytes | None
) -> bytes:
    """The response of `openssl ocsp` to our request."""
    for name, one in (("ca", issuer), ("signer", signer)):
        (folder / f"{name}.pem").write_bytes(one.certificate.x509.public_bytes(Encoding.PEM))
    key = signer.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "signer.key").write_bytes(key)
    (folder / "index.txt").write_text(INDEX)
    (folder / "request.der").write_bytes(build_request(certificate, issuer.certificate, nonce))
    command = ["openssl", "ocsp", "-index", "index.txt", "-CA", "ca.pem", "-rsigner", "signer.pem"]
    command += ["-rkey", "signer.key", "-reqin", "request.der", "-respout", "response.der", *options]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=30)
    return (folder / "response.der").read_bytes()


def answer(
    folder: Path,
    serial: int,
    issuer: Authority,
    signer: Authority | None = None,
    *options: str,
    nonce: bytes | None = NONCE,
    policy: OcspPolicy = STRICT,
) -> OcspAnswer:
    certificate = leaf(issuer, serial=serial)
    der = ask(folder, certificate, issuer, signer or issuer, *(options or ("-nmin", "5")), nonce=nonce)
    return read_response(der, certificate, issuer.certificate, nonce, datetime.now(UTC), policy)


@pytest.mark.parametrize(
    ("serial", "status", "reason"),
    [
        (LEAF_SERIAL, "good", None),
        (REVOKED_SERIAL, "revoked", "keyCompromise"),
        (HELD_SERIAL, "revoked", "certificateHold"),
        (UNKNOWN_SERIAL, "unknown", None),
    ],
)
def test_every_status_is_read(tmp_path: Path, issuer: Authority, serial: int, status: str, reason: str | None) -> None:
    got = answer(tmp_path, serial, issuer)
    assert (got.status, got.reason, got.responder) == (status, reason, "CN=Root")


def test_a_delegate_answers_by_name_or_by_key(tmp_path: Path, issuer: Authority) -> None:
    by = delegate(issuer, lifetime=YEARS)
    for options in (("-nmin", "5"), ("-nmin", "5", "-resp_key_id")):
        got = answer(tmp_path, LEAF_SERIAL, issuer, by, *options)
        assert (got.status, got.delegate) == ("good", by.certificate)


def test_an_answer_without_nonce_or_next_update_is_for_policy_to_take(tmp_path: Path, issuer: Authority) -> None:
    got = answer(tmp_path, LEAF_SERIAL, issuer, None, "-timeout", "5", nonce=None, policy=OcspPolicy(enabled=True))
    assert got.next_update is None
    assert got.expires == got.this_update + OcspPolicy().max_age
    with pytest.raises(OcspError, match="lacks the nonce"):
        answer(tmp_path, LEAF_SERIAL, issuer, nonce=None)


@pytest.mark.parametrize(
    ("options", "words"),
    [(("-badsig", "-nmin", "5"), "signature"), (("-rmd", "sha1", "-nmin", "5"), "sha1")],
    ids=["badsig", "sha1"],
)
def test_its_bad_signatures_are_refused(
    tmp_path: Path, issuer: Authority, options: tuple[str, ...], words: str
) -> None:
    with pytest.raises(OcspError, match=words):
        answer(tmp_path, LEAF_SERIAL, issuer, None, *options)


def test_a_stranger_that_runs_it_is_refused(tmp_path: Path, issuer: Authority) -> None:
    with pytest.raises(OcspError, match="not certified by"):
        answer(tmp_path, LEAF_SERIAL, issuer, delegate(authority(), lifetime=YEARS))


PSS = ("-nmin", "5", "-rsigopt", "rsa_padding_mode:pss")


@pytest.fixture(scope="module")
def rsa_issuer() -> Authority:
    return authority(key=rsa.generate_private_key(public_exponent=65537, key_size=2048))


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("-rsigopt", "rsa_pss_saltlen:0"),
        ("-rsigopt", "rsa_pss_saltlen:32", "-rsigopt", "rsa_mgf1_md:sha1"),
        ("-rmd", "sha384", "-rsigopt", "rsa_pss_saltlen:-1"),
        ("-rmd", "sha512", "-rsigopt", "rsa_mgf1_md:sha256"),
    ],
    ids=" ".join,
)
def test_rsa_pss_is_verified_with_its_hash_mask_and_salt(
    tmp_path: Path, rsa_issuer: Authority, options: tuple[str, ...]
) -> None:
    """RFC 4055 §3.1."""
    assert answer(tmp_path, LEAF_SERIAL, rsa_issuer, None, *PSS, *options).status == "good"
    by = delegate(rsa_issuer, key=rsa_issuer.key, lifetime=YEARS)
    assert answer(tmp_path, REVOKED_SERIAL, rsa_issuer, by, *PSS, *options).status == "revoked"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-badsig",), "did not make its signature"),
        (("-rmd", "sha1"), "signed with sha1"),
        (("-rmd", "sha224"), "signed with sha224"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_rsa_pss_that_is_weak_or_wrong_is_refused(
    tmp_path: Path, rsa_issuer: Authority, options: tuple[str, ...], words: str
) -> None:
    with pytest.raises(OcspError, match=words):
        answer(tmp_path, LEAF_SERIAL, rsa_issuer, None, *PSS, *options)


def test_the_hash_of_rsa_pss_is_for_policy_to_take(tmp_path: Path, rsa_issuer: Authority) -> None:
    only_384 = OcspPolicy(enabled=True, signature_hashes=frozenset({"sha384"}))
    with pytest.raises(OcspError, match="signed with sha256"):
        answer(tmp_path, LEAF_SERIAL, rsa_issuer, None, *PSS, policy=only_384)
    assert answer(tmp_path, LEAF_SERIAL, rsa_issuer, None, *PSS, "-rmd", "sha384", policy=only_384).status == "good"


def test_rsa_pss_by_another_key_is_refused(tmp_path: Path, rsa_issuer: Authority) -> None:
    stranger = authority(key=rsa.generate_private_key(public_exponent=65537, key_size=2048))
    with pytest.raises(OcspError, match="did not make its signature"):
        answer(tmp_path, LEAF_SERIAL, rsa_issuer, stranger, *PSS, "-resp_no_certs")
