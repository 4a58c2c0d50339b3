"""What becomes of a field is a matter of its name alone, in any case."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.http1.heads import rules

from mtlsproxy.http1.fields import NOT_IN_TRAILERS, Action, FieldRules, request_rules, response_rules, without


@pytest.mark.parametrize(
    ("name", "action"),
    [
        (b"Host", Action.HOST),
        (b"CONTENT-LENGTH", Action.CONTENT_LENGTH),
        (b"transfer-encoding", Action.TRANSFER_ENCODING),
        (b"Connection", Action.CONNECTION),
        (b"Expect", Action.EXPECT),
        (b"te", Action.TE),
        (b"X-Request-ID", Action.REQUEST_ID),
        (b"via", Action.VIA),
        (b"Upgrade", Action.UPGRADE),
        (b"keep-alive", Action.DROP),
        (b"X-Client-Anything", Action.DROP),
        (b"x_client_id", Action.DROP),
        (b"Accept", Action.PASS),
        (b"traceparent", Action.PASS),
        (b"Authorization", Action.PASS),
    ],
)
def test_names_of_requests(name: bytes, action: Action) -> None:
    found = rules()
    assert found.action(name) is action
    assert found.action(name) is action  # remembered
    assert found.known[name] is action


def test_names_of_answers() -> None:
    found = response_rules()
    assert found.action(b"Host") is Action.PASS
    assert found.action(b"Via") is Action.PASS
    assert found.action(b"X-Client-Id") is Action.PASS
    assert found.action(b"Connection") is Action.CONNECTION


def test_a_hop_by_hop_name_is_not_asked_about_and_others_once() -> None:
    asked: list[bytes] = []

    def strips(name: bytes) -> bool:
        asked.append(name)
        return name == b"Bad"

    found = request_rules(strips)
    assert [found.action(name) for name in (b"Host", b"Bad", b"Good", b"Bad")] == [
        Action.HOST, Action.DROP, Action.PASS, Action.DROP,
    ]  # fmt: skip
    assert asked == [b"Bad", b"Good"]


def test_names_that_clients_invent_do_not_pile_up() -> None:
    found: FieldRules = rules()
    for n in range(10_000):
        assert found.action(b"X-%d" % n) is Action.PASS
    assert len(found.known) < 5_000


def test_trailers() -> None:
    found = rules()
    assert found.passes_in_trailer(b"X-Checksum")
    for name in (*NOT_IN_TRAILERS, b"X-Client-Id", b"Host", b"Content-Length", b"Transfer_Encoding", b"Via", b"Expect"):
        assert not found.passes_in_trailer(name)
        assert not found.passes_in_trailer(name.title())


@given(st.lists(st.sampled_from([b"a", b"A", b"b", b"c"])), st.frozensets(st.sampled_from([b"a", b"b"])))
def test_without_takes_out_what_is_named_and_keeps_the_order(names: list[bytes], tokens: frozenset[bytes]) -> None:
    fields = [part for n, name in enumerate(names) for part in (name, b": ", b"%d" % n, b"\r\n")]
    left = without(fields, tokens)
    kept = [(name, b"%d" % n) for n, name in enumerate(names) if name.lower() not in tokens]
    assert list(zip(left[0::4], left[2::4], strict=True)) == kept
