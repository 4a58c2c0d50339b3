"""Files that change while the proxy runs: certificates, anchors, listeners, the token; and such as are broken."""

import os
import shutil
import signal
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import Encoding
from tests.integration.certificates import Identity, identity, issue, names, pem
from tests.integration.clients import Connection, client_context, tls
from tests.integration.conftest import Material
from tests.integration.harness import Tree, eventually, running_command
from tests.integration.live.conftest import TOKEN, Live, Run, crl, replace

from mtlsproxy.cli import cli
from mtlsproxy.config.errors import ConfigErrors
from mtlsproxy.runtime.server import Proxy
from mtlsproxy.runtime.snapshot import Plan

pytestmark = pytest.mark.usefixtures("looking_often")


def served(connection: Connection) -> bytes | None:
    """The certificate that the proxy showed on this connection, as DER."""
    return connection.sock.getpeercert(binary_form=True)


def new_certificate(material: Material, certificate: Path, key: Path) -> bytes:
    """Another certificate of the same names in place of the one that is there; its leaf as DER."""
    issued = material.pki.issue("CN=proxy.test", ["DNS:proxy.test"], "server")
    replace(certificate, issued.chain_pem)
    replace(key, issued.key_pem)
    return issued.certificate.public_bytes(Encoding.DER)


# -- certificates of the server ----------------------------------------------------------------------------------------


def test_a_new_certificate_is_served_to_new_connections_and_old_ones_go_on(live: Live, alice: Identity) -> None:
    with live.connect(alice) as old:
        before = served(old)
        assert old.get().status == 200
        with live.reloaded():
            fresh = new_certificate(live.material, live.folder / "server.pem", live.folder / "server.key")
        with live.connect(alice) as new:
            assert served(new) == fresh != before
            assert new.get().status == 200
        assert old.get().status == 200
        assert served(old) == before
    (shown,) = live.status["listeners"][0]["certificates"]
    assert shown["subject"] == "CN=proxy.test"


def test_a_swapped_link_as_kubernetes_does_it_is_seen(
    run: Run, live_config: Tree, tmp_path: Path, alice: Identity
) -> None:
    """Secrets are mounted as links into ..data, itself a link to a folder that is replaced whole."""
    mounted = tmp_path / "mounted"
    for name in ("..one", "..two"):
        (mounted / name).mkdir(parents=True)
    shutil.copy(tmp_path / "server.pem", mounted / "..one" / "tls.crt")
    shutil.copy(tmp_path / "server.key", mounted / "..one" / "tls.key")
    (mounted / "..data").symlink_to("..one")
    for name in ("tls.crt", "tls.key"):
        (mounted / name).symlink_to(f"..data/{name}")
    entry = {"certificate": "mounted/tls.crt", "private_key": "mounted/tls.key"}
    live_config["listeners"][0]["tls"]["certificates"] = [entry]
    live = run(live_config)
    with live.connect(alice) as old:
        with live.reloaded():
            fresh = new_certificate(live.material, mounted / "..two" / "tls.crt", mounted / "..two" / "tls.key")
            (mounted / "..data_tmp").symlink_to("..two")
            (mounted / "..data_tmp").rename(mounted / "..data")
        with live.connect(alice) as new:
            assert served(new) == fresh
        assert old.get().status == 200


# -- whom it trusts ----------------------------------------------------------------------------------------------------


def test_clients_of_a_new_anchor_are_let_in_and_of_a_removed_one_let_go(
    live: Live, material: Material, alice: Identity
) -> None:
    ca = issue("Another CA", ca=True)
    carol = identity(live.folder, issue("carol", ca, sans=names("DNS:carol.test")))
    with live.connect(alice) as hers:
        assert hers.get().status == 200
        with live.reloaded():
            replace(live.folder / "partners.crl", crl(material.ca, 5) + crl(ca, 1))
            replace(live.folder / "anchors.pem", pem(material.ca, ca))
        with live.connect(carol) as another:
            assert another.get().status == 200
            assert hers.get().status == 200
            with live.reloaded():
                replace(live.folder / "anchors.pem", pem(ca))
                replace(live.folder / "partners.crl", crl(ca, 2))
            assert hers.ended()
            assert another.get().status == 200
    with pytest.raises(ssl.SSLError), live.connect(alice) as again:
        again.get()


