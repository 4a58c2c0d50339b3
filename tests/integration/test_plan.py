"""`mtlsproxy plan`: what a real proxy logged, replayed by another configuration, is what that one would do."""

import copy
import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from tests.integration.certificates import Identity
from tests.integration.clients import client_context, tls
from tests.integration.conftest import Material, Start
from tests.integration.harness import RunningProxy, Tree

from mtlsproxy.cli import cli


def plan(*arguments: object, given: str = "") -> Result:
    return CliRunner().invoke(cli, ["plan", *map(str, arguments)], prog_name="mtlsproxy", input=given)


def planned(*arguments: object) -> tuple[int, Tree]:
    result = plan(*arguments, "--format", "json")
    return result.exit_code, json.loads(result.stdout)


def kinds(said: Tree) -> list[tuple[str, str, str | None, str | None, int]]:
    return [
        (each["kind"], each["identity"], each["route_before"], each["route_after"], each["requests"])
        for each in said["changes"]
    ]


Write = Callable[[Tree], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_config(config: Tree) -> Path:
        file = tmp_path / "new.yaml"
        file.write_text(yaml.safe_dump(config, sort_keys=False))
        return file

    return write_config


@pytest.fixture
def routed(config: Tree) -> Tree:
    first = config["routes"][0]
    config["routes"] = [
        first | {"name": "admin", "paths": ["/admin"], "allow": [{"dns": "bob.clients.test"}]},
        first | {"name": "orders", "paths": ["/orders"], "allow": [{"dns": "*.clients.test"}]},
    ]
    return config


@pytest.fixture
def log(routed: Tree, start: Start, material: Material) -> Path:
    """alice: orders, twice, and in vain admin; bob: admin and, in vain, what is not there; one with no certificate."""
    proxy = start(routed)
    alice, bob = material.client(), material.client("bob", ("DNS:bob.clients.test",))
    for client, paths in ((alice, ("/orders/1", "/orders/2?secret", "/admin")), (bob, ("/admin", "/nowhere"))):
        _ask(proxy, material, client, *paths)
    proxy.access(5)
    return proxy.access_file


def _ask(proxy: RunningProxy, material: Material, client: Identity, *paths: str) -> None:
    with tls(proxy.port(), client_context(material.root, client)) as connection:
        for path in paths:
            connection.get(path)


def test_the_same_configuration_changes_nothing(log: Path, routed: Tree, write: Write) -> None:
    for more in ((), ("--config", write(routed))):
        status, said = planned(write(routed), "--access-log", log, *more)
        assert (status, said["changes"], said["replayed"], said["clients"]) == (0, [], 5, 2)


def test_who_loses_and_who_gains_is_listed_with_counts(log: Path, routed: Tree, write: Write, tmp_path: Path) -> None:
    new = copy.deepcopy(routed)
    new["routes"][0]["allow"] = [{"common_name": "alice"}]
    new["routes"][1]["deny"] = [{"common_name": "alice"}]
    status, said = planned(write(new), "--access-log", log)
    assert status == 1
    assert kinds(said) == [
        ("loses", "alice.clients.test", "orders", "orders", 2),
        ("loses", "bob.clients.test", "admin", "admin", 1),
        ("gains", "alice.clients.test", "admin", "admin", 1),
    ]
    assert [each["reason"] for each in said["changes"]] == ["denied", "not_allowed", "not_allowed"]
    assert "common_name: alice" in said["changes"][1]["detail"] or "does not match" in said["changes"][1]["detail"]
    assert said["changes"][0]["example"] == "GET proxy.test/orders/2", "never a query"
    old = tmp_path / "old.yaml"
    old.write_text(yaml.safe_dump(routed))
    assert kinds(planned(write(new), "--access-log", log, "--config", old)[1]) == kinds(said)
    output = plan(write(new), "--access-log", log).output
    assert "loses alice.clients.test 2 requests" in output
    assert "would be refused with denied" in output
    assert "access lost by 2, gained by 1" in output


def test_another_route_is_a_move_and_no_change_of_access(log: Path, routed: Tree, write: Write) -> None:
    new = copy.deepcopy(routed)
    new["routes"].insert(0, new["routes"][1] | {"name": "first-order", "paths": ["/orders/1"]})
    status, said = planned(write(new), "--access-log", log)
    assert (status, kinds(said)) == (0, [("moves", "alice.clients.test", "orders", "first-order", 1)])


def test_a_host_that_no_certificate_stands_for_any_more(
    log: Path, routed: Tree, write: Write, material: Material
) -> None:
    other = material.dev_client("elsewhere", "DNS:elsewhere.test")
    new = copy.deepcopy(routed)
    pair = {"certificate": str(other.certificate), "private_key": str(other.key)}
    new["listeners"][0]["tls"]["certificates"] = [pair]
    status, said = planned(write(new), "--access-log", log)
    assert (status, {each["reason"] for each in said["changes"]}) == (1, {"misdirected"})
    assert planned(write(new), "--access-log", log, "--no-hosts")[0] == 0


def test_a_truststore_that_goes_and_a_listener_that_goes(log: Path, routed: Tree, write: Write) -> None:
    new = copy.deepcopy(routed)
    new["truststores"] = {"others": new["truststores"]["partners"]}
    new["listeners"][0]["client_auth"]["truststores"] = ["others"]
    for route in new["routes"]:
        route.pop("truststores", None)
    _, said = planned(write(new), "--access-log", log)
    assert {(each["kind"], each["reason"]) for each in said["changes"]} == {("loses", "untrusted_issuer")}
    new = copy.deepcopy(routed)
    new["listeners"][0]["name"] = "outside"
    for route in new["routes"]:
        route["listeners"] = ["outside"]
    _, said = planned(write(new), "--access-log", log)
    assert "there is no listener internal" in said["changes"][0]["detail"]


def test_what_the_log_does_not_have_is_counted_and_not_guessed(log: Path, routed: Tree, write: Write) -> None:
    new = copy.deepcopy(routed)
    new["routes"][1]["allow"] = [{"spki_sha256": "ab" * 32}]
    status, said = planned(write(new), "--access-log", log)
    (untold,) = said["cannot_tell"]
    assert (status, untold["lines"], "spki_sha256" in untold["why"]) == (0, 2, True)
    new["routes"][1]["allow"] = [{"spki_sha256": "ab" * 32, "common_name": "carol"}]
    status, said = planned(write(new), "--access-log", log)
    assert (status, said["cannot_tell"]) == (1, []), "whoever it names, it is not alice"
    new["routes"][1] |= {"allow": "any", "deny": [{"policy_oid": "1.2.3", "common_name": "alice"}]}
    assert planned(write(new), "--access-log", log)[1]["cannot_tell"][0]["lines"] == 2


def test_settings_that_a_log_says_nothing_of_are_noted(log: Path, routed: Tree, write: Write, tmp_path: Path) -> None:
    old = tmp_path / "old.yaml"
    old.write_text(yaml.safe_dump(routed))
    new = copy.deepcopy(routed)
    new["truststores"]["partners"]["extended_key_usage"] = {"allow_absent": True}
    status, said = planned(write(new), "--access-log", log, "--config", old)
    assert status == 0
    assert ["truststore partners: extended_key_usage changed" in note for note in said["notes"]] == [True]


def test_a_running_proxy_tells_who_used_which_route_and_whom_it_refused(
    routed: Tree, start: Start, material: Material, write: Write
) -> None:
    proxy = start(routed)
    _ask(proxy, material, material.client(), "/orders/1", "/admin")
    where = ("--admin", f"http://127.0.0.1:{proxy.admin_port}")
    status, said = planned(write(routed), *where)
    assert (status, said["changes"], said["replayed"]) == (0, [], 2), "a client, and a refusal"
    new = copy.deepcopy(routed)
    new["routes"][0]["allow"] = [{"common_name": "alice"}]
    new["routes"][1]["allow"] = [{"dns": "bob.clients.test"}]
    status, said = planned(write(new), *where)
    assert (status, kinds(said)) == (
        1,
        [
            ("loses", "alice.clients.test", "orders", "orders", 0),
            ("gains", "alice.clients.test", "admin", "admin", 1),
        ],
    )
    assert "loses alice.clients.test\n" in plan(write(new), *where).output
    del new["routes"][1]
    assert "there is no route orders" in planned(write(new), *where)[1]["changes"][0]["detail"]


@pytest.mark.parametrize(
    "said", [{"clients": [5]}, {"clients": [], "rejections": [5]}, {"clients": [], "rejections": "ab"}, [], {}]
)
def test_somebody_else_where_the_admin_should_be(routed: Tree, write: Write, said: object) -> None:
    class Stub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(said).encode())

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Stub) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        result = plan(write(routed), "--admin", f"http://127.0.0.1:{server.server_address[1]}")
        server.shutdown()
        thread.join()
    assert (result.exit_code, "does not answer as an admin" in result.stderr) == (2, True), result.output


