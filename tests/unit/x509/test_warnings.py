"""What the library finds odd in a certificate is no business of stderr, where every line is one of the log."""

import subprocess
import sys
import warnings

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dh
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.unit.x509.build import assemble, dn, fields_of, issue, new_key, tlv

from mtlsproxy.x509.certificate import parse_certificate

KEY = new_key()
PLAIN = issue("plain", key=KEY, sans=[x509.DirectoryName(dn("elsewhere"))], policies=["1.2.3"]).certificate
NAMES = ("version", "serial", "algorithm", "issuer", "validity", "subject", "key", "extensions")


def odd(**changes: bytes) -> bytes:
    fields = dict(zip(NAMES, fields_of(PLAIN.der), strict=True))
    return assemble([*(fields | changes).values()], KEY)


def country(text: bytes) -> bytes:
    return tlv(0x30, tlv(0x31, tlv(0x30, bytes.fromhex("0603550406"), tlv(0x13, text))))


def extension(oid: str, value: bytes) -> bytes:
    return tlv(0xA3, tlv(0x30, tlv(0x30, bytes.fromhex(oid), tlv(0x04, value))))


def policy_with_a_text_beyond_ascii() -> bytes:
    notice = tlv(0x30, bytes.fromhex("06082b06010505070202"), tlv(0x30, tlv(0x1A, "Größe".encode())))
    return extension("0603551d20", tlv(0x30, tlv(0x30, bytes.fromhex("06022a03"), tlv(0x30, notice))))


def diffie_hellman_key() -> bytes:
    prime = int(
        "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"
        "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
        "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE65381FFFFFFFFFFFFFFFF",
        16,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        public = dh.DHPublicNumbers(2**1000 + 1, dh.DHParameterNumbers(prime, 2)).public_key()
        return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


ODD = {
    "a country of seven letters": odd(subject=country(b"Germany")),
    "an issuer without letters": odd(issuer=country(b"")),
    "an alternative name in a country of seven letters": odd(
        extensions=extension("0603551d11", tlv(0x30, tlv(0xA4, country(b"Germany"))))
    ),
    "a serial that is negative": odd(serial=tlv(0x02, b"\xff")),
    "a text of a policy beyond ASCII": odd(extensions=policy_with_a_text_beyond_ascii()),
    "a key for Diffie-Hellman": odd(key=diffie_hellman_key()),
}


@pytest.mark.parametrize("name", ODD)
def test_the_library_finds_each_of_them_odd(name: str) -> None:
    """Or the tests below claim nothing."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.resetwarnings()
        warnings.simplefilter("always")
        loaded = x509.load_der_x509_certificate(ODD[name])
        _ = loaded.subject, loaded.issuer, loaded.extensions, loaded.public_key()
    assert seen


@pytest.mark.parametrize("name", ODD)
def test_odd_certificates_are_read_where_every_warning_is_an_error(name: str) -> None:
    """As here: pytest puts its filters in front of everybody's."""
    parsed = parse_certificate(ODD[name])
    assert parsed.der == ODD[name]
    assert parsed.x509.subject.rfc4514_string() == parsed.subject


@pytest.mark.parametrize("option", ["error", "always"])
def test_a_process_that_reads_odd_certificates_prints_nothing(option: str) -> None:
    code = (
        "import sys; from mtlsproxy.x509.certificate import parse_certificate\n"
        "for line in sys.stdin: print(parse_certificate(bytes.fromhex(line)).subject)"
    )
    done = subprocess.run(
        [sys.executable, "-W", option, "-c", code],
        input="\n".join(der.hex() for der in ODD.values()),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "C=Germany"


def test_other_warnings_are_as_loud_as_before() -> None:
    parse_certificate(ODD["a country of seven letters"])
    with pytest.raises(UserWarning, match="something else"):
        warnings.warn("something else", UserWarning, stacklevel=1)


def test_the_filters_do_not_grow_with_the_certificates() -> None:
    parse_certificate(PLAIN.der)
    before = list(warnings.filters)
    for der in ODD.values():
        parse_certificate(der)
    assert warnings.filters == before
