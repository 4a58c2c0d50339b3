"""Metrics of a worker in shared memory: what it has counted outlives it.

Each worker writes its numbers, several times a second and whenever it is asked, into memory that the supervisor made
and keeps. A crash in the middle of that leaves the last whole copy.
"""

import logging
import mmap
import os
import struct
import zlib
from collections.abc import Mapping

import orjson

from mtlsproxy.telemetry.families import Distribution, Labels
from mtlsproxy.telemetry.metrics import Metrics

HALF = 8 * 1024 * 1024
"""Octets for one copy: some hundred thousand series. Memory is only taken by what is written."""

_COPY = struct.Struct("!QII")  # which copy this is, its length, its CRC-32
Value = float | Distribution
Numbers = Mapping[str, Mapping[Labels, Value]]
"""By family's name and labels."""

log = logging.getLogger(__name__)


def make_memory() -> int:
    """A descriptor of memory for one worker's numbers."""
    descriptor = os.memfd_create("mtlsproxy-metrics", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, 2 * HALF)
    return descriptor


class SharedNumbers:
    """Two copies, written in turn: one of them is always whole."""

    def __init__(self, descriptor: int) -> None:
        """Takes the descriptor over."""
        self._memory = mmap.mmap(descriptor, 2 * HALF)
        os.close(descriptor)
        self._turn = 0
        self._last: Numbers = {}
        self._too_large = False

    def write(self, metrics: Metrics) -> None:
        """On the event loop, which is the only writer of the numbers."""
        data = _encode(metrics)
        if len(data) > HALF - _COPY.size:
            if not self._too_large:
                self._too_large = True
                log.error("there are too many series to share with the supervisor: metrics stand still")
            return
        self._turn += 1
        start = HALF * (self._turn % 2)
        self._memory[start + _COPY.size : start + _COPY.size + len(data)] = data
        self._memory[start : start + _COPY.size] = _COPY.pack(self._turn, len(data), zlib.crc32(data))

    def read(self) -> Numbers:
        """The latest whole copy, and never an older one than before; nothing before the first."""
        copies = sorted((_COPY.unpack_from(self._memory, start), start) for start in (0, HALF))
        for (turn, size, checksum), start in reversed(copies):
            data = self._memory[start + _COPY.size : start + _COPY.size + size]
            # Both may be written anew while they are read here: then what was read before is the best there is.
            if turn > self._turn and zlib.crc32(data) == checksum:
                self._turn, self._last = turn, _decode(data)
                break
        return self._last

    def close(self) -> None:
        self._memory.close()


def _encode(metrics: Metrics) -> bytes:
    shared = (family for family in metrics.families() if family.across != "one")
    return orjson.dumps([(family.name, [_plain(*series) for series in family.read()]) for family in shared])


def _plain(labels: Labels, value: Value) -> tuple[object, ...]:
    if isinstance(value, Distribution):
        return (labels, value.bounds, value.counts, value.sum)
    return (labels, value)


def _decode(data: bytes) -> Numbers:
    found: dict[str, dict[Labels, Value]] = {}
    for name, series in orjson.loads(data):
        values = found[name] = {}
        for labels, *value in series:
            if len(value) == 1:
                values[tuple(labels)] = value[0]
            else:
                bounds, counts, total = value
                values[tuple(labels)] = Distribution(tuple(bounds), tuple(counts), total)
    return found
