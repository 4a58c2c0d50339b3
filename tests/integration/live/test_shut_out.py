"""Who is denied by file, denied by API or revoked while connected is let go at once; nobody else notices."""

import hashlib
import json
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.integration.certificates import Identity
from tests.integration.clients import VERSIONS, Connection, request
from tests.integration.harness import Tree, eventually
from tests.integration.live.conftest import TOKEN, Live, Run
from tests.integration.upstream import OK, RecordingUpstream
from tests.integration.whois import described

from mtlsproxy.runtime import judging
from mtlsproxy.verdict.judge import Verdict

ShutOut = Callable[[Live, Identity], None]


def named(client: Identity) -> Tree:
    return {"issuer": client.leaf.issuer.rfc4514_string(), "serial": f"{client.leaf.serial_number:x}"}


def deny_by_file(live: Live, client: Identity) -> None:
    live.deny_in_file(named(client))


def deny_by_api(live: Live, client: Identity) -> None:
    status, _, _ = live.call("POST", "/api/deny", named(client))
    assert status == 201


def revoke(live: Live, client: Identity) -> None:
    live.revoke(client)


WAYS = [(deny_by_file, "denied"), (deny_by_api, "denied"), (revoke, "revoked")]
each_way = pytest.mark.parametrize(("shut_out", "reason"), WAYS, ids=lambda value: getattr(value, "__name__", value))


def goes_on(connection: Connection) -> bool:
    """Whether the connection still serves, after whatever happened."""
    return connection.get().status == 200


@each_way
@pytest.mark.parametrize("version", VERSIONS)
def test_an_idle_connection_is_closed_and_a_new_one_refused(
    live: Live, alice: Identity, bob: Identity, shut_out: ShutOut, reason: str, version: str
) -> None:
    with live.connect(alice, VERSIONS[version]) as hers, live.connect(bob, VERSIONS[version]) as his:
        assert goes_on(hers)
        assert goes_on(his)
        shut_out(live, alice)
        assert hers.ended()
        assert goes_on(his)
    assert live.refused(alice) == reason


@each_way
def test_a_connection_that_never_asked_for_anything_is_closed(
    live: Live, alice: Identity, bob: Identity, shut_out: ShutOut, reason: str
) -> None:
    with live.connect(alice) as hers, live.connect(bob) as his:
        eventually(lambda: live.proxy.series("connections")[("internal",)] == 2)
        shut_out(live, alice)
        assert hers.ended()
        assert goes_on(his)


@each_way
def test_the_answer_under_way_is_finished_and_nothing_after_it(
    live: Live, upstream: RecordingUpstream, alice: Identity, bob: Identity, shut_out: ShutOut, reason: str
) -> None:
    """One in flight was let pass by what was in force when it came."""
    release = threading.Event()
    upstream.script = lambda _request, _connection: OK if release.wait(30) else None
    with live.connect(alice) as hers, live.connect(bob) as his:
        for connection in (hers, his):
            connection.send(request("/slow"))
        eventually(lambda: len(upstream.requests) == 2)
        with live.reloaded():
            shut_out(live, alice)
        hers.send(request("/after"))
        release.set()
        assert hers.response().status == 200
        assert hers.ended()
        assert his.response().status == 200
        assert goes_on(his)
    assert "GET /after HTTP/1.1" not in [recorded.line for recorded in upstream.requests]


@each_way
def test_a_body_on_its_way_is_taken_whole(
    live: Live, upstream: RecordingUpstream, alice: Identity, bob: Identity, shut_out: ShutOut, reason: str
) -> None:
    with live.connect(alice) as hers, live.connect(bob) as his:
        for connection in (hers, his):
            connection.send(request("/up", "Content-Length: 8", method="POST", body=b"half"))
        eventually(lambda: len([data for data in upstream.received if data.endswith(b"half")]) == 2)
        with live.reloaded():
            shut_out(live, alice)
        for connection in (hers, his):
            connection.send(b"half")
            assert connection.response().status == 200
        assert hers.ended()
        assert goes_on(his)
    assert [recorded.body for recorded in upstream.requests[:2]] == [b"halfhalf"] * 2


