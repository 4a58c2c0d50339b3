"""A PROXY header is exactly what haproxy's proxy-protocol.txt says, or refused: whole, in pieces, with bytes behind."""

import itertools
import struct
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlsproxy.tls.proxy_header import (
    MAX_V1,
    MAX_V2,
    PARSERS,
    SIGNATURE,
    BadProxyHeader,
    Parse,
    ProxyHeader,
    crc32c,
    parse_v1,
    parse_v2,
)

V1, V2 = "v1", "v2"


def v2(
    block: bytes = b"", family: int = 0x11, command: int = 0x21, size: int | None = None, signature: bytes = SIGNATURE
) -> bytes:
    return signature + bytes([command, family]) + struct.pack("!H", len(block) if size is None else size) + block


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def checked(block: bytes, family: int = 0x11) -> bytes:
    """A header with a right CRC32C behind `block`."""
    header = v2(block + tlv(3, bytes(4)), family)
    return header[:-4] + struct.pack("!I", crc32c(header))


TCP4 = bytes([192, 0, 2, 1, 198, 51, 100, 2]) + struct.pack("!HH", 56324, 443)
V6 = ip_address("2001:db8::1").packed
TCP6 = V6 + ip_address("2001:db8::2").packed + struct.pack("!HH", 1, 65535)
FROM4, FROM6 = ("192.0.2.1", 56324), ("2001:db8::1", 1)

GOOD_V1 = {
    b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n": FROM4,
    b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n": ("255.255.255.255", 65535),
    b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n": ("0.0.0.0", 0),
    b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n": FROM6,
    b"PROXY TCP6 2001:0DB8:0000:0000:0000:0000:0000:0001 ::1 1 2\r\n": FROM6,
    b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n": (
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0",
        65535,
    ),
    b"PROXY TCP6 ::ffff:192.0.2.1 ::1 56324 2\r\n": FROM4,  # what inet_ntop writes of an IPv4 client
    b"PROXY UNKNOWN\r\n": None,
    b"PROXY UNKNOWN \r\n": None,
    b"PROXY UNKNOWN 192.0.2.1 whatever\x00\xff\r\n": None,
    b"PROXY UNKNOWN " + b"f" * (MAX_V1 - 16) + b"\r\n": None,
}

GOOD_V2 = {
    v2(TCP4): FROM4,
    v2(TCP6, 0x21): FROM6,
    v2(ip_address("::ffff:192.0.2.1").packed + V6 + struct.pack("!HH", 56324, 1), 0x21): FROM4,
    v2(TCP4 + tlv(4, b"") + tlv(2, b"proxy.test") + tlv(0xEA, b"\x01vpce-1")): FROM4,
    v2(TCP4 + tlv(4, bytes(MAX_V2 - 31))): FROM4,
    checked(TCP4): FROM4,
    checked(TCP6 + tlv(5, b"id"), 0x21): FROM6,
    v2(command=0x20, family=0): None,
    v2(TCP4, command=0x20): None,
    v2(b"anything", family=0x55, command=0x20): None,  # LOCAL: the family is ignored
    v2(family=0): None,
    v2(b"anything", family=0): None,
}

