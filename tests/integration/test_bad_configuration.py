"""`mtlsproxy run` with something wrong: which line, what, what to do; exit status 2; nothing listens."""

import os
import re
import socket
import ssl
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from tests.integration.certificates import DAY, NOW, pem, write_key
from tests.integration.clients import PATIENCE, client_context, tls
from tests.integration.conftest import Material
from tests.integration.harness import COMMAND, Observed, Tree, eventually, free_port, running_command
from tests.unit.x509.build import new_key

from mtlsproxy.cli import cli


@pytest.fixture
def broken(config: Tree) -> Tree:
    """As `config`, on ports that are free, so that what listens can be looked for."""
    config["listeners"][0]["bind"] = f"127.0.0.1:{free_port()}"
    config["admin"]["bind"] = f"127.0.0.1:{free_port()}"
    return config


def refused_start(tree: Tree | str, folder: Path) -> list[str]:
    """The lines on standard error of a start that must fail with status 2 and no traceback.

    The command runs in this process, which starts in no time; `refused_process` sees it from outside.
    """
    file = folder / "proxy.yaml"
    file.write_text(tree if isinstance(tree, str) else yaml.safe_dump(tree, sort_keys=False))
    done = CliRunner().invoke(cli, ["run", str(file)], prog_name="mtlsproxy")
    assert isinstance(done.exception, SystemExit), done.exception
    assert (done.exit_code, done.stdout) == (2, ""), done.output
    if isinstance(tree, dict):
        for bind in (tree["listeners"][0]["bind"], tree["admin"]["bind"]):
            assert not listens(bind)
    return done.stderr.splitlines()


