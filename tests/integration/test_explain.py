"""`mtlsproxy explain` as an operator types it: it says what the data path says, in a fixed shape, with the way out."""

import json
import os
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from tests.integration import certificates
from tests.integration.certificates import DAY, NOW, Identity, issue, pem
from tests.integration.clients import client_context, tls
from tests.integration.conftest import Material, Start
from tests.integration.harness import COMMAND, Tree
from tests.integration.whois import serial_of

from mtlsproxy.cli import cli
from mtlsproxy.x509.evidence import CHECK_NAMES
from mtlsproxy.x509.policy import CLIENT_AUTH


def explain(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["explain", *map(str, arguments)], prog_name="mtlsproxy")


def explained(*arguments: object) -> tuple[int, Tree]:
    """The exit status and the JSON."""
    result = explain(*arguments, "--format", "json")
    return result.exit_code, json.loads(result.stdout)


def refused_input(*arguments: object) -> str:
    """What is said of input that cannot be worked with: exit status 2, on stderr alone."""
    result = explain(*arguments)
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    return result.stderr


def results(answer: Tree) -> dict[str, str]:
    return {check["name"]: check["result"] for check in answer["checks"]}


def failing(answer: Tree) -> list[str]:
    return [name for name, result in results(answer).items() if result == "fail"]


