"""The PROXY protocol: what a TCP load balancer says of its client before TLS (haproxy's proxy-protocol.txt, §2).

Bytes in; None while more is needed, a `ProxyHeader` when it is whole, BadProxyHeader as soon as it cannot become one.
Which version comes is configured and never found out: a receiver that guesses lets clients choose their addresses.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from mtlsproxy.config.networks import Networks, plain

MAX_V1 = 107
"""Bytes of a version 1 line with its CRLF (§2.1, worst case)."""

MAX_V2 = 4096
"""Bytes of a version 2 header. Addresses take 52 at most; TLVs that load balancers send (SNI, unique id, subject of a
certificate, cloud endpoint) stay below 1 KiB. The format's 64 KiB would be a stranger's way to occupy memory."""

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"

_V1_BEGIN = b"PROXY "
_V1_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?")
_PORT = rb"(0|[1-9][0-9]{0,4})"
_V1_TCP = re.compile(
    rb"PROXY (?:TCP4 ([0-9.]{7,15}) ([0-9.]{7,15})|TCP6 ([0-9A-Fa-f:.]{2,45}) ([0-9A-Fa-f:.]{2,45})) %b %b"
    % (_PORT, _PORT)
)

_V2_FIXED = 16
_LOCAL, _PROXY = 0x20, 0x21
_UNSPEC, _TCP4, _TCP6 = 0x00, 0x11, 0x21
_ADDRESS_SIZES = {_TCP4: 4, _TCP6: 16}
_REFUSED_FAMILIES = {0x12: "UDP over IPv4", 0x22: "UDP over IPv6", 0x31: "a UNIX stream", 0x32: "a UNIX datagram"}
_TLV_FIXED = 3
_TLV_CRC32C = 0x03


class BadProxyHeader(Exception):
    """The bytes are no PROXY header of the version expected. `detail` says what is wrong with them."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """source: the client's address and port; None where the header names none, and the socket's own address stands.

    size: bytes that the header takes; what follows is the client's.
    """

    source: tuple[str, int] | None
    size: int


Parse = Callable[[bytes], ProxyHeader | None]


@dataclass(frozen=True, slots=True)
class ProxyHeaderRule:
    """A listener's: socket peers in `senders` must send a header that `parse` accepts; nobody else may send one."""

    parse: Parse
    senders: Networks


# -- version 1 (§2.1) --------------------------------------------------------------------------------------------------


def parse_v1(data: bytes) -> ProxyHeader | None:
    """`data` from the first byte of the connection. Raises BadProxyHeader."""
    if not data.startswith(_V1_BEGIN[: len(data)]):
        raise BadProxyHeader(_instead(data, "v1"))
    end = data.find(b"\r\n", 0, MAX_V1)
    if end < 0:
        if len(data) >= MAX_V1:
            raise BadProxyHeader(f"a PROXY v1 line of more than {MAX_V1} bytes")
        if b"\n" in data:
            raise BadProxyHeader("a PROXY v1 line that ends in LF alone")
        return None
    line = data[:end]
    if _V1_UNKNOWN.fullmatch(line):
        return ProxyHeader(None, end + 2)
    found = _V1_TCP.fullmatch(line)
    if found is None:
        raise BadProxyHeader("a PROXY v1 line that is not `PROXY TCP4|TCP6 source destination port port`")
    return ProxyHeader(_v1_source(*found.groups()), end + 2)


def _v1_source(
    source4: bytes | None, destination4: bytes, source6: bytes, destination6: bytes, from_port: bytes, to_port: bytes
) -> tuple[str, int]:
    source: IPv4Address | IPv6Address
    try:
        if source4 is not None:
            source, _ = IPv4Address(source4.decode()), IPv4Address(destination4.decode())
        else:
            source, _ = plain(IPv6Address(source6.decode())), IPv6Address(destination6.decode())
    except AddressValueError as error:
        raise BadProxyHeader(f"a PROXY v1 line with a malformed address: {error}") from None
    if max(int(from_port), int(to_port)) > 0xFFFF:
        raise BadProxyHeader("a PROXY v1 line with a port above 65535")
    return str(source), int(from_port)


