"""An address is in a list of CIDRs, however a socket writes it."""

from ipaddress import ip_network

import pytest

from mtlsproxy.config.networks import Networks

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
