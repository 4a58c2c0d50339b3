"""The entries of a CRL as sorted columns: a look-up by serial number in logarithmic time, in ~30 octets an entry.

The columns are plain buffers and their layout is the whole state, so they can be written to a file and mapped from it.
"""

import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from struct import Struct
from types import MappingProxyType
from typing import NamedTuple

from mtlsproxy.revocation.entry import REASON_ABSENT, REASONS, Clocks, Days, Reasons, moment
from mtlsproxy.revocation.errors import CrlError
from mtlsproxy.x509 import der

SERIAL_WIDTH = 21
"""Octets of a serial in a record: RFC 5280 §4.1.2.2 allows 20, and one more is the sign of a 160-bit number."""

MAX_REST = SERIAL_WIDTH - 8
"""Octets of a serial beside the eight that are searched for."""

MAX_WIDE = 1024
"""Entries with longer serials, which RFC 5280 forbids. They are kept as objects, and those must stay few."""

_LOW = 8
_RECORD = SERIAL_WIDTH + 8
_BUCKETS = 256  # by a serial's last octet, which spreads sequential numbers as well as random ones
_SHIFT, _SHIFT_LARGE = 56, 48  # 256 starts, or 65,536: half a mebibyte that spares a large list most probes
_LARGE = 1 << 16
_SEQUENCE, _INTEGER = der.SEQUENCE, der.INTEGER
_LONG_FORM = 0x80
_NEGATIVE = 0x80
_UTC_HEAD = b"\x17\x0d"  # UTCTime, YYMMDDHHMMSSZ
_GENERALIZED_HEAD = b"\x18\x0f"  # GeneralizedTime, YYYYMMDDHHMMSSZ
_REASON_BITS = 8
_pack = Struct("=q").pack
_keys = tuple(Struct(f">Q{width}s").unpack for width in range(MAX_REST + 1))
_rests = tuple(Struct(f"{width}s").unpack_from for width in range(MAX_REST + 1))


class RevokedEntry(NamedTuple):
    """One revoked certificate. fact: as the columns hold it; decoded where somebody asks, for that takes longer than
    finding it, and a client that is refused may come again at every turn."""

    serial: int
    fact: int

    @property
    def revoked_at(self) -> datetime:
        """Aware UTC."""
        return moment(self.fact >> _REASON_BITS)

    @property
    def reason(self) -> str | None:
        """Its name in RFC 5280 §5.3.1, None where the entry gives none."""
        code = self.fact & REASON_ABSENT
        return None if code == REASON_ABSENT else REASONS[code]


@dataclass(frozen=True, slots=True, eq=False)
class SerialIndex:
    """Columns of one row an entry, sorted by the serial's two's complement, little-endian, SERIAL_WIDTH octets wide.

    low: native unsigned 64-bit, the first 8 of those octets read big-endian. rest: the `rest_width` octets after them
    (what the longest serial needs). facts: native signed 64-bit, seconds since 1970 × 256 + reason code. starts: native
    unsigned 64-bit, the first row of each value of `low` >> `shift`, and the number of rows.
    wide: fact by serial, for serials that do not fit SERIAL_WIDTH; at most MAX_WIDE.
    """

    low: memoryview
    rest: memoryview
    rest_width: int
    facts: memoryview
    starts: memoryview
    shift: int
    wide: Mapping[int, int]

    def __len__(self) -> int:
        return len(self.low) + len(self.wide)

    def lookup(self, serial: int) -> RevokedEntry | None:
        """The entry of `serial`, any integer; None where the list has none."""
        width = self.rest_width
        try:
            low, rest = _keys[width](serial.to_bytes(_LOW + width, "little", signed=True))
        except OverflowError:  # longer than any that the columns hold
            fact = self.wide.get(serial)
            return None if fact is None else RevokedEntry(serial, fact)
        column, starts, bucket = self.low, self.starts, low >> self.shift
        end = starts[bucket + 1]
        row = bisect_left(column, low, starts[bucket], end)
        if row == end or column[row] != low:
            return None
        if _rests[width](self.rest, row * width)[0] != rest:
            found = self._row_in_run(row + 1, end, low, rest)
            if found is None:
                return None
            row = found
        return tuple.__new__(RevokedEntry, (serial, self.facts[row]))  # half the time of the class's own

    def _row_in_run(self, row: int, end: int, low: int, rest: bytes) -> int | None:
        """The row of `rest` among those of one `low`. Chance makes no such run; a CA that wants our time makes one of a
        million."""
        width = self.rest_width
        read = _rests[width]
        stop = end = bisect_right(self.low, low, row, end)
        while row < stop:
            middle = (row + stop) // 2
            if read(self.rest, middle * width)[0] < rest:
                row = middle + 1
            else:
                stop = middle
        return row if row < end and read(self.rest, row * width)[0] == rest else None


def build_index(data: bytes, start: int, end: int, *, extensions: bool, delta: bool = False) -> SerialIndex:
    """The index of the entries in data[start:end], the content of revokedCertificates (RFC 5280 §5.1.2.6).

    extensions: whether entries may carry any (a version 2 list). delta: whether they may be removals. Raises CrlError,
    with the number of the entry.
    """
    records = _Records(extensions=extensions, delta=delta)
    records.walk(data, start, end)
    return records.index()


