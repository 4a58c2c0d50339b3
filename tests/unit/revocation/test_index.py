"""The index of serial numbers: every entry is found, with what it says, and nothing else is."""

import random
from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.unit.revocation import build
from tests.unit.revocation.build import DAY, NOW, entry, tlv

from mtlsproxy.revocation import index as index_module
from mtlsproxy.revocation.errors import CrlError
from mtlsproxy.revocation.index import EMPTY, SerialIndex, build_index


def index_of(*entries: bytes, extensions: bool = True) -> SerialIndex:
    data = b"\0" + b"".join(entries) + b"\0"  # offsets into a larger whole, as in a CRL
    return build_index(data, 1, len(data) - 1, extensions=extensions)


def refusal(*entries: bytes) -> str:
    with pytest.raises(CrlError) as caught:
        index_of(*entries)
    return caught.value.detail


def test_a_hundred_thousand_entries_agree_with_a_dictionary() -> None:
    source = random.Random(7)
    widths = (8, 20, 63, 64, 65, 128, 159, 160)
    expected = {source.getrandbits(source.choice(widths)): source.choice((None, 1, 4, 6)) for _ in range(50_000)}
    expected |= dict.fromkeys(range(10**9, 10**9 + 50_000), 5)  # a CA that counts
    names = {None: None, 1: "keyCompromise", 4: "superseded", 5: "cessationOfOperation", 6: "certificateHold"}
    tails = {code: tlv(0x30, build.reason(code)) if code is not None else b"" for code in names}
    moment = build.time(NOW)
    index = index_of(*(tlv(0x30, build.integer(serial), moment, tails[code]) for serial, code in expected.items()))
    assert len(index) == len(expected)
    for serial, code in expected.items():
        found = index.lookup(serial)
        assert found is not None
        assert (found.serial, found.revoked_at, found.reason) == (serial, NOW, names[code])
    for serial in expected:
        for neighbour in (serial + 1, serial ^ 1 << 100, -serial - 1, serial << 64):
            assert (index.lookup(neighbour) is not None) == (neighbour in expected)