Write = Callable[[Tree], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_config(config: Tree) -> Path:
        file = tmp_path / "explain.yaml"
        file.write_text(yaml.safe_dump(config, sort_keys=False))
        return file

    return write_config


@pytest.fixture
def dev(material: Material) -> dict[str, Path]:
    """The development PKI's files that a question needs."""
    folder = material.folder / "pki"
    return {
        "root": folder / "root.pem",
        "client_ca": folder / "client-ca.pem",
        "crls": folder / "crls",
        "client_crl": folder / "crls" / "client-ca.pem",
        "root_crl": folder / "crls" / "root.pem",
    }


# -- the answer's shape -----------------------------------------------------------------------------------------------


def test_an_accepted_client_is_answered_to_the_letter(material: Material) -> None:
    """interfaces.md: keys, names of checks and their order are what outside tools match on."""
    alice = material.client()
    status, answer = explained("--cert", alice.certificate, "--trust-anchors", material.anchors)
    assert status == 0
    assert list(answer)[:5] == ["accepted", "reason", "subject", "fingerprint_sha256", "checks"]
    assert list(answer)[5:] == ["issuer", "serial", "truststore", "listener", "route", "at", "not_asked", "sources"]
    assert (answer["issuer"], answer["serial"]) == ("CN=Partner CA", serial_of(alice.leaf))
    assert (answer["truststore"], answer["listener"], answer["route"]) == ("default", None, None)
    assert answer["accepted"] is True
    assert answer["reason"] is None
    assert answer["subject"] == "CN=alice"
    assert answer["fingerprint_sha256"] == alice.leaf.fingerprint(hashes.SHA256()).hex()
    assert [list(check) for check in answer["checks"]] == [["name", "result", "seen", "rule", "fix"]] * 13
    assert [check["name"] for check in answer["checks"]] == list(CHECK_NAMES)
    assert set(results(answer).values()) == {"pass", "skipped"}


def test_without_a_route_route_and_access_are_skipped(material: Material) -> None:
    _, answer = explained("--cert", material.client().certificate, "--trust-anchors", material.anchors)
    assert results(answer)["route"] == results(answer)["access"] == "skipped"
    assert "--route" in answer["checks"][-1]["rule"]


def test_a_refused_client_is_told_the_rule_and_the_way_out(material: Material) -> None:
    bare = material.client("bare", eku=None)
    status, answer = explained("--cert", bare.certificate, "--trust-anchors", material.anchors)
    assert status == 1
    assert answer["accepted"] is False
    assert answer["reason"] == "eku_missing"
    assert failing(answer) == ["extended_key_usage"]
    (check,) = [check for check in answer["checks"] if check["result"] == "fail"]
    assert check["seen"] == "the leaf has no extended key usage"
    assert "clientAuth" in check["rule"]
    assert "allow_absent" in check["fix"]
    assert all(check["fix"] == "" for check in answer["checks"] if check["result"] != "fail")


def test_everything_wrong_with_a_certificate_is_seen_at_once(material: Material) -> None:
    sorry = material.client("sorry", eku=None, key=certificates.build.rsa_key(1024), end=NOW - timedelta(hours=1))
    _, answer = explained("--cert", sorry.certificate, "--trust-anchors", material.anchors)
    assert answer["reason"] == "expired"
    assert failing(answer) == ["validity", "key", "extended_key_usage"]


def test_a_malformed_certificate_is_refused_like_on_the_wire(material: Material, tmp_path: Path) -> None:
    file = tmp_path / "rubbish.pem"
    file.write_bytes(pem(b"\x30\x03\x02\x01\x05"))
    status, answer = explained("--cert", file, "--trust-anchors", material.anchors)
    assert status == 1
    assert answer["reason"] == "malformed_certificate"
    assert answer["subject"] is None
    assert answer["fingerprint_sha256"] is None
    assert len(answer["checks"]) == 13


# -- bare files -------------------------------------------------------------------------------------------------------


def test_crls_are_taken_once_each_together_or_as_a_folder(material: Material, dev: dict[str, Path]) -> None:
    """`--crl crls/*.pem` reaches the program as several words."""
    alice = material.dev_client("crl-alice", "DNS:alice.example")
    base = ("--cert", alice.certificate, "--trust-anchors", dev["root"])
    for crls in (
        ("--crl", dev["root_crl"], "--crl", dev["client_crl"]),
        ("--crl", dev["root_crl"], dev["client_crl"]),
        (f"--crl={dev['root_crl']}", "--crl", dev["client_crl"]),
        ("--crl", dev["crls"]),
    ):
        status, answer = explained(*base, *crls)
        assert (status, results(answer)["revocation"]) == (0, "pass"), crls
    status, answer = explained(*base, "--crl", dev["client_crl"])
    assert (status, answer["reason"]) == (1, "revocation_unknown")


def test_trust_anchors_are_taken_together(material: Material, dev: dict[str, Path]) -> None:
    alice = material.dev_client("anchor-alice", "DNS:alice.example")
    status, _ = explained("--cert", alice.certificate, "--trust-anchors", material.anchors, dev["client_ca"])
    assert status == 0
    status, answer = explained("--cert", alice.certificate, "--trust-anchors", material.anchors)
    assert (status, answer["reason"]) == (1, "untrusted_issuer")


def test_a_revoked_client_is_refused_by_its_crl_and_without_one_nobody_asks(
    material: Material, dev: dict[str, Path]
) -> None:
    bob = material.dev_client("explain-bob", "DNS:bob.example")
    material.pki.revoke(bob.leaf, x509.ReasonFlags.key_compromise)
    base = ("--cert", bob.certificate, "--trust-anchors", dev["client_ca"])
    status, answer = explained(*base, "--crl", dev["client_crl"])
    assert (status, answer["reason"]) == (1, "revoked")
    status, answer = explained(*base)
    assert (status, results(answer)["revocation"]) == (0, "skipped")


def test_what_nobody_asked_is_said(routed: Tree, write: Write, material: Material, tmp_path: Path) -> None:
    """Without a copy in state_dir the answer is not the proxy's, and explain says so. See sources/test_explained.py."""
    alice = material.dev_client("explain-url", "DNS:url.example")
    url = "http://127.0.0.1:9/clients.crl"
    routed["state_dir"] = str(tmp_path / "state")
    routed["truststores"]["dev"]["revocation"] = {"mode": "hard_fail", "crl": {"sources": [url]}}
    arguments = ("--cert", alice.certificate, "--config", write(routed), "--truststore", "dev")
    status, answer = explained(*arguments)
    assert (status, answer["reason"], answer["not_asked"]) == (1, "revocation_unknown", [url])
    assert f"not asked   {url}: no copy of it is kept in {tmp_path / 'state' / 'crls'}" in explain(*arguments).stdout
    routed["truststores"]["dev"]["revocation"]["mode"] = "off"
    write(routed)
    status, answer = explained(*arguments)
    assert (status, answer["not_asked"], answer["sources"]) == (0, [], [])
    assert "not asked" not in explain(*arguments).stdout


def test_where_an_intermediate_is_missing_the_revocation_data_to_come_is_named(
    material: Material, dev: dict[str, Path], tmp_path: Path
) -> None:
    """Else whoever completes the chain runs into revocation_unknown next."""
    leaf = tmp_path / "leaf.pem"
    leaf.write_bytes(
        pem(material.pki.issue("CN=a", ["DNS:a.example"], "client").certificate.public_bytes(Encoding.DER))
    )
    to_come: dict[str, str] = {}
    for lists in (("root_crl",), ("root_crl", "client_crl"), ()):
        crls = [part for name in lists for part in ("--crl", dev[name])]
        status, answer = explained("--cert", leaf, "--trust-anchors", dev["root"], *crls)
        assert (status, answer["reason"]) == (1, "untrusted_issuer")
        to_come[" ".join(lists)] = next(c["seen"] for c in answer["checks"] if c["name"] == "revocation")
    begin = "once the chain is complete, hard_fail asks for a fresh answer of CN=Client CA,O=mtlsproxy development"
    assert to_come == {
        "root_crl": f"{begin} (no CRL of it is here)",
        "root_crl client_crl": f"{begin} (its CRL is here)",
        "": "",
    }


def test_at_moves_the_time(material: Material) -> None:
    base = ("--cert", material.client().certificate, "--trust-anchors", material.anchors)
    for at, status, reason in (
        (NOW, 0, None),
        (NOW + 31 * DAY, 1, "expired"),
        (NOW - 2 * DAY, 1, "not_yet_valid"),
    ):
        found = explained(*base, "--at", at.isoformat().replace("+00:00", "Z"))
        assert (found[0], found[1]["reason"]) == (status, reason)


def test_a_key_in_the_file_is_passed_over_and_der_is_taken(material: Material, tmp_path: Path) -> None:
    alice = material.client()
    both, der = tmp_path / "both.pem", tmp_path / "alice.der"
    both.write_bytes(alice.key.read_bytes() + alice.certificate.read_bytes())
    der.write_bytes(alice.der)
    for file in (both, der):
        assert explained("--cert", file, "--trust-anchors", material.anchors)[0] == 0


# -- a configuration --------------------------------------------------------------------------------------------------


@pytest.fixture
def routed(config: Tree, material: Material) -> Tree:
    """Routes of every kind, and a second truststore that knows the development PKI's clients."""
    config["truststores"]["dev"] = {
        "trust_anchors": [str(material.folder / "pki" / "client-ca.pem")],
        "revocation": {"mode": "off"},
    }
    config["listeners"][0]["client_auth"]["truststores"] = ["partners", "dev"]
    config["routes"] = [
        {"name": "alice", "paths": ["/alice"], "allow": [{"dns": "alice.clients.test"}], "upstream": "recorder"},
        {
            "name": "shadow",
            "paths": ["/shadow"],
            "allow": [],
            "enforce": False,
            "upstream": "recorder",
        },
        {"name": "dev", "paths": ["/dev"], "truststores": ["dev"], "allow": "any", "upstream": "recorder"},
        {"name": "api", "hosts": ["localhost"], "methods": ["GET"], "allow": "any", "upstream": "recorder"},
    ]
    return config


@pytest.mark.parametrize(
    ("client", "question", "status", "reason"),
    [
        ("alice", ["--route", "alice"], 0, None),
        ("eve", ["--route", "alice"], 1, "not_allowed"),
        ("alice", ["--path", "/alice/x?y=/shadow"], 0, None),
        ("eve", ["--path", "/alice/x"], 1, "not_allowed"),
        ("alice", ["--route", "dev"], 1, "truststore_mismatch"),
        ("eve", ["--path", "/shadow"], 0, "not_allowed"),
        ("alice", ["--path", "/", "--host", "localhost:8443"], 0, None),
        ("alice", ["--path", "/", "--host", "localhost:8443", "--method", "POST"], 1, "method_not_allowed"),
        ("alice", ["--path", "/", "--host", "PROXY.test."], 1, "no_route"),
        ("alice", ["--path", "/alice", "--host", "127.0.0.1"], 0, None),
        ("alice", ["--path", "/alice", "--host", "[::1]:8443"], 1, "misdirected"),
        ("alice", ["--path", "/alice", "--host", "other.test"], 1, "misdirected"),
        ("alice", ["--path", "/"], 1, "no_route"),
        ("alice", ["--path", "/alice/%00"], 1, "bad_request"),
        ("alice", ["--path", "/alice/..%2fdev"], 1, "bad_request"),
        ("alice", ["--path", "/ü"], 1, "bad_request"),
        ("alice", ["--route", "api", "--listener", "internal"], 0, None),
    ],
)
def test_may_this_client_use_that_route(
    routed: Tree, write: Write, material: Material, client: str, question: list[str], status: int, reason: str | None
) -> None:
    presented = material.client(client, (f"DNS:{client}.clients.test",))
    found, answer = explained("--cert", presented.certificate, "--config", write(routed), *question)
    assert (found, answer["reason"], answer["accepted"]) == (status, reason, status == 0)
    assert [check["name"] for check in answer["checks"]] == list(CHECK_NAMES)


def test_who_is_not_verified_is_not_asked_about_routes(routed: Tree, write: Write, material: Material) -> None:
    old = material.client("old", end=NOW - timedelta(hours=1))
    status, answer = explained("--cert", old.certificate, "--config", write(routed), "--route", "shadow")
    assert (status, answer["reason"]) == (1, "expired")
    assert results(answer)["route"] == results(answer)["access"] == "skipped"


def test_the_truststore_that_vouches_is_the_one_whose_checks_are_shown(
    routed: Tree, write: Write, material: Material
) -> None:
    carol = material.dev_client("explain-carol", "DNS:carol.example")
    file = write(routed)
    status, answer = explained("--cert", carol.certificate, "--config", file, "--route", "dev")
    assert status == 0
    assert "truststore dev" in answer["checks"][0]["rule"]
    status, answer = explained("--cert", carol.certificate, "--config", file, "--truststore", "partners")
    assert (status, answer["reason"]) == (1, "untrusted_issuer")
    status, _ = explained("--cert", carol.certificate, "--config", file, "--truststore", "dev", "--route", "dev")
    assert status == 0


def test_the_first_listener_that_has_the_route_is_asked_unless_one_is_named(
    routed: Tree, write: Write, material: Material
) -> None:
    """A listener's truststores are its own: on the second nobody knows alice."""
    second = {**routed["listeners"][0], "name": "second", "client_auth": {"truststores": ["dev"]}}
    routed["listeners"].append(second)
    for route in routed["routes"]:
        route["listeners"] = ["internal", "second"]
    routed["routes"][2]["listeners"] = ["second"]
    base = ("--cert", material.client().certificate, "--config", write(routed))
    assert explained(*base, "--route", "alice")[0] == 0
    status, answer = explained(*base, "--route", "alice", "--listener", "second")
    assert (status, answer["reason"]) == (1, "untrusted_issuer")
    assert explained(*base, "--path", "/dev")[1]["reason"] == "untrusted_issuer"
    assert "route dev is not on listener internal" in refused_input(*base, "--route", "dev", "--listener", "internal")


def test_deny_lists_count(routed: Tree, write: Write, material: Material) -> None:
    routed["truststores"]["partners"]["deny"] = [{"common_name": "eve"}]
    file = write(routed)
    status, answer = explained("--cert", material.client("eve").certificate, "--config", file)
    assert (status, answer["reason"], failing(answer)) == (1, "denied", ["deny"])
    assert explained("--cert", material.client("alice").certificate, "--config", file)[0] == 0


def test_the_proxys_own_keys_are_not_needed(routed: Tree, write: Write, material: Material) -> None:
    """Who answers questions about clients need not be able to impersonate the proxy."""
    routed["listeners"][0]["tls"]["certificates"][0]["private_key"] = "/nowhere/server.key"
    assert explained("--cert", material.client().certificate, "--config", write(routed))[0] == 0


# -- the same as the data path ----------------------------------------------------------------------------------------


def test_explain_says_what_the_data_path_says(routed: Tree, start: Start, material: Material, tmp_path: Path) -> None:
    """Each client is sent to a running proxy, and explained with that proxy's own file."""
    clients = {
        "good": material.client(),
        "eve": material.client("eve", ("DNS:eve.test",)),
        "no EKU": material.client("bare", eku=None),
        "CA": Identity(*_ca_as_client(material)),
        "dev": material.dev_client("parity", "DNS:parity.example"),
    }
    running = start(routed)
    for name, client in clients.items():
        requests = [(path, "proxy.test") for path in ("/alice", "/dev", "/shadow", "/nowhere", "/dev/..%2falice")]
        for path, host in (*requests, ("/alice", "other.test"), ("/", "localhost")):
            with tls(running.port(), client_context(material.root, client)) as connection:
                answer = connection.get(path, host=host)
            question = ("--path", path, "--host", host)
            status, said = explained("--cert", client.certificate, "--config", tmp_path / "proxy.yaml", *question)
            assert (status == 0) == (answer.status == 200), (name, path, host)
            if answer.status != 200:
                assert said["reason"] == answer.problem["reason"], (name, path, host)


def _ca_as_client(material: Material) -> tuple[Path, Path, bytes]:
    """A CA below the trust anchor, with a client's usages: OpenSSL takes it for a client, we do not."""
    usage = certificates.build.key_usage("digital_signature", "key_cert_sign")
    ca = issue("Sub CA", material.ca, ca=True, usage=usage, eku=[CLIENT_AUTH])
    made = certificates.identity(material.folder, ca)
    return made.certificate, made.key, made.der


# -- for people -------------------------------------------------------------------------------------------------------


def test_the_first_line_is_the_verdict_and_every_check_follows(material: Material) -> None:
    bare = material.client("bare", eku=None)
    lines = explain("--cert", bare.certificate, "--trust-anchors", material.anchors).stdout.splitlines()
    assert lines[0] == "refused eku_missing - the leaf has no extended key usage"
    shown = [line.split()[2] for line in lines if line.startswith(("├── ", "└── ")) and len(line.split()) > 2]
    assert [name for name in shown if name in CHECK_NAMES] == list(CHECK_NAMES)
    assert any("fix ask the CA for a certificate with EKU clientAuth" in line for line in lines)


def test_an_allowed_client_shows_what_the_upstream_is_told(routed: Tree, write: Write, material: Material) -> None:
    output = explain(
        "--cert", material.client().certificate, "--config", write(routed), "--route", "alice"
    ).stdout.splitlines()
    assert output[0] == "accepted by truststore partners, may use route alice"
    assert any(line.endswith("X-Client-Id: alice.clients.test") for line in output)


def test_shadow_mode_is_said_to_be_what_lets_pass(routed: Tree, write: Write, material: Material) -> None:
    eve = material.client("eve", ("DNS:eve.test",))
    output = explain("--cert", eve.certificate, "--config", write(routed), "--route", "shadow").stdout
    assert output.startswith("accepted in shadow mode: not_allowed is logged, and let pass")


def test_a_name_cannot_play_with_the_terminal(material: Material) -> None:
    """Right-to-left marks and markup are letters of a name like any other: shown, not obeyed."""
    name = "ad\u202emin [red]x[/red]"
    output = explain("--cert", material.client(name).certificate, "--trust-anchors", material.anchors).stdout
    assert "CN=ad\\u202emin [red]x[/red]" in output
    assert "\u202e" not in output


def test_a_pipe_gets_no_colour_and_no_wrapping(material: Material) -> None:
    command = [COMMAND, "explain", "--cert", material.client().certificate, "--trust-anchors", material.anchors]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"COLUMNS": "40"})
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) > 80


