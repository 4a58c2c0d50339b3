"""What is wrong with a configuration file, and where."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One remark on the file. line and column count from 1; path is "" where the file as a whole is meant."""

    file: str
    line: int
    column: int
    path: str
    message: str

    @property
    def position(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"

    def __str__(self) -> str:
        line = ": ".join(part for part in (self.position, self.path, self.message) if part)
        # Keys and values are quoted from the file: what they hold must not end the line or move the cursor.
        return _CONTROL.sub(lambda found: repr(found[0])[1:-1], line)


class ConfigError(Finding):
    """A reason not to start."""

    __slots__ = ()


class ConfigWarning(Finding):
    """A weaker choice, in force as the operator wrote it."""

    __slots__ = ()


class ConfigErrors(Exception):
    """Everything that is wrong with a file, in its order. str() is one line an error."""

    def __init__(self, errors: Iterable[ConfigError]) -> None:
        self.errors = tuple(sorted(set(errors)))
        super().__init__("\n".join(map(str, self.errors)))


def did_you_mean(text: str, known: Iterable[str]) -> str:
    """` (did you mean …?)` for the nearest of `known`, or the list of them where none is near, or ""."""
    choices = list(known)
    folded = {choice.lower(): choice for choice in choices}
    if near := difflib.get_close_matches(text.lower(), folded, n=1):
        return f" (did you mean {folded[near[0]]}?)"
    return f" (known: {', '.join(choices)})" if 0 < len(choices) <= 30 else ""