class _Records:
    """Entries on their way into columns: fixed records in buckets, so that no sort and no list is ever a large one."""

    def __init__(self, *, extensions: bool, delta: bool = False) -> None:
        self.extensions = extensions
        self.buckets = [bytearray() for _ in range(_BUCKETS)]
        self.wide: dict[int, int] = {}
        self.longest = 0
        self.days = Days()
        self.clocks = Clocks()
        self.reasons = Reasons(delta=delta)

    def walk(self, data: bytes, at: int, end: int) -> None:
        """Keep every entry of data[at:end]. Short lengths and common forms are read in place: it may be a million."""
        days, clocks, buckets = self.days, self.clocks, self.buckets
        number = longest = 0
        try:
            while at < end:
                number += 1
                serial_at = at + 2
                stop = serial_at + data[at + 1]
                if data[at] != _SEQUENCE or data[at + 1] >= _LONG_FORM:
                    serial_at, stop = der.enter(data, at, end, der.SEQUENCE)
                elif stop > end:
                    raise CrlError("reaches beyond the list")
                first = serial_at + 2
                date = first + data[serial_at + 1]
                if data[serial_at] != _INTEGER or data[serial_at + 1] >= _LONG_FORM:
                    first, date = der.enter(data, serial_at, stop, der.INTEGER)
                if data[date : date + 2] == _UTC_HEAD:
                    after = date + 15
                    seconds = days[data[date + 2 : date + 8]] + clocks[data[date + 8 : after]]
                else:
                    after = date + 17
                    seconds = self._generalized(data, date)
                fact = (seconds << _REASON_BITS) + (REASON_ABSENT if after == stop else self._reason(data[after:stop]))
                serial = data[first:date]
                if date - first > longest:
                    longest = self.longest = date - first
                if 0 < serial[0] < _NEGATIVE and date - first <= SERIAL_WIDTH:
                    key = serial[::-1].ljust(SERIAL_WIDTH, b"\0")
                    buckets[key[0]] += key + _pack(fact)
                else:
                    self._keep_unusual(serial, fact)
                at = stop
        except CrlError as error:
            raise CrlError(f"entry {number} (octet {at}) {error.detail}") from error
        except (der.DerError, IndexError) as error:
            raise CrlError(f"entry {number} (octet {at}) is malformed: {error}") from error

    def _generalized(self, data: bytes, at: int) -> int:
        if data[at : at + 2] != _GENERALIZED_HEAD:
            raise CrlError("has a revocation date that is neither UTCTime nor GeneralizedTime in the form of RFC 5280")
        return self.days[data[at + 2 : at + 10]] + self.clocks[data[at + 10 : at + 17]]

    def _reason(self, extensions: bytes) -> int:
        """extensions: what follows the date; empty where the date itself reaches beyond the entry."""
        if not extensions or not self.extensions:
            raise CrlError("is cut short, or has extensions in a version 1 list")
        return self.reasons[extensions]

    def _keep_unusual(self, serial: bytes, fact: int) -> None:
        """Keep a serial that is negative, zero, begins with a sign octet or is longer than a record."""
        if len(serial) > 1 and serial[0] in (0, 0xFF) and (serial[0] ^ serial[1]) < _NEGATIVE:
            raise CrlError("has a serial number that is not minimal DER")
        if len(serial) > SERIAL_WIDTH:
            if len(self.wide) >= MAX_WIDE:
                raise CrlError(f"is one of more than {MAX_WIDE} with serial numbers that RFC 5280 §4.1.2.2 forbids")
            self.wide[int.from_bytes(serial, "big", signed=True)] = fact
            return
        key = serial[::-1].ljust(SERIAL_WIDTH, b"\xff" if serial[0] >= _NEGATIVE else b"\0")
        self.buckets[key[0]] += key + _pack(fact)

    def index(self) -> SerialIndex:
        """Sort the records into columns, bucket by bucket, letting go of each as it is done."""
        low, facts, rest = array("Q"), array("q"), bytearray()
        width = max(0, min(self.longest, SERIAL_WIDTH) - _LOW)
        self.buckets.reverse()
        while self.buckets:
            bucket = bytes(self.buckets.pop())
            records = sorted([bucket[at : at + _RECORD] for at in range(0, len(bucket), _RECORD)])
            low.frombytes(b"".join([record[:_LOW] for record in records]))
            rest += b"".join([record[_LOW : _LOW + width] for record in records])
            facts.frombytes(b"".join([record[SERIAL_WIDTH:] for record in records]))
        if sys.byteorder == "little":
            low.byteswap()
        shift = _SHIFT_LARGE if len(low) >= _LARGE else _SHIFT
        return SerialIndex(
            memoryview(low).toreadonly(),
            memoryview(rest).toreadonly(),
            width,
            memoryview(facts).toreadonly(),
            memoryview(_starts(low, shift)).toreadonly(),
            shift,
            MappingProxyType(self.wide),
        )


def _starts(low: "array[int]", shift: int) -> "array[int]":
    """The first row of each bucket, and the number of rows."""
    starts, row = array("Q"), 0
    for bucket in range(1 << (_LOW * 8 - shift)):
        row = bisect_left(low, bucket << shift, row)
        starts.append(row)
    starts.append(len(low))
    return starts


EMPTY = _Records(extensions=False).index()
"""The index of a list without entries."""
