"""The inventory knows who was here, forgets who was here longest ago, and can be joined over processes."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson

from mtlsproxy.telemetry.access_log import MAX_NAME, MAX_SAN
from mtlsproxy.telemetry.clients import MAX_CLIENTS, MAX_ROUTES, Clients, KnownClient, as_dicts, merged
from mtlsproxy.workers.channel import MAX_MESSAGE


class Clock:
    def __init__(self) -> None:
        self.now = 1_900_000_000.0

    def __call__(self) -> float:
        return self.now


def arrive(clients: Clients, name: str, clock: Clock) -> KnownClient:
    def describe() -> KnownClient:
        return KnownClient(
            fingerprint=name,
            identity=f"{name}@example.org",
            subject=f"CN={name}",
            issuer="CN=CA",
            serial="0A",
            truststore="partners",
            not_after=datetime(2031, 1, 1, tzinfo=UTC),
            first_seen=clock.now,
            last_seen=clock.now,
            san=("DNS:alice.example",),
            truststores=("partners", "staff"),
        )

    return clients.arrived(name, describe)


def shown(clients: Clients, clock: Clock) -> list[dict[str, Any]]:
    return as_dicts(clients.latest(), clock.now)


def test_a_client_is_one_entry_however_often_it_comes() -> None:
    clock = Clock()
    clients = Clients(clock=clock)
    first = arrive(clients, "alice", clock)
    first.used("orders")
    clock.now += 10
    again = arrive(clients, "alice", clock)
    again.used("orders")
    again.used("admin")
    clients.left(first)
    clock.now += 5
    (alice,) = shown(clients, clock)
    assert alice == {
        "identity": "alice@example.org",
        "subject": "CN=alice",
        "issuer": "CN=CA",
        "serial": "0A",
        "fingerprint": "alice",
        "truststore": "partners",
        "san": ("DNS:alice.example",),
        "truststores": ("partners", "staff"),
        "not_after": "2031-01-01T00:00:00.000Z",
        "first_seen": "2030-03-17T17:46:40.000Z",
        "last_seen": "2030-03-17T17:46:55.000Z",
        "connections": 2,
        "open": 1,
        "routes": ["orders", "admin"],
        "more_routes": False,
    }
    clients.left(again)
    clock.now += 60
    (alice,) = shown(clients, clock)
    assert (alice["open"], alice["last_seen"]) == (0, "2030-03-17T17:46:55.000Z")


def test_who_was_here_longest_ago_goes_first_and_a_visit_ends_counts() -> None:
    clock = Clock()
    clients = Clients(max_clients=2, clock=clock)
    alice = arrive(clients, "alice", clock)
    bob = arrive(clients, "bob", clock)
    clients.left(bob)
    clients.left(alice)
    arrive(clients, "carol", clock)
    assert [each.fingerprint for each in clients.latest()] == ["carol", "alice"]
    clients.left(bob)  # of who is forgotten, nothing comes back
    assert len(clients) == 2


def test_routes_are_bounded_and_it_says_so() -> None:
    clock = Clock()
    client = arrive(Clients(clock=clock), "alice", clock)
    for number in range(MAX_ROUTES + 1):
        client.used(str(number))
    assert len(client.routes) == MAX_ROUTES
    assert client.more_routes


def test_a_limit_takes_the_latest() -> None:
    clock = Clock()
    clients = Clients(clock=clock)
    for name in ("alice", "bob", "carol"):
        arrive(clients, name, clock)
    assert [each.fingerprint for each in clients.latest(2)] == ["carol", "bob"]


def test_inventories_of_several_processes_are_one() -> None:
    clock = Clock()
    one, other = Clients(clock=clock), Clients(clock=clock)
    arrive(one, "alice", clock).used("orders")
    clock.now += 1
    alice = arrive(other, "alice", clock)
    alice.used("admin")
    other.left(alice)
    arrive(other, "bob", clock)
    clock.now += 1
    both = merged([shown(one, clock), shown(other, clock)])
    assert {each["fingerprint"] for each in both} == {"alice", "bob"}
    joined = next(each for each in both if each["fingerprint"] == "alice")
    assert (joined["connections"], joined["open"], joined["routes"]) == (2, 1, ["orders", "admin"])
    assert joined["first_seen"] == "2030-03-17T17:46:40.000Z"
    assert joined["last_seen"] == "2030-03-17T17:46:42.000Z"
    assert merged([shown(one, clock), shown(other, clock)], limit=1) == both[:1]


def test_long_names_make_room_for_each_other() -> None:
    """What a partner's CA writes into ten thousand certificates ends no worker whose answer became too long."""
    clock = Clock()
    one = arrive(Clients(clock=clock), "one", clock)
    longest = replace(one, identity="\x01" * MAX_NAME, subject="\x01" * MAX_NAME, issuer="\x01" * MAX_NAME)
    longest.san = ("\x01" * MAX_SAN,)
    clients = Clients(clock=clock)
    for number in range(2000):
        clients.arrived(f"{number:064x}", lambda number=number: replace(longest, fingerprint=f"{number:064x}"))
    assert 500 < len(clients) < 2000
    assert clients.latest(1)[0].fingerprint == f"{1999:064x}"
    assert len(orjson.dumps(shown(clients, clock))) < MAX_MESSAGE
    for number in range(12_000):
        arrive(clients, str(number), clock)
    assert len(clients) == MAX_CLIENTS, "usual names are not cut by it"
