"""Slots go round among addresses; silence gives way to those who wait, sooner where one address has most of them."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from mtlsproxy.tls.slots import AT_ONCE, LEAST_PATIENCE, SLOT_PATIENCE, TURN, Slots


class Clock:
    """Of an event loop, what slots ask for: time goes by when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self._later: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[..., None], *arguments: Any) -> None:
        callback(*arguments)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> object:
        self._later.append((self.now + seconds, callback))
        return callback

    def go_on(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [entry for entry in self._later if entry[0] <= end]:
            entry = min(due, key=lambda one: one[0])
            self._later.remove(entry)
            self.now = entry[0]
            entry[1]()
        self.now = end


class Client:
    """A handshake that says nothing more."""

    def __init__(self, slots: Slots, address: str) -> None:
        self.address = (address, 1)
        self._slots = slots
        self.begun = self.gone = False
        if slots.take(self):
            self.begin()

    def begin(self) -> None:
        self.begun = True

    def give_way(self) -> None:
        self.end()

    def end(self) -> None:
        self.gone = True
        self._slots.leave(self)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(clock: Clock) -> Callable[..., Slots]:
    return lambda limit=4, timeout=10.0: Slots(cast(asyncio.AbstractEventLoop, clock), limit, timeout)


def test_as_many_begin_as_there_are_slots_and_the_next_when_one_is_free(make: Callable[..., Slots]) -> None:
    slots = make(2)
    one, two, three, four = (Client(slots, "a") for _ in range(4))
    assert [client.begun for client in (one, two, three, four)] == [True, True, False, False]
    two.end()
    assert (three.begun, four.begun, slots.waiting) == (True, False, 1)


def test_who_leaves_while_it_waits_is_passed_over(make: Callable[..., Slots]) -> None:
    slots = make(1)
    one, two, three = (Client(slots, "a") for _ in range(3))
    two.end()
    assert slots.waiting == 1
    one.end()
    assert (two.begun, three.begun) == (False, True)


def test_addresses_have_their_turns_one_after_the_other(make: Callable[..., Slots]) -> None:
    """A thousand that wait are no reason for another address to wait longer than for one of them."""
    slots = make(1)
    first = Client(slots, "attacker")
    crowd = [Client(slots, "attacker") for _ in range(1000)]
    others = [Client(slots, "192.0.2.1"), Client(slots, "192.0.2.2")]
    first.end()
    assert crowd[0].begun
    crowd[0].end()
    assert others[0].begun
    others[0].end()
    assert others[1].begun
    others[1].end()
    assert (crowd[1].begun, slots.waiting) == (True, 998)


@pytest.mark.parametrize(
    ("address", "apart"), [("2001:db8::2", False), ("2001:db8:0:1::1", True), ("2001:db8::1%eth0", False)]
)
def test_an_ipv6_network_is_one_address(make: Callable[..., Slots], address: str, apart: bool) -> None:
    slots = make(1)
    first, second, third = (Client(slots, "2001:db8::1") for _ in range(3))
    other = Client(slots, address)
    first.end()
    assert second.begun
    second.end()
    assert (third.begun, other.begun) == (not apart, apart)


def test_silence_gives_way_only_to_those_who_wait(make: Callable[..., Slots], clock: Clock) -> None:
    slots = make(2)
    silent = [Client(slots, "a"), Client(slots, "b")]
    clock.go_on(100.0)
    assert not any(client.gone for client in silent)
    newcomer = Client(slots, "c")
    assert newcomer.begun, "who has been silent for long enough gives way at once"
    assert [client.gone for client in silent] == [True, False]


def test_who_is_heard_of_keeps_its_slot(make: Callable[..., Slots], clock: Clock) -> None:
    slots = make(2)
    talks, silent = Client(slots, "a"), Client(slots, "a")
    newcomer = Client(slots, "b")
    clock.go_on(SLOT_PATIENCE * 0.9)
    slots.used(talks)
    clock.go_on(SLOT_PATIENCE * 0.2)
    assert (talks.gone, silent.gone, newcomer.begun) == (False, True, True)


def test_the_longer_the_queue_the_shorter_the_patience(make: Callable[..., Slots], clock: Clock) -> None:
    """Nine thousand at 256 slots: everybody has had a turn within the time that a handshake may take."""
    slots = make(256, 10.0)
    crowd = [Client(slots, "attacker") for _ in range(9256)]
    newcomer = Client(slots, "attacker")
    clock.go_on(10.0)
    assert newcomer.begun
    assert sum(client.gone for client in crowd) > 9000


def test_an_address_within_its_share_keeps_its_patience(make: Callable[..., Slots], clock: Clock) -> None:
    """A client far away is silent for a round trip: it does not pay for what another address does."""
    slots = make(256, 10.0)
    crowd = [Client(slots, "attacker") for _ in range(20_000)]
    far = Client(slots, "192.0.2.1")
    clock.go_on(LEAST_PATIENCE * 3)
    assert far.begun
    began = clock.now
    clock.go_on(SLOT_PATIENCE * 0.5)
    assert (far.gone, clock.now > began) == (False, True)
    assert any(client.gone for client in crowd)
    clock.go_on(SLOT_PATIENCE)
    assert far.gone, "its patience has an end, too"


def test_only_a_few_begin_at_once(make: Callable[..., Slots], clock: Clock) -> None:
    """Other clients have their turn in between."""
    slots = make(256)
    crowd = [Client(slots, "a") for _ in range(256)]
    for _ in range(256):
        Client(slots, "b")
    looks = 0
    while not all(client.gone for client in crowd):
        before = sum(client.gone for client in crowd)
        clock.go_on(TURN)
        looks += 1
        assert sum(client.gone for client in crowd) - before <= AT_ONCE
    assert looks > 256 / AT_ONCE


def test_nothing_is_left_of_those_who_are_gone(make: Callable[..., Slots], clock: Clock) -> None:
    slots = make(2)
    clients = [Client(slots, f"192.0.2.{number % 5}") for number in range(50)]
    clock.go_on(0.5)
    for client in clients:
        if not client.gone:
            client.end()
    clock.go_on(1.0)
    assert (slots._taken, slots._held, slots._queues, slots.waiting, slots._looking) == ({}, {}, {}, 0, None)
