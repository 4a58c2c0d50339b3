"""An address is in a list of CIDRs, however a socket writes it."""

from ipaddress import ip_network

import pytest

from mtlsproxy.config.networks import Networks, origin_of, unmapped

SOME = Networks(
    [ip_network("10.0.0.0/8"), ip_network("192.0.2.7"), ip_network("2001:db8::/32"), ip_network("fe80::/10")]
)


@pytest.mark.parametrize(
    ("address", "covered"),
    [
        ("10.0.0.0", True),
        ("10.255.255.255", True),
        ("11.0.0.0", False),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("2001:db8::1", True),
        ("2001:DB8:0::1", True),
        ("2001:db9::1", False),
        ("::ffff:10.1.2.3", True),
        ("::ffff:11.1.2.3", False),
        ("::10.1.2.3", False),
        ("fe80::1%eth0", True),
    ],
)
def test_addresses(address: str, covered: bool) -> None:
    assert SOME.covers(address) is covered


def test_an_ipv6_network_does_not_take_in_ipv4_clients_of_a_socket_for_both() -> None:
    """`::/0` written for IPv6 must not trust ::ffff:192.0.2.1, which is 192.0.2.1."""
    assert not Networks([ip_network("::/0")]).covers("::ffff:192.0.2.1")


def test_no_networks_cover_nothing() -> None:
    assert not Networks()
    assert not Networks().covers("127.0.0.1")
    assert SOME


@pytest.mark.parametrize(
    ("address", "text", "origin"),
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1", "2001:db8::/64"),
        ("2001:db8:0:0:ffff::1", "2001:db8:0:0:ffff::1", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::1%eth0", "fe80::/64"),
        ("::1", "::1", "::/64"),
    ],
)
def test_whom_an_address_stands_for(address: str, text: str, origin: str) -> None:
    """IPv4 clients are not one network because a socket is for IPv6 too; who has one IPv6 address has its /64."""
    assert unmapped(address) == text
    assert origin_of(text) == origin
