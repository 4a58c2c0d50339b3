"""Name constraints: every form accepted within, refused without, and refused where it cannot be compared."""

from ipaddress import ip_address, ip_network

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.x509.build import NOW, Issued, assemble, dn, fields_of, issue, new_key, tlv, truststore

from mtlsproxy.reasons import Reason
from mtlsproxy.x509.certificate import MalformedCertificate, parse_certificate
from mtlsproxy.x509.evidence import Result
from mtlsproxy.x509.name_constraints import Comparisons, check_name_constraints
from mtlsproxy.x509.path import Link, Path
from mtlsproxy.x509.validate import Refused, Verified, validate

KEY, LEAF_KEY = new_key(), new_key()


def dns(text: str) -> x509.GeneralName:
    return x509.DNSName(text)


def mail(text: str) -> x509.GeneralName:
    return x509.RFC822Name._init_without_validation(text)  # the bad ones too


def uri(text: str) -> x509.GeneralName:
    return x509.UniformResourceIdentifier(text)


def ip(text: str) -> x509.GeneralName:
    return x509.IPAddress(ip_network(text) if "/" in text else ip_address(text))


def directory(*pairs: tuple[x509.ObjectIdentifier, str]) -> x509.GeneralName:
    return x509.DirectoryName(x509.Name([x509.NameAttribute(oid, value) for oid, value in pairs]))


def other(oid: str) -> x509.GeneralName:
    return x509.OtherName(x509.ObjectIdentifier(oid), b"\x0c\x01x")


def permits(constraint: x509.GeneralName, *names: x509.GeneralName) -> bool:
    return _passes(names, permitted=[constraint])


def excludes(constraint: x509.GeneralName, *names: x509.GeneralName) -> bool:
    return not _passes(names, excluded=[constraint])


def _passes(names: tuple[x509.GeneralName, ...], **constraints: list[x509.GeneralName]) -> bool:
    root = issue("root", ca=True, key=KEY, **constraints)
    outcome = validate(issue("", root, key=LEAF_KEY, sans=names).certificate, [], truststore(root), NOW)
    if isinstance(outcome, Refused):
        assert outcome.reason is Reason.NAME_CONSTRAINT, outcome
    return isinstance(outcome, Verified)


@pytest.mark.parametrize(
    ("constraint", "within", "without"),
    [
        (
            dns("example.com"),
            "example.com a.example.com A.B.EXAMPLE.com *.example.com",
            "example.org badexample.com com",
        ),
        (dns("a.example.com"), "a.example.com", "*.example.com b.example.com"),
        (dns(""), "anything.at.all", ""),
        (mail("a@example.com"), "a@example.com a@EXAMPLE.com", "A@example.com b@example.com a@b.example.com"),
        (mail("example.com"), "a@example.com", "a@b.example.com a@example.org"),
        (mail(".example.com"), "a@b.example.com a@c.b.example.com", "a@example.com"),
        (uri("h.example.com"), "spiffe://h.example.com/a https://H.example.com:1/", "spiffe://x.h.example.com/"),
        (uri(".example.com"), "spiffe://a.example.com/x", "spiffe://example.com/x https://a@evil.org/.example.com"),
        (ip("192.0.2.0/24"), "192.0.2.0 192.0.2.255", "192.0.3.0 ::ffff:c000:201"),
        (ip("2001:db8::/32"), "2001:db8::1", "2001:db9::1 192.0.2.1"),
    ],
)
def test_a_subtree_permits_and_excludes_what_is_within(constraint: x509.GeneralName, within: str, without: str) -> None:
    make = {x509.DNSName: dns, x509.RFC822Name: mail, x509.UniformResourceIdentifier: uri, x509.IPAddress: ip}
    for name in within.split():
        assert permits(constraint, make[type(constraint)](name)), name
        assert excludes(constraint, make[type(constraint)](name)), name
    for name in without.split():
        assert not permits(constraint, make[type(constraint)](name)), name
        # A wildcard that could stand for an excluded name is excluded, though it is not permitted by it.
        assert excludes(constraint, make[type(constraint)](name)) == name.startswith("*"), name


def test_every_name_must_be_permitted_and_one_that_is_excluded_suffices() -> None:
    assert not permits(dns("example.com"), dns("a.example.com"), dns("a.example.org"))
    assert excludes(dns("example.com"), dns("a.example.org"), dns("a.example.com"))


