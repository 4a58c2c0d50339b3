"""Whatever a file holds, reading it ends in items or in problems, and never in an exception."""

import contextlib
from base64 import encodebytes
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs12,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.integration.certificates import key_pem, pem
from tests.unit.revocation import build
from tests.unit.x509.build import DAY, NOW, Issued, dn, issue, new_key

from mtlsproxy.anatomy.effort import MOST_ELEMENTS, TooMuchWork, require_modest
from mtlsproxy.anatomy.items import CertificateItem, Contents, KeyItem
from mtlsproxy.anatomy.pem import BadBlock, Block, blocks
from mtlsproxy.anatomy.reading import read_contents
from mtlsproxy.anatomy.relations import Proof, relate
from mtlsproxy.anatomy.shape import Shape, shape_of
from mtlsproxy.x509.certificate import MalformedCertificate, load_pem_certificates

CA = issue("CA", ca=True)
LEAF = issue("leaf", CA)


def crl() -> bytes:
    builder = x509.CertificateRevocationListBuilder(dn("CA"), NOW - DAY, NOW + DAY)
    return builder.sign(CA.key, hashes.SHA256()).public_bytes(Encoding.DER)  # type: ignore[arg-type]


def request() -> bytes:
    builder = x509.CertificateSigningRequestBuilder(dn("r"))
    return builder.sign(LEAF.key, hashes.SHA256()).public_bytes(Encoding.DER)  # type: ignore[arg-type]


def private(form: PrivateFormat, password: bytes | None = None, kind: str = "P-256") -> bytes:
    how = BestAvailableEncryption(password) if password else NoEncryption()
    return new_key(kind).private_bytes(Encoding.DER, form, how)


def bundle(of: Issued) -> bytes:
    return pkcs12.serialize_key_and_certificates(b"x", of.key, of.certificate.x509, None, NoEncryption())


SAMPLES = {
    Shape.CERTIFICATE: LEAF.certificate.der,
    Shape.CRL: crl(),
    Shape.REQUEST: request(),
    Shape.PKCS8: private(PrivateFormat.PKCS8),
    Shape.ENCRYPTED_PKCS8: private(PrivateFormat.PKCS8, b"secret"),
    Shape.PKCS1: private(PrivateFormat.TraditionalOpenSSL, kind="RSA-2048"),
    Shape.SEC1: private(PrivateFormat.TraditionalOpenSSL),
    Shape.PUBLIC_KEY: LEAF.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    Shape.PKCS12: bundle(LEAF),
}


@pytest.mark.parametrize("shape", SAMPLES)
def test_each_kind_is_told_by_its_outermost_elements(shape: Shape) -> None:
    data = SAMPLES[shape]
    assert shape_of(data) is shape
    contents = read_contents(data, "file")
    assert contents.items and not contents.problems


@pytest.mark.parametrize("shape", SAMPLES)
def test_cut_short_or_with_more_behind_it_is_a_problem(shape: Shape) -> None:
    data = SAMPLES[shape]
    for size in {*range(0, len(data), max(1, len(data) // 40)), len(data) - 1}:
        found = read_contents(data[:size], "file")
        assert len(found.problems) == 1 and not found.items
    more = read_contents(data + b"\0", "file")
    assert len(more.problems) + len(more.items) >= 1
    if shape in (Shape.CERTIFICATE, Shape.CRL):
        assert more.problems


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(SAMPLES, key=lambda shape: shape.name)), st.data())
def test_any_altered_file_is_read_or_refused(shape: Shape, data: st.DataObject) -> None:
    altered = bytearray(SAMPLES[shape])
    for _ in range(data.draw(st.integers(1, 3))):
        altered[data.draw(st.integers(0, len(altered) - 1))] = data.draw(st.integers(0, 255))
    contents = read_contents(bytes(altered), "file", data.draw(st.sampled_from([None, b"secret"])))
    assert contents.items or contents.problems
    relate(contents)


LABELS = (b"CERTIFICATE", b"TRUSTED CERTIFICATE", b"PRIVATE KEY", b"RSA PRIVATE KEY", b"X509 CRL", b"PKCS7", b"ELSE")


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.sampled_from([b"-----BEGIN %s-----\n" % label for label in LABELS]),
            st.sampled_from([b"\n-----END %s-----\n" % label for label in LABELS]),
            st.sampled_from([b"MAo=", b"\r\n", b"\r", pem(LEAF), key_pem(LEAF.key), b"Proc-Type: 4,ENCRYPTED\n"]),
        ),
        max_size=8,
    )
)
def test_any_text_is_read_or_refused(parts: list[bytes]) -> None:
    data = b"".join(parts)
    contents = read_contents(data, "file", b"secret")
    assert contents.items or contents.problems
    for problem in contents.problems:
        assert problem.line is None or 1 <= problem.line <= data.count(b"\n") + data.count(b"\r") + 1


def test_a_block_knows_its_line_whatever_ends_lines() -> None:
    for end in (b"\n", b"\r\n", b"\r"):
        data = end.join([b"text", *pem(LEAF).strip().splitlines(), b"", *pem(CA).strip().splitlines()])
        found = list(blocks(data))
        lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        assert [block.line for block in found] == [
            number for number, line in enumerate(lines, 1) if line.startswith(b"-----BEGIN")
        ]
        assert [block.der() for block in found if isinstance(block, Block)] == [
            LEAF.certificate.der,
            CA.certificate.der,
        ]


