"""How commands answer: a tree for people, JSON for programs, errors on stderr with exit status 2."""

import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

if TYPE_CHECKING:
    from mtlsproxy.config.errors import Finding

BAD_INPUT = 2
_ENDLESS = 1 << 20
"""Columns of what is no terminal: nothing is wrapped or cut there."""


def format_option_of(for_people: str, words: str) -> Callable[[Any], Any]:
    """for_people: what is not json, and the default."""
    return click.option(
        "--format",
        "output_format",
        type=click.Choice([for_people, "json"]),
        default=for_people,
        show_default=True,
        help=words,
    )


format_option = format_option_of("text", "text for people, json for programs.")
table_option = format_option_of("table", "A table for people, json for programs.")


class BadInput(click.ClickException):
    """What was given cannot be worked with. The message, one problem a line, goes to stderr; exit status 2."""

    exit_code = BAD_INPUT

    def __init__(self, message: str, found: Sequence[Mapping[str, object]] = ()) -> None:
        """found: the errors as JSON, where there is more to say than their lines."""
        super().__init__(message)
        self.found = list(found)

    def show(self, file: IO[Any] | None = None) -> None:
        for line in self.message.split("\n"):
            click.echo(printable(line), err=True)


@contextmanager
def errors_in(output_format: str) -> Iterator[None]:
    """With json, whoever reads the answer finds the errors there too; stderr and the exit status stay as they are."""
    try:
        yield
    except click.ClickException as error:
        if output_format == "json":
            found = error.found if isinstance(error, BadInput) else ()
            print_json({"ok": False, "errors": found or [_error(line) for line in error.message.split("\n")]})
        raise


def _error(message: str) -> dict[str, object]:
    return {"file": None, "line": None, "column": None, "path": None, "message": message}


def findings(found: Iterable["Finding"]) -> list[dict[str, object]]:
    """Errors or warnings as JSON."""
    return [{"file": f.file, "line": f.line, "column": f.column, "path": f.path, "message": f.message} for f in found]


def print_json(value: object) -> None:
    # ASCII alone: names in certificates are chosen by others, and a terminal acts on some characters.
    click.echo(json.dumps(value, indent=2))


def print_tree(*parts: Tree | Text) -> None:
    """Colour on a terminal alone, and lines are wrapped only there: elsewhere a line stays one."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for terminals without UTF-8
    console = Console(highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = _ENDLESS
    for part in parts:
        console.print(part)


def text(value: str, style: str = "") -> Text:
    """`value` as it is, never as markup, with what a terminal acts on made visible."""
    return Text(printable(value), style)


def line(*parts: str | tuple[str, str]) -> Text:
    """Pieces, each with or without a style, one space between those that are not empty."""
    pieces = [text(part) if isinstance(part, str) else text(*part) for part in parts]
    return Text(" ").join(piece for piece in pieces if piece)


def tree(label: Text, children: Iterable[Text | Tree] = ()) -> Tree:
    grown = Tree(label, guide_style="dim")
    for child in children:
        grown.add(child)
    return grown


def printable(value: str) -> str:
    """Control characters and marks that reorder text become escapes such as \\x1b and \\u202e."""
    if value.isprintable():
        return value
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in value)


def moment(value: datetime) -> str:
    """RFC 3339 in UTC, to the second."""
    return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def counted(number: int, what: str) -> str:
    """`1 request`, `2 requests`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def days_left(until: datetime, at: datetime) -> int:
    """Whole days; negative once it has passed."""
    return (until - at).days


def in_days(days: int) -> str:
    """What `days_left` found, in words: `in 30 days`, `today`, `less than a day ago`, `3 days ago`."""
    count = days if days >= 0 else -days - 1
    if count == 0:
        return "today" if days == 0 else "less than a day ago"
    words = f"{count} day{'s' if count != 1 else ''}"
    return f"in {words}" if days > 0 else f"{words} ago"
