"""What the two processes say to each other arrives as it was meant."""

from typing import get_args

import pytest
from tests.unit.revocation.build import HOUR, NOW, authority

from mtlsproxy.fetch.messages import (
    CrlUrl,
    Outcome,
    Report,
    decode,
    encode,
    event_message,
    read_event,
    read_subscribe,
    subscribe_message,
)
from mtlsproxy.fetch.rules import FetchRules


def test_a_subscription_arrives_whole():
    rules = FetchRules.of(
        configured_hosts=["a"], allowed_hosts=["b", "::1"], max_size=7, timeout=2.5, trust_anchors="P"
    )
    issuers = (authority("A").certificate, authority("Ü").certificate)
    source = CrlUrl("http://a/ü\n", "partners", "certificate", issuers, rules, 3600.0, 0.5)
    message = decode(encode(subscribe_message(3, source)))
    assert (message["op"], message["id"]) == ("subscribe", 3)
    assert read_subscribe(message) == source


@pytest.mark.parametrize("outcome", get_args(Outcome))
@pytest.mark.parametrize("fetched_at", [None, NOW])
def test_a_report_arrives_whole(outcome, fetched_at):
    report = Report(outcome, "status", "näher\n", ("/a", "/b"), True, fetched_at, NOW + HOUR)
    line = encode(event_message(4, report))
    assert line.count(b"\n") == 1  # whatever the detail holds: one message is one line
    assert read_event(decode(line)) == report


@pytest.mark.parametrize("line", [b"", b"{", b"\xff", b"{}{}"])
def test_what_is_no_json_is_a_value_error(line):
    with pytest.raises(ValueError):
        decode(line)