LINE: Tree = {
    "time": "2030-01-01T00:00:00.000Z", "listener": "internal", "subject": "CN=alice", "issuer": "CN=CA",
    "serial": "0A",
    "fingerprint": "ab" * 32, "san": ["DNS:alice.clients.test"], "truststore": "partners", "principal": "alice",
    "method": "GET", "host": "proxy.test:8443", "path": "/orders", "status": 200, "reason": None, "route": "orders",
    "upstream": "main", "request_id": "r",
}  # fmt: skip


@pytest.mark.parametrize(
    ("different", "why"),
    [
        (
            {"subject": None, "fingerprint": None, "truststore": None, "reason": "no_certificate"},
            "no client certificate",
        ),
        ({"truststore": None, "reason": "expired", "upstream": None}, "refused by verification (expired)"),
        ({"method": None, "path": None}, "no request that could be read"),
        ({"path": "/a\ufffd"}, "no UTF-8"),
        ({"san": ["DNS:a.example", "…"]}, "too long for the log"),
        ({"san": None}, "no list of alternative names"),
        ({"subject": "alice"}, "written in no known way"),
        ({"reason": "request_timeout", "route": None, "upstream": None}, "before a route was found (request_timeout)"),
    ],
)
def test_lines_that_cannot_be_replayed(routed: Tree, write: Write, different: Tree, why: str) -> None:
    lines = [json.dumps(LINE | different), json.dumps(LINE), "rubbish", json.dumps({"time": "x", "message": "hello"})]
    result = plan(write(routed), "--access-log", "-", "--format", "json", given="\n".join(lines))
    said: Any = json.loads(result.stdout)
    assert (result.exit_code, said["lines"], said["replayed"]) == (0, 2, 1)
    assert [(each["lines"], why in each["why"]) for each in said["cannot_tell"]] == [(1, True)]


@pytest.mark.parametrize(
    "different", [{"reason": "upstream_error", "status": 502}, {"reason": "body_too_large", "upstream": None}]
)
def test_who_was_let_through_and_failed_otherwise_does_not_gain(routed: Tree, write: Write, different: Tree) -> None:
    result = plan(write(routed), "--access-log", "-", "--format", "json", given=json.dumps(LINE | different))
    assert (result.exit_code, json.loads(result.stdout)["changes"]) == (0, [])


def test_since_and_logs_without_a_line(routed: Tree, write: Write) -> None:
    file = write(routed)
    assert plan(file, "--access-log", "-", given=json.dumps(LINE)).exit_code == 0
    late = plan(file, "--access-log", "-", "--since", "2031-01-01T00:00:00Z", given=json.dumps(LINE))
    assert (late.exit_code, "no line of an access log since then" in late.stderr) == (2, True)
    assert plan(file, "--access-log", "-").exit_code == 2
    assert plan(file).exit_code == 2
    alone = json.dumps(LINE | {"truststore": None, "reason": "expired"})
    assert plan(file, "--access-log", "-", given=alone).exit_code == 2, "nothing was replayed"
