"""`mtlsproxy test-policy` as an operator types it: expectations about routes, answered by the code of the data path."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from tests.integration.conftest import Material
from tests.integration.harness import Tree

from mtlsproxy.cli import cli

CONFIG = Path(__file__).parents[2] / "config"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["test-policy", *map(str, arguments)], prog_name="mtlsproxy")


def run_json(*arguments: object) -> tuple[int, Tree]:
    result = run(*arguments, "--format", "json")
    return result.exit_code, json.loads(result.stdout)


Write = Callable[..., Path]


@pytest.fixture
def write(config: Tree, tmp_path: Path) -> Write:
    """A file of expectations about `config` as it is then."""

    def write_tests(clients: Tree, *tests: Tree, **more: object) -> Path:
        (tmp_path / "proxy.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        file = tmp_path / "tests.yaml"
        said = {"version": 1, "config": "proxy.yaml", "clients": clients, "tests": list(tests)} | more
        file.write_text(yaml.safe_dump(said, sort_keys=False))
        return file

    return write_tests


@pytest.fixture
def routed(config: Tree) -> Tree:
    first = config["routes"][0]
    config["routes"] = [
        first | {"name": "admin", "paths": ["/admin"], "allow": [{"organizational_unit": "ops"}]},
        first | {"name": "trial", "paths": ["/trial"], "allow": [], "enforce": False},
        first | {"name": "orders", "paths": ["/orders"], "methods": ["GET"], "allow": [{"dns": "*.clients.test"}]},
    ]
    config["truststores"]["partners"]["deny"] = [{"serial": "0bad"}]
    return config


ALICE: Tree = {"subject": "CN=alice", "san": ["DNS:alice.clients.test"]}
ROOT: Tree = {"subject": "CN=root,OU=ops"}


@pytest.mark.usefixtures("routed")
@pytest.mark.parametrize(
    ("client", "asked", "became"),
    [
        (ALICE, {"path": "/orders/1?x=y"}, ("allow", None, "orders")),
        (ALICE, {"path": "/orders", "method": "POST"}, ("deny", "method_not_allowed", None)),
        (ALICE, {"path": "/orders/%2e%2e/admin"}, ("deny", "bad_request", None)),
        (ALICE, {"path": "/admin"}, ("deny", "not_allowed", "admin")),
        (ROOT, {"path": "/admin"}, ("allow", None, "admin")),
        (ROOT, {"path": "/orders"}, ("deny", "not_allowed", "orders")),
        (ROOT, {"path": "/trial"}, ("allow", None, "trial")),
        (ROOT, {"path": "/"}, ("deny", "no_route", None)),
        (ROOT, {"path": "/admin", "host": "proxy.test"}, ("allow", None, "admin")),
        (ROOT, {"path": "/admin", "host": "other.test"}, ("deny", "misdirected", None)),
        (ROOT | {"serial": "BAD"}, {"path": "/admin"}, ("deny", "denied", None)),
        (ROOT | {"truststores": ["staff"]}, {"path": "/admin"}, ("deny", "untrusted_issuer", None)),
    ],
)
def test_a_described_client(write: Write, config: Tree, client: Tree, asked: Tree, became: tuple[str, ...]) -> None:
    config["truststores"]["staff"] = config["truststores"]["partners"] | {"deny": []}
    expect, reason, route = became
    file = write({"c": client}, asked | {"client": "c", "expect": expect})
    status, said = run_json(file)
    (test,) = said["tests"]
    assert (status, test["ok"]) == (0, True), test
    assert test["route"] == route
    if expect == "deny":
        assert test["reason"] == reason
    wrong = "deny" if expect == "allow" else "allow"
    status, said = run_json(write({"c": client}, asked | {"client": "c", "expect": wrong}))
    assert (status, said["ok"]) == (1, False)
    assert f"expected {wrong}, and it is" in said["tests"][0]["wrong"]


@pytest.mark.usefixtures("routed")
def test_a_certificate_is_verified_as_on_the_wire(write: Write, material: Material) -> None:
    good, bare = material.client(), material.client("bare", eku=None)
    clients = {"good": {"certificate": str(good.certificate)}, "bare": {"certificate": str(bare.certificate)}}
    tests: list[Tree] = [
        {"client": "good", "path": "/orders", "expect": "allow", "route": "orders"},
        {"client": "good", "path": "/admin", "expect": "deny", "reason": "not_allowed"},
        {"client": "bare", "path": "/orders", "expect": "deny", "reason": "eku_missing"},
    ]
    status, said = run_json(write(clients, *tests))
    assert (status, [test["wrong"] for test in said["tests"]]) == (0, [None] * 3)
    status, said = run_json(write(clients, *tests, at="2060-01-01T00:00:00Z"))
    assert (status, {test["reason"] for test in said["tests"]}) == (1, {"expired"})


@pytest.mark.usefixtures("routed")
def test_the_wrong_reason_and_the_wrong_route_are_not_as_expected(write: Write, tmp_path: Path) -> None:
    file = write(
        {"alice": ALICE},
        {"client": "alice", "path": "/admin", "expect": "deny", "reason": "denied"},
        {"client": "alice", "path": "/orders", "expect": "allow", "route": "admin", "name": "orders are admin's"},
        {"client": "alice", "path": "/orders", "expect": "allow"},
    )
    result = run(file)
    assert result.exit_code == 1
    assert "FAIL alice GET /admin - deny not_allowed" in result.output
    assert "expected reason denied, and it is not_allowed (the one allow entry of route admin" in result.output
    assert "FAIL orders are admin's" in result.output
    assert "expected route admin, and it is orders" in result.output
    assert f"{tmp_path / 'tests.yaml'}:" in result.output
    assert "2 of 3 are not as expected" in result.output


@pytest.mark.usefixtures("routed")
def test_remarks_come_with_it_and_count_with_strict(write: Write, config: Tree, tmp_path: Path) -> None:
    config["routes"].append(config["routes"][2] | {"name": "late"})
    file = write({"alice": ALICE}, {"client": "alice", "path": "/orders", "expect": "allow"})
    status, said = run_json(file)
    assert status == 0
    found = {(remark["kind"], remark["path"]) for remark in said["remarks"]}
    assert found == {("unreachable", "routes[1].allow"), ("shadowed", "routes[3]")}
    assert all(remark["where"].startswith(str(tmp_path / "proxy.yaml:")) for remark in said["remarks"])
    assert run(file, "--strict").exit_code == 1
    alone = run("--config", tmp_path / "proxy.yaml")
    assert (alone.exit_code, "never reached" in alone.output) == (0, True)


@pytest.mark.usefixtures("routed")
@pytest.mark.parametrize(
    ("clients", "test", "words"),
    [
        ({"a": ALICE}, {"client": "b", "expect": "allow"}, "tests[0].client: no client 'b'"),
        ({"a": ALICE}, {"client": "a", "expect": "yes"}, "tests[0].expect: must be allow or deny"),
        ({"a": ALICE}, {"client": "a", "expect": "deny", "reason": "expird"}, "did you mean expired?"),
        ({"a": ALICE}, {"client": "a", "expect": "allow", "reason": "expired"}, "reason goes with expect: deny"),
        ({"a": ALICE}, {"client": "a", "expect": "allow", "path": "x"}, "a path begins with /"),
        ({"a": ALICE}, {"client": "a", "expect": "allow", "route": "order"}, "did you mean orders?"),
        ({"a": ALICE}, {"client": "a", "expect": "allow", "listener": "out"}, "no listener 'out'"),
        ({"a": ALICE}, {"client": "a", "expect": "allow", "rout": "x"}, "unknown key (did you mean route?)"),
        ({"a": ALICE | {"truststores": ["part"]}}, {"client": "a", "expect": "allow"}, "did you mean partners?"),
        ({"a": {"subject": "alice"}}, {"client": "a", "expect": "allow"}, "is not a distinguished name"),
        ({"a": {"truststores": ["partners"]}}, {"client": "a", "expect": "allow"}, "give a certificate, or describe"),
        ({"a": ALICE | {"certificate": "x.pem"}}, {"client": "a", "expect": "allow"}, "leave out san, subject"),
        ({"a": {"certificate": "none.pem"}}, {"client": "a", "expect": "allow"}, "none.pem: cannot be read"),
    ],
)
def test_what_is_wrong_with_the_file_is_said_at_its_line(write: Write, clients: Tree, test: Tree, words: str) -> None:
    result = run(write(clients, test))
    assert (result.exit_code, words in result.stderr) == (2, True), result.stderr


def test_where_several_truststores_could_have_verified_it_has_to_be_said(write: Write, config: Tree) -> None:
    config["truststores"]["staff"] = config["truststores"]["partners"]
    config["listeners"][0]["client_auth"]["truststores"] = ["partners", "staff"]
    result = run(write({"a": ALICE}, {"client": "a", "expect": "allow"}))
    assert result.exit_code == 2
    assert "say with truststores which have verified" in result.stderr


def test_without_a_configuration_and_with_a_file_that_is_none(tmp_path: Path) -> None:
    assert run().exit_code == 2
    assert run(tmp_path / "none.yaml").exit_code == 2
    (tmp_path / "empty.yaml").touch()
    assert "is empty" in run(tmp_path / "empty.yaml").stderr


@pytest.mark.parametrize("file", sorted((CONFIG / "tests").glob("*.yaml")), ids=lambda file: file.name)
def test_the_examples_hold(file: Path) -> None:
    result = run(file)
    assert result.exit_code == 0, result.output


def test_there_is_an_example() -> None:
    assert (CONFIG / "tests" / "several-partners.yaml").exists()