BAD_V1 = {
    "lower case": b"proxy TCP4 192.0.2.1 198.51.100.2 1 2\r\n",
    "LF alone": b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2\n",
    "CR inside": b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2\r\r\n",
    "LF inside unknown": b"PROXY UNKNOWN a\nb\r\n",
    "two spaces": b"PROXY TCP4  192.0.2.1 198.51.100.2 1 2\r\n",
    "a tab": b"PROXY TCP4\t192.0.2.1 198.51.100.2 1 2\r\n",
    "a space behind": b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2 \r\n",
    "a field too many": b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2 3\r\n",
    "a port missing": b"PROXY TCP4 192.0.2.1 198.51.100.2 1\r\n",
    "nothing but the family": b"PROXY TCP4\r\n",
    "nothing": b"PROXY \r\n",
    "UDP4": b"PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n",
    "UNKNOWN glued": b"PROXY UNKNOWNX\r\n",
    "IPv6 as TCP4": b"PROXY TCP4 ::1 ::2 1 2\r\n",
    "IPv4 as TCP6": b"PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n",
    "families mixed": b"PROXY TCP6 ::1 198.51.100.2 1 2\r\n",
    "an octet above 255": b"PROXY TCP4 192.0.2.256 198.51.100.2 1 2\r\n",
    "a leading zero": b"PROXY TCP4 192.0.02.1 198.51.100.2 1 2\r\n",
    "three octets": b"PROXY TCP4 192.0.2 198.51.100.2 1 2\r\n",
    "a bad destination": b"PROXY TCP4 192.0.2.1 198.51.100 1 2\r\n",
    "a name": b"PROXY TCP4 localhost 198.51.100.2 1 2\r\n",
    "two double colons": b"PROXY TCP6 1::2::3 ::1 1 2\r\n",
    "five digits": b"PROXY TCP6 00001::2 ::1 1 2\r\n",
    "a zone": b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
    "brackets": b"PROXY TCP6 [::1] ::1 1 2\r\n",
    "a port above 65535": b"PROXY TCP4 192.0.2.1 198.51.100.2 65536 2\r\n",
    "a destination port above": b"PROXY TCP4 192.0.2.1 198.51.100.2 1 99999\r\n",
    "a port with a leading zero": b"PROXY TCP4 192.0.2.1 198.51.100.2 01 2\r\n",
    "a port with a sign": b"PROXY TCP4 192.0.2.1 198.51.100.2 +1 2\r\n",
    "no port": b"PROXY TCP4 192.0.2.1 198.51.100.2  2\r\n",
    "other digits": "PROXY TCP4 192.0.2.1 198.51.100.2 ١ 2\r\n".encode(),
    "108 bytes": b"PROXY UNKNOWN " + b"f" * (MAX_V1 - 15) + b"\r\n",
    "no end": b"PROXY UNKNOWN " + b"f" * 200,
    "version 2": v2(TCP4),
    "TLS": b"\x16\x03\x01\x02\x00\x01",
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
}

BAD_V2 = {
    "another signature": v2(TCP4, signature=SIGNATURE[:-1] + b"\r"),
    "version 1 in binary": v2(TCP4, command=0x11),
    "version 3": v2(TCP4, command=0x31),
    "an unknown command": v2(TCP4, command=0x22),
    "UDP over IPv4": v2(TCP4, family=0x12),
    "UDP over IPv6": v2(TCP6, family=0x22),
    "a UNIX stream": v2(bytes(216), family=0x31),
    "a UNIX datagram": v2(bytes(216), family=0x32),
    "IPv4, no protocol": v2(TCP4, family=0x10),
    "a protocol, no family": v2(TCP4, family=0x01),
    "an unknown family": v2(TCP4, family=0x41),
    "IPv4 cut short": v2(TCP4[:-1]),
    "IPv6 cut short": v2(TCP6[:-1], family=0x21),
    "IPv6 in the room of IPv4": v2(TCP4, family=0x21),
    "no addresses": v2(),
    "half a TLV": v2(TCP4 + b"\x04\x00"),
    "a TLV past the end": v2(TCP4 + tlv(4, b"abc")[:-1]),
    "a wrong CRC32C": checked(TCP4)[:-1] + bytes([checked(TCP4)[-1] ^ 1]),
    "an altered address": checked(TCP4).replace(b"\xc0\x00\x02\x01", b"\xc0\x00\x02\x02"),
    "a CRC32C of three bytes": v2(TCP4 + tlv(3, bytes(3))),
    "two CRC32Cs": v2(TCP4 + tlv(3, bytes(4)) + tlv(3, bytes(4))),
    "too large": v2(TCP4 + tlv(4, bytes(MAX_V2 - 30))),
    "too large, LOCAL": v2(bytes(MAX_V2 - 15), command=0x20),
    "as large as can be": v2(TCP4, size=0xFFFF),
    "version 1": b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01",
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
}

GOOD = [(V1, *case) for case in GOOD_V1.items()] + [(V2, *case) for case in GOOD_V2.items()]
BAD = [pytest.param(V1, data, id=f"v1 {name}") for name, data in BAD_V1.items()] + [
    pytest.param(V2, data, id=f"v2 {name}") for name, data in BAD_V2.items()
]


def in_pieces(parse: Parse, data: bytes) -> ProxyHeader | None:
    """What `parse` says first as `data` comes byte by byte; None when it never says anything."""
    for end in range(1, len(data) + 1):
        if header := parse(data[:end]):
            return header
    return None


