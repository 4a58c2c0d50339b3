"""`explain` and `check` see what the running proxy sees: its copies on disk, and with --fetch what the network says."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from tests.integration.certificates import Identity, identity, issue, pem
from tests.integration.harness import Tree, eventually
from tests.integration.sources.conftest import HOUR, Ca, Run, Site, now, points, responders
from tests.integration.sources.web import Web
from tests.unit.revocation.build import authority, delta_of, freshest

from mtlsproxy.cli import cli
from mtlsproxy.fetch import once
from mtlsproxy.revocation.crl import load_crls


def command(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments)], prog_name="mtlsproxy")


class Operator:
    """Asks about clients by the configuration of the proxy as it is then; a running one reads a file of its own."""

    def __init__(self, folder: Path, tree: Tree) -> None:
        self.state = folder / "state"
        self._file = folder / "operator.yaml"
        self._tree = tree

    @property
    def file(self) -> Path:
        self._file.write_text(yaml.safe_dump(self._tree, sort_keys=False))
        return self._file

    def explain(self, client: Identity, *options: str) -> Tree:
        result = command("explain", "--cert", client.certificate, "--config", self.file, "--format", "json", *options)
        answer: Tree = json.loads(result.stdout)
        assert result.stderr == ""
        assert result.exit_code == (0 if answer["accepted"] else 1)
        return answer

    def outcome(self, client: Identity, *options: str) -> str:
        return str(self.explain(client, *options)["reason"] or "ok")

    def text(self, client: Identity, *options: str) -> str:
        return command("explain", "--cert", client.certificate, "--config", self.file, *options).stdout

    def files(self) -> dict[str, tuple[int, int, bytes]]:
        """All that is in state_dir: inode, time of change, content."""
        found = [path for path in sorted(self.state.rglob("*")) if path.is_file()]
        return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes()) for path in found}


@pytest.fixture
def operator(tmp_path: Path, tree: Tree) -> Operator:
    return Operator(tmp_path, tree)


@pytest.fixture
def crl(revocation: Tree, server: Web) -> Tree:
    revocation["crl"] = {"sources": [server.url("/ca.crl")], "refresh": "1h"}
    options: Tree = revocation["crl"]
    return options


@pytest.fixture
def named(revocation: Tree) -> Tree:
    revocation["crl"] = {"distribution_points": True, "refresh": "1h"}
    options: Tree = revocation["crl"]
    return options


def revocation_check(answer: Tree) -> Tree:
    (check,) = [check for check in answer["checks"] if check["name"] == "revocation"]
    found: Tree = check
    return found


def assert_agree(site: Site, operator: Operator, client: Identity, *options: str) -> str:
    """Proxy and explain say the same of the client; what that is."""
    said = site.outcome(client)
    answer = operator.explain(client, *options)
    assert (answer["reason"] or "ok") == said
    return said


# -- what the proxy keeps ----------------------------------------------------------------------------------------------


def test_the_proxys_copy_decides_without_the_network(
    run: Run, tree: Tree, operator: Operator, ca: Ca, crl: Tree, server: Web
) -> None:
    """Good, revoked and expired clients; the server is down, and state_dir stays as it was."""
    alice, revoked = ca.client("alice"), ca.client("revoked")
    expired = ca.client("expired", end=now() - HOUR)
    server.give("/ca.crl", ca.crl(revoked, number=7))
    site = run(tree)
    server.down()
    before = operator.files()
    assert [assert_agree(site, operator, client) for client in (alice, revoked)] == ["ok", "revoked"]
    assert operator.outcome(expired) == "expired"  # on the wire it fails in the handshake
    assert revocation_check(operator.explain(revoked))["seen"] == site.seen(revoked)
    answer = operator.explain(alice)
    assert answer["not_asked"] == []
    (source,) = answer["sources"]
    assert (source["kind"], source["url"], source["named_by"]) == ("crl", server.url("/ca.crl"), "configuration")
    assert (source["state"], source["detail"]) == ("kept", "")
    assert source["fetched_at"] is not None
    (found,) = source["lists"]
    assert (found["issuer"], found["number"], found["entries"], found["delta"]) == ("CN=Online CA", 7, 1, False)
    assert f"kept copy   CRL of CN=Online CA, number 7, from {server.url('/ca.crl')}, fetched " in operator.text(alice)
    assert ", next update in 23 h 59 min, 1 revoked" in operator.text(alice)
    assert operator.files() == before


def test_a_list_that_the_proxy_has_indexed_is_not_parsed_again(
    run: Run, tree: Tree, operator: Operator, ca: Ca, crl: Tree, server: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million entries take seconds. Where the index is damaged the copy itself is read."""
    alice, revoked = ca.client("alice"), ca.client("revoked")
    server.give("/ca.crl", ca.crl(revoked, number=7))
    run(tree)
    parsed: list[str] = []
    monkeypatch.setattr(once, "load_crls", lambda data, url: (parsed.append(url), load_crls(data, url))[1])
    assert [operator.outcome(client) for client in (alice, revoked)] == ["ok", "revoked"]
    assert parsed == []
    for file in (operator.state / "indexes").glob("*.idx"):
        file.unlink()  # the proxy has it mapped
        file.write_bytes(b"else")
    assert [operator.outcome(client) for client in (alice, revoked)] == ["ok", "revoked"]
    assert parsed == [server.url("/ca.crl")] * 2


