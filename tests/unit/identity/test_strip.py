"""No client can send what an upstream would take for ours (Caddy GHSA-f59h-q822-g45g, -49wc-4hcv-v58q)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlsproxy.config.model import Identity
from mtlsproxy.identity.strip import StripRules, fold

RULES = StripRules([Identity(), Identity(prefix="X-Partner-")])

FORGED = [
    b"X-Client-Verify",
    b"x-client-id",
    b"X_Client_Id",
    b"X.Client.Id",
    b"x-CLIENT_subject",
    b"X!Client!Id",
    b"X-Client-Id ",
    b"\tX-Client-Id",
    b"X-Client-Anything-New",
    b"X-Partner-Id",
    b"x_partner_san",
    b"Client-Cert",
    b"client_cert",
    b"Client-Cert-Chain",
    b"CLIENT.CERT.CHAIN",
    b"X-Forwarded-Client-Cert",
    b"X_Forwarded_Client_Cert",
    b"X-SSL-Client-Verify",
    b"X_SSL_CERT",
    b"SSL-Client-Cert",
    b"SSL_CLIENT_S_DN",
]
FORWARDED = [b"Forwarded", b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host", b"X-Real-IP"]
ORDINARY = [
    b"Accept",
    b"X-Client",
    b"X-Clientele-Id",
    b"Client-Certificate",
    b"X-Forwarded-Port",
    b"SSL-Clients",
    b"X-Request-Id",
    b"Host",
    b"Content-Length",
    b"Content-Type",
    b"traceparent",
    b"Authorization",
    b"",
]


@pytest.mark.parametrize("name", FORGED)
def test_identity_headers_go_whoever_sent_them(name: bytes) -> None:
    assert RULES.strips(name)
    assert RULES.strips(name, trusted=True)


@pytest.mark.parametrize("name", FORWARDED)
def test_forwarding_headers_go_unless_a_trusted_proxy_sent_them(name: bytes) -> None:
    assert RULES.strips(name)
    assert RULES.strips(name.lower())
    assert not RULES.strips(name, trusted=True)


@pytest.mark.parametrize("name", [b"X_Forwarded_For", b"X.Forwarded-Proto", b"x_real_ip", b"Via ", b"X_Request_Id"])
def test_other_foldings_of_ours_go_even_from_a_trusted_proxy(name: bytes) -> None:
    assert RULES.strips(name)
    assert RULES.strips(name, trusted=True)


@pytest.mark.parametrize("name", ORDINARY)
def test_other_headers_stay(name: bytes) -> None:
    assert not RULES.strips(name)
    assert not RULES.strips(name, trusted=True)


def test_foldings_of_framing_headers_go_and_the_headers_themselves_stay() -> None:
    assert [RULES.strips(name) for name in (b"Content_Length", b"transfer.encoding", b"H-ost")] == [True, True, False]
    assert not RULES.strips(b"Transfer-Encoding")


@pytest.mark.parametrize(
    ("name", "folded"),
    [(b"X_Client.Id", b"x-client-id"), (b" A\xe9z9 ", b"a-z9"), (b"", b""), (b"__", b"--")],
)
def test_folding_maps_every_separator_to_one(name: bytes, folded: bytes) -> None:
    assert fold(name) == folded


@given(st.lists(st.sampled_from([b"_", b".", b"-", b"~", b"|"]), min_size=2, max_size=2), st.booleans())
@settings(max_examples=50, deadline=None)
def test_any_mixture_of_separators_and_case_is_the_same_name(separators: list[bytes], upper: bool) -> None:
    name = separators[0].join([b"x", b"client" + separators[1] + b"id"])
    assert RULES.strips(name.upper() if upper else name)


def test_the_cache_is_bounded_and_a_flood_of_names_changes_no_answer() -> None:
    rules = StripRules([Identity()])
    for number in range(5000):
        assert not rules.strips(b"x-%d" % number)
        assert not rules.strips(b"y" * 100 + b"%d" % number)
    assert len(rules._verdicts) <= 1024
    assert max(map(len, rules._verdicts)) <= 64
    assert rules.strips(b"X-Client-Id")
    assert rules.strips(b"X-Client-" + b"a" * 100)


def test_fixed_names_go_where_no_identity_is_configured() -> None:
    rules = StripRules([])
    assert rules.strips(b"Client-Cert")
    assert not rules.strips(b"X-Client-Id")