def test_rules_of_routes_change_for_open_connections_too(live: Live, alice: Identity, bob: Identity) -> None:
    with live.connect(alice) as hers, live.connect(bob) as his:
        assert hers.get().status == his.get().status == 200
        live.config["routes"][0]["allow"] = [{"dns": "bob.clients.test"}]
        with live.reloaded():
            live.write_config()
        assert his.get().status == 200
        answer = hers.get()
        assert (answer.status, answer.problem["reason"]) == (403, "not_allowed")


# -- what is broken ----------------------------------------------------------------------------------------------------


def _no_yaml(live: Live) -> None:
    replace(live.folder / "proxy.yaml", b"version: [")


def _unknown_key(live: Live) -> None:
    live.config["routes"][0]["alow"] = "any"
    live.write_config()


def _another_key(live: Live) -> None:
    issued = live.material.pki.issue("CN=other", ["DNS:other.test"], "server")
    replace(live.folder / "server.key", issued.key_pem)


def _half_a_certificate(live: Live) -> None:
    data = (live.folder / "server.pem").read_bytes()
    replace(live.folder / "server.pem", data[: len(data) // 2])


def _no_anchor(live: Live) -> None:
    (live.folder / "anchors.pem").unlink()


def _broken_deny_file(live: Live) -> None:
    replace(live.folder / "deny.yaml", b"- serial: '04D2'\n- serail: '1'\n")


def _no_deny_file(live: Live) -> None:
    (live.folder / "deny.yaml").unlink()


def _short_token(live: Live) -> None:
    replace(live.folder / "token", b"short")


def _taken_address(live: Live) -> None:
    taken = live.config["listeners"][0] | {"name": "second", "bind": f"127.0.0.1:{live.proxy.admin_port}"}
    live.config["listeners"].append(taken)
    live.config["routes"][0]["listeners"] = ["internal", "second"]
    live.write_config()


BROKEN: list[tuple[Callable[[Live], None], str]] = [
    (_no_yaml, "proxy.yaml:2:1: YAML: "),
    (_unknown_key, "routes[0].alow: unknown key (did you mean allow?)"),
    (_another_key, "listeners[0].tls.certificates[0].private_key: "),
    (_half_a_certificate, "listeners[0].tls.certificates[0].certificate: "),
    (_no_anchor, "truststores.partners.trust_anchors[0]: cannot read "),
    (_broken_deny_file, "deny.yaml:2:3: [1].serail: unknown key (did you mean serial?)"),
    (_no_deny_file, "truststores.partners.deny_file: "),
    (_short_token, "admin.token_file: the token in "),
    (_taken_address, "listeners[1].bind: cannot listen on 127.0.0.1:"),
]


@pytest.mark.parametrize(("break_it", "words"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_broken_changes_nothing_and_is_said(
    live: Live, alice: Identity, bob: Identity, break_it: Callable[[Live], None], words: str
) -> None:
    """Everything or nothing: the denial that comes with it is not in force either."""
    with live.connect(alice) as old:
        assert old.get().status == 200
        before = live.generation
        live.config["truststores"]["partners"]["deny"] = [{"dns": "bob.clients.test"}]
        with live.reload_refused():
            live.write_config()
            break_it(live)
        assert live.generation == before
        assert old.get().status == 200
    for client in (alice, bob):
        with live.connect(client) as new:
            assert new.get().status == 200
    assert b"\nmtlsproxy_config_last_reload_successful 0.0\n" in live.proxy.admin("/metrics")
    last = live.status["configuration"]["last_reload"]
    assert not last["ok"]
    assert any(words in error for error in last["errors"])
    logged = [line["message"] for line in live.proxy.messages() if line.get("level") == "error"]
    assert any(message.startswith("reload refused, generation 1 stays: ") and words in message for message in logged)
    status, said, _ = live.call("POST", "/api/reload")
    assert status == 422
    assert any(words in error["detail"] for error in said["errors"])


def test_what_has_been_mended_is_taken(live: Live, alice: Identity) -> None:
    with live.reload_refused():
        _no_yaml(live)
    with live.reloaded():
        live.write_config()
    eventually(lambda: live.status["configuration"]["last_reload"]["ok"])
    assert live.reloads("success") == 1
    assert b"\nmtlsproxy_config_last_reload_successful 1.0\n" in live.proxy.admin("/metrics")
    with live.connect(alice) as hers:
        assert hers.get().status == 200


def test_a_change_while_another_is_read_is_not_lost(
    live: Live, alice: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a reload has already read by then is read again."""
    adopt = Proxy.adopt

    async def deny_meanwhile(proxy: Proxy, plan: Plan) -> None:
        monkeypatch.setattr(Proxy, "adopt", adopt)
        live.deny_in_file({"dns": "alice.clients.test"})
        await adopt(proxy, plan)

    monkeypatch.setattr(Proxy, "adopt", deny_meanwhile)
    live.config["routes"][0]["methods"] = ["GET"]
    live.write_config()
    eventually(lambda: live.status["truststores"][0]["deny"]["file"] == 1)
    assert live.refused(alice) == "denied"


def test_a_change_while_the_proxy_starts_is_not_lost(
    run: Run, live_config: Tree, tmp_path: Path, alice: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = Proxy.start

    async def deny_meanwhile(proxy: Proxy) -> None:
        replace(tmp_path / "deny.yaml", yaml.safe_dump([{"dns": "alice.clients.test"}]).encode())
        await start(proxy)

    monkeypatch.setattr(Proxy, "start", deny_meanwhile)
    live = run(live_config)
    eventually(lambda: live.status["truststores"][0]["deny"]["file"] == 1)
    assert live.refused(alice) == "denied"


def test_a_file_that_a_refused_configuration_lacks_may_come_later(live: Live) -> None:
    """Whoever saves the configuration first and its files after need not touch it again."""
    live.config["truststores"]["partners"]["deny_file"] = str(live.folder / "later.yaml")
    with live.reload_refused():
        live.write_config()
    with live.reloaded():
        replace(live.folder / "later.yaml", b"- dns: alice.clients.test")
    assert live.status["truststores"][0]["deny"]["file"] == 1


def refused_lists(live: Live) -> float:
    """As an alert sees them: files are not refreshed by themselves, but a start with them would fail."""
    return sum(value for key, value in live.proxy.series("crl_refresh_total").items() if key[-1] == "failure")


def test_a_broken_crl_leaves_the_last_good_one_and_other_changes_go_on(
    live: Live, alice: Identity, bob: Identity
) -> None:
    with live.reloaded():
        live.revoke(alice)
    with live.reloaded():
        replace(live.folder / "partners.crl", b"garbage")
        live.deny_in_file({"dns": "bob.clients.test"})
    assert live.refused(alice) == "revoked"
    assert live.refused(bob) == "denied"
    warnings = live.status["configuration"]["warnings"]
    assert [warning for warning in warnings if "the CRLs known so far stay in force" in warning]
    assert refused_lists(live) == 1


def test_a_crl_older_than_the_one_in_force_does_not_let_anybody_in_again(live: Live, alice: Identity) -> None:
    with live.reloaded():
        replace(live.folder / "partners.crl", crl(live.material.ca, 9, alice))
    with live.reloaded():
        replace(live.folder / "partners.crl", crl(live.material.ca, 8))
    assert live.refused(alice) == "revoked"
    assert refused_lists(live) == 1


# -- what is said of it ------------------------------------------------------------------------------------------------


def warned(live: Live, words: str, count: int) -> list[str]:
    """So many warnings with these words, once another thread has written them."""

    def written() -> list[str]:
        messages = [line["message"] for line in live.proxy.messages() if line["level"] == "warning"]
        found = [message for message in messages if words in message]
        return found if len(found) >= count else []

    return eventually(written)


def test_who_is_denied_by_files_is_said_when_it_changes(live: Live) -> None:
    """As it is of anchors and policies: a log of trust that leaves this out is none."""
    with live.reloaded():
        live.deny_in_file({"dns": "one.test"}, {"dns": "two.test"})
    with live.reloaded():
        live.config["truststores"]["partners"]["deny"] = [{"dns": "three.test"}]
        live.deny_in_file({"dns": "two.test"})
        live.write_config()
    with live.reloaded():
        (live.folder / "anchors.pem").touch()
    assert warned(live, "deny", 3) == [
        "changed: truststore partners: deny_file: 2 entries added, 0 removed, 2 in force",
        "changed: truststore partners: deny: 1 entries added, 0 removed, 1 in force",
        "changed: truststore partners: deny_file: 0 entries added, 1 removed, 1 in force",
    ]


def test_a_crl_whose_file_is_gone_is_said(live: Live, alice: Identity) -> None:
    """Nobody is let in by it, under hard_fail; but the reason is looked for in this log."""
    live.config["truststores"]["partners"]["revocation"]["crl"]["sources"] = [str(live.folder / "*.crl")]
    with live.reloaded():
        live.write_config()
        live.revoke()
    replace(live.folder / "other.crl", crl(issue("Other", ca=True), 1))
    with live.reloaded():
        (live.folder / "partners.crl").unlink()
    assert live.refused(alice) == "revocation_unknown"
    assert warned(live, f"from {live.folder / 'partners.crl'} is gone", 1)


def test_an_entry_that_matches_nobody_is_warned_of_at_start_and_at_a_reload(
    run: Run, live_config: Tree, tmp_path: Path
) -> None:
    """It looks like a denial, and is none; `check` is not run by everybody."""
    wrong = "is no loaded CA's name"
    live_config["truststores"]["partners"]["deny"] = [{"issuer": "CN=Nobody", "serial": "1"}]
    live = run(live_config)
    assert len(warned(live, f"CN=Nobody {wrong}", 1)) == 1
    with live.reloaded():
        live.deny_in_file({"issuer": "CN=Noone", "serial": "2"})
    assert warned(live, f"[0].issuer: CN=Noone {wrong}", 1)
    assert len(warned(live, wrong, 2)) == 2
    assert len([warning for warning in live.status["configuration"]["warnings"] if wrong in warning]) == 2


# -- listeners ---------------------------------------------------------------------------------------------------------


def test_listeners_come_and_go_without_disturbing_each_other(live: Live, alice: Identity) -> None:
    second = live.config["listeners"][0] | {"name": "second"}
    with live.connect(alice) as first:
        assert first.get().status == 200
        live.config["listeners"].append(second)
        live.config["routes"][0]["listeners"] = ["internal", "second"]
        with live.reloaded():
            live.write_config()
        port = live.proxy.port("second")
        with tls(port, live.context(alice)) as there:
            assert there.get().status == 200
            live.config["listeners"].pop()
            live.config["routes"][0]["listeners"] = ["internal"]
            with live.reloaded():
                live.write_config()
            assert there.ended()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        assert first.get().status == 200
    assert [listener["name"] for listener in live.status["listeners"]] == ["internal"]
    assert ("second",) not in live.proxy.series("connections")


def test_a_listener_moves_to_another_address(live: Live, alice: Identity) -> None:
    old_port = live.port
    with live.connect(alice) as old:
        assert old.get().status == 200
        with socket.create_server(("127.0.0.1", 0)) as free:
            new_port = free.getsockname()[1]
        live.config["listeners"][0]["bind"] = f"127.0.0.1:{new_port}"
        with live.reloaded():
            live.write_config()
        assert old.ended()
    assert live.port == new_port
    with live.connect(alice) as new:
        assert new.get().status == 200
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", old_port))


# -- the token, the state, SIGHUP --------------------------------------------------------------------------------------


def test_a_new_token_takes_the_old_ones_place(live: Live) -> None:
    with live.reloaded():
        replace(live.folder / "token", b"another-token-0123456789\n")
    status, _, headers = live.call("POST", "/api/reload")
    assert (status, headers["WWW-Authenticate"][:6]) == (401, "Bearer")
    assert live.call("POST", "/api/reload", token="another-token-0123456789")[0] == 200


def test_without_token_file_nobody_changes_anything(run: Run, live_config: Tree, alice: Identity) -> None:
    del live_config["admin"]["token_file"]
    live = run(live_config)
    status, said, _ = live.call("POST", "/api/deny", {"serial": "1", "issuer": "CN=x"})
    assert (status, "admin.token_file" in said["detail"]) == (403, True)


def test_a_reload_by_api_takes_what_the_files_say_now(live: Live, alice: Identity) -> None:
    live.deny_in_file({"dns": "alice.clients.test"})
    status, said, _ = live.call("POST", "/api/reload")
    assert status == 200
    assert said["generation"] >= 2
    assert live.refused(alice) == "denied"


def test_a_token_file_that_others_can_read_is_warned_about(run: Run, live_config: Tree, tmp_path: Path) -> None:
    (tmp_path / "token").chmod(0o644)
    live = run(live_config)
    assert [w for w in live.status["configuration"]["warnings"] if "can be read by others (mode 0644)" in w]


def test_damaged_denials_keep_the_proxy_from_starting_and_check_says_so(
    live_config: Tree, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "denials.json").write_text('{"version": 1, "denials": [')
    with pytest.raises(ConfigErrors, match=r"state_dir: .*denials\.json, which holds .* is damaged .*put back a good"):
        run(live_config)
    checked = CliRunner().invoke(cli, ["check", str(tmp_path / "proxy.yaml")])
    assert checked.exit_code == 2
    assert "denials.json" in checked.stderr


def test_a_state_folder_that_others_can_write_to_keeps_the_proxy_from_starting(
    run: Run, live_config: Tree, tmp_path: Path
) -> None:
    """Whoever can remove the file of denials lifts them all: also where there is none it is not believed."""
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state").chmod(0o777)
    with pytest.raises(ConfigErrors, match="chmod go-w"):
        run(live_config)
    (tmp_path / "state").chmod(0o700)
    assert run(live_config).status


def test_a_missing_or_broken_deny_file_keeps_the_proxy_from_starting(
    live_config: Tree, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "deny.yaml").write_text("- serial: 1\n")
    with pytest.raises(ConfigErrors, match=r"deny\.yaml:1:11: \[0\]\.serial: must be a string"):
        run(live_config)
    (tmp_path / "deny.yaml").unlink()
    with pytest.raises(ConfigErrors, match=r"truststores\.partners\.deny_file: .*No such file"):
        run(live_config)


def test_sighup_reloads_though_no_file_has_changed(live_config: Tree, tmp_path: Path) -> None:
    with running_command(live_config, tmp_path) as proxy:
        for number in (1, 2):
            os.kill(proxy.process.pid, signal.SIGHUP)
            eventually(lambda number=number: proxy.series("config_reloads_total") == {("success",): number})
        assert proxy.stop() == 0


def test_sighup_reads_a_change_at_once_and_refuses_a_broken_one(
    live_config: Tree, material: Material, tmp_path: Path, alice: Identity
) -> None:
    def answer() -> tuple[int, str | None] | None:
        with tls(proxy.port(), client_context(material.root, alice)) as connection:
            try:
                found = connection.get()
            except EOFError:
                return None  # the change came between handshake and request
            return found.status, found.problem["reason"] if found.status != 200 else None

    with running_command(live_config, tmp_path) as proxy:
        assert answer() == (200, None)
        replace(tmp_path / "deny.yaml", yaml.safe_dump([{"dns": "alice.clients.test"}]).encode())
        os.kill(proxy.process.pid, signal.SIGHUP)
        eventually(lambda: answer() == (403, "denied"))
        replace(tmp_path / "deny.yaml", b"- {}")
        os.kill(proxy.process.pid, signal.SIGHUP)
        eventually(lambda: proxy.series("config_reloads_total").get(("failure",)))
        assert answer() == (403, "denied")
        assert proxy.stop() == 0
    assert TOKEN not in proxy.error_file.read_text()
