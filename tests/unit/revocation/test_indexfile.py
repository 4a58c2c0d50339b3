"""Index files: what was parsed is what is mapped, without parsing; and nothing else is taken for one."""

import hashlib
import json
import random
import struct

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.revocation import build
from tests.unit.revocation.build import DAY, HOUR, NOW, assemble, authority, crl, entry, tlv

from mtlsproxy.revocation.crl import Crl, parse_crl, verify_crl
from mtlsproxy.revocation.errors import CrlError
from mtlsproxy.revocation.indexfile import MAGIC, VERSION, check_sections, dump, load

ROOT = authority()
HEADER = struct.Struct("<8sII32s")


def written(known: Crl) -> bytes:
    return b"".join(dump(known))


def mapped(known: Crl) -> Crl:
    return load(memoryview(written(known)))


def refusal(data: bytes) -> str:
    with pytest.raises(CrlError) as caught:
        load(memoryview(data))
    return caught.value.detail


FACTS = ("source", "size", "sha256", "issuer", "issuer_der", "authority_key_id", "number", "base_number")
FACTS += ("this_update", "next_update", "scope", "urls", "freshest_urls", "entries", "title")
LISTS = [
    crl(ROOT, source="empty.crl"),
    crl(ROOT, 5, 6, -7, 1 << 63, 1 << 159, 1 << 1000, -(1 << 1000), number=(1 << 160) - 1),
    crl(ROOT, 5, number=None, key_id=False, next_update=None, source="süß.crl"),
    crl(ROOT, 5, this_update=NOW.replace(year=1951), next_update=NOW.replace(year=9999)),
    crl(ROOT, extensions=[build.distribution_point(build.ONLY_CA + b"")]),
    crl(
        ROOT,
        extensions=[
            build.distribution_point(build.url("http://crl.example/1") + build.ONLY_USER),
            build.freshest("http://crl.example/delta"),
        ],
    ),
    crl(ROOT, 5, number=8, extensions=[build.delta_of(3)]),
]


@pytest.mark.parametrize("known", LISTS, ids=lambda known: f"{known.entries}-{known.source}")
def test_every_fact_survives(known: Crl) -> None:
    got = mapped(known)
    for fact in FACTS:
        assert getattr(got, fact) == getattr(known, fact), fact
    verify_crl(got, ROOT.certificate)
    for serial in (5, 6, -7, 1 << 63, 1 << 159, 1 << 1000, -(1 << 1000), 8, 1 << 64, 1 << 1001):
        assert got.lookup(serial) == known.lookup(serial)


def test_freshest_urls_are_read() -> None:
    assert LISTS[5].freshest_urls == ("http://crl.example/delta",)


@pytest.mark.parametrize("count", [65_000, 66_000], ids=["few buckets", "many buckets"])
def test_a_large_list_answers_like_the_parsed_one(count: int) -> None:
    source = random.Random(count)
    serials = {source.getrandbits(source.choice((16, 64, 159))) for _ in range(count)} | {0, (1 << 159) - 1}
    stub = build.time(NOW) + tlv(0x30, build.reason(4))
    known = parse_crl(assemble(ROOT, b"".join(tlv(0x30, build.integer(s), stub) for s in serials)), "large.crl")
    got = mapped(known)
    assert got.entries == len(serials)
    asked = [*serials, *(serial ^ 1 << 80 for serial in serials), *range(2000)]
    assert all((got.index.lookup(serial) is not None) == (serial in serials) for serial in asked)
    assert got.lookup((1 << 159) - 1) == known.lookup((1 << 159) - 1)


RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.mark.parametrize(
    ("key", "algorithm", "pad"),
    [
        (RSA, hashes.SHA256(), padding.PKCS1v15()),
        (RSA, hashes.SHA384(), padding.PSS(padding.MGF1(hashes.SHA384()), 48)),
        (RSA, hashes.SHA256(), padding.PSS(padding.MGF1(hashes.SHA256()), 32)),
        (ec.generate_private_key(ec.SECP521R1()), hashes.SHA512(), None),
        (ed25519.Ed25519PrivateKey.generate(), None, None),
        (ed448.Ed448PrivateKey.generate(), None, None),
    ],
    ids=["PKCS1v15", "PSS-48", "PSS-32", "P-521", "Ed25519", "Ed448"],
)
def test_a_mapped_list_is_verified_like_a_parsed_one(key: object, algorithm: object, pad: object) -> None:
    signer = authority(key=key)
    got = mapped(parse_crl(build.library_crl(signer, algorithm, pad), "here.crl"))
    assert got.lookup(7)
    verify_crl(got, signer.certificate)
    with pytest.raises(CrlError, match="not signed by"):
        verify_crl(got, ROOT.certificate)


