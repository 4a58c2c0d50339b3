"""A client by its description: a certificate's facts, written as logs write them, give the client that it gives."""

import dataclasses
from ipaddress import ip_address

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.identity.build import CN, ORG, OU, C, certificate, dns, email, name, uri

from mtlsproxy.identity.client import client_of
from mtlsproxy.identity.described import Description, client_described
from mtlsproxy.x509.certificate import Certificate, serial_hex

text = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=12).map(
    lambda value: f"x{value} y"
)
names = st.lists(st.tuples(st.sampled_from([CN, ORG, OU]), text), min_size=1, max_size=4).map(lambda all_: name(*all_))


def described(leaf: Certificate) -> Description:
    """As the access log writes it, and what only the certificate knows."""
    return Description(
        subject=leaf.subject,
        issuer=leaf.issuer,
        serial=serial_hex(leaf.serial),
        fingerprint_sha256=leaf.fingerprint_sha256,
        spki_sha256=leaf.spki_sha256,
        san=tuple(f"{kind}:{value}" for kind, value in leaf.sans.ordered),
        policy_oids=leaf.certificate_policies,
    )


@settings(max_examples=100, deadline=None)
@given(names, names, st.integers(1, 2**80))
def test_names_and_serials_come_through(subject: x509.Name, issuer: x509.Name, serial: int) -> None:
    leaf = certificate(subject, issuer=issuer, serial=serial)
    expected = client_of(leaf)
    found = client_described(described(leaf))
    assert dataclasses.replace(found, not_after=expected.not_after) == expected


def test_all_kinds_of_names_come_through() -> None:
    address = x509.IPAddress(ip_address("2001:db8::1"))
    sans = [uri("spiffe://a.example/b"), dns("a.example"), email("a@b.example"), address]
    leaf = certificate(name((C, "DE"), (CN, "a, b\\+c")), sans, policies=["1.2.3.4"])
    found = client_described(described(leaf))
    assert dataclasses.replace(found, not_after=leaf.not_after) == client_of(leaf)


def test_what_is_absent_matches_nothing() -> None:
    nobody = client_described(Description())
    assert (nobody.common_names, nobody.dns, nobody.fingerprint_sha256, nobody.issuer_key) == ((), (), "", ())
    assert nobody.serial < 0, "no certificate has it"


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (Description(subject="alice"), "subject 'alice' is not a distinguished name"),
        (Description(issuer="=x"), "issuer '=x' is not"),
        (Description(serial="12x"), "serial '12x' is not hexadecimal"),
        (Description(san=("a.example",)), "does not begin with URI:, DNS:, EMAIL:, IP:"),
        (Description(san=("dns:a.example",)), "does not begin with"),
        (Description(san=("IP:10.0.0.0/8",)), "is not an address"),
    ],
)
def test_what_cannot_be_understood_is_said(what: Description, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        client_described(what)
    assert words in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_anything_else_is_a_value_error_or_a_client(subject: str, serial: str, san: str) -> None:
    try:
        client_described(Description(subject=subject, serial=serial, san=(san,)))
    except ValueError:
        return
