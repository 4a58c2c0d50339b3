"""Only known names reach the admin server: DNS rebinding brings unknown ones."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlsproxy.admin.hosts import HostRule

LOCAL = HostRule(["127.0.0.1"], ("localhost", "Admin.Example", "::1"))
EVERY = HostRule(["0.0.0.0"], ("localhost",))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:9901",
        "127.0.0.1:8080",
        "localhost",
        "LOCALHOST:9901",
        "localhost.",
        "localhost:",
        "admin.example:9901",
        "[::1]:9901",
        "[0:0::1]",
    ],
)
def test_the_bound_address_and_allowed_names_are_accepted_with_and_without_port(host: str) -> None:
    assert LOCAL.accepts(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:9901",
        "localhost.evil.example",
        "evillocalhost",
        "127.0.0.1.evil.example",
        "127.0.0.2",
        "192.0.2.1:9901",
        "0.0.0.0:9901",
        "2130706433",
        "0x7f.1",
        "[::2]",
        "::1",
        "[localhost]",
        "localhost:9901:9901",
        "localhost:http",
        "localhost\n",
        "localhost ",
        "user@localhost",
        "localhost..",
    ],
)
def test_every_other_host_is_refused(host: str) -> None:
    assert not LOCAL.accepts(host)


@pytest.mark.parametrize(
    ("host", "accepted"), [("192.0.2.1:9901", True), ("[2001:db8::1]", True), ("pod.example", False)]
)
def test_bound_to_every_address_any_address_is_fine_and_no_name(host: str, accepted: bool) -> None:
    assert EVERY.accepts(host) is accepted


def test_a_wildcard_among_the_allowed_names_opens_nothing() -> None:
    assert not HostRule(["127.0.0.1"], ["0.0.0.0"]).accepts("192.0.2.1")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30))
def test_no_text_makes_the_rule_raise(host: str) -> None:
    assert LOCAL.accepts(host) in (True, False)
