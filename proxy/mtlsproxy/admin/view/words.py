"""Instants, durations and names in words."""

import re
from datetime import UTC, datetime, timedelta

_UNITS = (("year", 31_557_600), ("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))
_SOON, _AT_ONCE = timedelta(days=14), timedelta(days=3)

# Controls, and what is invisible or reorders text: a name made of these would read as another one.
_UNREADABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]"
)


def plain(text: object) -> str:
    """Text that others chose, with what cannot be seen in it written as an escape."""
    return _UNREADABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", str(text))


def instant(value: datetime | str) -> datetime:
    """An aware instant, which has been through JSON or not."""
    return value if isinstance(value, datetime) else datetime.fromisoformat(value)


def utc(value: datetime | str) -> str:
    return f"{instant(value).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def length(span: timedelta) -> str:
    """`3 minutes`, in the largest unit that fits at least twice; without a sign."""
    seconds = abs(int(span.total_seconds()))
    for unit, size in _UNITS:
        if seconds >= 2 * size or size == 1:
            count = seconds // size
            return f"{count} {unit}{'' if count == 1 else 's'}"
    raise AssertionError("seconds fit anything")


def ago(value: datetime | str, now: datetime) -> str:
    span = now - instant(value)
    return "now" if span < timedelta(seconds=2) else f"{length(span)} ago"


def left(value: datetime | str, now: datetime) -> str:
    """`12 days left`, or `ended 3 hours ago`."""
    span = instant(value) - now
    return f"{length(span)} left" if span > timedelta(0) else f"ended {length(span)} ago"


def urgency(value: datetime | str, now: datetime) -> str:
    """How bad it is that this is when it ends: good, soon or bad."""
    span = instant(value) - now
    return "bad" if span < _AT_ONCE else "soon" if span < _SOON else "good"


def many(count: int, what: str, more: str | None = None) -> str:
    """`1 list`, `2 lists`. more: a plural that is not made with s."""
    return f"{number(count)} {what if count == 1 else more or what + 's'}"


def number(count: float) -> str:
    """With thin spaces between thousands; of few, one decimal."""
    if count != int(count) and count < 100:
        return f"{count:.1f}"
    return f"{int(count):,}".replace(",", "\u202f")