@pytest.mark.parametrize(("version", "data", "source"), GOOD)
def test_a_good_header_gives_the_source_and_leaves_what_follows(
    version: str, data: bytes, source: tuple[str, int] | None
) -> None:
    parse, expected = PARSERS[version], ProxyHeader(source, len(data))
    assert parse(data) == expected
    assert in_pieces(parse, data) == expected
    for behind in (b"\x16\x03\x01", b"\r\n", b"\n", data, bytes(5000)):
        assert parse(data + behind) == expected


@pytest.mark.parametrize(("version", "data", "source"), GOOD)
def test_a_good_header_cut_short_waits_for_the_rest(version: str, data: bytes, source: tuple[str, int] | None) -> None:
    for end in range(1, len(data)):
        assert PARSERS[version](data[:end]) is None


@pytest.mark.parametrize(("version", "data"), BAD)
def test_a_bad_header_is_refused_whole_in_pieces_and_with_bytes_behind(version: str, data: bytes) -> None:
    parse = PARSERS[version]
    for feed in (parse, lambda data: in_pieces(parse, data), lambda data: parse(data + bytes(200))):
        with pytest.raises(BadProxyHeader) as caught:
            feed(data)
        assert caught.value.detail
        assert caught.value.detail.isascii()


@pytest.mark.parametrize(
    ("version", "data", "came"),
    [
        (V1, v2(TCP4), "PROXY v2 came"),
        (V2, b"PROXY TCP4", "PROXY v1 came"),
        (V1, b"\x16\x03", "TLS at once came"),
        (V2, b"\x16", "TLS at once came"),
        (V2, b"GET /", "something else came"),
    ],
)
def test_the_detail_says_what_came_instead(version: str, data: bytes, came: str) -> None:
    with pytest.raises(BadProxyHeader, match=f"must send a PROXY {version} header first; {came}"):
        PARSERS[version](data)


def test_a_long_header_is_refused_by_its_length_alone() -> None:
    """Nothing of it need be kept to see that."""
    with pytest.raises(BadProxyHeader, match=f"{MAX_V2} allowed"):
        parse_v2(v2(size=0xFFFF)[:16])


def test_crc32c_is_castagnolis() -> None:
    """RFC 3720 §B.4's vectors (the same checksum), and the customary one."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


ADDRESSES = st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)) | st.tuples(
    st.ip_addresses(v=6), st.ip_addresses(v=6)
)
PORTS = st.integers(0, 0xFFFF)


@given(ADDRESSES, PORTS, PORTS, st.lists(st.tuples(st.integers(4, 255), st.binary(max_size=20)), max_size=4))
@settings(max_examples=100, deadline=None)
def test_any_addresses_come_through_both_versions(pair, source, destination, tlvs) -> None:  # type: ignore[no-untyped-def]
    one, other = pair
    given_address = (str(getattr(one, "ipv4_mapped", None) or one), source)
    line = f"PROXY TCP{one.version} {one} {other} {source} {destination}\r\n".encode()
    assert parse_v1(line) == ProxyHeader(given_address, len(line))
    block = one.packed + other.packed + struct.pack("!HH", source, destination)
    block += b"".join(itertools.starmap(tlv, tlvs))
    for header in (v2(block, 0x11 if one.version == 4 else 0x21), checked(block, 0x11 if one.version == 4 else 0x21)):
        assert parse_v2(header + b"\x16") == ProxyHeader(given_address, len(header))


@given(st.sampled_from([*GOOD_V1, *GOOD_V2, *BAD_V1.values(), *BAD_V2.values()]), st.data())
@settings(max_examples=200, deadline=None)
def test_whatever_comes_nothing_else_is_raised_and_pieces_make_no_difference(data: bytes, draw: st.DataObject) -> None:
    """Headers altered at a byte, cut, and repeated."""
    at = draw.draw(st.integers(0, len(data) - 1))
    altered = data[:at] + draw.draw(st.binary(max_size=3)) + data[at + draw.draw(st.integers(0, 2)) :]
    for parse in PARSERS.values():
        outcomes = []
        for feed in (parse, lambda data, parse=parse: in_pieces(parse, data)):
            try:
                outcomes.append(feed(altered) if altered else None)
            except BadProxyHeader:
                outcomes.append(BadProxyHeader)
        assert outcomes[0] == outcomes[1]
        if isinstance(outcomes[0], ProxyHeader):
            assert 0 < outcomes[0].size <= min(len(altered), MAX_V2)
