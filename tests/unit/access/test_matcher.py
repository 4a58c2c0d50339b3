"""Every matcher admits what it names and refuses what merely looks like it."""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.access.build import entry
from tests.unit.identity.build import CN, ORG, OU, client, name

from mtlsproxy.access.matcher import compile_match
from mtlsproxy.access.pattern import Use
from mtlsproxy.access.rules import RuleList
from mtlsproxy.config.model import Match
from mtlsproxy.identity.client import Client

BASE = client()
HASH = "ab" * 32

ACCEPTED = [
    ("dns", "a.example.org", "a.example.org"),
    ("dns", "A.Example.ORG", "a.eXample.org"),
    ("dns", "a.example.org", "a.example.org."),
    ("dns", "*.example.org", "a.example.org"),
    ("dns", "*.*.example.org", "a.b.example.org"),
    ("dns", "a.*.example.org", "a.b.example.org"),
    ("dns", "**.example.org", "a.b.example.org"),
    ("dns", "**.example.org", "example.org"),
    ("dns", "a.**.org", "a.b.c.org"),
    ("uri", "spiffe://example.org/ns/*/sa/orders", "spiffe://example.org/ns/prod/sa/orders"),
    ("uri", "spiffe://example.org/ns/*/sa/orders", "SPIFFE://EXAMPLE.org/ns/prod/sa/orders"),
    ("uri", "spiffe://example.org/**", "spiffe://example.org/ns/prod/sa/orders"),
    ("uri", "spiffe://example.org/**", "spiffe://example.org"),
    ("uri", "spiffe://example.org/**/orders", "spiffe://example.org/a/b/orders"),
    ("uri", "spiffe://example.org/**/orders", "spiffe://example.org/orders"),
    ("uri", "spiffe://*.example.org/a", "spiffe://prod.example.org/a"),
    ("uri", "urn:example:device-1", "URN:example:device-1"),
    ("uri", "https://u@a.example:8443/x?y=1", "https://u@A.example:8443/x?y=1"),
    ("email", "ann@example.org", "ann@EXAMPLE.org"),
    ("email", "*@example.org", "first.last@example.org"),
    ("email", "*@*.example.org", "ann@a.example.org"),
    ("common_name", "Orders Service", "Orders Service"),
    ("common_name", "*.example.org", "a.example.org"),
    ("common_name", "device-*", "device-17"),
    ("common_name", "**", "anything/at.all"),
    ("common_name", "C++ (a|b)*", "C++ (a|b)$"),
    ("organization", "Example, Inc.", "Example, Inc."),
    ("organizational_unit", "pay*", "payments"),
]
REFUSED = [
    ("dns", "a.example.org", "b.example.org"),
    ("dns", "a.example.org", "a.example.org.evil.example"),
    ("dns", "a.example.org", "aXexample.org"),
    ("dns", "*.example.org", "a.b.example.org"),
    ("dns", "*.example.org", "example.org"),
    ("dns", "*.example.org", ".example.org"),
    ("dns", "*.example.org", "a.example.org.evil"),
    ("dns", "*.example.org", "a/x.example.org"),
    ("dns", "*.example.org", "a.example.org\n"),
    ("dns", "**.example.org", "badexample.org"),
    # The certificate's own `*` is a character, never a pattern, and no wildcard of ours stands for it.
    ("dns", "a.example.org", "*.example.org"),
    ("dns", "*.example.org", "*.example.org"),
    ("dns", "**.example.org", "*.example.org"),
    ("uri", "spiffe://example.org/ns/a", "spiffe://example.org/ns/*"),
    ("uri", "spiffe://example.org/ns/*", "spiffe://example.org/ns/*"),
    ("uri", "spiffe://example.org/**", "spiffe://example.org/*/a"),
    ("uri", "spiffe://example.org/ns/*/sa/orders", "spiffe://example.org/ns/a/b/sa/orders"),
    ("uri", "spiffe://example.org/ns/*/sa/orders", "spiffe://example.org/ns//sa/orders"),
    ("uri", "spiffe://example.org/ns/*/sa/orders", "spiffe://example.org/ns/a/sa/Orders"),
    ("uri", "spiffe://example.org/ns/*/sa/orders", "spiffe://example.org/ns/a/sa/orders/more"),
    ("uri", "spiffe://example.org/ns/*/sa/orders", "https://evil/spiffe://example.org/ns/a/sa/orders"),
    ("uri", "spiffe://example.org/ns/*", "spiffe://example.org/ns/.."),
    ("uri", "spiffe://example.org/ns/**", "spiffe://example.org/ns/../admin"),
    ("uri", "spiffe://example.org/ns/**", "spiffe://example.org/ns/%2e%2E/admin"),
    ("uri", "spiffe://example.org/ns/*", "spiffe://example.org/ns/a?b"),
    ("uri", "spiffe://example.org/**", "spiffe://example.org.evil/a"),
    ("uri", "spiffe://example.org/**", "spiffe://example.org@evil/a"),
    ("uri", "spiffe://example.org/**", "spiffe://example.org:1/a"),
    ("uri", "spiffe://example.org/**", "spiffe://evil@example.org/a"),
    ("uri", "spiffe://*/a", "spiffe://evil@x/a"),
    ("uri", "spiffe://*/a", "spiffe://x:1/a"),
    ("uri", "spiffe://*.example.org/a", "spiffe://x/.example.org/a"),
    ("uri", "spiffe://example.org/a", "spiffe://example.org/a/"),
    ("uri", "spiffe://example.org/a", "spiffes://example.org/a"),
    ("uri", "urn:example:device-1", "urn:example:device-2"),
    ("email", "ann@example.org", "Ann@example.org"),
    ("email", "*@example.org", "ann@evil.example@example.org"),
    ("email", "*@example.org", "@example.org"),
    ("email", "*@example.org", "ann@a.example.org"),
    ("email", "ann@example.org", "ann@example.org.evil"),
    ("common_name", "Orders Service", "orders service"),
    ("common_name", "Orders Service", "Orders Service "),
    ("common_name", "*.example.org", "a.b.example.org"),
    ("common_name", "*.example.org", "*.example.org"),
    ("common_name", "device-*", "device-"),
    ("common_name", "a", "a\n"),
    ("common_name", "a.b", "axb"),
    ("uri", "spiffe://example.org/a.b/*", "spiffe://example.org/axb/c"),
    ("organization", "Example, Inc.", "Example"),
    ("organizational_unit", "pay*", "pay.ments"),
]
FIELD_OF = {
    "dns": "dns",
    "uri": "uris",
    "email": "emails",
    "common_name": "common_names",
    "organization": "organizations",
    "organizational_unit": "organizational_units",
}