# -- version 2 (§2.2) --------------------------------------------------------------------------------------------------


def parse_v2(data: bytes) -> ProxyHeader | None:
    """`data` from the first byte of the connection. Raises BadProxyHeader."""
    if not data.startswith(SIGNATURE[: len(data)]):
        raise BadProxyHeader(_instead(data, "v2"))
    if len(data) > 12 and data[12] not in (_LOCAL, _PROXY):
        raise BadProxyHeader(f"a PROXY v2 header with version and command 0x{data[12]:02x}: 0x20 or 0x21 expected")
    if len(data) < _V2_FIXED:
        return None
    size = _V2_FIXED + int.from_bytes(data[14:16], "big")
    if size > MAX_V2:
        raise BadProxyHeader(f"a PROXY v2 header of {size} bytes; {MAX_V2} allowed")
    local, family = data[12] == _LOCAL, data[13]
    if not local:
        _check_family(family, size)
    if len(data) < size:
        return None
    if local or family == _UNSPEC:
        return ProxyHeader(None, size)  # what is in it is discarded, whatever family it says
    return ProxyHeader(_v2_source(data[:size], _ADDRESS_SIZES[family]), size)


def _check_family(family: int, size: int) -> None:
    if family == _UNSPEC:
        return
    if family not in _ADDRESS_SIZES:
        what = _REFUSED_FAMILIES.get(family, f"the unknown family and protocol 0x{family:02x}")
        raise BadProxyHeader(f"a PROXY v2 header for {what}: TCP over IPv4 or IPv6 expected")
    needed = _V2_FIXED + 2 * _ADDRESS_SIZES[family] + 4
    if size < needed:
        raise BadProxyHeader(f"a PROXY v2 header of {size} bytes: its addresses alone need {needed}")


def _v2_source(header: bytes, width: int) -> tuple[str, int]:
    """Of a whole header with addresses of `width` bytes."""
    ports = _V2_FIXED + 2 * width
    _check_tlvs(header, ports + 4)
    address = header[_V2_FIXED : _V2_FIXED + width]
    source = IPv4Address(address) if width == 4 else plain(IPv6Address(address))
    return str(source), int.from_bytes(header[ports : ports + 2], "big")


def _check_tlvs(header: bytes, at: int) -> None:
    """§2.2: they fill the header exactly. The checksum (§2.2.3) is verified, the others say nothing that is used."""
    checksum = -1
    while at < len(header):
        value = at + _TLV_FIXED
        end = value + int.from_bytes(header[at + 1 : value], "big")
        if value > len(header) or end > len(header):
            raise BadProxyHeader("a PROXY v2 header with a TLV that points past its end")
        if header[at] == _TLV_CRC32C:
            if end - value != 4 or checksum >= 0:
                raise BadProxyHeader("a PROXY v2 header whose CRC32C is not there once, in four bytes")
            checksum = value
        at = end
    if checksum >= 0:
        whole = header[:checksum] + bytes(4) + header[checksum + 4 :]
        if crc32c(whole) != int.from_bytes(header[checksum : checksum + 4], "big"):
            raise BadProxyHeader("a PROXY v2 header whose CRC32C does not match")


def _crc32c_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


_CRC32C = _crc32c_table()


def crc32c(data: bytes) -> int:
    """Castagnoli's checksum (RFC 4960 Appendix B, reflected): zlib has only the other polynomial."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC32C[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


# -- both --------------------------------------------------------------------------------------------------------------


def _instead(data: bytes, expected: str) -> str:
    """What came where a header was expected, as far as its first bytes show."""
    if data.startswith(b"\x16"):
        came = "TLS at once"
    elif data.startswith(SIGNATURE[: len(data)]):
        came = "PROXY v2"
    elif data.startswith(_V1_BEGIN[: len(data)]):
        came = "PROXY v1"
    else:
        came = "something else"
    return f"a peer in proxy_protocol_from must send a PROXY {expected} header first; {came} came"


PARSERS: Mapping[str, Parse] = {"v1": parse_v1, "v2": parse_v2}
"""By the configuration's `proxy_protocol`."""
