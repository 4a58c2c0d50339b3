"""What may replace a known list, and what an attacker on the way cannot pass off as its successor."""

from contextlib import nullcontext

import pytest
from tests.unit.fetch.lists import HOUR, parsed
from tests.unit.revocation.build import NOW, ONLY_CA, ONLY_USER, authority, distribution_point, key_identifier, tlv

from mtlsproxy.fetch.accept import MAX_LISTS, Refusal, Unfit, accept, refuse_bundle

CA = authority("CA")
OTHER = authority("Other")
IMPOSTOR = authority("CA")  # the same name, another key
KNOWN = parsed(CA, 1, at=NOW, number=7)


def judge(*offered, known=(), issuers=(CA,), pending=True):
    return accept(offered, known, [issuer.certificate for issuer in issuers], NOW, pending=pending)


def refused(refusal, *offered, **options):
    with pytest.raises(Unfit) as caught:
        judge(*offered, **options)
    assert caught.value.refusal is refusal
    assert "http://crl.example/a.crl" in caught.value.detail


def test_a_list_of_a_known_issuer_is_taken_as_verified():
    assert judge(KNOWN) is True
    assert judge(KNOWN, pending=False) is True


@pytest.mark.parametrize("number", [7, 8, 100])
def test_the_same_list_or_a_later_one_replaces_it(number):
    assert judge(parsed(CA, 1, 2, at=NOW, number=number), known=(KNOWN,)) is True


@pytest.mark.parametrize("number", [6, 1, None])
def test_an_older_list_is_a_rollback(number):
    refused(Refusal.ROLLBACK, parsed(CA, at=NOW, number=number, age=2 * HOUR), known=(KNOWN,))


def test_a_lower_number_is_a_rollback_though_it_was_issued_later():
    refused(Refusal.ROLLBACK, parsed(CA, at=NOW, number=6, age=HOUR / 2), known=(KNOWN,))


def test_a_ca_that_numbers_anew_is_believed_once_the_known_list_has_ended():
    ended = parsed(CA, 1, at=NOW, number=7, age=3 * HOUR, lasts=-HOUR)
    assert judge(parsed(CA, at=NOW, number=1), known=(ended,)) is True
    refused(Refusal.ROLLBACK, parsed(CA, at=NOW, number=1, age=4 * HOUR), known=(ended,))


def test_a_higher_number_with_an_earlier_date_is_a_rollback():
    refused(Refusal.ROLLBACK, parsed(CA, at=NOW, number=8, age=2 * HOUR), known=(KNOWN,))


def test_a_list_that_another_key_of_that_name_signed_is_refused():
    refused(Refusal.NOT_SIGNED, parsed(IMPOSTOR, at=NOW), pending=False)
    assert judge(parsed(IMPOSTOR, at=NOW)) is False  # it may be a second key of the CA: it waits for a chain with it


def test_a_list_that_names_the_issuers_key_and_is_not_signed_by_it_is_refused():
    assert judge(parsed(IMPOSTOR, at=NOW, key_id=False)) is False
    claimed = parsed(IMPOSTOR, at=NOW, key_id=False, extensions=(key_identifier(CA),))
    refused(Refusal.NOT_SIGNED, claimed)


def test_a_list_of_somebody_else_waits_or_is_refused_where_the_issuer_is_certain():
    assert judge(parsed(OTHER, at=NOW)) is False
    refused(Refusal.FOREIGN_ISSUER, parsed(OTHER, at=NOW), pending=False)


def test_a_fresh_list_does_not_give_way_to_that_of_somebody_else():
    refused(Refusal.FOREIGN_ISSUER, parsed(OTHER, at=NOW, number=9), known=(KNOWN,))
    refused(Refusal.FOREIGN_ISSUER, parsed(OTHER, at=NOW, number=9), known=(KNOWN,), issuers=(CA, OTHER))
    refused(Refusal.FOREIGN_ISSUER, parsed(IMPOSTOR, at=NOW, number=9), known=(KNOWN,))


def test_an_ended_list_gives_way():
    ended = parsed(CA, 1, at=NOW, lasts=-HOUR / 2)
    assert judge(parsed(OTHER, at=NOW), known=(ended,), issuers=(CA, OTHER)) is True


def test_a_pending_list_protects_nothing():
    pending = parsed(OTHER, at=NOW, number=9)
    assert judge(KNOWN, known=(pending,)) is True
    assert judge(parsed(OTHER, at=NOW, number=1, age=3 * HOUR), known=(pending,)) is False


@pytest.mark.parametrize("scope", [ONLY_CA, ONLY_USER])
def test_a_fresh_list_does_not_give_way_to_one_of_another_scope(scope):
    """The same CA's list for CA certificates would leave clients without an answer, or revoked ones let pass."""
    other = parsed(CA, at=NOW, number=9, extensions=(distribution_point(scope),))
    refused(Refusal.FOREIGN_ISSUER, other, known=(KNOWN,))
    assert judge(other, KNOWN, known=(KNOWN,)) is True


def test_every_list_of_a_file_must_have_its_successor():
    second = parsed(OTHER, 5, at=NOW, number=3)
    both = (CA, OTHER)
    assert judge(KNOWN, second, known=(KNOWN, second), issuers=both) is True
    refused(Refusal.FOREIGN_ISSUER, KNOWN, known=(KNOWN, second), issuers=both)


@pytest.mark.parametrize(("count", "taken"), [(MAX_LISTS, True), (MAX_LISTS + 1, False)])
def test_a_bundle_has_a_bounded_number_of_lists(count, taken):
    """Over plain http anybody can send as many pending ones as `max_size` holds: hundreds of thousands of files."""
    data = b"-----BEGIN X509 CRL-----\n-----END X509 CRL-----\n" * count
    with nullcontext() if taken else pytest.raises(Unfit, match="257 PEM blocks") as caught:
        refuse_bundle(data, "http://crl.example/a.crl")
    assert taken or caught.value.refusal is Refusal.TOO_MUCH


@pytest.mark.parametrize(("urls", "taken"), [(1, True), (600, False)])
def test_a_list_has_a_bounded_size_of_names(urls, taken):
    """They are parsed, and shown, by the process that serves requests."""
    names = [tlv(0x86, f"http://crl.example/shards/{number}".encode()) for number in range(urls)]
    crl = parsed(CA, at=NOW, extensions=(distribution_point(tlv(0xA0, tlv(0xA0, *names))),))
    if taken:
        assert judge(crl) is True
    else:
        refused(Refusal.TOO_MUCH, crl)


def test_a_list_without_an_end_is_refused():
    refused(Refusal.NO_NEXT_UPDATE, parsed(CA, at=NOW, lasts=None))


def test_a_list_of_the_future_is_refused_beyond_the_skew_of_clocks():
    refused(Refusal.NOT_YET_VALID, parsed(CA, at=NOW, age=-HOUR))
    assert judge(parsed(CA, at=NOW, age=-HOUR / 60)) is True


def test_the_first_list_may_have_ended_already():
    """Grace and soft_fail are the decision's to grant; an old list still says who is revoked."""
    assert judge(parsed(CA, at=NOW, age=3 * HOUR, lasts=-HOUR)) is True
