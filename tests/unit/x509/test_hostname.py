"""A server's certificate is for the names in its subjectAltName, read as RFC 9525 says."""

from ipaddress import ip_address

import pytest
from cryptography import x509
from tests.unit.x509.build import issue, new_key

from mtlsproxy.x509.evidence import Result
from mtlsproxy.x509.hostname import InvalidServerName, check_server_name

KEY = new_key()


def matches(san: str, name: str) -> bool:
    try:
        names: list[x509.GeneralName] = [x509.IPAddress(ip_address(san))]
    except ValueError:
        names = [x509.DNSName(san)]
    check = check_server_name(issue("cn.example", key=KEY, sans=names).certificate, name)
    assert check.name == "hostname"
    assert (check.result is Result.FAIL) == bool(check.fix)
    return check.result is Result.PASS


@pytest.mark.parametrize(
    ("san", "name"),
    [
        ("a.example", "a.example"),
        ("A.Example", "a.eXAMPLE"),
        ("a.example", "a.example."),
        ("localhost", "localhost"),
        ("*.a.example", "b.a.example"),
        ("*.a.example", "xn--bcher-kva.a.example"),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:0db8:0::1"),
    ],
)
def test_names_that_match(san: str, name: str) -> None:
    assert matches(san, name)


@pytest.mark.parametrize(
    ("san", "name"),
    [
        ("a.example", "b.example"),
        ("a.example", "x.a.example"),
        ("a.example.", "a.example"),
        ("*.a.example", "a.example"),
        ("*.a.example", "c.b.a.example"),
        ("*.example", "a.example"),
        ("*", "a"),
        ("b*.a.example", "ba.a.example"),
        ("a.*.example", "a.b.example"),
        ("*.*.example", "a.b.example"),
        ("xn--*.a.example", "xn--b.a.example"),
        ("other.example", "cn.example"),
        ("192.0.2.1", "192.0.2.2"),
        ("other.example", "192.0.2.1"),
    ],
)
def test_names_that_do_not(san: str, name: str) -> None:
    assert not matches(san, name)


def test_an_address_in_a_dns_name_matches_nothing() -> None:
    leaf = issue("x", key=KEY, sans=[x509.DNSName("192.0.2.1")]).certificate
    assert check_server_name(leaf, "192.0.2.1").result is Result.FAIL


def test_the_common_name_never_counts() -> None:
    check = check_server_name(issue("a.example", key=KEY).certificate, "a.example")
    assert check.result is Result.FAIL
    assert check.seen == "no DNS name or IP address"


@pytest.mark.parametrize("name", ["", ".", "a..b", "-a.example", "a_b.example", "*.example", "a b", "1.2.3", "[::1]"])
def test_a_name_that_is_none_is_the_callers_mistake(name: str) -> None:
    leaf = issue("x", key=KEY, sans=[x509.DNSName("a.example")]).certificate
    with pytest.raises(InvalidServerName):
        check_server_name(leaf, name)
