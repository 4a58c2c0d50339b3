"""The entries of a CRL as sorted columns: a look-up by serial number in logarithmic time, in ~30 octets an entry.

The columns are plain buffers and their layout is the whole state, so they can be written to a file and mapped from it.
"""

import sys
from array import array
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from mtlsproxy.revocation.entry import REASON_ABSENT, REASONS, Clocks, Days, Reasons, moment
from mtlsproxy.revocation.errors import CrlError
from mtlsproxy.x509 import der

SERIAL_WIDTH = 21
"""Octets of a serial in a record: RFC 5280 §4.1.2.2 allows 20, and one more is the sign of a 160-bit number."""

_LOW = 8
_RECORD = SERIAL_WIDTH + 8
_BUCKETS = 256  # by a serial's last octet, which spreads sequential numbers as well as random ones
_UTC_HEAD = b"\x17\x0d"  # UTCTime, YYMMDDHHMMSSZ
_GENERALIZED_HEAD = b"\x18\x0f"  # GeneralizedTime, YYYYMMDDHHMMSSZ


@dataclass(frozen=True, slots=True)
class RevokedEntry:
    """One revoked certificate. reason: its name in RFC 5280 §5.3.1, None where the entry gives none."""

    serial: int
    revoked_at: datetime
    reason: str | None


@dataclass(frozen=True, slots=True, eq=False)
class SerialIndex:
    """Columns of one row an entry, sorted by the serial's two's complement, little-endian, SERIAL_WIDTH octets wide.

    low: native unsigned 64-bit, the first 8 of those octets read big-endian. rest: the `rest_width` octets after them
    (what the longest serial needs). facts: native signed 64-bit, seconds since 1970 × 256 + reason code.
    wide: fact by serial, for serials that do not fit SERIAL_WIDTH.
    """

    low: memoryview
    rest: memoryview
    rest_width: int
    facts: memoryview
    wide: Mapping[int, int]

    def __len__(self) -> int:
        return len(self.low) + len(self.wide)

    def lookup(self, serial: int) -> RevokedEntry | None:
        """The entry of `serial`, any integer; None where the list has none."""
        fact = self._fact(serial)
        if fact is None:
            return None
        seconds, reason = divmod(fact, 256)
        return RevokedEntry(serial, moment(seconds), None if reason == REASON_ABSENT else REASONS[reason])

    def _fact(self, serial: int) -> int | None:
        try:
            key = serial.to_bytes(SERIAL_WIDTH, "little", signed=True)
        except OverflowError:
            return self.wide.get(serial)
        width = self.rest_width
        kept = _LOW + width
        # What the rest column leaves out is sign alone; a serial with more there is longer than any in the list.
        if kept < SERIAL_WIDTH and key[kept:] != _sign(key[kept - 1]) * (SERIAL_WIDTH - kept):
            return None
        low, rest = int.from_bytes(key[:_LOW], "big"), key[_LOW:kept]
        row = bisect_left(self.low, low)
        while row < len(self.low) and self.low[row] == low:
            if self.rest[row * width : (row + 1) * width] == rest:
                fact: int = self.facts[row]
                return fact
            row += 1
        return None


def _sign(octet: int) -> bytes:
    return b"\xff" if octet & 0x80 else b"\0"


EMPTY = SerialIndex(memoryview(array("Q")), memoryview(b""), 0, memoryview(array("q")), MappingProxyType({}))


def build_index(data: bytes, start: int, end: int, *, extensions: bool) -> SerialIndex:
    """The index of the entries in data[start:end], the content of revokedCertificates (RFC 5280 §5.1.2.6).

    extensions: whether entries may carry any (a version 2 list). Raises CrlError, with the number of the entry.
    """
    records = _Records(extensions=extensions)
    records.walk(data, start, end)
    return records.index()


