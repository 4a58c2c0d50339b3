"""Just enough DER (X.690 §8, §10) to take a certificate's fields as the bytes that were signed.

cryptography re-encodes names when asked for their bytes; what chains, hashes and lookups compare must be the original.
"""

SEQUENCE = 0x30
INTEGER = 0x02
OCTET_STRING = 0x04
OBJECT_IDENTIFIER = 0x06
_LONG_FORM = 0x80
_MAX_LENGTH_OCTETS = 4  # 4 GiB: beyond anything that we read


class DerError(ValueError):
    """Not definite-length DER; says where."""


def read(data: bytes, at: int, end: int) -> tuple[int, int, int]:
    """The element at offset `at`: (tag, offset of its contents, offset after it). Raises DerError."""
    if end - at < 2:
        raise DerError(f"truncated at offset {at}")
    tag, length, start = data[at], data[at + 1], at + 2
    if tag & 0x1F == 0x1F:
        raise DerError(f"high tag number at offset {at}")
    if length >= _LONG_FORM:
        octets = length - _LONG_FORM
        if not 1 <= octets <= _MAX_LENGTH_OCTETS or end - start < octets:
            raise DerError(f"bad length at offset {at}")
        length = int.from_bytes(data[start : start + octets], "big")
        start += octets
        if length < _LONG_FORM or length >> (8 * (octets - 1)) == 0:
            raise DerError(f"length is not minimal at offset {at}")
    if length > end - start:
        raise DerError(f"truncated at offset {at}")
    return tag, start, start + length


def enter(data: bytes, at: int, end: int, tag: int) -> tuple[int, int]:
    """(offset of the contents, offset after them) of the element at `at`, which must carry `tag`. Raises DerError."""
    seen, start, after = read(data, at, end)
    if seen != tag:
        raise DerError(f"tag {seen:#04x} where {tag:#04x} was expected, at offset {at}")
    return start, after


def children(data: bytes, at: int, end: int, most: int | None = None) -> list[tuple[int, int, int]]:
    """(tag, offset of the element, offset after it) of every element between the offsets. Raises DerError.

    most: how many are looked at.
    """
    found: list[tuple[int, int, int]] = []
    while at < end and len(found) != most:
        tag, _, after = read(data, at, end)
        found.append((tag, at, after))
        at = after
    return found


def dotted(data: bytes, at: int, end: int) -> str:
    """The OBJECT IDENTIFIER at `at` (X.690 §8.19). Raises DerError."""
    start, after = enter(data, at, end, OBJECT_IDENTIFIER)
    arcs, arc = [], 0
    for octet in data[start:after]:
        arc = arc << 7 | octet & 0x7F
        if not octet & 0x80:
            arcs.append(arc)
            arc = 0
    if not arcs or data[after - 1] & 0x80:
        raise DerError(f"truncated object identifier at offset {at}")
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))