def holding(field: str, *values: str) -> Client:
    return replace(BASE, **{"common_names": (), FIELD_OF[field]: values})  # type: ignore[arg-type]


@pytest.mark.parametrize(("field", "pattern", "value"), ACCEPTED)
def test_accepts(field: str, pattern: str, value: str) -> None:
    assert compile_match(entry(**{field: pattern})).matches(holding(field, value))


@pytest.mark.parametrize(("field", "pattern", "value"), REFUSED)
def test_refuses(field: str, pattern: str, value: str) -> None:
    assert not compile_match(entry(**{field: pattern})).matches(holding(field, value))


@pytest.mark.parametrize(("field", "pattern", "value"), ACCEPTED)
def test_any_of_several_values_is_enough_and_none_is_not(field: str, pattern: str, value: str) -> None:
    matcher = compile_match(entry(**{field: pattern}))
    assert matcher.matches(holding(field, "urn:other", value))
    assert not matcher.matches(holding(field))


@pytest.mark.parametrize("other", sorted(set(FIELD_OF) - {"dns"}))
def test_a_name_of_one_type_never_matches_as_another(other: str) -> None:
    """Row "EKU, SAN confusion": in particular no SAN-to-CN fallback."""
    matcher = compile_match(entry(dns="a.example.org"))
    assert not matcher.matches(holding(other, "a.example.org"))
    if other in ("common_name", "organization", "organizational_unit"):
        assert not compile_match(entry(**{other: "a.example.org"})).matches(holding("dns", "a.example.org"))


@pytest.mark.parametrize(
    ("fields", "accepted", "refused"),
    [
        ({"ip": "192.0.2.0/24"}, {"ips": ("192.0.2.9",)}, {"ips": ("192.0.3.9",)}),
        ({"ip": "192.0.2.9"}, {"ips": ("10.0.0.1", "192.0.2.9")}, {"ips": ()}),
        ({"ip": "2001:db8::/32"}, {"ips": ("2001:db8::1",)}, {"ips": ("192.0.2.9",)}),
        ({"ip": "0.0.0.0/0"}, {"ips": ("192.0.2.9",)}, {"ips": ("2001:db8::1",)}),
        ({"serial": "0A:BC"}, {"serial": 0xABC}, {"serial": 0xABC0}),
        ({"serial": "abc"}, {"serial": 0xABC}, {"serial": 0xAB}),
        ({"fingerprint_sha256": HASH}, {"fingerprint_sha256": HASH}, {"spki_sha256": HASH}),
        ({"fingerprint_sha256": ":".join(["AB"] * 32)}, {"fingerprint_sha256": HASH}, {}),
        ({"spki_sha256": HASH.upper()}, {"spki_sha256": HASH}, {"fingerprint_sha256": HASH}),
        ({"policy_oid": "1.2.3"}, {"policy_oids": ("1.2.4", "1.2.3")}, {"policy_oids": ("1.2.3.1",)}),
    ],
)
def test_other_fields(fields: dict[str, str], accepted: dict[str, object], refused: dict[str, object]) -> None:
    matcher = compile_match(entry(**fields))
    rules = RuleList([*map(compile_match, FILLER), matcher])
    for holder, matches in ((accepted, True), (refused, False)):
        client = replace(BASE, **_typed(holder))  # type: ignore[arg-type]
        assert matcher.matches(client) is matches
        assert list(rules.matching(client)) == [len(FILLER)] * matches