def test_serials_that_a_ca_makes_alike_cost_no_more_reading_than_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those whose last eight octets are one run of the index, as long as a CA likes: each look-up of one of its clients
    is on the event loop."""
    source = random.Random(7)
    serials = list({(source.getrandbits(95) << 64) + 7 for _ in range(20_000)})
    index = index_of(*(entry(serial) for serial in serials))
    read = 0

    def counting(*where: object) -> tuple[bytes, ...]:
        nonlocal read
        read += 1
        return known(*where)

    known = index_module._rests[index.rest_width]
    monkeypatch.setattr(index_module, "_rests", {index.rest_width: counting})
    for serial in (*serials[:200], *sorted(serials)[:2], *sorted(serials)[-2:]):
        found = index.lookup(serial)
        assert found is not None
        assert found.serial == serial
        for other in (serial + (1 << 64), serial - (1 << 64)):
            assert (index.lookup(other) is not None) == (other in serials)
    assert read < 20 * 3 * 204


EDGES = [0, 1, -1, 127, 128, -128, -129, *(sign * (1 << bits) + off for bits in (63, 64, 159, 160, 167, 168, 1000)
                                            for sign in (1, -1) for off in (-1, 0, 1))]  # fmt: skip


def test_serials_of_any_length_and_sign_are_told_apart() -> None:
    for kept in (EDGES[::2], EDGES[1::2], EDGES[:7], EDGES):
        index = index_of(*(entry(serial) for serial in kept))
        assert [serial for serial in EDGES if index.lookup(serial)] == [serial for serial in EDGES if serial in kept]


@settings(max_examples=100, deadline=None)
@given(st.sets(st.integers(-(1 << 180), 1 << 180), max_size=20), st.sets(st.integers(-(1 << 180), 1 << 180)))
@example({1 << 64}, {0, 1 << 65})
def test_what_is_in_is_found_and_what_is_not_is_not(kept: set[int], asked: set[int]) -> None:
    index = index_of(*(entry(serial) for serial in kept))
    assert all(index.lookup(serial) for serial in kept)
    assert not any(index.lookup(serial) for serial in asked - kept)


def test_an_empty_index_finds_nothing() -> None:
    assert len(EMPTY) == 0
    assert EMPTY.lookup(0) is None
    assert EMPTY.lookup(1 << 300) is None


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        (b"491231235959Z", datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (b"500101000000Z", datetime(1950, 1, 1, tzinfo=UTC)),
        (b"240229120000Z", datetime(2024, 2, 29, 12, tzinfo=UTC)),
        (b"20500101000000Z", datetime(2050, 1, 1, tzinfo=UTC)),
        (b"00010101000000Z", datetime(1, 1, 1, tzinfo=UTC)),
        (b"99991231235959Z", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_a_date_is_read_exactly(text: bytes, moment: datetime) -> None:
    found = index_of(tlv(0x30, build.integer(1), tlv(0x17 if len(text) == 13 else 0x18, text))).lookup(1)
    assert found is not None
    assert found.revoked_at == moment


@pytest.mark.parametrize(
    "text",
    [
        b"230229120000Z",
        b"231301120000Z",
        b"230101240000Z",
        b"230101006000Z",
        b"230101000060Z",
        b"2301010000Z",
        b"230101000000+0100",
        b"23010100000aZ",
        b"2301 1000000Z",
        b"+30101000000Z",
        b"230101000000z",
        b"20230101000000.5Z",
        b"00000101000000Z",
    ],
)
def test_a_malformed_date_is_refused(text: bytes) -> None:
    assert "entry 2" in refusal(entry(1), tlv(0x30, build.integer(1), tlv(0x17 if len(text) < 15 else 0x18, text)))


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (0, "unspecified"),
        (1, "keyCompromise"),
        (2, "cACompromise"),
        (3, "affiliationChanged"),
        (4, "superseded"),
        (5, "cessationOfOperation"),
        (6, "certificateHold"),
        (9, "privilegeWithdrawn"),
        (10, "aACompromise"),
    ],
)
def test_each_reason_has_its_name(code: int, name: str) -> None:
    assert index_of(entry(1, NOW, build.reason(code))).lookup(1).reason == name


@pytest.mark.parametrize(("code", "words"), [(7, "code 7"), (8, "removeFromCRL"), (11, "code 11"), (255, "code 255")])
def test_an_undefined_reason_is_refused(code: int, words: str) -> None:
    assert words in refusal(entry(1, NOW, build.reason(code)))


INVALIDITY_DATE = build.extension(b"\x06\x03\x55\x1d\x18", tlv(0x18, b"20250101000000Z"))
CERTIFICATE_ISSUER = build.extension(b"\x06\x03\x55\x1d\x1d", tlv(0x30), critical=True)


def test_other_known_extensions_leave_the_reason_alone() -> None:
    assert index_of(entry(1, NOW, INVALIDITY_DATE)).lookup(1).reason is None
    assert index_of(entry(1, NOW, INVALIDITY_DATE, build.reason(1))).lookup(1).reason == "keyCompromise"


@pytest.mark.parametrize(
    ("extensions", "words"),
    [
        ((CERTIFICATE_ISSUER,), "indirect"),
        ((build.reason(1), build.reason(1)), "twice"),
        ((build.extension(build.REASON, b"\x0a\x02\0\x01"),), "reason code"),
        ((build.extension(build.REASON, b"\x0a\x01\x01\0"),), "reason code"),
        ((tlv(0x30, build.REASON, b"\x01\x01\x00", tlv(0x04, b"\x0a\x01\x01")),), "critical flag"),
        ((tlv(0x30, build.REASON),), "malformed"),
        ((tlv(0x30, build.REASON, tlv(0x04, b"\x0a\x01\x01"), b"\x05\x00"),), "malformed"),
        ((b"\x30\x05\x06",), "malformed"),
        ((b"\x05\x00",), "malformed"),
    ],
)
def test_malformed_extensions_are_refused(extensions: tuple[bytes, ...], words: str) -> None:
    assert words in refusal(entry(1, NOW, *extensions))


@pytest.mark.parametrize(
    "bad",
    [
        tlv(0x30, b"\x02\x02\x00\x01", build.time(NOW)),
        tlv(0x30, b"\x02\x02\xff\xff", build.time(NOW)),
        tlv(0x30, b"\x02\x00", build.time(NOW)),
        tlv(0x30, b"\x04\x01\x01", build.time(NOW)),
        tlv(0x31, b"\x02\x01\x01", build.time(NOW)),
        tlv(0x30, b"\x02\x01\x01"),
        tlv(0x30, b"\x02\x01\x01", build.time(NOW), b"\x05\x00"),
        tlv(0x30, b"\x02\x01\x01", build.time(NOW), tlv(0x30)),
        tlv(0x30, b"\x02\x01\x01", build.time(NOW), tlv(0x30, build.reason(1)), b"\0"),
        b"\x30\x81\x12" + build.integer(1) + build.time(NOW),
        b"\x30\x13" + build.integer(1) + build.time(NOW),
        b"\x30\x11" + build.integer(1) + build.time(NOW),
        b"\x30\x80" + build.integer(1) + build.time(NOW) + b"\0\0",
        b"\x30",
        b"\0",
    ],
)
def test_a_malformed_entry_is_refused_and_named(bad: bytes) -> None:
    assert "entry 3 " in refusal(entry(1), entry(2), bad)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_cut_or_changed_entry_raises_only_crl_errors(data: st.DataObject) -> None:
    whole = entry(1 << 70, NOW - DAY, build.reason(4)) + entry(1 << 1100, NOW.replace(year=2051))
    changed = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for at in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=3)):
        if at < len(changed):
            changed[at] = data.draw(st.integers(0, 255))
    try:
        index = build_index(bytes(changed), 0, len(changed), extensions=True)
    except CrlError:
        return
    assert len(index) <= 2
