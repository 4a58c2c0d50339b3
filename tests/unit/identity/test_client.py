"""A client is what its certificate says, type by type and in the certificate's order."""

from ipaddress import ip_address

import pytest
from cryptography import x509
from tests.unit.identity.build import CN, NOT_AFTER, ORG, OU, certificate, client, dns, email, name, uri

from mtlsproxy.identity.client import client_of, name_key, principal_of

ORDER = ("spiffe", "uri", "dns", "email", "common_name")


def test_every_fact_is_taken_from_its_own_field() -> None:
    leaf = certificate(
        name((ORG, "Org"), (OU, "a"), (OU, "b"), (CN, "first"), (CN, "second")),
        [uri("https://x.example/"), dns("x.example"), email("a@b.example"), x509.IPAddress(ip_address("192.0.2.1"))],
        policies=["1.3.6.1.4.1.99999.1"],
    )
    found = client_of(leaf)
    assert found.common_names == ("first", "second")
    assert found.organizations == ("Org",)
    assert found.organizational_units == ("a", "b")
    assert (found.uris, found.dns, found.emails) == (("https://x.example/",), ("x.example",), ("a@b.example",))
    assert found.ips == (ip_address("192.0.2.1"),)
    assert found.policy_oids == ("1.3.6.1.4.1.99999.1",)
    assert found.not_after == NOT_AFTER
    assert (found.serial, found.fingerprint_sha256) == (0xABC, leaf.fingerprint_sha256)
    assert found.issuer == "CN=Client CA,O=Example"


def test_sans_keep_the_certificates_order_across_kinds() -> None:
    found = client(dns("b.example"), uri("urn:a"), dns("a.example"))
    assert found.sans == (("DNS", "b.example"), ("URI", "urn:a"), ("DNS", "a.example"))


def test_a_common_name_is_never_a_dns_name() -> None:
    assert client(subject=name((CN, "x.example"))).dns == ()


@pytest.mark.parametrize(
    ("sans", "expected"),
    [
        ([dns("d.example"), uri("https://u/"), uri("spiffe://t/a")], "spiffe://t/a"),
        ([dns("d.example"), uri("SPIFFE://t/a")], "SPIFFE://t/a"),
        ([dns("d.example"), uri("https://u/")], "https://u/"),
        ([email("a@b.example"), dns("d.example")], "d.example"),
        ([email("a@b.example")], "a@b.example"),
        ([], "client"),
    ],
)
def test_the_principal_is_the_first_kind_present(sans: list[x509.GeneralName], expected: str) -> None:
    assert principal_of(client(*sans), ORDER) == expected


def test_the_order_is_the_operators_and_nothing_stands_in_for_what_is_absent() -> None:
    found = client(dns("d.example"), uri("spiffe://t/a"))
    assert principal_of(found, ("dns", "spiffe")) == "d.example"
    assert principal_of(found, ("email",)) is None
    assert principal_of(found, ("uri",)) == "spiffe://t/a"
    assert principal_of(client(uri("spiffex://t/a")), ("spiffe",)) is None


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("CN=CA,O=Example", "CN=ca,O=EXAMPLE", True),
        ("CN=My  CA", "CN=my ca", True),
        ("CN=a+OU=b", "OU=b+CN=a", True),
        ("CN=CA,O=Example", "O=Example,CN=CA", False),
        ("CN=CA", "OU=CA", False),
        ("CN=CA,O=Example", "CN=CA", False),
        ("CN=a\\,O=b", "CN=a,O=b", False),
    ],
)
def test_names_are_compared_as_rfc_5280_compares_them(one: str, other: str, equal: bool) -> None:
    keys = [name_key(x509.Name.from_rfc4514_string(text)) for text in (one, other)]
    assert (keys[0] == keys[1]) is equal