@each_way
def test_half_a_request_head_is_let_go_or_goes_on(
    live: Live, upstream: RecordingUpstream, alice: Identity, bob: Identity, shut_out: ShutOut, reason: str
) -> None:
    whole = request("/in/two/parts", "X-Test: 1")
    with live.connect(alice) as hers, live.connect(bob) as his:
        assert goes_on(his)
        before = live.proxy.series("received_bytes_total")[("internal",)]
        for connection in (hers, his):
            connection.send(whole[:30])
        eventually(lambda: live.proxy.series("received_bytes_total")[("internal",)] >= before + 60)
        with live.reloaded():
            shut_out(live, alice)
        assert hers.ended()
        his.send(whole[30:])
        assert his.response().status == 200
        assert goes_on(his)
    assert [recorded.line for recorded in upstream.requests][1] == "GET /in/two/parts HTTP/1.1"


@each_way
def test_it_is_logged_and_counted_with_its_reason(live: Live, alice: Identity, shut_out: ShutOut, reason: str) -> None:
    with live.connect(alice) as hers:
        assert goes_on(hers)
        shut_out(live, alice)
        assert hers.ended()
    (line,) = eventually(live.proxy.refusals)
    assert (line["reason"], line["listener"]) == (reason, "internal")
    assert {key: line[key] for key in described(alice)} == described(alice)
    assert live.proxy.series("rejections_total") == {("internal", "", reason, "true"): 1}


@each_way
def test_many_connections_of_one_client_are_all_closed(
    live: Live, alice: Identity, bob: Identity, shut_out: ShutOut, reason: str
) -> None:
    with ExitStack() as stack:
        hers = [stack.enter_context(live.connect(alice)) for _ in range(40)]
        his = [stack.enter_context(live.connect(bob)) for _ in range(10)]
        assert all(goes_on(connection) for connection in [*hers, *his])
        shut_out(live, alice)
        assert all(connection.ended() for connection in hers)
        assert all(goes_on(connection) for connection in his)


def test_who_is_taken_off_the_deny_file_comes_in_again(live: Live, alice: Identity) -> None:
    with live.reloaded():
        live.deny_in_file(named(alice) | {"reason": "key lost"})
    assert live.refused(alice) == "denied"
    assert "key lost" in live.proxy.refusal()["detail"]
    with live.reloaded():
        live.deny_in_file()
    with live.connect(alice) as hers:
        assert goes_on(hers)


@pytest.mark.parametrize("key", ["fingerprint_sha256", "spki_sha256"])
def test_a_denial_names_a_certificate_or_a_key(live: Live, alice: Identity, bob: Identity, key: str) -> None:
    with live.connect(alice) as hers:
        assert goes_on(hers)
        value = described(alice)["fingerprint"] if key == "fingerprint_sha256" else spki(alice)
        status, said, _ = live.call("POST", "/api/deny", {key: value, "reason": "key lost", "truststore": "partners"})
        assert (status, said["connections_ended"]) == (201, 1)
        assert hers.ended()
    assert live.refused(alice) == "denied"
    with live.connect(bob) as his:
        assert goes_on(his)


def spki(client: Identity) -> str:
    key = client.leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(key).hexdigest()


def test_a_denial_is_listed_lifted_and_logged_with_who_asked(live: Live, alice: Identity) -> None:
    _, made, _ = live.call("POST", "/api/deny", named(alice) | {"reason": "key lost"})
    status, listed, _ = live.call("GET", "/api/deny")
    assert (status, listed["denials"][0]["id"]) == (200, made["id"])
    assert live.refused(alice) == "denied"
    status, lifted, _ = live.call("DELETE", f"/api/deny/{made['id']}")
    assert (status, lifted["lifted"]["reason"]) == (200, "key lost")
    with live.connect(alice) as hers:
        assert goes_on(hers)
    eventually(lambda: any("lifted" in line.get("message", "") for line in live.proxy.messages()))
    said = [line["message"] for line in live.proxy.messages() if line.get("logger") == "mtlsproxy.runtime.control"]
    assert len(said) == 2
    assert said[0].startswith(f"denial {made['id']} made by 127.0.0.1 port ")
    assert f"serial {alice.leaf.serial_number:x}" in said[0]
    assert said[1].startswith(f"denial {made['id']} lifted by 127.0.0.1 port ")
    assert TOKEN not in live.proxy.error_file.read_text()


