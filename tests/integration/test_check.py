"""`mtlsproxy check` as an operator types it: what a start would find, each warning, or each error with its line."""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from cryptography import x509
from tests.integration.certificates import NOW, issue, pem
from tests.integration.conftest import Material
from tests.integration.harness import COMMAND, Tree

from mtlsproxy.cli import cli


def check(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["check", *map(str, arguments)], prog_name="mtlsproxy")


def found(file: Path) -> Tree:
    result = check(file, "--format", "json")
    assert result.exit_code == 0, result.output
    answer: Tree = json.loads(result.stdout)
    return answer


def wrong(file: Path) -> list[str]:
    """The errors of a file that cannot be started with: exit status 2, on stderr alone, a line each."""
    result = check(file)
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    return result.stderr.splitlines()


Write = Callable[[Tree], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_config(config: Tree) -> Path:
        file = tmp_path / "proxy.yaml"
        file.write_text(yaml.safe_dump(config, sort_keys=False))
        return file

    return write_config


@pytest.fixture
def sound(config: Tree, material: Material) -> Tree:
    """A configuration without a warning."""
    pki = material.folder / "pki"
    config["truststores"]["partners"] = {
        "trust_anchors": [str(pki / "client-ca.pem")],
        "revocation": {"mode": "hard_fail", "crl": {"sources": [str(pki / "crls" / "client-ca.pem")]}},
    }
    config["routes"][0]["allow"] = [{"email": "*@example.org"}, {"dns": "a.example", "organizational_unit": "ops"}]
    return config


# -- what is found ----------------------------------------------------------------------------------------------------


def test_a_sound_file_passes_and_says_so_first(sound: Tree, write: Write) -> None:
    file = write(sound)
    for arguments in ((file,), (file, "--strict")):
        result = check(*arguments)
        assert result.exit_code == 0, result.output
        assert result.stdout.splitlines()[0] == f"{file}: no errors, no warnings"
        assert result.stderr == ""


def test_the_inventory_names_everything_a_start_would_work_with(sound: Tree, write: Write, material: Material) -> None:
    revoked = material.pki.issue("CN=gone", ["DNS:gone.example"], "client")
    material.pki.revoke(revoked.certificate, x509.ReasonFlags.superseded)
    sound["routes"].insert(
        0, {"name": "none", "paths": ["/x"], "methods": ["GET"], "allow": [], "upstream": "recorder"}
    )
    answer = found(write(sound))
    assert answer["ok"] is True
    assert answer["errors"] == answer["warnings"] == []
    (listener,) = answer["listeners"]
    assert (listener["name"], listener["bind"]) == ("internal", "127.0.0.1:0")
    (certificate,) = listener["certificates"]
    assert (certificate["subject"], certificate["days_left"]) == ("CN=proxy.test", 89)
    assert certificate["names"] == ["proxy.test", "localhost", "127.0.0.1"]
    (truststore,) = answer["truststores"]
    (anchor,) = truststore["trust_anchors"]
    assert anchor["subject"] == "CN=Client CA,O=mtlsproxy development"
    assert anchor["days_left"] > 1000
    (crl,) = truststore["crls"]
    assert crl["entries"] >= 1
    assert crl["number"] >= 2
    assert crl["days_left"] in (29, 30)
    assert crl["pending"] is False
    assert [route["name"] for route in answer["routes"]] == ["none", "all"]
    assert answer["routes"][0]["allow"] == []
    assert answer["routes"][1]["allow"] == ["email: *@example.org", "organizational_unit: ops, dns: a.example"]
    assert answer["upstreams"][0]["name"] == "recorder"
    assert answer["native_services_missing"] is None


def test_the_summary_for_people_says_the_same(sound: Tree, write: Write, material: Material) -> None:
    sound["routes"][0] |= {"paths": ["/orders"], "deny": [{"common_name": "mallory"}]}
    sound["truststores"]["partners"]["deny"] = [{"serial": "0A"}]
    output = check(write(sound)).stdout
    for words in (
        "internal 127.0.0.1:0 TLSv1.2 or later",
        "certificate CN=proxy.test for proxy.test, localhost, 127.0.0.1, until ",
        "(in 89 days)",
        "trust anchor CN=Client CA,O=mtlsproxy development, until ",
        "revocation hard_fail, chain",
        "CRL number ",
        "all on internal: any method any host /orders to recorder",
        "allow email: *@example.org",
        "deny common_name: mallory",
        "deny: 1 entries",
        "http://127.0.0.1:",
    ):
        assert words in output, words


def test_what_differs_from_one_server_on_a_plain_listener_is_shown(sound: Tree, write: Write) -> None:
    """Who sends PROXY headers, whose X-Forwarded-* stay, which server is next and when one is left out."""
    plain = check(write(sound)).stdout
    assert "no health check" in plain
    for words in ("PROXY", "X-Forwarded", "weight", "round_robin", "workers", "without the path's prefix"):
        assert words not in plain, words
    sound["workers"] = 2
    sound["routes"][0] |= {"paths": ["/a"], "strip_prefix": True}
    sound["listeners"][0] |= {
        "proxy_protocol": "v2", "proxy_protocol_from": ["192.0.2.1"], "trusted_proxies": ["198.51.100.0/24"],
    }  # fmt: skip
    sound["upstreams"]["recorder"] = {
        "servers": [{"url": "http://127.0.0.1:9", "weight": 3}, {"url": "unix:/run/app.sock"}],
        "balance": "client_hash",
        "health_check": {"path": "/well", "interval": "3s"},
        "circuit_breaker": {"failures": 2, "open_for": "7s"},
    }
    file = write(sound)
    shown = check(file).stdout
    for words in (
        "PROXY v2 header from 192.0.2.1/32",
        "X-Forwarded-* kept of 198.51.100.0/24",
        "to recorder without the path's prefix",
        "recorder client_hash",
        "http://127.0.0.1:9 weight 3",
        "unix:/run/app.sock weight 1",
        "left alone for 7s after 2 failures in a row; checked with GET /well every 3s",
        "workers 2",
    ):
        assert words in shown, words
    (upstream,) = found(file)["upstreams"]
    assert (upstream["balance"], upstream["weights"]) == ("client_hash", [3, 1])
    assert upstream["health_check"] == {"path": "/well", "interval": 3.0}


def test_where_revocations_are_heard_of_is_shown(sound: Tree, write: Write) -> None:
    revocation = sound["truststores"]["partners"]["revocation"]
    assert "OCSP" not in check(write(sound)).stdout
    revocation["crl"]["distribution_points"] = True
    revocation["ocsp"] = {"enabled": True}
    revocation["fetch"] = {"allowed_hosts": ["ca.example"]}
    shown = check(write(sound)).stdout
    assert "CRLs where certificates say that they are" in shown
    assert "OCSP of the responders that certificates name" in shown
    revocation["ocsp"]["responder"] = "http://ocsp.example/"
    assert "OCSP of http://ocsp.example/" in check(write(sound)).stdout
    (truststore,) = found(write(sound))["truststores"]
    assert truststore["revocation"]["distribution_points"] is True
    assert truststore["revocation"]["ocsp"] == {"responder": "http://ocsp.example/"}


def test_a_crl_of_a_ca_that_is_not_configured_is_pending(sound: Tree, write: Write, material: Material) -> None:
    """It counts for chains that bring the CA's certificate: no error, but worth knowing."""
    pki = material.folder / "pki"
    sound["truststores"]["partners"]["trust_anchors"] = [str(pki / "root.pem")]
    sound["truststores"]["partners"]["revocation"]["crl"]["sources"] = [str(pki / "crls")]
    file = write(sound)
    crls = {crl["issuer"].split(",")[0]: crl["pending"] for crl in found(file)["truststores"][0]["crls"]}
    assert crls == {"CN=Root CA": False, "CN=Server CA": True, "CN=Client CA": True}
    assert "pending: counts for chains that bring its issuer's key" in check(file).stdout


def test_nothing_is_bound_and_nothing_is_written(sound: Tree, write: Write, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        sound["listeners"][0]["bind"] = f"127.0.0.1:{taken.getsockname()[1]}"
        file = write(sound)
        before = sorted(tmp_path.iterdir())
        assert check(file).exit_code == 0
    assert sorted(tmp_path.iterdir()) == before


# -- warnings ---------------------------------------------------------------------------------------------------------


def test_each_warning_is_a_line_with_its_place_and_strict_refuses(sound: Tree, write: Write) -> None:
    sound["truststores"]["partners"]["revocation"] = {"mode": "off"}
    sound["routes"][0]["allow"] = "any"
    file = write(sound)
    result = check(file)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == f"{file}: no errors, 2 warnings"
    warnings = [line for line in result.stdout.splitlines() if line.startswith("warning: ")]
    assert [line.split(": ")[2] for line in warnings] == ["truststores.partners.revocation.mode", "routes[0].allow"]
    assert all(line.split(": ")[1].startswith(f"{file}:") for line in warnings)
    assert check(file, "--strict").exit_code == 1
    assert [w["path"] for w in found(file)["warnings"]] == ["truststores.partners.revocation.mode", "routes[0].allow"]
    assert check(file, "--strict", "--format", "json").exit_code == 1


def test_an_issuer_that_is_no_loaded_ca_is_a_warning(sound: Tree, write: Write, tmp_path: Path) -> None:
    """Such an entry matches nobody. Denying takes openssl's order of names too, allowing does not."""
    right = "CN=Client CA,O=mtlsproxy development"
    turned = "O=mtlsproxy development,CN=Client CA"
    deny_file = tmp_path / "deny.yaml"
    deny_file.write_text(f"- {{serial: '1', issuer: '{turned}'}}\n- {{serial: '2', issuer: CN=Gone}}\n")
    sound["truststores"]["partners"] |= {
        "deny": [{"issuer": right}, {"issuer": turned}, {"issuer": right.replace("Client", "Cleint")}],
        "deny_file": str(deny_file),
    }
    sound["routes"][0]["allow"] = [{"issuer": right, "dns": "a.example"}, {"issuer": turned, "dns": "b.example"}]
    sound["routes"][0]["deny"] = [{"issuer": turned}, {"issuer": "CN=Stranger"}]
    warnings = {w["path"]: w["message"] for w in found(write(sound))["warnings"]}
    assert sorted(warnings) == [
        "routes[0].allow[1].issuer",
        "routes[0].deny[1].issuer",
        "truststores.partners.deny[2].issuer",
        "truststores.partners.deny_file",
    ]
    reverse = f"(did you mean {right}? openssl prints names in the reverse order)"
    assert reverse in warnings["routes[0].allow[1].issuer"]
    assert f"(did you mean {right}?)" in warnings["truststores.partners.deny[2].issuer"]
    assert warnings["routes[0].deny[1].issuer"].startswith("CN=Stranger is no loaded CA's name (known: ")
    assert warnings["truststores.partners.deny_file"].startswith(f"{deny_file}: [1].issuer: CN=Gone is no")
    assert check(write(sound), "--strict").exit_code == 1


def test_an_issuer_is_looked_for_among_the_cas_of_its_own_truststores(sound: Tree, write: Write) -> None:
    """What another truststore trusts issues no client of this one; an intermediate does."""
    pki = sound["truststores"]["partners"]["trust_anchors"][0].removesuffix("client-ca.pem")
    issuer = "CN=Client CA,O=mtlsproxy development"
    sound["truststores"]["partners"]["deny"] = [{"serial": "1", "issuer": issuer}]
    sound["truststores"]["partners"]["trust_anchors"] = [f"{pki}root.pem"]
    sound["truststores"]["partners"]["revocation"]["crl"]["sources"] = [f"{pki}crls/root.pem"]
    sound["truststores"]["other"] = {"trust_anchors": [f"{pki}client-ca.pem"]}
    sound["listeners"][0]["client_auth"]["truststores"] = ["partners", "other"]
    paths = [w["path"] for w in found(write(sound))["warnings"]]
    assert "truststores.partners.deny[0].issuer" in paths
    sound["truststores"]["partners"]["intermediates"] = [f"{pki}client-ca.pem"]
    paths = [w["path"] for w in found(write(sound))["warnings"]]
    assert "truststores.partners.deny[0].issuer" not in paths


def test_what_will_soon_be_a_problem_is_a_warning(
    sound: Tree, write: Write, material: Material, tmp_path: Path
) -> None:
    old, key = tmp_path / "old.pem", tmp_path / "old.key"
    yesterday = NOW - timedelta(days=1)
    start = NOW - timedelta(days=9)
    material.pki.issue("CN=old", ["DNS:old.test"], "server", not_before=start, not_after=yesterday).write(old, key)
    key.chmod(0o644)
    soon = tmp_path / "soon.pem"
    soon.write_bytes(pem(issue("Soon CA", ca=True, end=NOW + timedelta(days=5))))
    sound["listeners"][0]["tls"]["certificates"] = [{"certificate": str(old), "private_key": str(key)}]
    sound["truststores"]["partners"]["trust_anchors"].append(str(soon))
    file = write(sound)
    messages = " ".join(w["message"] for w in found(file)["warnings"])
    for words in ("CN=old expired on", "can be read by others", "the trust anchor CN=Soon CA expires on"):
        assert words in messages
    assert found(file)["listeners"][0]["certificates"][0]["days_left"] < 0
    assert check(file, "--strict").exit_code == 1


def test_a_crl_that_has_ended_is_a_warning(sound: Tree, write: Write, material: Material, tmp_path: Path) -> None:
    folder = tmp_path / "pki"
    shutil.copytree(material.folder / "pki", folder)
    pki = type(material.pki).load(folder)
    pki.write_crls(1, at=NOW - timedelta(days=3))
    sound["truststores"]["partners"]["revocation"]["crl"]["sources"] = [str(folder / "crls" / "client-ca.pem")]
    answer = found(write(sound))
    assert "publish a fresh one" in answer["warnings"][0]["message"]
    assert answer["truststores"][0]["crls"][0]["days_left"] == -3
    assert "(2 days ago)" in check(write(sound)).stdout


# -- errors -----------------------------------------------------------------------------------------------------------


def test_all_errors_of_the_file_are_said_at_once_with_their_places(sound: Tree, write: Write) -> None:
    sound["routes"][0]["upstream"] = "recordr"
    sound["listeners"][0]["tls"]["minimum_versoin"] = "TLSv1.3"
    file = write(sound)
    lines = wrong(file)
    assert len(lines) == 2
    assert all(line.startswith(f"{file}:") for line in lines)
    assert "did you mean minimum_version?" in lines[0]
    assert "did you mean recorder?" in lines[1]


def test_all_errors_of_the_files_it_names_are_said_at_once(
    sound: Tree, write: Write, material: Material, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    leaf = material.client().certificate
    certificate = sound["listeners"][0]["tls"]["certificates"][0]
    certificate["private_key"] = str(material.client().key)
    sound["truststores"]["partners"]["trust_anchors"] = [str(leaf), str(empty), "/nowhere/ca.pem"]
    sound["truststores"]["partners"]["revocation"]["crl"]["sources"] = [str(leaf)]
    sound["logging"]["access"] = str(tmp_path / "no" / "such" / "access.log")
    text = "\n".join(wrong(write(sound)))
    for words in (
        "does not match the certificate",
        "is not a CA certificate",
        "a truststore without a trust anchor trusts nobody",
        "cannot read /nowhere/ca.pem",
        f"logging.access: there is no folder {tmp_path / 'no' / 'such'}",
    ):
        assert words in text, words
    assert "truststores.partners.revocation.crl.sources" in text


def test_what_openssl_refuses_is_found_too(sound: Tree, write: Write) -> None:
    sound["listeners"][0]["tls"]["ciphers"] = "NO-SUCH-CIPHER"
    (line,) = wrong(write(sound))
    assert "listeners[0].tls.ciphers: OpenSSL knows no cipher by 'NO-SUCH-CIPHER'" in line


def test_errors_are_json_where_json_is_asked_for(sound: Tree, write: Write) -> None:
    sound["routes"][0]["upstream"] = "recordr"
    file = write(sound)
    result = check(file, "--format", "json")
    assert result.exit_code == 2
    answer = json.loads(result.stdout)
    assert answer["ok"] is False
    (error,) = answer["errors"]
    assert (error["file"], error["path"]) == (str(file), "routes[0].upstream")
    assert error["line"] > 1
    assert result.stderr.startswith(f"{file}:{error['line']}:{error['column']}: routes[0].upstream: ")


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    (line,) = wrong(tmp_path / "absent.yaml")
    assert line == f"{tmp_path / 'absent.yaml'}:1:1: cannot be read: No such file or directory"


def test_what_check_refuses_run_refuses_with_the_same_words(sound: Tree, write: Write, material: Material) -> None:
    sound["listeners"][0]["tls"]["certificates"][0]["private_key"] = str(material.client().key)
    file = write(sound)
    done = subprocess.run([COMMAND, "run", file], capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 2
    assert done.stderr.splitlines() == wrong(file)
