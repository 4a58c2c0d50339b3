"""The audit log of a running proxy: refusals, who changed what, old and new hashes; read by `mtlsproxy audit`."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives import hashes
from tests.integration.certificates import Identity
from tests.integration.conftest import Material
from tests.integration.harness import COMMAND, Tree, eventually
from tests.integration.live.conftest import Live, Run, crl
from tests.integration.sources.web import Web, running_web


def audit(*arguments: object) -> tuple[int, str, str]:
    """Exit status, output, errors."""
    done = subprocess.run([COMMAND, "audit", *map(str, arguments)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def lines_of(file: Path) -> list[Tree]:
    return [json.loads(line) for line in file.read_bytes().split(b"\n")[:-1]] if file.exists() else []


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
def audited(live_config: Tree, run: Run) -> Live:
    live_config["logging"]["audit"] = "audit.jsonl"
    return run(live_config)


def fingerprint(client: Identity) -> str:
    return client.leaf.fingerprint(hashes.SHA256()).hex()


def of(file: Path, event: str, count: int = 1) -> list[Tree]:
    """The lines of an event, once there are so many."""

    def look() -> list[Tree] | None:
        found = [line for line in lines_of(file) if line["event"] == event]
        return found if len(found) >= count else None

    return eventually(look) or []


def test_a_refusal_is_there_whatever_else_is_logged(audited: Live, file: Path, alice: Identity) -> None:
    audited.call("POST", "/api/deny", {"fingerprint_sha256": fingerprint(alice), "reason": "key lost"})
    assert audited.refused(alice) == "denied"
    (line,) = of(file, "refused")
    assert (line["reason"], line["fingerprint"], line["path"]) == ("denied", fingerprint(alice), "/")
    assert "key lost" in line["detail"]
    (started,) = of(file, "started")
    assert started["role"] == "proxy"
    assert started["configuration"] == {"old": None, "new": audited.status["configuration"]["sha256"]}


def test_denials_say_who_asked(audited: Live, file: Path, alice: Identity) -> None:
    _, made, _ = audited.call("POST", "/api/deny", {"fingerprint_sha256": fingerprint(alice)})
    audited.call("DELETE", f"/api/deny/{made['id']}")
    (there,), (gone,) = of(file, "denial_made"), of(file, "denial_lifted")
    assert there["id"] == gone["id"] == made["id"]
    for line in (there, gone):
        assert fingerprint(alice) in line["denied"]
        assert re.fullmatch(r"127\.0\.0\.1 port [0-9]+", line["by"])


def test_a_reload_tells_what_changed_with_both_hashes(audited: Live, file: Path, bob: Identity) -> None:
    before = audited.status["configuration"]["sha256"]
    with audited.reloaded():
        audited.deny_in_file({"fingerprint_sha256": fingerprint(bob)})
    (first,) = of(file, "reload")
    assert (first["ok"], first["by"], first["errors"]) == (True, "a file that has changed", [])
    assert first["configuration"] == {"old": before, "new": before}
    assert first["trust"]["old"] != first["trust"]["new"]
    words = "truststore partners: deny_file: 1 entries added, 0 removed, 1 in force"
    assert first["changes"] == [{"what": words, "trust": True}]
    with audited.reloaded():
        audited.config["listeners"][0]["limits"] = {"header_count": 50}
        audited.write_config()
    second = of(file, "reload", 2)[1]
    assert second["configuration"]["old"] == before != second["configuration"]["new"]
    assert second["trust"] == {"old": first["trust"]["new"], "new": first["trust"]["new"]}


def test_a_reload_that_was_refused_says_why_and_who_asked(audited: Live, file: Path) -> None:
    with audited.reload_refused():
        (audited.folder / "anchors.pem").write_bytes(b"nothing")
    audited.call("POST", "/api/reload")
    first, second = of(file, "reload", 2)
    for line in (first, second):
        assert not line["ok"]
        assert "anchors.pem" in line["errors"][0]
        assert line["trust"]["old"] == line["trust"]["new"]
    assert second["by"].startswith("127.0.0.1 port ")


@pytest.fixture
def web() -> Iterator[Web]:
    with running_web() as server:
        yield server


def test_a_fetched_list_is_told_with_the_one_that_it_replaces(
    live_config: Tree, run: Run, file: Path, web: Web, material: Material, alice: Identity
) -> None:
    live_config["logging"]["audit"] = "audit.jsonl"
    live_config["truststores"]["partners"]["revocation"]["crl"]["sources"] = [web.url("/ca.crl")]
    web.give("/ca.crl", crl(material.ca, 1))
    live = run(live_config)
    web.give("/ca.crl", crl(material.ca, 2, alice))
    live.call("POST", "/api/reload")
    first, line = of(file, "crl", 2)
    assert (first["outcome"], first["crls"]["old"], first["entries"]) == ("updated", [], 0)
    assert line["crls"]["old"] == first["crls"]["new"]
    assert (line["truststore"], line["url"], line["entries"]) == ("partners", web.url("/ca.crl"), 1)
    web.give("/ca.crl", crl(material.ca, 3))
    live.call("POST", "/api/reload")
    again = of(file, "crl", 3)[-1]
    assert again["crls"]["old"] == line["crls"]["new"] != again["crls"]["new"]


def test_the_chain_goes_on_over_rotation_and_restarts(live_config: Tree, run: Run, file: Path, alice: Identity) -> None:
    live_config["logging"]["audit"] = "audit.jsonl"
    live = run(live_config)
    live.call("POST", "/api/deny", {"fingerprint_sha256": fingerprint(alice)})
    of(file, "denial_made")
    old = file.rename(file.with_name("audit.jsonl.1"))
    live.proxy.call(live.proxy.proxy.logs.reopen)
    assert live.refused(alice) == "denied"
    of(file, "refused")
    status, output, _ = audit("--verify", file, old)
    assert (status, "whole" in output) == (0, True), output
    old.write_bytes(old.read_bytes().replace(fingerprint(alice).encode(), b"0" * 64))
    status, output, _ = audit("--verify", "--format", "json", old, file)
    assert status == 1
    assert not json.loads(output)["whole"]


def test_half_a_line_of_a_writer_that_died_is_not_taken_for_the_beginning_of_the_next(
    live_config: Tree, run: Run, file: Path
) -> None:
    live_config["logging"]["audit"] = "audit.jsonl"
    file.write_bytes(b'{"time": "20')
    run(live_config)
    eventually(lambda: file.read_bytes().count(b"\n") >= 2)
    assert json.loads(file.read_bytes().split(b"\n")[1])["event"] == "started"


def test_a_file_that_cannot_be_opened_keeps_the_proxy_from_starting(live_config: Tree, tmp_path: Path) -> None:
    live_config["logging"]["audit"] = str(tmp_path / "nowhere" / "audit.jsonl")
    config = tmp_path / "bad.yaml"
    config.write_text(yaml.safe_dump(live_config))
    for command in ("run", "check"):
        done = subprocess.run([COMMAND, command, config], capture_output=True, text=True, check=False, env=os.environ)
        assert done.returncode == 2
        assert "logging.audit" in done.stderr
