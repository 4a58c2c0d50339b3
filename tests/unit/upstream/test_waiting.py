"""Clients have their turns, whatever one of them asks for; nobody who waits is lost, and nobody is served twice."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mtlsproxy.upstream.waiting import Waiting


class One:
    def __init__(self, client: str | None) -> None:
        self.client_key = client


def line(*clients: str | None) -> tuple[Waiting[One], list[One]]:
    waiting: Waiting[One] = Waiting()
    ones = [One(client) for client in clients]
    for number, one in enumerate(ones):
        waiting.add(one, float(number))
    return waiting, ones


def test_turns_go_round_among_clients_and_each_keeps_its_order() -> None:
    waiting, (a, b, c, d, e) = line("m", "m", "m", None, "x")
    assert waiting.first is a
    assert [waiting.take() for _ in range(5)] == [a, d, e, b, c]
    assert not waiting


def test_who_comes_later_gets_its_turn_before_the_rest_of_another() -> None:
    waiting, (a, b, c) = line("m", "m", "m")
    assert waiting.take() is a
    late = One("x")
    waiting.add(late, 9.0)
    assert [waiting.take() for _ in range(3)] == [b, late, c]


def test_who_gave_up_is_gone_once() -> None:
    waiting, (a, b) = line("m", "x")
    assert waiting.discard(a)
    assert not waiting.discard(a)
    assert (len(waiting), waiting.first) == (1, b)


def test_who_has_waited_long_enough_is_told() -> None:
    waiting, (a, b, c) = line("m", "x", "m")
    assert waiting.due(-1.0) == []
    assert set(waiting.due(1.0)) == {a, b}
    assert set(waiting.due(2.0)) == {a, b, c}


def test_the_greediest_gives_way_and_only_to_who_has_less() -> None:
    waiting, (*_, last) = line("x", "m", "m")
    assert waiting.make_room_for(One("y")) is last
    assert waiting.make_room_for(One("x")) is None, "it would have as many as the other then, and the other fewer"
    assert waiting.make_room_for(One("m")) is None
    assert line("x", "m")[0].make_room_for(One("y")) is None
    empty: Waiting[One] = Waiting()
    assert empty.make_room_for(One("y")) is None


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(["a", "b", "c", None]), st.just("take"), st.just("discard"))))
def test_nobody_is_lost(steps: list[str | None]) -> None:
    waiting: Waiting[One] = Waiting()
    there: list[One] = []
    for step in steps:
        if step == "take" and there:
            there.remove(waiting.take())
        elif step == "discard" and there:
            assert waiting.discard(there.pop())
        elif step not in ("take", "discard"):
            there.append(One(step))
            waiting.add(there[-1], 0.0)
        assert len(waiting) == len(there)
        assert set(waiting) == set(there)