def _typed(fields: dict[str, object]) -> dict[str, object]:
    return {k: tuple(map(ip_address, v)) if k == "ips" else v for k, v in fields.items()}  # type: ignore[arg-type]


def test_the_issuer_is_compared_as_a_name_not_as_text() -> None:
    issued = client(issuer=x509.Name.from_rfc4514_string("CN=Client\\, CA,O=Example"))
    assert compile_match(entry(issuer="CN=Client\\2c CA,O=example")).matches(issued)
    assert not compile_match(entry(issuer="O=Example,CN=Client\\, CA")).matches(issued)
    assert not compile_match(entry(issuer="CN=Client\\, CA")).matches(issued)
    rules = RuleList([*map(compile_match, FILLER), compile_match(entry(issuer="CN=client\\, ca,O=Example"))])
    assert rules.first(issued) == len(FILLER)
    assert rules.first(BASE) is None
    spoof = client(issuer=x509.Name.from_rfc4514_string("CN=CA\\,O=Example"))
    assert not compile_match(entry(issuer="CN=CA,O=Example")).matches(spoof)


@pytest.mark.parametrize("written", ["CN=Client CA,OU=Trust,O=Globex", "O=globex,OU=Trust,CN=Client CA"])
def test_deny_takes_the_issuer_in_the_order_of_openssl_too(written: str) -> None:
    """Copied from `openssl x509 -issuer`, which prints names from the root down, an entry would deny nobody."""
    issued = client(issuer=x509.Name.from_rfc4514_string("CN=Client CA,OU=Trust,O=Globex"))
    others = [
        client(issuer=x509.Name.from_rfc4514_string(name))
        for name in ("CN=Client CA,O=Globex", "OU=Trust,CN=Client CA,O=Globex", "CN=Client CA,OU=Trust,O=Acme")
    ]
    denying = compile_match(entry(issuer=written), Use.DENY)
    for rules in (RuleList([denying]), RuleList([*(compile_match(e, Use.DENY) for e in FILLER), denying])):
        assert rules.first(issued) == len(rules) - 1
        assert [rules.first(other) for other in others] == [None] * len(others)


def test_allow_takes_the_issuer_in_the_order_of_rfc_4514_alone() -> None:
    """Two CAs whose names are each other's reverse are two CAs: nobody is let in by a guess."""
    issued = client(issuer=x509.Name.from_rfc4514_string("CN=Client CA,O=Globex"))
    for fillers in ([], FILLER):
        forward, backward = (
            RuleList([*map(compile_match, fillers), compile_match(entry(issuer=name))])
            for name in ("CN=Client CA,O=Globex", "O=Globex,CN=Client CA")
        )
        assert forward.first(issued) == len(fillers)
        assert backward.first(issued) is None


def test_every_field_of_an_entry_must_match() -> None:
    matcher = compile_match(entry(dns="*.example.org", organizational_unit="payments"))
    both = replace(BASE, dns=("a.example.org",), organizational_units=("payments",))
    assert matcher.matches(both)
    assert not matcher.matches(replace(both, dns=()))
    assert not matcher.matches(replace(both, organizational_units=("other",)))
    assert matcher.text == "organizational_unit: payments, dns: *.example.org"


def test_an_entry_without_fields_is_an_error_and_not_a_match_for_everybody() -> None:
    with pytest.raises(ValueError, match="everybody"):
        compile_match(Match.model_construct())


@pytest.mark.parametrize(
    ("field", "pattern", "value"),
    [
        ("dns", "*.example.org", "*.example.org"),
        ("uri", "spiffe://example.org/ns/**", "spiffe://example.org/ns/../x"),
        ("uri", "spiffe://example.org/ns/*", "spiffe://example.org/ns/a?b"),
        ("common_name", "Mallory", "MALLORY"),
        ("common_name", "mal*", "Mallory*"),
        ("organization", "Straße", "STRASSE"),
        ("email", "*@example.org", "*@example.org"),
    ],
)
def test_deny_errs_on_the_other_side(field: str, pattern: str, value: str) -> None:
    """What allow does not take for a match because it is odd, deny does."""
    written = entry(**{field: pattern})
    assert compile_match(written, Use.DENY).matches(holding(field, value))
    assert not compile_match(written).matches(holding(field, value))


