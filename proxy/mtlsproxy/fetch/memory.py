"""Gives memory back after large lists: the next one comes in an hour."""

import ctypes
import gc

_WORTH_IT = 1024 * 1024


def give_memory_back(parsed: int) -> None:
    """parsed: octets of CRLs that were in memory. glibc keeps what was freed, unless it is told."""
    if parsed < _WORTH_IT:
        return
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # musl has none, and keeps less
        trim(0)
