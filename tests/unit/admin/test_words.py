"""Times in words are never more exact than they are useful, and names show what cannot be seen in them."""

from datetime import timedelta

import pytest
from tests.unit.admin.facts import NOW

from mtlsproxy.admin.view.spark import spark
from mtlsproxy.admin.view.words import ago, left, length, many, number, plain, urgency, utc


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 seconds"), (1, "1 second"), (119, "119 seconds"), (120, "2 minutes"), (7199, "119 minutes"),
        (7200, "2 hours"), (86400, "24 hours"), (172800, "2 days"), (-172800, "2 days"), (63_115_200, "2 years"),
    ],
)  # fmt: skip
def test_a_span_is_told_in_the_largest_unit_that_says_enough(seconds: int, words: str) -> None:
    assert length(timedelta(seconds=seconds)) == words


def test_past_and_future_read_as_such() -> None:
    assert ago(NOW - timedelta(minutes=3), NOW) == "3 minutes ago"
    assert ago(NOW + timedelta(minutes=3), NOW) == "now"  # another machine's clock
    assert left(NOW + timedelta(days=3), NOW) == "3 days left"
    assert left(NOW - timedelta(days=3), NOW) == "ended 3 days ago"
    assert utc("2030-01-01T13:00:00+01:00") == "2030-01-01 12:00:00 UTC"


@pytest.mark.parametrize(("days", "kind"), [(-1, "bad"), (2, "bad"), (3, "soon"), (13, "soon"), (14, "good")])
def test_what_ends_soon_is_urgent(days: int, kind: str) -> None:
    assert urgency(NOW + timedelta(days=days), NOW) == kind


def test_numbers_and_plurals() -> None:
    assert [number(each) for each in (0, 0.25, 7, 99.96, 1234567, 1234.5)] == [
        "0", "0.2", "7", "100.0", "1\u202f234\u202f567", "1\u202f234",
    ]  # fmt: skip
    assert [many(each, "list") for each in (0, 1, 2)] == ["0 lists", "1 list", "2 lists"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("CN=Jürgen 株式会社", "CN=Jürgen 株式会社"),
        ("a\u202eb", "a\\u202eb"),
        ("a\x00\x1b[31m\x7f\x85", "a\\u0000\\u001b[31m\\u007f\\u0085"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("\u2066x\u2069\u061c", "\\u2066x\\u2069\\u061c"),
    ],
)
def test_what_cannot_be_seen_is_written_out(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_a_picture_stays_in_its_frame_whatever_its_values() -> None:
    for values in ([], [1.0], [0.0, 0.0], [0.0, 5.0, 2.5], [1e9] * 90):
        path = spark(values, "x").children[-1]
        assert not isinstance(path, str)
        numbers = [float(each) for each in path.attributes["d"].strip("M").replace("H", " ").replace("L", " ").split()]
        assert all(0 <= each <= 120 for each in numbers)