def test_a_line_that_is_no_base64_is_named() -> None:
    lines = pem(LEAF).splitlines()
    lines[4] = b"-- cut here --"
    (block,) = blocks(b"\n".join(lines))
    assert isinstance(block, Block)
    with pytest.raises(BadBlock) as caught:
        block.der()
    assert caught.value.line == 5
    assert "cut here" in caught.value.detail


def test_a_certificate_and_its_key_are_joined_by_the_key_alone() -> None:
    """Another certificate of the same name, and another key, are not."""
    other = issue("leaf", CA)
    contents = read_contents(pem(LEAF, other) + key_pem(LEAF.key) + key_pem(new_key()), "file")
    found = relate(contents)
    assert (found.key_of, found.owners) == ({1: 3}, {3: (1,), 4: ()})


def test_nothing_secret_is_kept() -> None:
    (item,) = read_contents(key_pem(LEAF.key), "file").items
    assert isinstance(item, KeyItem)
    with contextlib.suppress(AttributeError):
        assert not item.__dict__  # type: ignore[attr-defined]
    number = LEAF.key.private_numbers().private_value  # type: ignore[union-attr]
    assert str(number) not in repr([getattr(item, name) for name in KeyItem.__slots__])
    assert all(isinstance(getattr(item, name), str | bool) or name == "origin" for name in KeyItem.__slots__)


def test_certificates_that_sign_each_other_end() -> None:
    """Two CAs that have cross-signed, without a root in sight."""
    one, two = new_key(), new_key()
    first = issue("One", Issued(issue("Two", ca=True, key=two).certificate, two), ca=True, key=one)
    second = issue("Two", Issued(issue("One", ca=True, key=one).certificate, one), ca=True, key=two)
    found = relate(read_contents(pem(first, second), "file"))
    assert [found.signatures[n].proof for n in (1, 2)] == [Proof.VERIFIED, Proof.VERIFIED]
    (order,) = found.orders
    assert order.best is None


def test_many_namesakes_cost_little() -> None:
    """Each candidate for an issuer is a verification; a bundle of namesakes must not multiply them."""
    namesakes = [issue("CA", ca=True) for _ in range(40)]
    found = relate(read_contents(pem(LEAF, *namesakes, CA), "file"))
    assert found.signatures[1].proof is Proof.NO_ISSUER  # beyond MOST_CANDIDATES nobody looks
    found = relate(read_contents(pem(LEAF, CA, *namesakes), "file"))
    assert found.signatures[1].by == 2


def test_contents_add_up() -> None:
    both = read_contents(pem(LEAF), "a") + read_contents(b"", "b") + Contents()
    assert [isinstance(item, CertificateItem) for item in both.items] == [True]
    assert [str(problem).partition(":")[0] for problem in both.problems] == ["b"]


def pfx(rounds: int) -> bytes:
    """PKCS#12 (RFC 7292 §4), as far as its MAC says how often it is stretched."""
    content = build.tlv(0x30, bytes.fromhex("06092a864886f70d010701"), build.tlv(0xA0, build.tlv(0x04, b"")))
    mac = build.tlv(0x30, build.tlv(0x30, b""), build.tlv(0x04, b"saltsalt"), build.integer(rounds))
    return build.tlv(0x30, build.integer(3), content, mac)


def locked(rounds: int) -> bytes:
    """EncryptedPrivateKeyInfo (RFC 5958 §3) by pbeWithSHAAnd3-KeyTripleDES-CBC."""
    parameters = build.tlv(0x30, build.tlv(0x04, b"saltsalt"), build.integer(rounds))
    algorithm = build.tlv(0x30, bytes.fromhex("060a2a864886f70d010c0103"), parameters)
    return build.tlv(0x30, algorithm, build.tlv(0x04, b"x" * 16))


@pytest.mark.parametrize("make", [pfx, locked])
def test_a_file_that_would_have_its_password_stretched_for_minutes_is_not_opened(make: Callable[[int], bytes]) -> None:
    for rounds, words in ((2000, ""), (2**31 - 1, "rounds"), (2**200, "rounds")):
        data = make(rounds)
        (problem,) = read_contents(data, "f", b"secret").problems
        assert (words or "password") in problem.message
        assert ("rounds" in problem.message) == bool(words)
    armoured = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n%b-----END ENCRYPTED PRIVATE KEY-----\n"
    assert "rounds" in read_contents(armoured % encodebytes(locked(2**31 - 1)), "f", b"x").problems[0].message


def test_work_that_is_usual_and_bytes_that_only_look_like_it_are_modest() -> None:
    for sample in SAMPLES.values():
        require_modest(sample)
        require_modest(build.tlv(0x30, build.tlv(0x04, b"\x30\x7f"), build.integer(1)))
    with pytest.raises(TooMuchWork, match="elements"):
        require_modest(build.tlv(0x30, b"\x05\x00" * (MOST_ELEMENTS + 1)))


def test_a_file_of_nothing_but_begin_lines_is_read_in_one_go() -> None:
    """That took an hour for some megabytes, when each of them looked for its END in all the rest."""
    found = list(blocks(b"-----BEGIN CERTIFICATE-----\n" * 200_000 + b"-----END CERTIFICATE-----"))
    assert len(found) == 200_000
    assert [type(found[0]), type(found[-1])] == [BadBlock, Block]
    with pytest.raises(MalformedCertificate, match="has no end"):
        load_pem_certificates(b"-----BEGIN CERTIFICATE-----\n" * 200_000)
