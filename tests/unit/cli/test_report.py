"""What commands print is what was meant: no control characters, one line a line, dates that read right."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlsproxy.cli.report import (
    BadInput,
    days_left,
    in_days,
    line,
    moment,
    print_json,
    print_tree,
    printable,
    text,
    tree,
)

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("CN=alice,O=Müller ← CN=Root", "CN=alice,O=Müller ← CN=Root"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("one\ntwo\r", "one\\ntwo\\r"),
        ("evil\u202egpj.exe\u2028", "evil\\u202egpj.exe\\u2028"),
        ("\udc80", "\\udc80"),
        ("", ""),
    ],
)
def test_what_a_terminal_acts_on_becomes_visible_and_the_rest_stays(value: str, shown: str) -> None:
    assert printable(value) == shown


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_whatever_a_certificate_says_one_printable_line_comes_out(value: str) -> None:
    assert printable(value).isprintable()


def test_a_name_is_never_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_tree(tree(text("CN=[bold]x[/bold]"), [line(("[red]", "red"), ":smile:")]))
    assert capsys.readouterr().out == "CN=[bold]x[/bold]\n└── [red] :smile:\n"


def test_a_line_stays_one_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_tree(tree(text("x" * 500), [text("word " * 200 + "end")]))
    first, second, *rest = capsys.readouterr().out.split("\n")
    assert first == "x" * 500
    assert second.endswith("word end")
    assert rest == [""]


def test_empty_pieces_leave_no_space() -> None:
    assert line("a", "", ("b", "red"), ("", "red"), "c").plain == "a b c"


def test_json_is_ascii_so_that_no_name_moves_a_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"subject": "CN=\u202e\x9bä"})
    assert capsys.readouterr().out == '{\n  "subject": "CN=\\u202e\\u009b\\u00e4"\n}\n'


def test_bad_input_goes_to_stderr_line_by_line_and_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    error = BadInput("a.yaml:1:1: one\nb.yaml:2:2: \x1btwo")
    error.show()
    captured = capsys.readouterr()
    assert captured.err == "a.yaml:1:1: one\nb.yaml:2:2: \\x1btwo\n"
    assert captured.out == ""
    assert error.exit_code == 2


def test_moments_are_rfc_3339_in_utc() -> None:
    there = datetime(2026, 6, 1, 14, 0, 0, 999_999, tzinfo=timezone(timedelta(hours=2)))
    assert moment(there) == "2026-06-01T12:00:00Z"


@pytest.mark.parametrize(
    ("until", "days", "words"),
    [
        (NOW + timedelta(days=30, hours=1), 30, "in 30 days"),
        (NOW + timedelta(days=1), 1, "in 1 day"),
        (NOW + timedelta(hours=23), 0, "today"),
        (NOW, 0, "today"),
        (NOW - timedelta(hours=1), -1, "less than a day ago"),
        (NOW - timedelta(days=1, hours=1), -2, "1 day ago"),
        (NOW - timedelta(days=3, hours=1), -4, "3 days ago"),
    ],
)
def test_days_are_whole_and_the_past_is_negative(until: datetime, days: int, words: str) -> None:
    assert days_left(until, NOW) == days
    assert in_days(days) == words