def test_a_copy_that_has_ended_is_no_answer_and_said_to_be_old(
    run: Run, tree: Tree, operator: Operator, ca: Ca, crl: Tree, server: Web
) -> None:
    alice = ca.client("alice")
    server.give("/ca.crl", ca.crl(number=7, age=3 * HOUR, lasts=-HOUR))
    site = run(tree)
    assert assert_agree(site, operator, alice) == "revocation_unknown"
    assert f"from {server.url('/ca.crl')}, fetched " in operator.text(alice)
    assert ", ended 1 h " in operator.text(alice)


def test_before_the_proxy_ever_ran_the_fix_is_to_fetch(
    tree: Tree, operator: Operator, ca: Ca, crl: Tree, server: Web
) -> None:
    """And fetching makes nothing on disk."""
    alice, url = ca.client("alice"), server.url("/ca.crl")
    server.give("/ca.crl", ca.crl(number=7))
    answer = operator.explain(alice)
    assert (answer["reason"], answer["not_asked"]) == ("revocation_unknown", [url])
    assert revocation_check(answer)["fix"].startswith(f"run again with --fetch, which asks {url} as the proxy does; ")
    assert answer["sources"][0]["detail"] == f"no copy of it is kept in {operator.state / 'crls'}"
    assert f"not asked   {url}: no copy of it is kept in " in operator.text(alice)
    assert server.asked == []
    answer = operator.explain(alice, "--fetch")
    assert (answer["reason"], answer["not_asked"], answer["sources"][0]["state"]) == (None, [], "fetched")
    assert server.paths() == ["/ca.crl"]
    assert not operator.state.exists()


def test_soft_fail_without_a_copy_lets_pass_and_says_who_was_not_asked(
    tree: Tree, revocation: Tree, tmp_path: Path, ca: Ca, crl: Tree, server: Web
) -> None:
    revocation["mode"] = "soft_fail"
    answer = Operator(tmp_path, tree).explain(ca.client("alice"))
    assert (answer["reason"], answer["not_asked"]) == (None, [server.url("/ca.crl")])
    assert "let pass by soft_fail" in revocation_check(answer)["seen"]


def test_a_damaged_copy_is_not_used_and_why_is_said(
    run: Run, tree: Tree, operator: Operator, ca: Ca, crl: Tree, server: Web
) -> None:
    server.give("/ca.crl", ca.crl(number=7))
    run(tree)
    for file in (operator.state / "crls").glob("*.crl"):
        file.write_bytes(b"else")
    answer = operator.explain(ca.client("alice"))
    assert answer["reason"] == "revocation_unknown"
    assert "this kept copy is damaged and is not used" in answer["sources"][0]["detail"]


