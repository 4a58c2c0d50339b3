"""When something ends, in words."""

from datetime import datetime, timedelta
from enum import StrEnum

SOON = timedelta(days=30)
"""Long enough to renew in office hours."""

SOON_FOR_LISTS = timedelta(days=1)
"""CRLs are short-lived, and renewed by programs."""


class Life(StrEnum):
    GOOD = "good"
    SOON = "soon"
    OVER = "over"
    NOT_YET = "not_yet"


def life_of(begins: datetime, ends: datetime, at: datetime, soon: timedelta = SOON) -> tuple[Life, str]:
    """`expires in 12 days`, `expired 3 days ago`, `not valid yet: begins in 2 hours`. Times are aware."""
    if at < begins:
        return Life.NOT_YET, f"not valid yet: begins in {span(begins - at)}"
    if at > ends:
        return Life.OVER, f"expired {span(at - ends)} ago"
    left = ends - at
    return (Life.SOON if left < soon else Life.GOOD), f"expires in {span(left)}"


def span(length: timedelta) -> str:
    """Rounded down to the largest unit that people would use: `89 days`, `5 hours`, `1 minute`."""
    for name, unit in (("day", timedelta(days=1)), ("hour", timedelta(hours=1)), ("minute", timedelta(minutes=1))):
        if (count := length // unit) > 0:
            return f"{count} {name}{'s' if count != 1 else ''}"
    return "less than a minute"
