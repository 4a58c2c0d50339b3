"""Who is still at an address that a reload has taken away is let go like everybody else, and stays for no longer."""

import hashlib

import pytest
from tests.integration.certificates import Identity
from tests.integration.harness import free_port
from tests.integration.http.peers import Listening
from tests.integration.live.conftest import Live
from tests.integration.live.test_tunnels import by_hand, cut_off, live, passes, tunnel

__all__ = ["by_hand", "live"]


def denied(who: Identity) -> dict[str, str]:
    return {"fingerprint_sha256": hashlib.sha256(who.der).hexdigest()}


def move(live: Live) -> None:
    with live.reloaded():
        live.config["listeners"][0]["bind"] = f"127.0.0.1:{free_port()}"
        live.write_config()


def remove(live: Live) -> None:
    """Another listener takes its place."""
    with live.reloaded():
        live.config["listeners"][0] |= {"bind": "127.0.0.1:0", "name": "other"}
        live.write_config()


@pytest.fixture(autouse=True)
def _patient(live_config: dict[str, object]) -> None:
    live_config["shutdown"] = {"drain": "1h"}


def test_a_denial_reaches_who_is_at_the_old_address(
    live: Live, by_hand: Listening, alice: Identity, bob: Identity
) -> None:
    with tunnel(live, by_hand, alice) as (hers, her_peer), tunnel(live, by_hand, bob) as (his, his_peer):
        move(live)
        assert passes(hers, her_peer)
        live.deny_in_file(denied(alice))
        assert cut_off(hers)
        assert passes(his, his_peer)
        his.sock.close()


def test_where_no_rules_are_left_the_next_change_ends_what_is_in_flight(
    live: Live, by_hand: Listening, alice: Identity, bob: Identity
) -> None:
    with tunnel(live, by_hand, bob) as (his, his_peer):
        remove(live)
        assert passes(his, his_peer)
        live.deny_in_file(denied(alice))
        assert cut_off(his)
    assert live.proxy.call(lambda: live.proxy.proxy._retired.busy) == []


def test_nothing_there_is_in_flight_for_longer_than_a_drain(
    live: Live, live_config: dict[str, object], by_hand: Listening, alice: Identity
) -> None:
    live.config["shutdown"] = {"drain": "300ms"}
    with tunnel(live, by_hand, alice) as (hers, her_peer):
        assert passes(hers, her_peer)
        move(live)
        assert cut_off(hers)
        assert her_peer.rest() == b""