def test_a_copy_of_another_ca_is_refused_by_the_rules_of_the_proxy(
    run: Run, tree: Tree, operator: Operator, ca: Ca, named: Tree, server: Web
) -> None:
    """Someone put the list of a namesake into state_dir's place of it: by way of the server, before its CA changed."""
    alice = ca.client("alice", points(server.url("/ca.crl")))
    impostor = Ca(ca.folder)
    server.give("/ca.crl", impostor.crl(number=9))
    site = run(tree)
    assert assert_agree(site, operator, alice) == "revocation_unknown"
    assert assert_agree(site, operator, alice, "--fetch") == "revocation_unknown"
    (source,) = operator.explain(alice, "--fetch")["sources"]
    assert source["state"] == "failed"
    assert "what came is not used" in source["detail"]
    assert "not signed by its issuer CN=Online CA" in source["detail"]


def test_a_folder_that_others_can_write_to_is_not_believed(
    run: Run, tree: Tree, operator: Operator, ca: Ca, crl: Tree, server: Web
) -> None:
    """`run` refuses to start with it, and so `check` says."""
    server.give("/ca.crl", ca.crl(number=7))
    run(tree)
    operator.state.chmod(0o777)
    answer = operator.explain(ca.client("alice"))
    assert answer["reason"] == "revocation_unknown"
    assert f"others can write to it: chmod go-w {operator.state}" in answer["sources"][0]["detail"]
    checked = command("check", operator.file)
    assert checked.exit_code == 2
    assert f"state_dir: {operator.state}: others can write to it" in checked.stderr


# -- what it asks ------------------------------------------------------------------------------------------------------


def test_a_fresh_copy_is_not_asked_for_and_a_due_one_is_asked_whether_it_changed(
    run: Run, tree: Tree, operator: Operator, ca: Ca, crl: Tree, server: Web
) -> None:
    alice = ca.client("alice")
    server.tagged("/ca.crl", ca.crl(number=7), '"seven"')
    run(tree)
    assert operator.explain(alice, "--fetch")["sources"][0]["state"] == "kept"
    assert len(server.asked) == 1
    crl["refresh"] = "1ms"
    before = operator.files()
    assert operator.explain(alice, "--fetch")["sources"][0]["state"] == "fetched"
    assert server.asked[-1].headers["If-None-Match"] == '"seven"'
    server.give("/ca.crl", ca.crl(alice, number=8))
    assert operator.outcome(alice, "--fetch") == "revoked"
    assert operator.outcome(alice) == "ok"
    assert operator.files() == before


@pytest.mark.parametrize("wrong", ["rollback", "garbage", "dead", "wrong signer"])
def test_what_is_known_stays_when_something_wrong_comes(
    run: Run, tree: Tree, operator: Operator, ca: Ca, crl: Tree, server: Web, wrong: str
) -> None:
    alice, revoked = ca.client("alice"), ca.client("revoked")
    server.give("/ca.crl", ca.crl(revoked, number=7))
    run(tree)
    crl["refresh"] = "1ms"
    if wrong == "dead":
        server.down()
    else:
        other = ca.crl(number=6, age=2 * HOUR) if wrong == "rollback" else Ca(ca.folder).crl(number=9)
        server.give("/ca.crl", b"garbage" if wrong == "garbage" else other)
    assert [operator.outcome(client, "--fetch") for client in (alice, revoked)] == ["ok", "revoked"]
    (source,) = operator.explain(alice, "--fetch")["sources"]
    assert (source["state"], source["lists"][0]["number"]) == ("kept", 7)
    assert source["detail"].startswith("no newer one: ")
    assert "failed      no newer one: " in operator.text(alice, "--fetch")


def test_a_dead_server_is_said_to_be_dead(tree: Tree, operator: Operator, ca: Ca, crl: Tree, server: Web) -> None:
    server.down()
    answer = operator.explain(ca.client("alice"), "--fetch")
    assert (answer["reason"], answer["not_asked"]) == ("revocation_unknown", [])
    assert answer["sources"][0]["state"] == "failed"
    assert "cannot connect" in answer["sources"][0]["detail"]
    assert f"failed      {server.url('/ca.crl')}: cannot connect" in operator.text(ca.client("bob"), "--fetch")
    assert "--fetch" not in revocation_check(answer)["fix"]


