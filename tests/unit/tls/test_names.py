"""For which hosts a server certificate stands (RFC 9525 §6)."""

from ipaddress import ip_address

import pytest
from cryptography import x509
from tests.unit.x509.build import issue

from mtlsproxy.tls.names import covers, normalise
from mtlsproxy.x509.certificate import Certificate


def certificate(*names: str, common_name: str = "cn.test") -> Certificate:
    sans: list[x509.GeneralName] = []
    for name in names:
        kind, _, value = name.partition(":")
        sans.append(x509.DNSName(value) if kind == "DNS" else x509.IPAddress(ip_address(value)))
    return issue(common_name, sans=sans).certificate


@pytest.mark.parametrize(
    ("san", "host"),
    [
        ("DNS:a.test", "a.test"),
        ("DNS:a.test", "A.Test"),
        ("DNS:A.TEST", "a.test"),
        ("DNS:a.test", "a.test."),
        ("DNS:*.test", "a.test"),
        ("DNS:*.b.test", "a.b.test"),
        ("IP:192.0.2.1", "192.0.2.1"),
        ("IP:2001:db8::1", "2001:db8::1"),
        ("IP:2001:db8::1", "2001:0db8:0:0:0:0:0:1"),
    ],
)
def test_covered(san: str, host: str) -> None:
    assert covers(certificate("DNS:other.example", san), host)


@pytest.mark.parametrize(
    ("san", "host"),
    [
        ("DNS:a.test", "b.test"),
        ("DNS:a.test", "sub.a.test"),
        ("DNS:sub.a.test", "a.test"),
        ("DNS:*.test", "test"),
        ("DNS:*.test", "a.b.test"),
        ("DNS:*.b.test", "b.test"),
        ("DNS:a*.test", "ab.test"),
        ("DNS:*", "test"),
        ("DNS:192.0.2.1", "192.0.2.1"),
        ("DNS:*.0.2.1", "192.0.2.1"),
        ("IP:192.0.2.1", "192.0.2.2"),
        ("IP:192.0.2.1", "::ffff:192.0.2.1"),
        ("DNS:a.test", ""),
        ("DNS:*.test", ".test"),
        ("DNS:a.test", "a.test.."),
    ],
)
def test_not_covered(san: str, host: str) -> None:
    """A wildcard is one whole label and never the parent; addresses match addresses alone."""
    assert not covers(certificate(san), host)


def test_the_common_name_counts_for_nothing() -> None:
    """RFC 9525 §6.3, also where there is no SAN to prefer."""
    assert not covers(certificate(common_name="cn.test"), "cn.test")
    assert not covers(certificate("DNS:a.test", common_name="cn.test"), "cn.test")


def test_normalise() -> None:
    assert [normalise(name) for name in ("A.Test", "a.test.", "a.test", "")] == ["a.test", "a.test", "a.test", ""]
