"""The ledger: never silently emptied, never half written."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.x509 import ReasonFlags
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlsproxy.devpki import DevPki, PkiError, ledger
from mtlsproxy.devpki.ledger import Book, Ledger, Revoked

AT = datetime(2030, 1, 2, tzinfo=UTC)
REVOKED = '{"authorities": {"root": {"revoked": [%s]}}}'
FULL = Ledger(authorities={"client-ca": Book(crl_number=7)}).with_revoked(
    "client-ca", 0xABC, AT, ReasonFlags.superseded
)


def test_a_ledger_is_read_back_as_it_was_saved(tmp_path: Path) -> None:
    ledger.save(tmp_path, FULL)
    assert ledger.load(tmp_path) == FULL
    assert FULL.book("client-ca").revocation_of(0xABC) == Revoked(serial="0ABC", date=AT, reason=ReasonFlags.superseded)
    assert FULL.book("client-ca").revocation_of(0xABD) is None
    assert FULL.book("root") == Book()


def test_a_later_revocation_of_one_serial_takes_the_place_of_the_earlier() -> None:
    changed = FULL.with_revoked("client-ca", 0xABC, AT, ReasonFlags.key_compromise).book("client-ca")
    assert [record.reason for record in changed.revoked] == [ReasonFlags.key_compromise]
    assert changed.crl_number == 7


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"authorities": {}, "version": 2}',
        '{"authorities": {"other-ca": {}}}',
        '{"authorities": {"root": {"crl_number": -1}}}',
        REVOKED % '{"serial": "xyz", "date": "2030-01-02T00:00:00Z", "reason": "superseded"}',
        REVOKED % '{"serial": "1", "date": "2030-01-02T00:00:00", "reason": "superseded"}',
        REVOKED % '{"serial": "1", "date": "2030-01-02T00:00:00Z", "reason": "bored"}',
        '{"authorities": {"root": {"unknown": 1}}}',
    ],
)
def test_a_damaged_ledger_is_an_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "ledger.json").write_text(text)
    with pytest.raises(PkiError, match=r"ledger\.json: .*restore it from a backup"):
        ledger.load(tmp_path)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(FULL.to_json()) - 3))
def test_a_ledger_that_was_cut_off_is_an_error(cut: int) -> None:
    with pytest.raises(ValueError, match="Ledger"):
        Ledger.model_validate_json(FULL.to_json()[:cut])


def test_without_its_ledger_a_pki_makes_no_crl_that_forgets(pki: DevPki) -> None:
    pki.revoke(pki.issue("CN=alice").certificate)
    before = pki.crl_path("client-ca").read_bytes()
    (pki.directory / "ledger.json").unlink()
    with pytest.raises(PkiError, match=r"ledger\.json: no such file"):
        pki.write_crls()
    assert pki.crl_path("client-ca").read_bytes() == before
