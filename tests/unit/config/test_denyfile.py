"""A deny file is a list of entries, read like the configuration: every mistake at its line."""

import textwrap
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlsproxy.config.denyfile import parse_deny_file
from mtlsproxy.config.errors import ConfigErrors
from mtlsproxy.config.load import MAX_FILE_SIZE, UnreadableFile, load_deny_file
from mtlsproxy.config.matchers import DenyEntry

GOOD = b"""\
# lost keys
- serial: "04:D2"
  issuer: CN=Partner CA,O=Example
  expires: 2030-01-31T02:00:00+02:00
  reason: key lost, ticket ${4711}
- dns: "**.old.example"
"""


def errors_of(data: bytes) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        parse_deny_file(data, "deny.yaml")
    return [str(error) for error in caught.value.errors]


def test_entries_are_those_of_deny_in_the_files_order() -> None:
    first, second = parse_deny_file(GOOD, "deny.yaml")
    assert (first.serial, first.issuer) == ("04:D2", "CN=Partner CA,O=Example")
    assert first.expires == datetime(2030, 1, 31, tzinfo=UTC)
    assert second == DenyEntry.model_validate({"dns": "**.old.example"})


def test_a_dollar_sign_is_text_and_nothing_is_taken_from_the_environment() -> None:
    assert parse_deny_file(GOOD, "deny.yaml")[0].reason == "key lost, ticket ${4711}"


@pytest.mark.parametrize("data", [b"", b"# nobody\n", b"[]", b"---\n# - serial: '1'\n", b"\xef\xbb\xbf"])
def test_an_empty_file_and_an_empty_list_deny_nobody(data: bytes) -> None:
    assert parse_deny_file(data, "deny.yaml") == ()


def test_every_mistake_is_said_at_its_place() -> None:
    text = """\
        - serial: 12
        - serail: "1"
        - {}
        - dns: "a*b"
        - serial: "1"
          expires: 2030-01-31T00:00:00
        -
        - dns: a.example
          dns: b.example
        - deny
    """
    assert errors_of(textwrap.dedent(text).encode()) == [
        'deny.yaml:1:11: [0].serial: must be a string, and YAML reads 12 as something else: quote it ("12")',
        "deny.yaml:2:3: [1].serail: unknown key (did you mean serial?)",
        "deny.yaml:3:3: [2]: names no field, and would match everybody: write at least one",
        "deny.yaml:4:8: [3].dns: 'a*b': a * stands for one whole label and ** for any number, never for a part of one",
        "deny.yaml:6:12: [4].expires: needs a zone: end it in Z (UTC) or an offset such as +02:00",
        "deny.yaml:7:2: [5]: is empty (null): write a value, or remove the key",
        "deny.yaml:9:3: [6].dns: is written twice; the first is in line 8",
        "deny.yaml:10:3: [7]: must be a mapping of keys to values, not 'deny'",
    ]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"deny: []\n", "deny.yaml:1:1: must be a list of entries: each on a line of its own after a -"),
        (b"none", "deny.yaml:1:1: must be a list of entries: each on a line of its own after a -"),
        (b"- serial: '1'\n\xff", "deny.yaml:2:1: is not UTF-8"),
        (b"- serial: '1'\n- [", "deny.yaml:3:1: YAML: while parsing a flow node"),
        (b"- !!python/name:os.system x\n", "deny.yaml:1:3: [0]: tag !!python/name:os.system has no meaning here"),
    ],
)
def test_what_is_no_list_is_refused(data: bytes, words: str) -> None:
    assert errors_of(data)[0].startswith(words)


@given(st.integers(0, len(GOOD) - 1), st.binary(max_size=3))
@settings(max_examples=200, deadline=None)
def test_a_cut_or_changed_file_gives_entries_or_declared_errors(at: int, patch: bytes) -> None:
    for data in (GOOD[:at], GOOD[:at] + patch + GOOD[at:], GOOD + patch):
        try:
            entries = parse_deny_file(data, "deny.yaml")
        except ConfigErrors as errors:
            assert all(str(error).startswith("deny.yaml:") for error in errors.errors)
        else:
            assert all(isinstance(entry, DenyEntry) for entry in entries)


def test_a_file_is_read_whole_or_said_to_be_unreadable(tmp_path: Path) -> None:
    file = tmp_path / "deny.yaml"
    with pytest.raises(UnreadableFile) as caught:
        load_deny_file(file)
    assert caught.value.detail == "cannot be read: No such file or directory"
    file.write_bytes(GOOD)
    assert load_deny_file(file) == parse_deny_file(GOOD, str(file))
    file.write_bytes(b"#" * (MAX_FILE_SIZE + 1))
    with pytest.raises(UnreadableFile) as caught:
        load_deny_file(file)
    assert caught.value.detail == "is larger than 16 MiB"