def test_nobody_is_asked_about_a_stranger(tree: Tree, operator: Operator, ca: Ca, crl: Tree, server: Web) -> None:
    """Else a file from anywhere makes this host connect."""
    stranger = Ca(ca.folder, "Another CA").client("stranger", points(server.url("/his.crl")))
    server.give("/ca.crl", ca.crl(number=7))
    assert operator.outcome(stranger, "--fetch") == "untrusted_issuer"
    assert server.asked == []


# -- distribution points -----------------------------------------------------------------------------------------------


def test_points_of_the_chain_are_read_where_kept_and_else_asked(
    run: Run, tree: Tree, operator: Operator, ca: Ca, named: Tree, server: Web
) -> None:
    alice, revoked = (ca.client(name, points(server.url("/ca.crl"))) for name in ("alice", "revoked"))
    server.give("/ca.crl", ca.crl(revoked, number=3))
    site = run(tree)
    answer = operator.explain(alice)
    assert (answer["reason"], answer["not_asked"]) == ("revocation_unknown", [server.url("/ca.crl")])
    assert f"{server.url('/ca.crl')} (named by a certificate): no copy of it is kept" in operator.text(alice)
    assert [operator.outcome(client, "--fetch") for client in (alice, revoked)] == ["ok", "revoked"]
    assert not list((operator.state / "crls").glob("*.json"))
    assert [site.outcome(client) for client in (alice, revoked)] == ["ok", "revoked"]
    server.down()
    assert [assert_agree(site, operator, client) for client in (alice, revoked)] == ["ok", "revoked"]
    assert operator.explain(alice)["sources"][0]["named_by"] == "certificate"


def test_an_intermediate_that_only_the_chain_brings_has_its_own_list(
    run: Run, tree: Tree, operator: Operator, ca: Ca, named: Tree, server: Web
) -> None:
    between = Ca(ca.folder, issued=issue("Between", ca.issued, ca=True, extra=[points(server.url("/root.crl"))]))
    clients = [
        identity(ca.folder, issue(name, between.issued, extra=[points(server.url("/between.crl"))]), between.issued)
        for name in ("alice", "revoked")
    ]
    server.give("/root.crl", ca.crl(number=1))
    server.give("/between.crl", between.crl(clients[1], number=1))
    assert [operator.outcome(client, "--fetch") for client in clients] == ["ok", "revoked"]
    site = run(tree)
    assert [site.outcome(client) for client in clients] == ["ok", "revoked"]
    assert [operator.outcome(client) for client in clients] == ["ok", "revoked"]
    server.give("/root.crl", ca.crl(Identity(Path(), Path(), pem_der(between)), number=2))
    named["refresh"] = "1ms"
    assert operator.outcome(clients[0], "--fetch") == "revoked"


def pem_der(ca: Ca) -> bytes:
    return ca.issued.certificate.der


@pytest.mark.parametrize("options", [(), ("--fetch",)])
def test_a_point_that_is_not_allowed_is_never_asked(
    run: Run, tree: Tree, operator: Operator, ca: Ca, named: Tree, server: Web, options: tuple[str, ...]
) -> None:
    """The advice is then not to fetch: that would change nothing."""
    server.give("/secret", ca.crl(number=1))
    alice = ca.client("alice", points(f"http://localhost:{server.port}/secret", "file:///etc/passwd"))
    answer = operator.explain(alice, *options)
    assert (answer["reason"], answer["not_asked"]) == ("revocation_unknown", [])
    assert [source["state"] for source in answer["sources"]] == ["not_allowed", "not_allowed"]
    assert "allowed_hosts" in answer["sources"][0]["detail"]
    assert "its scheme is file" in answer["sources"][1]["detail"]
    assert "--fetch" not in revocation_check(answer)["fix"]
    assert server.asked == []
    assert run(tree).outcome(alice) == "revocation_unknown"


