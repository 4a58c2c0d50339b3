"""Certificate policies: the truststore's demand on the leaf, and what CAs demand of one another (RFC 5280 §6.1)."""

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.x509.build import Extra, Issued, issue, new_key, tlv

from mtlsproxy.reasons import Reason
from mtlsproxy.x509.certificate import MalformedCertificate
from mtlsproxy.x509.path import Link, Path
from mtlsproxy.x509.policies import check_certificate_policies
from mtlsproxy.x509.policy import Policy

ANY = "2.5.29.32.0"
KEYS = [new_key() for _ in range(5)]


def demand(explicit: int | None = None, no_mapping: int | None = None) -> Extra:
    return x509.PolicyConstraints(explicit, no_mapping), True


def no_any(skip: int = 0) -> Extra:
    return x509.InhibitAnyPolicy(skip), True


def mapping(*pairs: tuple[str, str]) -> Extra:
    def oid(text: str) -> bytes:
        octets = x509.ExtendedKeyUsage([x509.ObjectIdentifier(text)]).public_bytes()
        return octets[2:]

    value = tlv(0x30, *(tlv(0x30, oid(issuer), oid(subject)) for issuer, subject in pairs))
    return x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.33"), value), True


def chain(*levels: tuple[list[str], list[Extra]]) -> Path:
    """levels: (policies, further extensions) from the CA below the anchor down to the leaf."""
    issued: list[Issued] = [issue("root", ca=True, key=KEYS[0])]
    for number, (policies, extra) in enumerate(levels, 1):
        leaf = number == len(levels)
        issued.append(issue(f"{number}", issued[-1], ca=not leaf, key=KEYS[number], policies=policies, extra=extra))
    certificates = tuple(one.certificate for one in reversed(issued))
    return Path(certificates, (Link.SIGNED,) * len(levels), anchored=True)


def refused(path: Path, *wanted: str) -> bool:
    finding = check_certificate_policies(path, Policy(certificate_policies=wanted))
    assert finding.reason in (None, Reason.POLICY_OID)
    return finding.reason is not None


def test_one_of_the_truststores_policies_must_be_in_the_leaf() -> None:
    path = chain(([], []), (["1.2.3", "1.2.4"], []))
    assert not refused(path, "1.2.4")
    assert not refused(path, "9.9", "1.2.3")
    assert refused(path, "1.2.5")
    assert refused(chain(([], []), ([], [])), "1.2.3")
    assert not refused(chain(([], []), ([], [])))


def test_any_policy_in_the_leaf_asserts_none_in_particular() -> None:
    assert refused(chain(([ANY], []), ([ANY], [])), "1.2.3")


def test_a_ca_that_names_policies_is_limited_to_them() -> None:
    assert refused(chain((["1.2.4"], []), (["1.2.3"], [])), "1.2.3")
    assert not refused(chain((["1.2.3"], []), (["1.2.3"], [])), "1.2.3")
    assert not refused(chain(([ANY], []), (["1.2.3"], [])), "1.2.3")
    assert refused(chain(([ANY], []), (["1.2.4"], []), (["1.2.3"], [])), "1.2.3")


def test_a_ca_that_demands_an_explicit_policy_gets_one_or_refuses() -> None:
    assert refused(chain((["1.2.3"], [demand(0)]), ([], [])))
    assert refused(chain((["1.2.3"], [demand(0)]), (["1.2.4"], [])))
    assert not refused(chain((["1.2.3"], [demand(0)]), (["1.2.3"], [])))
    assert not refused(chain(([ANY], [demand(0)]), (["1.2.3"], [])))
    assert refused(chain(([], [demand(0)]), (["1.2.3"], [])))


def test_an_explicit_policy_may_be_demanded_some_certificates_further_down() -> None:
    assert not refused(chain(([], [demand(2)]), ([], [])))
    assert refused(chain(([], [demand(1)]), ([], []), ([], [])))
    assert refused(chain(([], [demand(2)]), ([], []), ([], [])))
    assert not refused(chain(([], [demand(3)]), ([], []), ([], [])))