# -- input that cannot be worked with ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--cert"),
        (["--cert", "ALICE"], "--config CONFIG or --trust-anchors F"),
        (["--cert", "ALICE", "--config", "CONFIG", "--trust-anchors", "ANCHORS"], "leave out --trust-anchors"),
        (["--cert", "ALICE", "--trust-anchors", "ANCHORS", "--route", "x"], "give --config"),
        (["--cert", "ALICE", "--config", "CONFIG", "--route", "alice", "--path", "/"], "not both"),
        (["--cert", "ALICE", "--config", "CONFIG", "--method", "GET"], "give --path"),
        (["--cert", "ALICE", "--config", "CONFIG", "--route", "alic"], "did you mean alice?"),
        (["--cert", "ALICE", "--config", "CONFIG", "--truststore", "partner"], "did you mean partners?"),
        (["--cert", "ALICE", "--config", "CONFIG", "--listener", "intern"], "did you mean internal?"),
        (["--cert", "ALICE", "--config", "/nowhere.yaml"], "/nowhere.yaml"),
        (["--cert", "/nowhere.pem", "--trust-anchors", "ANCHORS"], "/nowhere.pem: cannot be read"),
        (["--cert", "CONFIG", "--trust-anchors", "ANCHORS"], "no certificate (BEGIN CERTIFICATE)"),
        (["--cert", "KEY", "--trust-anchors", "ANCHORS"], "but PRIVATE KEY: name the file of the certificate"),
        (
            ["--cert", "ALICE", "--trust-anchors", "KEY"],
            "no certificate in the file, but PRIVATE KEY: name the file of",
        ),
        (["--cert", "ALICE", "--trust-anchors", "ANCHORS", "--crl", "ANCHORS"], "CRL"),
        (["--cert", "ALICE", "--trust-anchors", "ANCHORS", "--crl", "/nowhere/*.pem"], "no file matches"),
        (["--cert", "ALICE", "--trust-anchors", "ANCHORS", "--at", "2026-01-01T00:00:00"], "needs a zone"),
        (["--cert", "ALICE", "--trust-anchors", "ANCHORS", "--at", "tomorrow"], "RFC 3339"),
        (["--cert", "ALICE", "--config", "CONFIG", "--path", "/", "--host", "a b"], "--host"),
        (["--request-id", "abc", "--cert", "ALICE"], "give --config and --at alone"),
        (["--request-id", "abc", "--admin", "http://127.0.0.1:1"], "cannot be asked"),
        (["--cert", "CUT", "--trust-anchors", "ANCHORS"], "cut short"),
        (["--cert", "NOT64", "--trust-anchors", "ANCHORS"], "not base64"),
    ],
)
def test_bad_input_is_said_to_be_bad(
    routed: Tree, write: Write, material: Material, tmp_path: Path, arguments: list[str], said: str
) -> None:
    alice = material.client()
    cut, not64 = tmp_path / "cut.pem", tmp_path / "not64.pem"
    whole = alice.certificate.read_bytes()
    cut.write_bytes(whole + whole[: len(whole) // 2])
    not64.write_bytes(b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n")
    files: dict[str, Any] = {
        "ALICE": alice.certificate,
        "KEY": alice.key,
        "CONFIG": write(routed),
        "ANCHORS": material.anchors,
        "CUT": cut,
        "NOT64": not64,
    }
    assert said in refused_input(*(files.get(argument, argument) for argument in arguments))


def test_every_error_of_a_configuration_is_said(routed: Tree, write: Write, material: Material) -> None:
    routed["routes"][0]["upstream"] = "recorde"
    routed["truststores"]["dev"]["max_chain_depth"] = "deep"
    said = refused_input("--cert", material.client().certificate, "--config", write(routed))
    assert "did you mean recorder?" in said
    assert "max_chain_depth" in said
    assert all(line.split(":")[0].endswith("explain.yaml") for line in said.splitlines())


def test_with_json_errors_are_in_the_answer_too(routed: Tree, write: Write, material: Material) -> None:
    """As `check` does: what reads stdout need not read stderr, and an answer without `ok` is a verdict."""
    routed["routes"][0]["upstream"] = "recorde"
    file, alice = write(routed), material.client().certificate
    status, answer = explained("--cert", alice, "--config", file)
    assert (status, answer["ok"]) == (2, False)
    (error,) = answer["errors"]
    assert (error["file"], error["path"]) == (str(file), "routes[0].upstream")
    assert "did you mean recorder?" in error["message"]
    for arguments, words in (
        (("--cert", "/nowhere.pem", "--trust-anchors", alice), "/nowhere.pem: cannot be read"),
        (("--cert", alice), "say whom to trust"),
    ):
        status, answer = explained(*arguments)
        assert (status, answer["ok"]) == (2, False)
        (error,) = answer["errors"]
        assert words in error["message"]
        assert list(error) == ["file", "line", "column", "path", "message"]


@pytest.mark.parametrize("output_format", ["text", "json"])
def test_a_reader_that_has_gone_makes_no_verdict_of_it(material: Material, output_format: str) -> None:
    """`explain … | head -1` of an accepted client must not say "refused" by its status."""
    read, write = os.pipe()
    os.close(read)
    alice, options = material.client(), ("--format", output_format)
    arguments = [COMMAND, "explain", "--cert", alice.certificate, "--trust-anchors", material.anchors, *options]
    done = subprocess.run(arguments, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")