def test_the_same_denial_again_is_the_one_that_there_is(live: Live, alice: Identity) -> None:
    _, first, _ = live.call("POST", "/api/deny", named(alice))
    status, second, _ = live.call("POST", "/api/deny", named(alice))
    assert (status, second["id"]) == (200, first["id"])
    status, third, _ = live.call("POST", "/api/deny", named(alice) | {"reason": "another"})
    assert (status, third["id"] != first["id"]) == (201, True)


def test_a_denial_survives_reloads_and_a_restart(run: Run, live_config: Tree, alice: Identity) -> None:
    first = run(live_config)
    deny_by_api(first, alice)
    with first.reloaded():
        first.write_config()
    assert first.refused(alice) == "denied"
    second = run(live_config)
    assert second.refused(alice) == "denied"
    assert second.call("GET", "/api/deny")[1] == first.call("GET", "/api/deny")[1]


def test_a_denial_made_during_a_reload_is_not_lost(live: Live, alice: Identity, bob: Identity) -> None:
    """A plan is made from files while the denial comes: what is put in force has both."""
    for number, client in enumerate((alice, bob)):
        done = threading.Thread(target=live.call, args=("POST", "/api/reload"))
        done.start()
        deny_by_api(live, client)
        done.join(10)
        assert live.refused(client) == "denied"
        assert len(live.call("GET", "/api/deny")[1]["denials"]) == number + 1


def test_a_denial_of_another_truststore_does_not_touch_this_one(run: Run, live_config: Tree, alice: Identity) -> None:
    live_config["truststores"]["others"] = live_config["truststores"]["partners"] | {"deny_file": None}
    live = run(live_config)
    with live.connect(alice) as hers:
        assert goes_on(hers)
        status, said, _ = live.call("POST", "/api/deny", named(alice) | {"truststore": "others"})
        assert (status, said["connections_ended"]) == (201, 0)
        assert goes_on(hers)


def test_status_counts_who_is_denied(live: Live, alice: Identity) -> None:
    with live.reloaded():
        live.deny_in_file(named(alice), {"dns": "x.test"})
    deny_by_api(live, alice)
    assert live.status["truststores"][0]["deny"] == {"configured": 0, "file": 2, "api": 1}


def test_the_file_of_denials_is_json_that_can_be_read(live: Live, alice: Identity) -> None:
    deny_by_api(live, alice)
    file = live.folder / "state" / "denials.json"
    (entry,) = json.loads(file.read_text())["denials"]
    assert {key: entry[key] for key in named(alice)} == named(alice)
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_denial_costs_those_whom_it_does_not_name_no_new_judgement(
    live: Live, alice: Identity, bob: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Denials come in a row while something is wrong, and thousands of connections are open then."""
    with ExitStack() as stack:
        connections = [stack.enter_context(live.connect(alice)) for _ in range(5)]
        shut_out = stack.enter_context(live.connect(bob))
        for connection in (*connections, shut_out):
            assert connection.get().status == 200
        judged: list[bytes] = []
        real = judging.judge

        def noted(presented: tuple[bytes, ...], *rest: Any) -> Verdict:
            judged.append(presented[0])
            return real(presented, *rest)

        monkeypatch.setattr(judging, "judge", noted)
        for serial in range(3):
            assert live.call("POST", "/api/deny", named(bob) | {"serial": f"{serial:x}"})[0] == 201
        deny_by_api(live, bob)
        assert shut_out.ended()
        for connection in connections:
            assert connection.get().status == 200
        with live.connect(alice) as another:
            assert another.get().status == 200
        assert set(judged) == {bob.der}
        live.revoke(alice)  # nothing counts on past another change
        eventually(lambda: alice.der in judged)
        assert live.refused(alice) == "revoked"


def test_a_denial_that_may_match_nobody_is_made_and_says_so(live: Live, alice: Identity) -> None:
    """Who mistypes an issuer must not believe that the client is out."""
    right = named(alice)
    status, said, _ = live.call("POST", "/api/deny", right | {"issuer": right["issuer"].replace("CN=", "CN=Not ")})
    assert status == 201
    assert "is no loaded CA's name" in said["warning"]
    assert right["issuer"] in said["warning"]
    assert "warning" not in live.call("POST", "/api/deny", right)[1]
    assert live.refused(alice) == "denied"
