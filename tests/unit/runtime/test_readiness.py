"""Whether a truststore could accept anybody at all, as /readyz asks it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.unit.fetch.lists import parsed
from tests.unit.revocation.build import Authority, authority

from mtlsproxy.revocation.crl import Crl
from mtlsproxy.revocation.crlset import CrlSet
from mtlsproxy.revocation.policy import RevocationPolicy
from mtlsproxy.runtime.lasting import ends_of
from mtlsproxy.runtime.status import why_useless
from mtlsproxy.verdict.trust import DenyList, Trust
from mtlsproxy.x509.certificate import Certificate
from mtlsproxy.x509.policy import Policy, Truststore

NOW = datetime(2025, 6, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
ROOT = authority("Root")
BETWEEN = authority("Between", ROOT)
STRANGER = authority("Stranger")


class Nobody:
    """Answers or points of which nothing is known yet."""

    def get(self, certificate: Certificate, issuer: Certificate) -> None:
        return None

    def asked(self, url: str, issuer: Certificate) -> bool:
        return False


def trust(*crls: Crl, anchor: Authority = ROOT, ocsp: bool = False, points: bool = False, **policy: Any) -> Trust:
    store = Truststore("partners", (anchor.certificate,), (BETWEEN.certificate,), Policy())
    built, _ = CrlSet.build(crls, (*store.anchors, *store.intermediates))
    known = RevocationPolicy(**{"mode": "hard_fail", **policy})
    nobody = Nobody()
    return Trust(store, known, built, DenyList(()), nobody if ocsp else None, nobody if points else None)


FRESH = parsed(ROOT, at=NOW)
ENDED = parsed(ROOT, at=NOW, age=5 * HOUR, lasts=-2 * HOUR)
FOR_EVER = parsed(ROOT, at=NOW, lasts=datetime(9999, 12, 31, tzinfo=UTC) - NOW)

USEFUL = {
    "a fresh list": trust(FRESH),
    "one that counts by grace": trust(ENDED, grace=3 * HOUR),
    "one that never ends, and grace": trust(FOR_EVER, grace=timedelta(days=3650)),
    "soft_fail without a list": trust(mode="soft_fail"),
    "revocation off": trust(mode="off"),
    "OCSP, which is asked when somebody comes": trust(ocsp=True),
    "distribution points likewise": trust(points=True),
    "distribution points though a list has ended": trust(ENDED, points=True),
    "a stranger's list where leaves alone are judged": trust(parsed(STRANGER, at=NOW), scope="leaf"),
}

NOT_HERE = "no CRL of partners is here yet, and its mode is hard_fail"
OVER = "every CRL of partners has ended, and its mode is hard_fail"
USELESS = {
    "no list": (trust(), NOT_HERE),
    "a list that has ended": (trust(ENDED), OVER),
    "grace that is over": (trust(ENDED, grace=HOUR), OVER),
    "a stranger's list": (
        trust(parsed(STRANGER, at=NOW)),
        NOT_HERE,
    ),
    "the list of an intermediate alone": (
        trust(parsed(BETWEEN, at=NOW)),
        NOT_HERE,
    ),
    "an anchor that has expired": (
        trust(FRESH, mode="off", anchor=authority("Old", key=None)),
        "no trust anchor of partners is valid now",
    ),
}


@pytest.mark.parametrize("case", USEFUL)
def test_it_is_useful_with(case: str) -> None:
    assert why_useless(USEFUL[case], NOW) == ""


@pytest.mark.parametrize("case", USELESS)
def test_it_is_useless_with(case: str) -> None:
    store, why = USELESS[case]
    at = NOW + timedelta(days=4000) if "expired" in case else NOW
    assert why_useless(store, at) == why


MISSING = [{"truststore": "partners", "issuer": ROOT.certificate.subject, "state": "missing", "seconds_left": None}]


@pytest.mark.parametrize(
    ("store", "missing"),
    [
        (trust(), MISSING),
        (trust(parsed(BETWEEN, at=NOW)), MISSING),
        (trust(FRESH), []),
        (trust(ENDED), []),
        (trust(mode="soft_fail"), []),
        (trust(scope="leaf"), []),
        (trust(ocsp=True), []),
        (trust(points=True), []),
    ],
)
def test_an_anchor_without_a_list_is_named_where_that_refuses_all_its_clients(
    store: Trust, missing: list[dict[str, Any]]
) -> None:
    assert [end for end in ends_of(store, NOW) if end["state"] == "missing"] == missing
