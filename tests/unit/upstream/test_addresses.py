"""A name is looked up again and again, off the loop; its last good answer outlives a resolver that fails."""

import asyncio
import logging
import socket
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from mtlsproxy.transport.wheel import TimerWheel
from mtlsproxy.upstream import addresses
from mtlsproxy.upstream.addresses import Address, Addresses

PATIENCE = 10.0


@pytest.fixture
async def wheel() -> AsyncIterator[TimerWheel]:
    found = TimerWheel(asyncio.get_running_loop())
    yield found
    found.close()


class Resolver:
    """In the machine's place. `answer`: addresses, or what it raises."""

    def __init__(self) -> None:
        self.answer: list[str] | Exception = []
        self.asked = 0
        self.threads: set[int] = set()

    def __call__(self, host: str, port: int, **_: Any) -> list[Any]:
        self.threads.add(threading.get_ident())
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self.answer]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    found = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", found)
    return found


def named(wheel: TimerWheel, host: str = "a.test") -> Addresses:
    return Addresses(asyncio.get_running_loop(), wheel, host, 80)


def at(*hosts: str) -> list[Address]:
    return [(socket.AF_INET, (host, 80)) for host in hosts]


async def until(look: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not look():  # noqa: ASYNC110 - anything may be awaited here
            await asyncio.sleep(0.01)


async def waited(found: Addresses) -> None:
    said = asyncio.Event()
    found.wait(said.set)
    async with asyncio.timeout(PATIENCE):
        await said.wait()


def nobody(_: frozenset[Address]) -> None:
    raise AssertionError("nothing has changed")


async def test_an_address_and_a_path_are_known_and_never_looked_up(
    wheel: TimerWheel, resolver: Resolver, tmp_path: Path
) -> None:
    loop = asyncio.get_running_loop()
    for found, address in [
        (Addresses(loop, wheel, "127.0.0.1", 9), (socket.AF_INET, ("127.0.0.1", 9))),
        (Addresses(loop, wheel, "::1", 9), (socket.AF_INET6, ("::1", 9))),
        (Addresses.of_socket(loop, wheel, tmp_path / "a"), (socket.AF_UNIX, str(tmp_path / "a"))),
    ]:
        found.start(nobody)
        found.doubt()
        assert found.in_turn() == found.in_turn() == [address]
        assert found.fixed
    await asyncio.sleep(0.05)
    assert resolver.asked == 0


async def test_a_name_is_looked_up_once_for_all_who_wait_and_not_on_the_loop(
    wheel: TimerWheel, resolver: Resolver
) -> None:
    resolver.answer = ["10.0.0.1", "10.0.0.2", "10.0.0.1"]
    found = named(wheel)
    assert found.in_turn() == []
    await asyncio.gather(*(waited(found) for _ in range(5)))
    assert resolver.asked == 1
    assert threading.get_ident() not in resolver.threads
    assert found.in_turn() != found.in_turn(), "each begins at another"
    assert sorted(found.in_turn()) == at("10.0.0.1", "10.0.0.2")


async def test_a_refresh_says_what_is_there_when_something_is_gone(
    wheel: TimerWheel, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is new besides changes nothing for those that are connected."""
    monkeypatch.setattr(addresses, "REFRESH", 0.1)
    told: list[frozenset[Address]] = []
    resolver.answer = ["10.0.0.1"]
    found = named(wheel)
    found.start(told.append)
    await until(lambda: list(found.known) == at("10.0.0.1"))
    resolver.answer = ["10.0.0.1", "10.0.0.2"]
    await until(lambda: len(found.known) == 2)
    assert told == []
    resolver.answer = ["10.0.0.2"]
    await until(lambda: told)
    assert told == [frozenset(at("10.0.0.2"))]
    found.close()
    await asyncio.sleep(0.05)
    asked = resolver.asked
    await asyncio.sleep(0.4)
    assert resolver.asked == asked, "nobody asks any more"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), "Temporary failure"),
        (UnicodeError("label too long"), "label too long"),
        ([], "no address"),
    ],
)
async def test_the_last_good_answer_stays_and_the_log_says_once_why(
    wheel: TimerWheel,
    resolver: Resolver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    answer: list[str] | Exception,
    words: str,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(addresses, "REFRESH", 0.1)
    resolver.answer = ["10.0.0.1"]
    found = named(wheel)
    found.start(nobody)
    await until(lambda: found.known)
    resolver.answer = answer
    asked = resolver.asked
    await until(lambda: resolver.asked > asked + 2)
    assert found.in_turn() == at("10.0.0.1")
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert f"a.test cannot be looked up: {words}; its last known addresses stay in use" in record.getMessage()
    resolver.answer = ["10.0.0.1"]
    await until(lambda: len(caplog.records) == 2)
    assert "can be looked up again" in caplog.records[1].getMessage()
    found.close()


async def test_what_was_known_before_a_reload_is_used_at_once(wheel: TimerWheel, resolver: Resolver) -> None:
    resolver.answer = OSError("down")
    found = named(wheel)
    found.start(nobody, tuple(at("10.0.0.9")))
    assert found.in_turn() == at("10.0.0.9")
    await waited(found)
    assert found.in_turn() == at("10.0.0.9")
    found.close()


async def test_doubt_asks_again_but_not_all_the_time(
    wheel: TimerWheel, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a server has moved, nobody waits half a minute for it."""
    resolver.answer = ["10.0.0.1"]
    found = named(wheel)
    await waited(found)
    for _ in range(10):
        found.doubt()
    await asyncio.sleep(0.05)
    assert resolver.asked == 1
    monkeypatch.setattr(addresses, "DOUBT", 0.0)
    resolver.answer = ["10.0.0.2"]
    await asyncio.sleep(0.3)  # the wheel's clock moves in ticks
    found.doubt()
    await until(lambda: list(found.known) == at("10.0.0.2"))