def test_a_signature_that_will_never_verify_is_not_written() -> None:
    sha1 = tlv(0x30, bytes.fromhex("06072a8648ce3d0401"))
    tbs = tlv(0x30, build.integer(1), sha1, ROOT.certificate.subject_der, build.time(NOW), build.time(NOW + DAY))
    signature = ROOT.key.sign(tbs, ec.ECDSA(hashes.SHA1()))
    with pytest.raises(CrlError, match="sha1"):
        written(parse_crl(tlv(0x30, tbs, sha1, tlv(0x03, b"\0", signature)), "here.crl"))


# Anything else

FILE = written(crl(ROOT, 5, 6, 1 << 200, next_update=NOW + HOUR))


def test_every_truncation_and_every_extension_is_refused() -> None:
    for size in range(len(FILE)):
        refusal(FILE[:size])
    assert "1 octets follow" in refusal(FILE + b"\0")


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(FILE) - 1), st.integers(1, 255))
def test_a_changed_octet_is_found_when_all_is_checked(at: int, mask: int) -> None:
    """Padding alone carries nothing; all else is under a digest."""
    flipped = bytearray(FILE)
    flipped[at] ^= mask
    try:
        check_sections(memoryview(flipped))
    except CrlError:
        return
    assert FILE[at] == 0
    assert load(memoryview(flipped)).lookup(5)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_garbage_is_refused(data: bytes, magic: bool) -> None:
    refusal((MAGIC if magic else b"") + data)


def test_a_whole_file_passes_the_check() -> None:
    check_sections(memoryview(FILE))


def test_a_description_that_is_altered_is_refused_even_where_it_stays_readable() -> None:
    assert "digest" in refusal(FILE.replace(b'"size":', b'"size": ', 1))


def described(file: bytes = FILE, **changes: object) -> bytes:
    """`file` with another description, under a right digest."""
    _, _, size, _ = HEADER.unpack_from(file)
    text = json.dumps(json.loads(file[HEADER.size : HEADER.size + size]) | changes, separators=(",", ":"))
    text = text.ljust(len(text) + (size - len(text)) % 8).encode()
    head = HEADER.pack(MAGIC, VERSION, len(text), hashlib.sha256(text).digest())
    return head + text + file[HEADER.size + size :]


def test_a_description_may_be_written_anew() -> None:
    assert load(memoryview(described())).lookup(5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"byte_order": "middle"}, "byte order"),
        ({"sections": []}, "octets follow"),
        ({"sections": [["low", 1 << 40]]}, "incomplete"),
        ({"sections": [["low", -8]]}, "incomplete"),
        ({"sections": 5}, "malformed"),
        ({"crl": {}}, "malformed"),
        ({"crl": None}, "malformed"),
        ({"signature": {"algorithm": "md5", "scheme": None, "value": ""}}, "malformed"),
        ({"starts_sha256": "0" * 64}, "do not fit"),
        ({"rest_width": 1}, "do not fit"),
        ({"wide": [["z", 1]]}, "malformed"),
        ({"wide": [["1", 1]] * 1025}, "too many"),
    ],
)
def test_a_description_that_makes_no_sense_is_refused(changes: dict[str, object], words: str) -> None:
    assert words in refusal(described(**changes))


@pytest.mark.parametrize("width", [-1, 14, "8", None])
def test_a_width_that_no_serial_has_is_refused_even_in_an_empty_list(width: object) -> None:
    empty = b"".join(dump(parse_crl(assemble(ROOT, None), "here.crl")))
    assert load(memoryview(described(empty, rest_width=13))).lookup(5) is None
    assert "do not fit" in refusal(described(empty, rest_width=width))


def test_another_version_is_refused_by_its_number() -> None:
    _, _, size, digest = HEADER.unpack_from(FILE)
    assert "version 2" in refusal(HEADER.pack(MAGIC, 2, size, digest) + FILE[HEADER.size :])
    assert "begins with other octets" in refusal(b"X" + FILE[1:])


def test_a_list_with_too_many_long_serials_is_refused() -> None:
    """They alone are kept as objects, in every process that maps the list."""
    serials = [entry((1 << 200) + number) for number in range(1025)]
    assert parse_crl(assemble(ROOT, b"".join(serials[:1024])), "here.crl").entries == 1024
    with pytest.raises(CrlError, match=r"entry 1025 .* forbids"):
        parse_crl(assemble(ROOT, b"".join(serials)), "here.crl")
