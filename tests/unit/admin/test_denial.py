"""The body of POST /api/deny: exactly one way to name a certificate, and every mistake said at once."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlsproxy.admin.denial import MAX_TEXT, BadDenial, read_denial
from mtlsproxy.runtime.denials import MAX_DENIALS, read_denials, write_denials
from mtlsproxy.verdict.trust import Denial

NOW = datetime(2030, 1, 1, tzinfo=UTC)
STORES = ("partners", "staff")
HASH = "AB:" * 31 + "ab"


def read(said: Any) -> Any:
    return read_denial(said if isinstance(said, bytes) else json.dumps(said).encode(), STORES, NOW)


def mistakes(said: Any) -> list[tuple[str, str]]:
    with pytest.raises(BadDenial) as caught:
        read(said)
    return [(mistake.pointer, mistake.detail) for mistake in caught.value.mistakes]


@pytest.mark.parametrize(
    "who",
    [{"fingerprint_sha256": HASH}, {"spki_sha256": HASH}, {"issuer": "CN=CA,O=Example", "serial": "04:D2"}],
)
@pytest.mark.parametrize(
    "more",
    [{}, {"truststore": "staff"}, {"expires": None, "reason": None, "truststore": None}, {"reason": "key lost – 4711"}],
)
def test_each_way_to_name_a_certificate(who: dict[str, str], more: dict[str, Any]) -> None:
    asked = read(who | more)
    assert asked.entry.model_dump(exclude_none=True) == who | {k: v for k, v in more.items() if v and k == "reason"}
    assert asked.truststore == more.get("truststore")


def test_an_end_is_taken_with_its_zone() -> None:
    asked = read({"spki_sha256": HASH, "expires": "2030-01-01T03:00:00+02:00"})
    assert asked.entry.expires == NOW + timedelta(hours=1)


@pytest.mark.parametrize("depth", [10, 990, 1020, 8000])
@pytest.mark.parametrize("opens", [b"[", b'{"a":'])
def test_however_deep_a_body_is_it_is_refused_as_one(opens: bytes, depth: int) -> None:
    """Two parsers read it, and they give up at different depths."""
    assert mistakes(opens * depth + b"1" + (b"]" if opens == b"[" else b"}") * depth)


def test_as_many_denials_as_there_may_be_are_read_again_however_long_each_is(tmp_path: Path) -> None:
    """What is too large to be read would keep the next start from happening."""
    text = "\N{GRINNING FACE}" * MAX_TEXT
    name = ",".join([f"OU={text[:60]}"] * 16)
    asked = read({"issuer": name, "serial": "f" * 40, "reason": text})
    said = asked.entry.model_dump(exclude_none=True)
    one = Denial.model_validate({**said, "id": "0" * 16, "created": NOW, "by": "[2001:db8::1] port 65535"})
    write_denials(tmp_path, [one] * MAX_DENIALS)
    assert read_denials(tmp_path, NOW) == (one,) * MAX_DENIALS


ONE = "name the certificate by exactly one of fingerprint_sha256, spki_sha256, or issuer and serial together"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, [("#", ONE)]),
        ({"reason": "x"}, [("#", ONE)]),
        ({"fingerprint_sha256": HASH, "spki_sha256": HASH}, [("#", ONE)]),
        ({"fingerprint_sha256": HASH, "serial": "1"}, [("#", ONE)]),
        ({"serial": "1"}, [("#/serial", f"serial needs issuer beside it: {ONE}")]),
        ({"issuer": "CN=x"}, [("#/issuer", f"issuer needs serial beside it: {ONE}")]),
        ({"spki_sha256": "abc"}, [("#/spki_sha256", "spki_sha256: has 3 hexadecimal digits: a SHA-256 value has 64")]),
        ({"spki_sha256": None}, [("#/spki_sha256", "spki_sha256: must be a string")]),
        ({"issuer": "CN=x", "serial": 12}, [("#/serial", "serial: must be a string")]),
        ({"spki_sha256": HASH, "expires": 1893456000},
         [("#/expires", "expires: must be a string such as 2030-01-31T00:00:00Z")]),
        ({"spki_sha256": HASH, "expires": "2030-01-01T00:00:00Z"},
         [("#/expires", "expires: 2030-01-01T00:00:00Z has passed")]),
        ({"spki_sha256": HASH, "expires": "2031-01-01T00:00:00"},
         [("#/expires", "expires: needs a zone: end it in Z (UTC) or an offset such as +02:00")]),
        ({"spki_sha256": HASH, "truststore": "partner"},
         [("#/truststore", "truststore: there is no truststore partner (did you mean partners?)")]),
        ({"spki_sha256": HASH, "truststore": 1}, [("#/truststore", "truststore: must be a string")]),
        ({"spki_sha256": HASH, "reason": "a\nb"}, [("#/reason", "reason: contains a control character")]),
        ({"spki_sha256": HASH, "dns": "a.example"}, [("#/dns", "unknown key dns")]),
        ({"spki_sha256": HASH, "expire": "x"}, [("#/expire", "unknown key expire (did you mean expires?)")]),
        ([{"spki_sha256": HASH}], [("#", "the body must be a JSON object")]),
        ("x", [("#", "the body must be a JSON object")]),
        ({"spki_sha256": HASH, "reason": "r" * (MAX_TEXT + 1)}, [("#/reason", "reason: longer than 1024 characters")]),
    ],
)  # fmt: skip
def test_a_mistake_is_said_at_its_key(said: Any, expected: list[tuple[str, str]]) -> None:
    found = mistakes(said)
    assert [(at, words.partition(" (known: ")[0]) for at, words in found] == expected


def test_all_mistakes_are_said_together() -> None:
    found = mistakes({"issuer": "nonsense", "expires": "soon", "truststore": "x", "a/b~c": 1, "reason": ""})
    assert [at for at, _ in found] == ["#/a~1b~0c", "#/issuer", "#/truststore", "#/issuer", "#/expires", "#/reason"]


def test_a_key_that_is_written_twice_is_a_mistake() -> None:
    """One of the two would be denied, the other not."""
    body = f'{{"spki_sha256": "{HASH}", "spki_sha256": "{HASH.replace("AB", "CD")}"}}'.encode()
    assert mistakes(body) == [("#/spki_sha256", "spki_sha256 is written twice")]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b"{}x", b"[" * 10000, b'{"reason": "\\ud800"}', b"{'serial': '1'}", b'{"a": NaN}']
)
def test_what_is_not_json_is_refused(body: bytes) -> None:
    ((pointer, words),) = mistakes(body)
    assert (pointer, words.startswith("the body is not JSON: ")) == ("#", True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from(["fingerprint_sha256", "spki_sha256", "issuer", "serial", "expires", "reason", "truststore"])


@given(st.dictionaries(KEYS, JSON | st.sampled_from([HASH, "04D2", "CN=x", "2031-01-01T00:00:00Z"]), max_size=4))
@settings(max_examples=200, deadline=None)
def test_any_object_is_taken_or_refused_in_words(said: dict[str, Any]) -> None:
    try:
        asked = read(json.dumps(said).encode())
    except BadDenial as bad:
        assert bad.mistakes
        json.dumps([(mistake.detail, mistake.pointer) for mistake in bad.mistakes]).encode()
    else:
        who = {key for key in said if key in ("fingerprint_sha256", "spki_sha256", "issuer", "serial")}
        assert who in ({"fingerprint_sha256"}, {"spki_sha256"}, {"issuer", "serial"})
        assert asked.entry.model_fields_set >= who


@given(st.binary(max_size=64))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_refused_in_words(body: bytes) -> None:
    with pytest.raises(BadDenial):
        read(body)
