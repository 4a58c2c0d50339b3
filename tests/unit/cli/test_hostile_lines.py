"""Logs and files that somebody wrote to: whatever is in them, commands answer in words and never with a traceback."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlsproxy.cli.auditing import Filter, print_record, records
from mtlsproxy.cli.expectations import load_expectations
from mtlsproxy.cli.foreign import DEEPEST
from mtlsproxy.cli.plan import is_access_line
from mtlsproxy.cli.replay import Replay
from mtlsproxy.cli.report import BadInput
from mtlsproxy.cli.site import Site, load_site

CONFIG = Path(__file__).parents[3] / "config"
NOW = datetime(2030, 1, 1, tzinfo=UTC)
WORDS = [
    "refused",
    "reload",
    "denial_made",
    "crl",
    "started",
    "expired",
    "acme",
    "GET",
    "/acme",
    "CN=a",
    "DNS:a.b",
    "…",
]

leaves = st.none() | st.booleans() | st.integers(-5, 2**70) | st.text(max_size=8) | st.sampled_from(WORDS)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner), max_leaves=6
)
AUDIT = [
    "event",
    "reason",
    "by",
    "ok",
    "generation",
    "changes",
    "errors",
    "detail",
    "url",
    "role",
    "pid",
    "configuration",
    "id",
    "denied",
    "expires",
]
ACCESS = [
    "listener",
    "client_ip",
    "subject",
    "issuer",
    "serial",
    "fingerprint",
    "san",
    "truststore",
    "principal",
    "method",
    "host",
    "path",
    "status",
    "route",
    "upstream",
    "request_id",
    "suppressed",
    "enforced",
    "identity",
    "truststores",
    "routes",
    "last_seen",
]


def lines(keys: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    said = st.dictionaries(st.sampled_from(keys), values)
    return said.map(lambda one: {"time": "2030-01-01T00:00:00Z"} | one)


@pytest.fixture(scope="module")
def site() -> Site:
    return load_site(CONFIG / "several-partners.yaml", hosts=False, asks_hosts=False)


@settings(max_examples=200, deadline=None)
@given(said=lines(AUDIT + ACCESS))
def test_any_line_of_an_audit_log_is_filtered_and_shown(said: dict[str, Any]) -> None:
    said = {"event": "reload"} | said
    for wanted in (Filter(), Filter(identity="a"), Filter(reasons=("expired",), routes=("a",), since=NOW)):
        wanted.takes(said)
    if isinstance(said["event"], str):
        print_record(said, "table")
        print_record(said, "json")


@settings(max_examples=200, deadline=None)
@given(said=lines(ACCESS), full=st.booleans())
def test_any_line_of_an_access_log_is_replayed_or_counted(site: Site, said: dict[str, Any], full: bool) -> None:
    typical = {
        "listener": "partners", "subject": "CN=a", "fingerprint": "ab", "san": [], "truststore": "acme",
        "method": "GET", "host": "h", "path": "/acme/invoices", "routes": ["acme-invoices"], "request_id": "r",
    }  # fmt: skip
    said = typical | said if full else said
    replay = Replay(site, site, NOW)
    recorded = Replay(site, None, NOW)
    for one in (replay, recorded):
        one.add(said)
        one.add_client(said)
        assert one.replayed + sum(one.cannot_tell.values()) == one.lines == 2


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=200) | values.map(lambda value: json.dumps(value).encode()))
def test_any_file_is_read_line_by_line(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.jsonl"
    file.write_bytes(data + b"\n" + data)
    try:
        for is_wanted in (None, is_access_line):
            for record in records(file, is_wanted):
                assert record.said is None or isinstance(record.said, dict)
    except BadInput:
        assert data.startswith(b"\x1f\x8b"), "only what claims to be compressed and is not"


@pytest.mark.parametrize("depth", [DEEPEST - 1, DEEPEST, 900, 1020, 100_000])
def test_lines_nested_deeper_than_any_of_ours_are_passed_over(tmp_path: Path, depth: int) -> None:
    file = tmp_path / "deep.jsonl"
    file.write_text('{"time": "2030-01-01T00:00:00Z", "event": "reload", "x": %s}\n' % ("[" * depth + "]" * depth))
    (record,) = records(file)
    assert (record.said is not None) == (depth < DEEPEST)
    if record.said is not None:
        print_record(record.said, "json")


VALID: dict[str, Any] = {
    "version": 1,
    "config": "x.yaml",
    "clients": {"a": {"subject": "CN=a"}},
    "tests": [{"client": "a", "expect": "allow"}],
}


@settings(max_examples=150, deadline=None)
@given(key=st.sampled_from([*VALID, "at"]), value=values, of=st.sampled_from(["client", "test", "file"]))
def test_any_file_of_expectations_is_understood_or_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: Any, of: str
) -> None:
    said: dict[str, Any] = json.loads(json.dumps(VALID))
    if of == "file":
        said[key] = value
    elif of == "client":
        said["clients"]["a"] = value
    else:
        said["tests"][0] = value
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text(yaml.safe_dump(said))
    try:
        load_expectations(file)
    except BadInput as error:
        assert str(file) in error.message
