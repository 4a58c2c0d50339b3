"""Certificates, times and durations as the evidence of this room words them."""

from datetime import datetime, timedelta
from functools import lru_cache

from mtlsproxy.x509.certificate import Certificate, serial_hex


def title(certificate: Certificate) -> str:
    return f"{certificate.subject or 'a certificate without subject'} (serial {serial_hex(certificate.serial)})"


@lru_cache(maxsize=1024)  # the same few lists are named in every verdict
def moment(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def ago(then: datetime, now: datetime) -> str:
    """How long before `now` something was; within the clock skew it may be after."""
    return f"{span(max(now - then, timedelta(0)))} ago"


def span(delta: timedelta) -> str:
    """A duration in its two largest units: `2 d 3 h`."""
    seconds = int(delta.total_seconds())
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    parts: list[str] = []
    for unit, size in units:
        count, seconds = divmod(seconds, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
