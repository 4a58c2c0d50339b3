"""Which leaves are X509-SVIDs of a trust domain (SPIFFE X509-SVID, SPIFFE-ID)."""

import pytest
from cryptography import x509
from tests.unit.x509.build import issue, key_usage, new_key

from mtlsproxy.reasons import Reason
from mtlsproxy.x509.evidence import Result
from mtlsproxy.x509.spiffe import check_spiffe

KEY = new_key()


def reason(*uris: str, **fields: object) -> Reason | None:
    sans = [x509.UniformResourceIdentifier(text) for text in uris]
    leaf = issue("workload", key=KEY, sans=sans, **fields)  # type: ignore[arg-type]
    finding = check_spiffe(leaf.certificate, "example.org")
    assert (finding.check.result is Result.FAIL) == (finding.reason is not None) == bool(finding.check.fix)
    return finding.reason


@pytest.mark.parametrize("uri", ["spiffe://example.org/a", "spiffe://example.org/ns/Prod_1/sa/web.front-end"])
def test_a_workloads_id_of_the_trust_domain_is_accepted(uri: str) -> None:
    assert reason(uri) is None


@pytest.mark.parametrize(
    "uri",
    [
        "spiffe://example.org",
        "spiffe://example.org/",
        "spiffe://example.com/a",
        "spiffe://sub.example.org/a",
        "spiffe://example.org.evil/a",
        "spiffe://EXAMPLE.org/a",
        "SPIFFE://example.org/a",
        "https://example.org/a",
        "spiffe://user@example.org/a",
        "spiffe://example.org:443/a",
        "spiffe://example.org/a?x=1",
        "spiffe://example.org/a#x",
        "spiffe://example.org/a/",
        "spiffe://example.org/a//b",
        "spiffe://example.org/./a",
        "spiffe://example.org/a/..",
        "spiffe://example.org/%61",
        "spiffe://example.org/" + "a" * 2048,
        "spiffe:///a",
    ],
)
def test_anything_else_is_not_a_svid(uri: str) -> None:
    assert reason(uri) is Reason.NOT_A_SVID


def test_a_trust_domain_has_at_most_255_characters() -> None:
    for length, accepted in ((255, True), (256, False)):
        sans = [x509.UniformResourceIdentifier(f"spiffe://{'a' * length}/x")]
        finding = check_spiffe(issue("workload", key=KEY, sans=sans).certificate, "a" * length)
        assert (finding.reason is None) == accepted


def test_a_svid_has_exactly_one_uri() -> None:
    assert reason() is Reason.NOT_A_SVID
    assert reason("spiffe://example.org/a", "https://example.org/") is Reason.NOT_A_SVID


def test_a_svid_can_sign_and_cannot_issue() -> None:
    uri = "spiffe://example.org/a"
    assert reason(uri, ca=True, usage=key_usage("digital_signature")) is Reason.NOT_A_SVID
    assert reason(uri, usage=None) is Reason.NOT_A_SVID
    assert reason(uri, usage=key_usage("key_agreement")) is Reason.NOT_A_SVID
    assert reason(uri, usage=key_usage("digital_signature", "crl_sign")) is Reason.NOT_A_SVID
    assert reason(uri, usage=key_usage("digital_signature", "key_agreement")) is None


def test_without_a_trust_domain_nothing_is_demanded() -> None:
    finding = check_spiffe(issue("plain", key=KEY).certificate, None)
    assert (finding.reason, finding.check.result) == (None, Result.SKIPPED)