def test_a_leaf_can_demand_a_policy_of_itself() -> None:
    """RFC 5280 §6.1.5 (b)."""
    assert refused(chain(([], []), ([], [demand(0)])))
    assert not refused(chain((["1.2.3"], []), (["1.2.3"], [demand(0)])))


def test_any_policy_can_be_inhibited() -> None:
    assert refused(chain(([ANY], [demand(0), no_any()]), ([ANY], [])))
    assert not refused(chain(([ANY], [demand(0), no_any()]), (["1.2.3"], [])))
    assert not refused(chain(([ANY], [demand(0), no_any(1)]), ([ANY], [])))
    assert refused(chain(([ANY], [demand(0), no_any(1)]), ([ANY], []), ([ANY], [])))


def test_self_issued_cas_use_up_no_certificate_and_may_assert_any_policy() -> None:
    """RFC 5280 §6.1.3 (d)(2), §6.1.4 (h): renewing a key changes nothing for those below."""
    for extra in ([demand(0), no_any()], [demand(0), no_any(1)]):
        root = issue("root", ca=True, key=KEYS[0])
        ca = issue("ca", root, ca=True, key=KEYS[1], policies=["1.2.3"], extra=extra)
        renewed = issue("ca", ca, ca=True, key=KEYS[2], policies=[ANY])
        leaf = issue("leaf", renewed, key=KEYS[3], policies=["1.2.3"])
        certificates = tuple(one.certificate for one in (leaf, renewed, ca, root))
        assert not refused(Path(certificates, (Link.SIGNED,) * 3, anchored=True))
    root = issue("root", ca=True, key=KEYS[0])
    ca = issue("ca", root, ca=True, key=KEYS[1], extra=[demand(2)])
    renewed = issue("ca", ca, ca=True, key=KEYS[2])
    leaf = issue("leaf", renewed, key=KEYS[3])
    certificates = tuple(one.certificate for one in (leaf, renewed, ca, root))
    assert not refused(Path(certificates, (Link.SIGNED,) * 3, anchored=True))


def test_policies_are_followed_through_mappings() -> None:
    mapped = (["1.2.3"], [demand(0), mapping(("1.2.3", "1.7.8"))])
    assert not refused(chain(mapped, (["1.7.8"], [])))
    assert refused(chain(mapped, (["1.2.3"], [])))
    assert not refused(chain(([ANY], [demand(0), mapping(("1.2.3", "1.7.8"))]), (["1.7.8"], [])))


def test_mapping_can_be_inhibited_and_never_touches_any_policy() -> None:
    top = (["1.2.3"], [demand(0, no_mapping=0)])
    mapped = (["1.2.3"], [mapping(("1.2.3", "1.7.8"))])
    assert refused(chain(top, mapped, (["1.7.8"], [])))
    assert refused(chain(top, mapped, (["1.2.3"], [])))
    for pair in ((ANY, "1.2.3"), ("1.2.3", ANY)):
        assert refused(chain((["1.2.3"], [mapping(pair)]), (["1.2.3"], [])))


_OIDS = st.lists(st.sampled_from([ANY, "1.2.3", "1.2.4"]), max_size=3, unique=True)


@given(st.lists(_OIDS, min_size=1, max_size=3), st.sampled_from(["1.2.3", "1.2.4"]))
@settings(max_examples=60, deadline=None)
def test_a_wanted_policy_is_one_that_every_level_allows(levels: list[list[str]], wanted: str) -> None:
    """The algorithm against the definition: asserted by the leaf; at each CA above named, any, or unrestricted."""
    path = chain(*((policies, []) for policies in levels))
    allowed = wanted in levels[-1] and all(not p or wanted in p or ANY in p for p in levels[:-1])
    assert refused(path, wanted) != allowed


@pytest.mark.parametrize("extra", [b"\x30\x02\x30\x00", b"\x30\x04\x30\x02\x06\x00", b"\x31\x00", b""])
def test_mappings_that_do_not_parse_are_malformed(extra: bytes) -> None:
    bad = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.33"), extra)
    with pytest.raises(MalformedCertificate):
        issue("ca", ca=True, extra=[(bad, True)])
