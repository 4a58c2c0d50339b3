"""A truststore's deny list: from the configuration, its deny_file and the API; who is matched, until when, and why."""

from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from tests.unit.x509.build import DAY, NOW, issue

from mtlsproxy.config.model import DenyEntry
from mtlsproxy.identity.client import client_of
from mtlsproxy.verdict.trust import Denial, DenyList
from mtlsproxy.x509.evidence import Check, Result

ROOT = issue("Root", ca=True)
ALICE = client_of(issue("alice", ROOT, sans=[x509.DNSName("alice.test")]).certificate)
BOB = client_of(issue("bob", ROOT, sans=[x509.DNSName("bob.test")]).certificate)


def entry(**said: Any) -> DenyEntry:
    return DenyEntry.model_validate(said)


def denial(ident: str = "d1", **said: Any) -> Denial:
    return Denial.model_validate({"id": ident, "created": NOW, "by": "127.0.0.1 port 1", **said})


def fails(check: Check) -> bool:
    return check.result is Result.FAIL


ORIGINS = {
    "deny[0]": lambda said: DenyList([entry(**said)]),
    "deny_file[0]": lambda said: DenyList([], [entry(**said)]),
    "denial d1": lambda said: DenyList([], [], [denial(**said)]),
}


@pytest.mark.parametrize("name", ORIGINS)
def test_whoever_matches_is_denied_and_the_evidence_names_the_entry(name: str) -> None:
    deny = ORIGINS[name]({"dns": "alice.test", "reason": "key lost"})
    check = deny.check(ALICE, NOW)
    assert fails(check)
    assert check.seen == f"matched by {name} {{dns: alice.test}}: key lost"
    assert check.fix.startswith("lift the denial" if name.startswith("denial") else "remove the entry")
    assert deny.check(BOB, NOW) == Check(
        "deny", Result.PASS, "none of 1 entries matches", "the truststore's deny: refused whatever else says"
    )


@pytest.mark.parametrize("name", ORIGINS)
def test_an_entry_counts_until_it_expires(name: str) -> None:
    deny = ORIGINS[name]({"dns": "alice.test", "expires": NOW + DAY})
    assert fails(deny.check(ALICE, NOW + DAY - timedelta(microseconds=1)))
    assert not fails(deny.check(ALICE, NOW + DAY))


def test_an_entry_after_one_that_has_expired_still_counts() -> None:
    deny = DenyList([entry(dns="alice.test", expires=NOW), entry(common_name="alice")])
    assert deny.check(ALICE, NOW).seen == "matched by deny[1] {common_name: alice}"


def test_other_denials_take_the_place_of_those_that_were_there_and_the_rest_stays() -> None:
    deny = DenyList([entry(dns="a.test")], [entry(dns="b.test"), entry(dns="c.test")], [denial(dns="alice.test")])
    other = deny.with_denials([denial("d2", dns="bob.test"), denial("d3", dns="x.test")])
    assert (deny.counts, other.counts) == ((1, 2, 1), (1, 2, 2))
    assert fails(deny.check(ALICE, NOW))
    assert not fails(other.check(ALICE, NOW))
    assert other.check(BOB, NOW).seen == "matched by denial d2 {dns: bob.test}"


@pytest.mark.parametrize("count", [1, 7, 8, 200])
def test_each_of_many_entries_is_found(count: int) -> None:
    others = [entry(serial=f"{number:x}", issuer="CN=Other") for number in range(1, count)]
    for position in {0, count // 2, count - 1}:
        entries = [*others[:position], entry(spki_sha256=ALICE.spki_sha256.upper()), *others[position:]]
        assert DenyList(entries).check(ALICE, NOW).seen.startswith(f"matched by deny[{position}] ")
        assert not fails(DenyList(entries).check(BOB, NOW))


def test_a_denial_is_active_until_it_expires() -> None:
    assert denial(dns="a.test").is_active(NOW + 10000 * DAY)
    assert denial(dns="a.test", expires=NOW + DAY).is_active(NOW)
    assert not denial(dns="a.test", expires=NOW + DAY).is_active(NOW + DAY)