# -- OCSP --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "reason"), [("good", "ok"), ("revoked", "revoked"), ("unknown", "revocation_unknown")]
)
@pytest.mark.parametrize("configured", [True, False])
def test_ocsp_is_asked_with_fetch_and_says_what_the_proxy_hears(
    run: Run, tree: Tree, tmp_path: Path, ca: Ca, revocation: Tree, server: Web,
    status: str, reason: str, configured: bool,
) -> None:  # fmt: skip
    url = server.url("/ocsp")
    revocation["ocsp"] = {"enabled": True} | ({"responder": url} if configured else {})
    operator = Operator(tmp_path, tree)
    ca.answer_at(server, "/ocsp")
    client = ca.client("asked", *(() if configured else (responders(url),)))
    ca.status[client.leaf.serial_number] = status
    answer = operator.explain(client)
    assert (answer["reason"], answer["not_asked"]) == ("revocation_unknown", [f"OCSP ({url})"])
    assert f"run again with --fetch, which asks OCSP ({url}) as the proxy does" in revocation_check(answer)["fix"]
    assert f"not asked   OCSP ({url}) about CN=asked (serial " in operator.text(client)
    assert server.asked == []
    assert operator.outcome(client, "--fetch") == reason
    (source,) = operator.explain(client, "--fetch")["sources"]
    assert (source["kind"], source["state"], source["status"]) == ("ocsp", "fetched", status)
    assert source["responders"] == [url]
    assert f": {status}, as of 1 min " in operator.text(client, "--fetch")
    assert run(tree).outcome(client) == reason


def test_an_ocsp_responder_that_fails_is_said_with_the_reason(
    tree: Tree, tmp_path: Path, ca: Ca, revocation: Tree, server: Web
) -> None:
    revocation["ocsp"] = {"enabled": True, "responder": server.url("/ocsp")}
    wrong = authority("Online CA")
    ca.answer_at(server, "/ocsp", signer=wrong, enclosed=())
    answer = Operator(tmp_path, tree).explain(ca.client("alice"), "--fetch")
    (source,) = answer["sources"]
    assert (answer["reason"], source["state"], answer["not_asked"]) == ("revocation_unknown", "failed", [])
    assert "signed neither by CN=Online CA nor by" in source["detail"]


def test_lists_and_ocsp_together_one_that_says_revoked_decides(
    run: Run, tree: Tree, tmp_path: Path, ca: Ca, crl: Tree, revocation: Tree, server: Web
) -> None:
    """And where a copy says revoked already, OCSP has nothing to add."""
    revocation["ocsp"] = {"enabled": True, "responder": server.url("/ocsp")}
    operator = Operator(tmp_path, tree)
    ca.answer_at(server, "/ocsp")
    crl["distribution_points"] = True
    point = points(server.url("/point.crl"))
    server.give("/point.crl", ca.crl(number=1))
    good, by_list, by_ocsp = (ca.client(name, point) for name in ("good", "by-list", "by-ocsp"))
    ca.status[by_ocsp.leaf.serial_number] = "revoked"
    server.give("/ca.crl", ca.crl(by_list, number=1))
    site = run(tree)
    said = [assert_agree(site, operator, client, "--fetch") for client in (good, by_list, by_ocsp)]
    assert said == ["ok", "revoked", "revoked"]
    assert operator.outcome(good) == "ok"  # the list vouches; that OCSP was not asked is said all the same
    assert operator.explain(good)["not_asked"] == [f"OCSP ({server.url('/ocsp')})"]
    assert [source["kind"] for source in operator.explain(good)["sources"]] == ["crl", "crl", "ocsp"]
    assert (operator.outcome(by_list), operator.explain(by_list)["not_asked"]) == ("revoked", [])


# -- beside it all -----------------------------------------------------------------------------------------------------


def test_fetching_needs_a_configuration(ca: Ca, server: Web) -> None:
    alice = ca.client("alice", points(server.url("/ca.crl")))
    result = command("explain", "--cert", alice.certificate, "--trust-anchors", ca.anchors, "--fetch")
    assert result.exit_code == 2
    assert "give --config" in result.stderr
    assert server.asked == []


