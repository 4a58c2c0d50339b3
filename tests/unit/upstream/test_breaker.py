"""A breaker lets everything through, nothing, or one that tries; only what came after it opened closes it."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mtlsproxy.upstream.breaker import Breaker, State


def opened(at: float = 0.0) -> Breaker:
    breaker = Breaker(3, 10.0)
    for _ in range(3):
        breaker.failed(at)
    assert breaker.state is State.OPEN
    return breaker


def test_failures_in_a_row_open_it_and_an_answer_between_them_does_not_let_it_come_to_that() -> None:
    breaker = Breaker(3, 10.0)
    for _ in range(5):
        breaker.failed(0.0)
        breaker.failed(0.0)
        assert breaker.allows(0.0)
        breaker.answered()
    assert breaker.row == 0
    for _ in range(3):
        assert breaker.state is State.CLOSED
        breaker.failed(0.0)
    assert breaker.state is State.OPEN


def test_nothing_passes_while_it_is_open_and_one_afterwards() -> None:
    breaker = opened(at=100.0)
    assert not breaker.allows(100.0)
    assert not breaker.allows(109.9)
    assert (breaker.left(105.0), breaker.left(111.0)) == (5.0, 0.0)
    assert breaker.allows(110.0)
    breaker.trying(110.0)
    assert breaker.state is State.HALF_OPEN
    assert not breaker.allows(110.0)


def test_the_one_that_tries_decides() -> None:
    breaker = opened()
    breaker.trying(10.0)
    breaker.answered()
    assert (breaker.state, breaker.row, breaker.allows(10.0)) == (State.CLOSED, 0, True)
    breaker = opened()
    breaker.trying(10.0)
    breaker.failed(12.0)
    assert breaker.state is State.OPEN
    assert not breaker.allows(21.9)
    assert breaker.allows(22.0)


def test_one_that_is_never_heard_of_again_does_not_shut_it_for_ever() -> None:
    """Its client left, say."""
    breaker = opened()
    breaker.trying(10.0)
    assert not breaker.allows(19.9)
    assert breaker.allows(20.0)
    breaker.trying(20.0)
    assert breaker.state is State.HALF_OPEN
    assert not breaker.allows(20.0)


def test_outcomes_from_before_it_opened_change_nothing() -> None:
    breaker = opened()
    breaker.answered()
    assert breaker.state is State.OPEN
    breaker.failed(9.0)
    assert breaker.allows(10.0), "nor do they lengthen it"


def test_a_reload_takes_its_state_over() -> None:
    breaker = Breaker(5, 60.0)
    breaker.take_over(opened(at=100.0))
    assert (breaker.state, breaker.row) == (State.OPEN, 3)
    assert (breaker.allows(109.0), breaker.allows(110.0)) == (False, True)


def test_failures_of_one_client_alone_shut_out_that_client() -> None:
    """Whoever else asks gets through, and does not count as the one that tries."""
    breaker = Breaker(3, 10.0)
    for _ in range(3):
        breaker.failed(0.0, "mallory")
    assert (breaker.state, breaker.only) == (State.OPEN, "mallory")
    assert (breaker.allows(1.0), breaker.allows_to("mallory", 1.0)) == (False, False)
    assert breaker.allows_to("alice", 1.0)
    assert breaker.allows_to(None, 1.0)
    breaker.answered()
    assert not breaker.allows_to("mallory", 1.0), "an answer to alice says nothing of it"
    breaker.failed(2.0, "alice")
    assert not breaker.allows_to("alice", 2.0), "now it is the server"
    assert breaker.allows_to("alice", 10.0)


def test_failures_of_several_clients_or_of_connects_shut_out_everybody() -> None:
    for clients in (("mallory", "alice", "mallory"), (None, "mallory", "mallory"), ("mallory", None, None)):
        breaker = Breaker(3, 10.0)
        for client in clients:
            breaker.failed(0.0, client)
        assert [breaker.allows_to(client, 1.0) for client in ("mallory", "alice", None)] == [False] * 3


def test_after_an_answer_it_is_found_out_anew_whose_requests_fail() -> None:
    breaker = Breaker(2, 10.0)
    breaker.failed(0.0, "alice")
    breaker.answered()
    breaker.failed(0.0, "mallory")
    breaker.failed(0.0, "mallory")
    other = Breaker(2, 10.0)
    other.take_over(breaker)
    assert [each.allows_to("alice", 1.0) for each in (breaker, other)] == [True, True]
    assert [each.allows_to("mallory", 1.0) for each in (breaker, other)] == [False, False]


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens, in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(2, 5.0)
        self.now = 0

    @rule(seconds=st.integers(0, 6))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def an_answer_comes(self) -> None:
        self.breaker.answered()

    @rule(client=st.sampled_from(["a", "b", None]))
    def a_request_fails(self, client: str | None) -> None:
        self.breaker.failed(self.now, client)

    @precondition(lambda self: self.breaker.state is not State.CLOSED and self.breaker.allows(self.now))
    @rule()
    def one_tries(self) -> None:
        self.breaker.trying(self.now)

    @invariant()
    def it_is_never_shut_for_longer_than_it_says(self) -> None:
        assert self.breaker.left(self.now) <= 5.0
        assert self.breaker.allows(self.now + 5.0)

    @invariant()
    def whom_it_lets_through_at_all_it_lets_through_with_everybody(self) -> None:
        allowed = [self.breaker.allows_to(client, self.now) for client in ("a", "b", None)]
        assert allowed.count(False) in (0, 1, 3)
        assert all(allowed) or not self.breaker.allows(self.now)

    @invariant()
    def closed_means_that_not_too_many_failed(self) -> None:
        assert self.breaker.state is not State.CLOSED or self.breaker.row < 2


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
