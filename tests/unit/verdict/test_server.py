"""A server is trusted when chain, validity, name and revocation all pass; the first that does not is named."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.verdict.test_judge import HARD, OTHER, ROOT, SOFT, crl, trust
from tests.unit.x509.build import DAY, NOW, Issued, issue

from mtlsproxy.revocation.decide import OcspPolicy, RevocationPolicy
from mtlsproxy.verdict.server import ServerVerdict, describe, judge_server
from mtlsproxy.verdict.trust import Trust
from mtlsproxy.x509.hostname import InvalidServerName
from mtlsproxy.x509.policy import CLIENT_AUTH, SERVER_AUTH

NAME = "server.test"


def server(issuer: Issued = ROOT, *names: str, **what: object) -> Issued:
    sans = [x509.DNSName(name) for name in names or (NAME,)]
    return issue("a server", issuer, **{"sans": sans, "eku": [SERVER_AUTH], **what})  # type: ignore[arg-type]


GOOD = server()


def servers(**options: object) -> Trust:
    return trust("upstream:orders", **{"require_eku": (SERVER_AUTH,), **options})  # type: ignore[arg-type]


def judged(leaf: Issued, by: Trust | None = None, name: str = NAME, at: datetime = NOW) -> ServerVerdict:
    return judge_server([leaf.certificate.der], by or servers(), name, at)


def test_a_good_server_is_trusted_until_the_first_certificate_of_its_chain_ends() -> None:
    verdict = judged(GOOD)
    assert (verdict.failed, verdict.detail, verdict.wanted) == (None, "", ())
    assert verdict.deadline == min(GOOD.certificate.not_after, ROOT.certificate.not_after)
    assert verdict.checks[-1].name == "hostname"


@pytest.mark.parametrize(
    ("leaf", "at", "check", "words"),
    [
        (server(OTHER), NOW, "chain", "is not accepted (untrusted_issuer): "),
        (GOOD, NOW + 400 * DAY, "validity", "is not accepted (expired): "),
        (GOOD, NOW - 400 * DAY, "validity", "is not accepted (not_yet_valid): "),
        (server(eku=[CLIENT_AUTH]), NOW, "extended_key_usage", "is not accepted (eku_mismatch): "),
        (server(eku=None), NOW, "extended_key_usage", "is not accepted (eku_missing): "),
        (server(ROOT, "other.test"), NOW, "hostname", "is for other.test, not server.test"),
        (server(ROOT, *(f"{n}.test" for n in range(9))), NOW, "hostname", "3.test, 4.test and 4 more, not"),
        (issue("server.test", ROOT, eku=[SERVER_AUTH]), NOW, "hostname", "is for no host "),
    ],
)
def test_the_check_that_fails_is_named_with_the_certificate_and_a_mend(
    leaf: Issued, at: datetime, check: str, words: str
) -> None:
    verdict = judged(leaf, at=at)
    assert verdict.failed is not None
    assert (verdict.failed.name, verdict.deadline) == (check, None)
    assert verdict.failed.fix
    assert words in verdict.detail
    assert verdict.detail.startswith("the server's certificate ")
    assert verdict.detail.endswith(f"({describe(leaf.certificate)})")


def test_what_is_wrong_with_the_chain_is_said_before_what_is_wrong_with_the_name() -> None:
    verdict = judged(server(OTHER, "other.test"))
    assert verdict.failed is not None
    assert verdict.failed.name == "chain"


@pytest.mark.parametrize(
    ("mode", "crls", "words"),
    [
        (HARD, [crl(ROOT)], None),
        (HARD, [crl(ROOT, GOOD)], "is revoked: "),
        (SOFT, [crl(ROOT, GOOD)], "is revoked: "),
        (HARD, [], "is not accepted (revocation_unknown): "),
        (SOFT, [], None),
    ],
)
def test_revocation_decides_as_for_clients(mode: RevocationPolicy, crls: Sequence[bytes], words: str | None) -> None:
    verdict = judged(GOOD, servers(revocation=mode, crls=crls))
    if words is None:
        assert verdict.failed is None
    else:
        assert verdict.failed is not None
        assert verdict.failed.name == "revocation"
        assert words in verdict.detail


def test_the_end_of_a_list_ends_the_trust() -> None:
    ends = NOW + timedelta(hours=2)
    assert judged(GOOD, servers(revocation=HARD, crls=[crl(ROOT, ends=ends)])).deadline == ends


OCSP = RevocationPolicy("hard_fail", ocsp=OcspPolicy(enabled=True, responder="http://ocsp.test/"))


def test_ocsp_is_asked_about_a_server_before_it_is_trusted_or_not() -> None:
    verdict = judged(GOOD, servers(revocation=OCSP))
    assert (verdict.failed, verdict.deadline) == (None, None)
    assert [(want.truststore, want.ocsp) for want in verdict.wanted] == [("upstream:orders", True)]


def test_nobody_is_asked_about_a_server_that_is_not_the_one_meant() -> None:
    verdict = judged(server(ROOT, "other.test"), servers(revocation=OCSP))
    assert verdict.failed is not None
    assert (verdict.failed.name, verdict.wanted) == ("hostname", ())


@pytest.mark.parametrize("name", ["", "my_server", "a..b", "*.test", "1.2.3"])
def test_a_name_that_no_certificate_can_have_is_refused(name: str) -> None:
    with pytest.raises(InvalidServerName):
        judged(GOOD, name=name)


@given(st.lists(st.binary(max_size=80), max_size=4), st.booleans())
@settings(max_examples=100, deadline=None)
def test_whatever_a_server_presents_is_a_refusal_unless_it_is_good(extra: list[bytes], first: bool) -> None:
    """Rubbish behind a good leaf, or in its place, or nothing at all."""
    presented = [GOOD.certificate.der, *extra] if first else extra
    verdict = judge_server(presented, servers(), NAME, NOW)
    assert (verdict.failed is None) == (presented == [GOOD.certificate.der])


def test_the_mend_of_a_server_that_nobody_knows_names_settings_that_there_are() -> None:
    failed = judged(server(OTHER)).failed
    assert failed is not None
    assert "trusted are: CN=Root; another CA" in failed.fix
    assert "tls.trust_anchors" in failed.fix
    assert "intermediates" not in failed.fix