def refused_process(file: Path) -> list[str]:
    """As refused_start, of the installed command."""
    done = subprocess.run([COMMAND, "run", file], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert "Traceback" not in done.stderr
    assert "accepts on" not in done.stderr
    return done.stderr.splitlines()


def listens(bind: str) -> bool:
    host, _, port = bind.rpartition(":")
    try:
        socket.create_connection((host, int(port)), PATIENCE).close()
    except OSError:
        return False
    return True


def one_error(tree: Tree, folder: Path, key: str, *words: str) -> str:
    """The one line `FILE:LINE:COLUMN: key: …` that says all of `words`, in order."""
    lines = refused_start(tree, folder)
    found = [line for line in lines if f": {key}" in line]
    assert len(found) == 1, lines
    assert re.fullmatch(r"\S*proxy\.yaml:\d+:\d+: .+", found[0]), found
    assert re.search(".*".join(map(re.escape, words)), found[0]), found[0]
    return found[0]


KEY = "listeners[0].tls.certificates[0].private_key"


def test_a_key_that_does_not_exist(broken: Tree, tmp_path: Path) -> None:
    broken["listeners"][0]["tls"]["certificates"][0]["private_key"] = "nowhere.key"
    one_error(broken, tmp_path, KEY, "cannot read", "nowhere.key", "No such file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_key_that_may_not_be_read(broken: Tree, tmp_path: Path) -> None:
    (tmp_path / "closed.key").touch(mode=0)
    broken["listeners"][0]["tls"]["certificates"][0]["private_key"] = "closed.key"
    one_error(broken, tmp_path, KEY, "cannot read", "closed.key", "Permission denied")


def test_a_key_that_is_a_folder(broken: Tree, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    broken["listeners"][0]["tls"]["certificates"][0]["private_key"] = "folder"
    one_error(broken, tmp_path, KEY, "cannot read", "folder", "Is a directory")


@pytest.mark.parametrize(
    "content", [b"", b"no key\n", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_key_file_without_a_key(broken: Tree, tmp_path: Path, content: bytes) -> None:
    write_key(tmp_path / "bad.key", content)
    broken["listeners"][0]["tls"]["certificates"][0]["private_key"] = "bad.key"
    one_error(broken, tmp_path, KEY, "bad.key is no PEM private key")


def test_a_key_of_another_certificate(broken: Tree, material: Material, tmp_path: Path) -> None:
    """Named with the certificate that it ought to match."""
    other = material.client()
    broken["listeners"][0]["tls"]["certificates"][0]["private_key"] = str(other.key)
    one_error(broken, tmp_path, KEY, "does not match the certificate", "CN=proxy.test")


def test_an_encrypted_key_without_its_password(broken: Tree, tmp_path: Path) -> None:
    key = new_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    write_key(tmp_path / "locked.key", key)
    broken["listeners"][0]["tls"]["certificates"][0]["private_key"] = "locked.key"
    one_error(broken, tmp_path, KEY, "private_key_password_file")


ANCHORS = "truststores.partners.trust_anchors[0]"


def test_a_truststore_from_an_empty_folder(broken: Tree, tmp_path: Path) -> None:
    """Never the system's CAs instead (Caddy CVE-2026-27586)."""
    (tmp_path / "cas").mkdir()
    broken["truststores"]["partners"]["trust_anchors"] = ["cas/"]
    one_error(broken, tmp_path, ANCHORS, "trusts nobody")


def test_a_truststore_without_an_entry(broken: Tree, tmp_path: Path) -> None:
    broken["truststores"]["partners"]["trust_anchors"] = []
    one_error(broken, tmp_path, "truststores.partners.trust_anchors")


@pytest.mark.parametrize("content", [b"", b"# to be filled in\n"], ids=["empty", "a comment"])
def test_a_ca_file_without_a_certificate(broken: Tree, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ca.pem").write_bytes(content)
    broken["truststores"]["partners"]["trust_anchors"] = ["ca.pem"]
    one_error(broken, tmp_path, ANCHORS, "ca.pem: no certificate in the file")


def test_a_ca_file_that_does_not_exist(broken: Tree, tmp_path: Path) -> None:
    broken["truststores"]["partners"]["trust_anchors"] = ["nowhere.pem"]
    one_error(broken, tmp_path, ANCHORS, "cannot read", "nowhere.pem")


def test_a_ca_file_with_a_leaf(broken: Tree, material: Material, tmp_path: Path) -> None:
    """A certificate that is no CA's cannot be a trust anchor, also beside one that is."""
    (tmp_path / "ca.pem").write_bytes(pem(material.ca) + material.client().certificate.read_bytes())
    broken["truststores"]["partners"]["trust_anchors"] = ["ca.pem"]
    one_error(broken, tmp_path, ANCHORS, "CN=alice", "is not a CA certificate")


def test_a_damaged_ca_file(broken: Tree, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    broken["truststores"]["partners"]["trust_anchors"] = ["ca.pem"]
    one_error(broken, tmp_path, ANCHORS, "ca.pem")


def test_revocation_without_a_source(broken: Tree, tmp_path: Path) -> None:
    broken["truststores"]["partners"]["revocation"] = {"mode": "hard_fail"}
    one_error(broken, tmp_path, "truststores.partners.revocation")


def test_a_crl_file_that_is_none(broken: Tree, tmp_path: Path) -> None:
    (tmp_path / "bad.crl").write_bytes(b"\x30\x03\x02\x01\x01")
    broken["truststores"]["partners"]["revocation"] = {"mode": "soft_fail", "crl": {"sources": ["bad.crl"]}}
    one_error(broken, tmp_path, "truststores.partners.revocation.crl.sources", "bad.crl")


@pytest.mark.parametrize("which", ["listener", "admin"])
def test_a_port_that_is_taken(broken: Tree, tmp_path: Path, which: str) -> None:
    """The other one of the two is not left listening."""
    section = broken["listeners"][0] if which == "listener" else broken["admin"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        section["bind"] = f"127.0.0.1:{taken.getsockname()[1]}"
        file = tmp_path / "proxy.yaml"
        file.write_text(yaml.safe_dump(broken, sort_keys=False))
        lines = refused_process(file)
        other = broken["admin"] if which == "listener" else broken["listeners"][0]
        assert not listens(other["bind"])
    key = "listeners[0].bind" if which == "listener" else "admin.bind"
    (line,) = [line for line in lines if key in line]
    assert section["bind"] in line
    assert line.startswith(f"{file}:"), "where the address is written"
    assert "in use" in line.lower()


def test_an_unknown_key(broken: Tree, tmp_path: Path) -> None:
    """With the key that was probably meant, and the position of what was written."""
    broken["listeners"][0]["client_auth"]["trust_stores"] = ["partners"]
    line = one_error(broken, tmp_path, "listeners[0].client_auth.trust_stores", "did you mean", "truststores")
    number = int(line.split("proxy.yaml:")[1].split(":")[0])
    assert "trust_stores" in (tmp_path / "proxy.yaml").read_text().splitlines()[number - 1]


def test_errors_of_the_text_are_reported_together(broken: Tree, tmp_path: Path) -> None:
    broken["listeners"][0]["timeouts"] = {"idle": "soon"}
    broken["routes"][0]["upstream"] = "recoder"
    lines = refused_start(broken, tmp_path)
    assert any("listeners[0].timeouts.idle" in line for line in lines), lines
    assert any("routes[0].upstream" in line and "recorder" in line for line in lines), lines


def test_errors_of_the_files_are_reported_together(broken: Tree, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    broken["truststores"]["partners"]["trust_anchors"] = ["ca.pem"]
    broken["listeners"][0]["tls"]["certificates"][0]["private_key"] = "nowhere.key"
    lines = refused_start(broken, tmp_path)
    assert any(ANCHORS in line for line in lines), lines
    assert any(KEY in line for line in lines), lines
    assert refused_process(tmp_path / "proxy.yaml") == lines


@pytest.mark.parametrize("text", ["", "version: 1\nversion: 1\n", "a: [", "\t", "- a\n"])
def test_what_is_no_configuration(text: str, tmp_path: Path) -> None:
    lines = refused_start(text, tmp_path)
    assert lines
    assert all("proxy.yaml" in line for line in lines)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    lines = refused_process(tmp_path / "none.yaml")
    assert any("none.yaml" in line for line in lines), lines


def warnings_of(proxy: Observed) -> list[str]:
    """They are all written before the first listener is announced."""
    eventually(lambda: any("accepts on" in line["message"] for line in proxy.messages()))
    return [line["message"] for line in proxy.messages() if line["level"] == "warning"]


def expired_server(folder: Path, material: Material) -> None:
    issued = material.pki.issue(
        "CN=proxy.test",
        ["DNS:proxy.test"],
        "server",
        not_before=NOW - 9 * DAY,
        not_after=NOW - timedelta(hours=30),
    )
    (folder / "old.pem").write_bytes(issued.chain_pem)
    write_key(folder / "old.key", issued.key_pem)


def test_an_expired_server_certificate_is_warned_about_and_served(
    config: Tree, material: Material, tmp_path: Path
) -> None:
    """Refusing to start would turn a warning into an outage; clients that do not check are still served."""
    expired_server(tmp_path, material)
    config["listeners"][0]["tls"]["certificates"] = [{"certificate": "old.pem", "private_key": "old.key"}]
    with running_command(config, tmp_path) as proxy:
        context = client_context(material.root, material.client())
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with tls(proxy.port(), context) as connection:
            assert connection.get().status == 200
        warnings = warnings_of(proxy)
    assert any("CN=proxy.test expired on" in warning for warning in warnings), warnings


def test_weaker_choices_are_warned_about_at_start(config: Tree, tmp_path: Path) -> None:
    """`allow: any`, revocation `off`, a key that others may read."""
    key = tmp_path / "open.key"
    key.write_bytes(Path(config["listeners"][0]["tls"]["certificates"][0]["private_key"]).read_bytes())
    key.chmod(0o644)
    config["listeners"][0]["tls"]["certificates"][0]["private_key"] = "open.key"
    with running_command(config, tmp_path) as proxy:
        said = " ".join(warnings_of(proxy))
    for words in ("routes[0].allow", "revocation.mode", "open.key can be read by others"):
        assert words in said
