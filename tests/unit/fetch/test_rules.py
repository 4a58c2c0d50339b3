"""Which URLs and addresses may be asked: every kind, allowed and refused."""

from ipaddress import ip_address

import pytest

from mtlsproxy.fetch.rules import FetchRules, canonical_host, special_kind

RULES = FetchRules.of(
    configured_hosts=["crl.internal"],
    allowed_hosts=["CRL.Partner.Example", "[2001:DB8::1]", "10.0.0.7"],
    max_size=1000,
    timeout=1,
)


@pytest.mark.parametrize(
    ("host", "form"),
    [
        ("CRL.Example", "crl.example"),
        ("crl.example.", "crl.example"),
        ("[2001:DB8:0::1]", "2001:db8::1"),
        ("10.0.0.7", "10.0.0.7"),
    ],
)
def test_hosts_are_compared_in_one_form(host, form):
    assert canonical_host(host) == form


@pytest.mark.parametrize(
    "host", ["crl.partner.example", "CRL.PARTNER.EXAMPLE", "crl.partner.example.", "2001:db8::1", "10.0.0.7"]
)
def test_a_certificate_may_name_what_is_allowed(host):
    assert RULES.why_not_url("http", host, "certificate") == ""


@pytest.mark.parametrize(
    "host",
    [
        "crl.internal",  # of the configuration, which gives certificates nothing
        "partner.example",
        "x.crl.partner.example",
        "crl.partner.example.evil.example",
        "evilcrl.partner.example",
        "10.0.0.8",
        "127.0.0.1",
        "",
    ],
)
def test_a_certificate_may_name_nothing_else(host):
    assert "allowed_hosts" in RULES.why_not_url("http", host, "certificate")


def test_the_configuration_may_name_its_own_hosts_and_redirects_may_stay_there():
    assert RULES.why_not_url("http", "crl.internal", "configuration") == ""
    assert RULES.why_not_url("http", "crl.internal", "configuration", redirected=True) == ""
    assert "redirect" in RULES.why_not_url("http", "elsewhere.example", "configuration", redirected=True)


@pytest.mark.parametrize("scheme", ["file", "ftp", "ldap", "gopher", "data", "unix", ""])
def test_only_http_and_https_are_fetched(scheme):
    assert "scheme" in RULES.why_not_url(scheme, "crl.internal", "configuration")


def test_https_needs_trust_anchors_of_its_own():
    assert "trust_anchors" in RULES.why_not_url("https", "crl.internal", "configuration")
    with_anchors = FetchRules.of(configured_hosts=["crl.internal"], max_size=1, timeout=1, trust_anchors="PEM")
    assert with_anchors.why_not_url("https", "crl.internal", "configuration") == ""


SPECIAL = {
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "::1": "loopback",
    "::ffff:127.0.0.1": "loopback",
    "::127.0.0.1": "loopback",
    "64:ff9b::7f00:1": "loopback",
    "64:ff9b:1::7f00:1": "loopback",
    "2002:7f00:1::": "loopback",
    "169.254.169.254": "link-local",
    "::ffff:169.254.169.254": "link-local",
    "64:ff9b::a9fe:a9fe": "link-local",
    "2002:a9fe:a9fe::1": "link-local",
    "fe80::1": "link-local",
    "fe80::1%eth0": "link-local",
    "224.0.0.1": "multicast",
    "239.255.255.250": "multicast",
    "ff02::1": "multicast",
    "0.0.0.0": "unspecified",
    "0.1.2.3": "unspecified",
    "::": "unspecified",
    "fec0::1": "site-local",
    "240.0.0.1": "reserved",
    "255.255.255.255": "reserved",
    "fd00:ec2::254": "metadata service",
    "fd00:ec2::254%eth0": "metadata service",
    "100.100.100.200": "metadata service",
    "168.63.129.16": "metadata service",
}


@pytest.mark.parametrize(("address", "kind"), SPECIAL.items())
def test_an_allowed_name_must_not_lead_to_special_addresses(address, kind):
    assert special_kind(ip_address(address)) == kind
    assert f"a {kind} address" in RULES.why_not_address("crl.partner.example", ip_address(address))


@pytest.mark.parametrize(
    "address",
    ["93.184.216.34", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "2606:2800::1", "fd12::1",
     "::ffff:10.1.2.3", "64:ff9b::a01:203"],
)  # fmt: skip
def test_ordinary_and_private_addresses_may_be_connected_to(address):
    assert special_kind(ip_address(address)) == ""
    assert RULES.why_not_address("crl.partner.example", ip_address(address)) == ""


def test_a_host_of_the_configuration_may_resolve_anywhere():
    assert RULES.why_not_address("crl.internal", ip_address("127.0.0.1")) == ""


def test_a_special_address_that_is_listed_itself_is_meant():
    rules = FetchRules.of(allowed_hosts=["crl.partner.example", "127.0.0.1"], max_size=1, timeout=1)
    assert rules.why_not_address("crl.partner.example", ip_address("127.0.0.1")) == ""
    assert rules.why_not_address("crl.partner.example", ip_address("127.0.0.2"))


def test_localhost_means_loopback_where_it_is_allowed_by_that_name():
    rules = FetchRules.of(allowed_hosts=["localhost", "crl.partner.example"], max_size=1, timeout=1)
    assert rules.why_not_address("localhost", ip_address("127.0.0.1")) == ""
    assert rules.why_not_address("crl.partner.example", ip_address("127.0.0.1"))
    assert rules.why_not_address("localhost", ip_address("169.254.169.254"))