def test_constraints_speak_only_about_their_own_form() -> None:
    assert permits(dns("example.com"), ip("192.0.2.1"), uri("spiffe://a/b"), mail("a@b.org"), other("1.2.3"))
    assert not excludes(ip("0.0.0.0/0"), dns("a.example"))


@pytest.mark.parametrize(
    ("constraint", "name"),
    [
        (dns(".example.com"), dns("a.example.com")),
        (dns("example.com"), dns(".example.com")),
        (dns("example.com"), dns("a..example.com")),
        (dns("example.com"), dns("a b.example.com")),
        (dns("example.com"), dns("example.com.")),
        (mail("a@b@example.com"), mail("a@example.com")),
        (mail("example.com"), mail("a@b@example.com")),
        (mail("example.com"), mail("example.com")),
        (mail("example.com"), other("1.3.6.1.5.5.7.8.9")),
        (uri("example.com"), uri("urn:x:y")),
        (uri("example.com"), uri("https://192.0.2.1/")),
        (uri("example.com"), uri("https://[2001:db8::1]/")),
        (uri("example.com"), uri("https://evil.org\\@example.com/")),
        (uri("example.com"), uri("https://[broken/")),
        (uri("example.com"), uri(" https://example.com/")),
        (uri("example.com"), uri("https://example%2ecom/")),
        (other("1.2.3"), other("1.2.3")),
        (other("1.2.3"), other("1.2.4")),
    ],
)
def test_what_cannot_be_compared_is_refused_on_both_sides(constraint: x509.GeneralName, name: x509.GeneralName) -> None:
    assert not permits(constraint, name)
    assert excludes(constraint, name)


def test_directory_names_are_compared_rdn_by_rdn_from_the_top() -> None:
    org, unit, cn = NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.COMMON_NAME
    constraint = directory((org, "Acme"), (unit, "Sales"))
    for within in (((org, "Acme"), (unit, "Sales")), ((org, "ACME"), (unit, " sales"), (cn, "x"))):
        assert permits(constraint, directory(*within))
        assert excludes(constraint, directory(*within))
    for without in (((org, "Acme"),), ((unit, "Sales"), (org, "Acme")), ((org, "Acme"), (unit, "HR")), ((cn, "Acme"),)):
        assert not permits(constraint, directory(*without))
        assert not excludes(constraint, directory(*without))


def test_the_subject_counts_as_a_directory_name() -> None:
    root = issue("root", ca=True, permitted=[x509.DirectoryName(dn("client"))])
    store = truststore(root)
    assert isinstance(validate(issue("client", root).certificate, [], store, NOW), Verified)
    assert isinstance(validate(issue("", root, sans=[dns("a")]).certificate, [], store, NOW), Verified)
    outcome = validate(issue("clown", root).certificate, [], store, NOW)
    assert isinstance(outcome, Refused)
    assert outcome.reason is Reason.NAME_CONSTRAINT


def test_the_subjects_mail_counts_where_there_is_no_alternative_name() -> None:
    """RFC 5280 §4.2.1.10."""
    root = issue("root", ca=True, permitted=[mail("example.com")])
    subject = x509.Name([x509.NameAttribute(NameOID.EMAIL_ADDRESS, "a@example.org")])
    alone, beside = issue(subject, root), issue(subject, root, sans=[mail("a@example.com")])
    assert isinstance(validate(alone.certificate, [], truststore(root), NOW), Refused)
    assert isinstance(validate(beside.certificate, [], truststore(root), NOW), Verified)


def test_constraints_hold_for_cas_below_but_not_for_self_issued_ones() -> None:
    root = issue("root", ca=True, permitted=[dns("example.com")])
    ca = issue("ca", root, ca=True, sans=[dns("ca.example.org")])
    leaf = issue("client", ca, sans=[dns("a.example.com")])
    outcome = validate(leaf.certificate, [ca.certificate], truststore(root), NOW)
    assert isinstance(outcome, Refused)
    assert outcome.reason is Reason.NAME_CONSTRAINT
    renewed = issue("root", root, ca=True, sans=[dns("root.example.org")])
    leaf = issue("client", renewed, sans=[dns("a.example.com")])
    assert isinstance(validate(leaf.certificate, [renewed.certificate], truststore(root), NOW), Verified)
    own = issue("root", root, sans=[dns("root.example.org")])
    assert isinstance(validate(own.certificate, [], truststore(root), NOW), Refused)


