"""What the lists of one host may take together: none of another host's, and no more than it says."""

import pytest

from mtlsproxy.fetch.accept import Refusal, Unfit
from mtlsproxy.fetch.budget import LISTS_OF_FULL_SIZE, Budget

LIMIT = LISTS_OF_FULL_SIZE * 100


def take(budget: Budget, key: str, size: int, host: str = "crl.example") -> None:
    budget.take(f"http://{host}/{key}", key, size, 100)


def refused(budget: Budget, key: str, size: int, host: str = "crl.example") -> None:
    with pytest.raises(Unfit) as caught:
        take(budget, key, size, host)
    assert caught.value.refusal is Refusal.TOO_MUCH
    assert caught.value.detail.startswith(f"http://{host}/{key}: {size} octets")


def test_lists_of_a_host_are_taken_up_to_the_limit_and_not_beyond() -> None:
    budget = Budget()
    for number in range(LISTS_OF_FULL_SIZE):
        take(budget, f"{number}", 100)
    refused(budget, "more", 1)
    refused(budget, "more", 1, "CRL.example.:8080")  # the same host
    take(budget, "more", 100, "other.example")


def test_a_list_counts_once_however_often_it_comes() -> None:
    budget = Budget()
    take(budget, "large", LIMIT)
    take(budget, "large", LIMIT)
    refused(budget, "large", LIMIT + 1)
    refused(budget, "small", 1)
    take(budget, "large", LIMIT - 1)
    take(budget, "small", 1)


def test_what_was_not_used_after_all_is_as_before() -> None:
    budget = Budget()
    take(budget, "large", LIMIT - 1)
    take(budget, "large", LIMIT)
    budget.put_back("http://crl.example/large", "large", LIMIT - 1)
    take(budget, "small", 1)


def test_what_is_no_longer_wanted_makes_room() -> None:
    budget = Budget()
    take(budget, "large", LIMIT)
    budget.release("http://crl.example/large", "large")
    budget.release("http://crl.example/never", "never")
    take(budget, "small", LIMIT)
    assert len(budget._used) == 1
    budget.release("http://crl.example/small", "small")
    assert not budget._used