@pytest.mark.parametrize(("field", "pattern", "value"), ACCEPTED)
def test_deny_refuses_all_that_allow_would_accept(field: str, pattern: str, value: str) -> None:
    assert compile_match(entry(**{field: pattern}), Use.DENY).matches(holding(field, value))


@pytest.mark.parametrize(
    ("field", "pattern", "value"),
    [
        ("dns", "*.example.org", "a.b.example.org"),
        ("uri", "spiffe://example.org/ns/*", "spiffe://example.org/ns/a/b"),
        ("common_name", "mallory", "malloryx"),
    ],
)
def test_deny_still_means_its_pattern(field: str, pattern: str, value: str) -> None:
    assert not compile_match(entry(**{field: pattern}), Use.DENY).matches(holding(field, value))


FILLER = [entry(dns=f"host{n}.example.net") for n in range(20)] + [
    entry(uri=f"spiffe://filler/*/{n}") for n in range(20)
]


@pytest.mark.parametrize("use", list(Use))
@pytest.mark.parametrize(("field", "pattern", "value"), ACCEPTED + REFUSED)
def test_an_indexed_list_says_what_its_entries_say(field: str, pattern: str, value: str, use: Use) -> None:
    matchers = [compile_match(e, use) for e in (*FILLER, entry(**{field: pattern}))]
    holder = holding(field, value)
    assert list(RuleList(matchers).matching(holder)) == [i for i, m in enumerate(matchers) if m.matches(holder)]


def test_the_first_entry_in_the_operators_order_is_named() -> None:
    entries = [
        *FILLER,
        entry(dns="**.org"),
        entry(dns="a.example.org"),
        entry(fingerprint_sha256=BASE.fingerprint_sha256),
    ]
    rules = RuleList([compile_match(e) for e in entries])
    assert rules.first(replace(BASE, dns=("a.example.org",))) == 40
    assert rules.first(BASE) == 42
    assert rules.first(replace(BASE, fingerprint_sha256=HASH)) is None
    assert RuleList([]).first(BASE) is None


LABELS = st.sampled_from(["a", "b", "A", "*", "**", "x-1"])
VALUES = st.sampled_from(["a", "b", "B", "*", "", "x-1", ".."])


@given(st.lists(st.lists(LABELS, min_size=1, max_size=4), min_size=9, max_size=12), st.lists(VALUES, max_size=5))
@settings(max_examples=150, deadline=None)
def test_the_index_never_changes_an_answer(patterns: list[list[str]], value: list[str]) -> None:
    entries = [entry(dns=".".join(p)) for p in patterns] + [entry(uri="s://h/" + "/".join(p)) for p in patterns]
    entries += [entry(common_name=".".join(p)) for p in patterns] + [entry(organization="".join(p)) for p in patterns]
    text = ".".join(value)
    holder = replace(BASE, dns=(text,), uris=("s://h/" + "/".join(value),), common_names=(text,), organizations=(text,))
    for use in Use:
        matchers = [compile_match(e, use) for e in entries]
        assert list(RuleList(matchers).matching(holder)) == [i for i, m in enumerate(matchers) if m.matches(holder)]


@given(st.lists(LABELS, min_size=1, max_size=4), st.lists(VALUES, min_size=1, max_size=5))
@settings(max_examples=200, deadline=None)
def test_wildcards_do_what_a_plain_reading_of_the_rule_says(pattern: list[str], value: list[str]) -> None:
    def stands(pattern: Sequence[str], value: Sequence[str]) -> bool:
        if not pattern:
            return not value
        if pattern[0] == "**":
            return any(
                stands(pattern[1:], value[count:]) and all(map(ordinary, value[:count]))
                for count in range(len(value) + 1)
            )
        if not value:
            return False
        fits = ordinary(value[0]) if pattern[0] == "*" else pattern[0].lower() == value[0].lower()
        return fits and stands(pattern[1:], value[1:])

    def ordinary(label: str) -> bool:
        return label not in ("", "*", "..")

    if value[-1] == "" or ".." in value:
        return
    matched = compile_match(entry(dns=".".join(pattern))).matches(holding("dns", ".".join(value)))
    assert matched is stands(pattern, value)


def test_several_common_names_are_each_looked_at() -> None:
    both = client(subject=name((ORG, "Example"), (OU, "x"), (CN, "first"), (CN, "second")))
    for text, matches in (("first", True), ("second", True), ("firstsecond", False), ("first+CN=second", False)):
        assert compile_match(entry(common_name=text)).matches(both) is matches
