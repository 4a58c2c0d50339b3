"""Shares follow weights, idle servers are preferred, and a client keeps its server as others come and go."""

from collections import Counter
from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlsproxy.upstream import balance
from mtlsproxy.upstream.balance import Balance, ClientHash, LeastRequests, RoundRobin, balance_of


@dataclass(eq=False)
class Some:
    """A server, as far as the choice goes."""

    url: str
    weight: int = 1
    turn: int = 0
    in_use: int = 0


def servers(*weights: int) -> list[Some]:
    return [Some(f"http://10.0.0.{number}", weight) for number, weight in enumerate(weights, 1)]


def picked(by: Balance[Some], among: list[Some], times: int, key: str | None = None) -> list[int]:
    return [among.index(by.pick(among, key)) for _ in range(times)]


WEIGHTS = st.lists(st.integers(1, 20), min_size=1, max_size=6)
KEYS = [f"spiffe://example.org/client/{number}" for number in range(400)]


def test_round_robin_takes_turns_and_does_not_bunch_up() -> None:
    assert picked(RoundRobin(), servers(1, 1, 1), 6) == [0, 1, 2, 0, 1, 2]
    assert picked(RoundRobin(), servers(5, 1, 1), 7) == [0, 0, 1, 0, 2, 0, 0]


@settings(max_examples=200, deadline=None)
@given(WEIGHTS, st.integers(1, 5))
def test_round_robin_gives_each_exactly_its_weight_in_every_round(weights: list[int], rounds: int) -> None:
    among = servers(*weights)
    counted = Counter(picked(RoundRobin(), among, rounds * sum(weights)))
    assert [counted[number] for number in range(len(weights))] == [rounds * weight for weight in weights]
    assert all(server.turn == 0 for server in among), "a round leaves nothing behind"


@settings(max_examples=100, deadline=None)
@given(WEIGHTS, st.data())
def test_round_robin_keeps_its_shares_though_servers_come_and_go(weights: list[int], data: st.DataObject) -> None:
    """What went before is never more than a round's difference."""
    among = servers(*weights)
    by: RoundRobin[Some] = RoundRobin()
    for _ in range(20):
        some = data.draw(st.lists(st.sampled_from(among), min_size=1, unique_by=id))
        assert by.pick(some, None) in some
    assert sum(server.turn for server in among) == 0
    total = sum(weights)
    counted = Counter(picked(by, among, 10 * total))
    for number, weight in enumerate(weights):
        assert abs(counted[number] - 10 * weight) <= 20 * total


def test_least_requests_takes_the_less_busy_of_two() -> None:
    by: LeastRequests[Some] = LeastRequests(Random(1))
    among = servers(1, 1)
    among[0].in_use = 3
    among[1].in_use = 2
    assert set(picked(by, among, 50)) == {1}
    among[0].weight = 2  # 3 of 2 is less than 2 of 1
    assert set(picked(by, among, 50)) == {0}
    assert picked(by, among[:1], 3) == [0, 0, 0]


@pytest.mark.parametrize("weights", [(1, 1), (1, 3), (2, 3, 5), (1, 1, 1, 7)])
def test_least_requests_follows_the_weights_where_all_are_idle(weights: tuple[int, ...]) -> None:
    counted = Counter(picked(LeastRequests(Random(7)), servers(*weights), 6000))
    for number, weight in enumerate(weights):
        assert counted[number] / 6000 == pytest.approx(weight / sum(weights), abs=0.03)


def test_least_requests_spreads_what_stays_and_does_not_herd() -> None:
    """Of ten servers, each twice as fast as the next would like: with two choices nobody is far above the mean."""
    by: LeastRequests[Some] = LeastRequests(Random(3))
    among = servers(*[1] * 10)
    for _ in range(1000):
        by.pick(among, None).in_use += 1
    assert max(server.in_use for server in among) - min(server.in_use for server in among) <= 6
    busiest = among[4]
    busiest.in_use += 1000
    assert busiest not in [by.pick(among, None) for _ in range(200)]


@settings(max_examples=50, deadline=None)
@given(WEIGHTS, st.text(max_size=40), st.randoms(use_true_random=False))
def test_a_client_stays_with_its_server_whatever_the_order(weights: list[int], key: str, random: Random) -> None:
    among = servers(*weights)
    first = ClientHash[Some]().pick(among, key)
    by: ClientHash[Some] = ClientHash()
    random.shuffle(among)
    assert [by.pick(among, key) for _ in range(3)] == [first] * 3


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=2, max_size=6), st.data())
def test_a_server_that_goes_moves_its_own_clients_alone(weights: list[int], data: st.DataObject) -> None:
    """And one that comes takes its clients from the others: it is the same, seen from behind."""
    among = servers(*weights)
    gone = data.draw(st.sampled_from(among))
    rest = [server for server in among if server is not gone]
    by: ClientHash[Some] = ClientHash()
    for key in KEYS[:100]:
        before = by.pick(among, key)
        after = by.pick(rest, key)
        assert after is before or before is gone


@pytest.mark.parametrize("weights", [(1, 1, 1), (1, 3), (5, 2, 3)])
def test_clients_are_shared_by_weight(weights: tuple[int, ...]) -> None:
    among = servers(*weights)
    by: ClientHash[Some] = ClientHash()
    counted = Counter(by.pick(among, f"client {number}").url for number in range(4000))
    for server in among:
        assert counted[server.url] / 4000 == pytest.approx(server.weight / sum(weights), abs=0.04)


def test_who_leaves_spreads_its_clients_over_all_others() -> None:
    among = servers(1, 1, 1, 1)
    by: ClientHash[Some] = ClientHash()
    moved = [key for key in KEYS if by.pick(among, key) is among[0]]
    taken = Counter(by.pick(among[1:], key).url for key in moved)
    assert len(taken) == 3
    assert min(taken.values()) > len(moved) / 6


def test_clients_without_a_principal_take_turns() -> None:
    assert picked(ClientHash(), servers(1, 1), 4) == [0, 1, 0, 1]


def test_what_is_remembered_of_clients_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balance, "_REMEMBERED", 10)
    among = servers(1, 1)
    by: ClientHash[Some] = ClientHash()
    before = [by.pick(among, key) for key in KEYS]
    assert len(by._ranks) <= 10
    assert [by.pick(among, key) for key in KEYS] == before


def test_the_names_of_the_configuration_are_known() -> None:
    kinds = {name: type(balance_of(name, Random())) for name in ("round_robin", "least_requests", "client_hash")}
    assert list(kinds.values()) == [RoundRobin, LeastRequests, ClientHash]
    with pytest.raises(KeyError):
        balance_of("chance", Random())