class _Records:
    """Entries on their way into columns: fixed records in buckets, so that no sort and no list is ever a large one."""

    def __init__(self, *, extensions: bool) -> None:
        self.extensions = extensions
        self.buckets = [bytearray() for _ in range(_BUCKETS)]
        self.wide: dict[int, int] = {}
        self.longest = 0
        self.days = Days()
        self.clocks = Clocks()
        self.reasons = Reasons()

    def walk(self, data: bytes, at: int, end: int) -> None:
        number = 0
        try:
            while at < end:
                number += 1
                at = self._take(data, at, end)
        except CrlError as error:
            raise CrlError(f"entry {number} (octet {at}) {error.detail}") from error
        except (der.DerError, IndexError) as error:
            raise CrlError(f"entry {number} (octet {at}) is malformed: {error}") from error

    def _take(self, data: bytes, at: int, end: int) -> int:
        """Keep the entry at `at`; the offset after it. Short lengths are read in place: this runs a million times."""
        content = at + 2
        stop = content + data[at + 1]
        if data[at] != der.SEQUENCE or data[at + 1] >= 0x80:
            content, stop = der.enter(data, at, end, der.SEQUENCE)
        if stop > end:
            raise CrlError("reaches beyond the list")
        serial = content + 2
        date = serial + data[content + 1]
        if data[content] != der.INTEGER or data[content + 1] >= 0x80:
            serial, date = der.enter(data, content, stop, der.INTEGER)
        seconds, after = self._date(data, date)
        if after == stop:
            reason = REASON_ABSENT
        elif after < stop and self.extensions:
            reason = self.reasons[data[after:stop]]
        else:
            raise CrlError("is cut short, or has extensions in a version 1 list")
        self._keep(data[serial:date], seconds * 256 + reason)
        return stop

    def _date(self, data: bytes, at: int) -> tuple[int, int]:
        head = data[at : at + 2]
        if head == _UTC_HEAD:
            return self.days[data[at + 2 : at + 8]] + self.clocks[data[at + 8 : at + 15]], at + 15
        if head == _GENERALIZED_HEAD:
            return self.days[data[at + 2 : at + 10]] + self.clocks[data[at + 10 : at + 17]], at + 17
        raise CrlError("has a revocation date that is neither UTCTime nor GeneralizedTime in the form of RFC 5280")

    def _keep(self, serial: bytes, fact: int) -> None:
        size = len(serial)
        first = serial[0]
        if size > 1 and ((first == 0 and serial[1] < 0x80) or (first == 0xFF and serial[1] >= 0x80)):
            raise CrlError("has a serial number that is not minimal DER")
        if size > SERIAL_WIDTH:
            self.wide[int.from_bytes(serial, "big", signed=True)] = fact
            return
        if size > self.longest:
            self.longest = size
        key = serial[::-1].ljust(SERIAL_WIDTH, b"\xff" if first >= 0x80 else b"\0")
        self.buckets[serial[-1]] += key + fact.to_bytes(8, "big", signed=True)

    def index(self) -> SerialIndex:
        """Sort the records into columns, bucket by bucket, letting go of each as it is done."""
        low, facts, rest = array("Q"), array("q"), bytearray()
        width = max(0, self.longest - _LOW)
        self.buckets.reverse()
        while self.buckets:
            bucket = bytes(self.buckets.pop())
            records = sorted([bucket[at : at + _RECORD] for at in range(0, len(bucket), _RECORD)])
            low.frombytes(b"".join([record[:_LOW] for record in records]))
            rest += b"".join([record[_LOW : _LOW + width] for record in records])
            facts.frombytes(b"".join([record[SERIAL_WIDTH:] for record in records]))
        if sys.byteorder == "little":
            low.byteswap()
            facts.byteswap()
        return SerialIndex(
            memoryview(low).toreadonly(),
            memoryview(rest).toreadonly(),
            width,
            memoryview(facts).toreadonly(),
            MappingProxyType(self.wide),
        )