@pytest.mark.parametrize(("distance", "readable"), [(b"", True), (tlv(0x80, b"\1"), False), (tlv(0x81, b"\5"), False)])
def test_subtrees_with_a_minimum_or_maximum_are_refused(distance: bytes, readable: bool) -> None:
    """RFC 5280 §4.2.1.10: process them or reject the certificate; the library drops them in silence."""
    root = issue("root", ca=True)
    value = tlv(0x30, tlv(0xA0, tlv(0x30, tlv(0x82, b"example.com"), distance)))
    extension = tlv(0x30, bytes.fromhex("0603551d1e0101ff"), tlv(0x04, value))
    der = assemble([*fields_of(root.certificate.der)[:7], tlv(0xA3, tlv(0x30, extension))], root.key)
    if readable:
        assert parse_certificate(der).name_constraints is not None
    else:
        with pytest.raises(MalformedCertificate, match="minimum or maximum"):
            parse_certificate(der)


def test_lower_cas_can_narrow_and_never_widen() -> None:
    root = issue("root", ca=True, permitted=[dns("example.com")])
    wide = issue("ca", root, ca=True, permitted=[dns("example.org"), dns("example.com")])
    narrow = issue("ca", root, ca=True, permitted=[dns("a.example.com")])
    for ca, name, verified in (
        (wide, "a.example.com", True),
        (wide, "a.example.org", False),
        (narrow, "x.a.example.com", True),
        (narrow, "b.example.com", False),
    ):
        leaf = issue("client", ca, sans=[dns(name)])
        outcome = validate(leaf.certificate, [ca.certificate], truststore(root), NOW)
        assert isinstance(outcome, Verified) == verified


def test_constraints_that_nobody_vouches_for_are_not_judged() -> None:
    """A stranger's CA could carry a hundred thousand of them."""
    stranger = issue("stranger", ca=True, permitted=[dns("example.com")])
    leaf = issue("client", stranger, sans=[dns("a.example.org")])
    outcome = validate(leaf.certificate, [stranger.certificate], truststore(issue("root", ca=True)), NOW)
    assert isinstance(outcome, Refused)
    assert outcome.reason is Reason.UNTRUSTED_ISSUER
    assert {c.name: c.result for c in outcome.checks}["name_constraints"] is Result.SKIPPED
    root = issue("stranger", ca=True, permitted=[dns("example.com")], identifiers=False)
    forged = validate(leaf.certificate, [], truststore(root), NOW)
    assert isinstance(forged, Refused)
    assert forged.reason is Reason.BAD_SIGNATURE
    assert {c.name: c.result for c in forged.checks}["name_constraints"] is Result.SKIPPED


def path_of(leaf: Issued, root: Issued) -> Path:
    return Path((leaf.certificate, root.certificate), (Link.SIGNED,), anchored=True)


def test_many_names_and_constraints_are_refused_when_the_budget_is_spent() -> None:
    root = issue("root", ca=True, permitted=[dns(f"x{n}.example") for n in range(60)] + [dns("a.example")])
    leaf = issue("client", root, sans=[dns(f"{n}.a.example") for n in range(50)])
    assert check_name_constraints(path_of(leaf, root), Comparisons()).check.result is Result.PASS
    spent = Comparisons(3000)
    finding = check_name_constraints(path_of(leaf, root), spent)
    assert finding.reason is Reason.NAME_CONSTRAINT
    assert "more names and constraints" in finding.check.seen


_TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30)


@given(_TEXT, _TEXT.filter(lambda text: "*" not in text))
@settings(max_examples=60, deadline=None)
def test_any_text_in_names_and_constraints_is_judged(name: str, constraint: str) -> None:
    """It passes or fails, never more; and nothing is both within a permitted and outside the same excluded subtree."""
    for make in (dns, mail, uri):
        leaf = issue("client", sans=[make(name)], key=LEAF_KEY)
        allowing = issue("root", ca=True, key=KEY, permitted=[make(constraint)])
        forbidding = issue("root", ca=True, key=KEY, excluded=[make(constraint)])
        permitted = check_name_constraints(path_of(leaf, allowing), Comparisons()).reason is None
        excluded = check_name_constraints(path_of(leaf, forbidding), Comparisons()).reason is not None
        assert excluded or not permitted
