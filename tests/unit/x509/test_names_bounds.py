"""What is remembered of names is bounded: strangers make up as many, and as long ones, as they like."""

import gc

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from tests.unit.x509.build import Issued, dn, issue

from mtlsproxy.x509 import names
from mtlsproxy.x509.certificate import Certificate, parse_certificate
from mtlsproxy.x509.names import issued_by_name


@pytest.fixture(autouse=True)
def _nothing_known() -> None:
    names._known.clear()


@pytest.fixture(scope="module")
def ca() -> Issued:
    return issue("Some CA", ca=True)


def of_issuer(name: str | x509.Name, ca: Issued) -> Certificate:
    return issue("leaf", ca, issuer_name=dn(name) if isinstance(name, str) else name).certificate


def test_names_that_are_compared_folded_are_remembered(ca: Issued) -> None:
    """Another case is the same name to RFC 5280 §7.1, and is not folded twice."""
    leaf = of_issuer("SOME ca", ca)
    assert issued_by_name(leaf, ca.certificate)
    assert set(names._known) == {leaf.issuer_der, ca.certificate.subject_der}
    assert issued_by_name(leaf, ca.certificate)
    assert not issued_by_name(of_issuer("Other CA", ca), ca.certificate)


def test_names_that_are_encoded_alike_need_no_memory(ca: Issued) -> None:
    assert issued_by_name(issue("leaf", ca).certificate, ca.certificate)
    assert names._known == {}


def test_made_up_names_do_not_add_up(ca: Issued, monkeypatch: pytest.MonkeyPatch) -> None:
    """And each is still told apart, before and after the memory is emptied."""
    monkeypatch.setattr(names, "_CACHED_NAMES", 8)
    for number in range(30):
        assert not issued_by_name(of_issuer(f"CA {number}", ca), ca.certificate)
        assert len(names._known) <= 8
        assert issued_by_name(of_issuer("some CA", ca), ca.certificate)


def test_long_names_are_compared_and_not_remembered(ca: Issued) -> None:
    parts = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, f"{number} {'u' * 60}") for number in range(40)]
    long = issue(x509.Name(parts), ca=True)
    upper = x509.Name([x509.NameAttribute(part.oid, str(part.value).upper()) for part in parts])
    assert issued_by_name(of_issuer(upper, long), long.certificate)
    assert not issued_by_name(of_issuer(upper, long), ca.certificate)
    assert max(map(len, names._known)) <= names._CACHED_SIZE


def certificates_alive() -> int:
    return sum(isinstance(found, Certificate) for found in gc.get_objects())


def test_a_name_that_is_remembered_keeps_nothing_of_its_certificate(ca: Issued) -> None:
    """A certificate may be large, and its name short. Without a collection: no cycle keeps it either."""
    ders = [of_issuer(name, ca).der for name in ("SOME ca", "some CA", "Some ca")]
    gc.collect()
    gc.disable()
    try:
        before = certificates_alive()
        for number, der in enumerate(ders):
            assert issued_by_name(parse_certificate(der), ca.certificate)
            assert len(names._known) == number + 2
        assert certificates_alive() == before
    finally:
        gc.enable()