def test_check_says_how_fresh_each_copy_is_and_asks_nobody(
    run: Run, tree: Tree, operator: Operator, ca: Ca, crl: Tree, server: Web
) -> None:
    crl["sources"].append(server.url("/other.crl"))
    server.give("/ca.crl", ca.crl(number=7))

    def copies() -> list[Tree]:
        found: Tree = json.loads(command("check", operator.file, "--format", "json").stdout)
        urls: list[Tree] = found["truststores"][0]["crl_urls"]
        return urls

    assert [one["state"] for one in copies()] == ["not_asked", "not_asked"]
    assert server.asked == []
    assert not operator.state.exists()
    run(tree)
    eventually(lambda: len(server.asked) >= 2)
    asked, before = len(server.asked), operator.files()
    kept, absent = copies()
    assert (kept["url"], kept["state"], kept["lists"][0]["number"]) == (server.url("/ca.crl"), "kept", 7)
    assert (absent["url"], absent["state"]) == (server.url("/other.crl"), "not_asked")
    output = command("check", operator.file).stdout
    assert f"kept copy   CRL of CN=Online CA, number 7, from {server.url('/ca.crl')}, fetched " in output
    assert f"not asked   {server.url('/other.crl')}: no copy of it is kept in " in output
    assert operator.files() == before
    assert len(server.asked) <= asked + 1  # the proxy itself may try the absent one again


def test_a_list_of_a_ca_that_nobody_knows_is_said_to_wait(
    run: Run, tree: Tree, operator: Operator, ca: Ca, crl: Tree, server: Web
) -> None:
    server.give("/ca.crl", pem_of(ca.crl(number=7), Ca(ca.folder, "Unknown CA").crl(number=8)))
    run(tree)
    answer = operator.explain(ca.client("alice"))
    assert answer["reason"] is None
    assert [one["issuer"] for one in answer["sources"][0]["lists"]] == ["CN=Online CA", "CN=Unknown CA"]
    assert "counts for chains that bring its issuer's key" in operator.text(ca.client("alice"))


def pem_of(*crls: bytes) -> bytes:
    return b"".join(pem(crl).replace(b"CERTIFICATE", b"X509 CRL") for crl in crls)


def test_time_can_be_moved_for_what_is_kept(
    run: Run, tree: Tree, operator: Operator, ca: Ca, crl: Tree, server: Web
) -> None:
    alice = ca.client("alice")
    server.give("/ca.crl", ca.crl(number=7))
    run(tree)
    later = (now() + timedelta(days=2)).isoformat().replace("+00:00", "Z")
    assert operator.outcome(alice) == "ok"
    assert operator.outcome(alice, "--at", later) == "revocation_unknown"


# -- deltas ------------------------------------------------------------------------------------------------------------


def test_the_delta_that_a_list_names_is_read_and_asked_for_too(
    run: Run, tree: Tree, operator: Operator, ca: Ca, crl: Tree, server: Web
) -> None:
    """RFC 5280 §5.2.6: who is revoked in the delta alone is revoked."""
    alice, revoked = ca.client("alice"), ca.client("revoked")
    server.give("/ca.crl", ca.crl(number=1, extensions=(freshest(server.url("/delta.crl")),)))
    server.give("/delta.crl", ca.crl(revoked, number=2, extensions=(delta_of(1),)))
    assert [operator.outcome(client, "--fetch") for client in (alice, revoked)] == ["ok", "revoked"]
    site = run(tree)
    eventually(lambda: site.outcome(revoked) == "revoked")
    server.down()
    assert [assert_agree(site, operator, client) for client in (alice, revoked)] == ["ok", "revoked"]
    assert "kept copy   delta CRL of CN=Online CA, number 2, from " in operator.text(alice)


def test_a_delta_that_may_not_be_asked_leaves_explain_silent(
    operator: Operator, ca: Ca, crl: Tree, server: Web, caplog: pytest.LogCaptureFixture
) -> None:
    """The proxy's log says so; what explain prints is its answer alone."""
    server.give("/ca.crl", ca.crl(number=1, extensions=(freshest(server.url("/delta.crl", "localhost")),)))
    assert operator.outcome(ca.client("alice"), "--fetch") == "ok"
    assert (server.paths(), caplog.records) == (["/ca.crl"], [])
