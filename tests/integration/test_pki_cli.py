"""`mtlsproxy pki` as an operator types it: its files, its words, its exit status. openssl judges the result."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509

from mtlsproxy.cli import cli


def pki(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["pki", *map(str, arguments)], prog_name="mtlsproxy")


def done(*arguments: object) -> str:
    result = pki(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: object) -> str:
    """What a failed command said: exit status 2, one line, no traceback."""
    result = pki(*arguments)
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    return result.output


def openssl(*arguments: object) -> subprocess.CompletedProcess[str]:
    words = ["openssl", *map(str, arguments)]
    return subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


@pytest.fixture
def dev(tmp_path: Path) -> Path:
    done("init", tmp_path / "dev")
    return tmp_path / "dev"


def verify(dev: Path, chain: Path, purpose: str) -> subprocess.CompletedProcess[str]:
    crls = dev.parent / "all-crls.pem"
    crls.write_bytes(b"".join(path.read_bytes() for path in (dev / "crls").iterdir()))
    trust = ("-CAfile", dev / "root.pem", "-untrusted", chain, "-crl_check_all", "-CRLfile", crls)
    return openssl("verify", "-purpose", purpose, *trust, chain)


def issue(dev: Path, profile: str, name: str, *options: object) -> Path:
    out, key = dev.parent / f"{name}.pem", dev.parent / f"{name}.key"
    done(
        *("issue", "--ca", dev, "--profile", profile, "--subject", f"CN={name}"),
        *(*options, "--out", out, "--out-key", key),
    )
    return out


def test_init_lays_the_folder_out_as_documented(tmp_path: Path) -> None:
    said = done("init", tmp_path / "a" / "dev", "--organization", "Example Ltd", "--key-type", "ed25519")
    files = {str(path.relative_to(tmp_path / "a" / "dev")) for path in (tmp_path / "a").rglob("*") if path.is_file()}
    assert files == {
        *("root.pem", "server-ca.pem", "client-ca.pem", "root.key", "server-ca.key", "client-ca.key"),
        *("crls/root.pem", "crls/server-ca.pem", "crls/client-ca.pem", "ledger.json"),
    }
    assert "CN=Client CA,O=Example Ltd" in said
    root = x509.load_pem_x509_certificate((tmp_path / "a" / "dev" / "root.pem").read_bytes())
    assert root.subject.rfc4514_string() == "CN=Root CA,O=Example Ltd"


def test_init_overwrites_nothing_and_names_what_is_in_its_way(dev: Path) -> None:
    before = {path: path.read_bytes() for path in dev.rglob("*") if path.is_file()}
    assert f"{dev / 'root.pem'}: exists already" in refused("init", dev)
    assert {path: path.read_bytes() for path in dev.rglob("*") if path.is_file()} == before


def test_a_client_and_a_server_verify_each_for_its_own_purpose(dev: Path) -> None:
    alice = issue(dev, "client", "alice", "--san", "EMAIL:alice@example.org")
    server = issue(dev, "server", "localhost", "--san", "DNS:localhost", "--san", "IP:127.0.0.1", "--days", 7)
    for chain, purpose, other in ((alice, "sslclient", "sslserver"), (server, "sslserver", "sslclient")):
        assert verify(dev, chain, purpose).returncode == 0
        assert "unsuitable certificate purpose" in verify(dev, chain, other).stdout
        assert stat.S_IMODE(chain.with_suffix(".key").stat().st_mode) == 0o600


@pytest.mark.parametrize("key_type", ["ec", "rsa", "ed25519"])
def test_a_request_travels_from_its_maker_to_the_ca_and_back(dev: Path, tmp_path: Path, key_type: str) -> None:
    request, key, chain = tmp_path / "orders.csr", tmp_path / "orders.key", tmp_path / "orders.pem"
    names = ("--subject", "CN=orders, O=Example", "--san", "URI:spiffe://example.org/orders")
    done("csr", *names, "--key-type", key_type, "--out", request, "--out-key", key)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert "verify OK" in openssl("req", "-in", request, "-noout", "-verify").stdout
    said = done("sign", "--ca", dev, "--profile", "client", "--csr", request, "--days", 30, "--out", chain)
    assert "CN=orders,O=Example" in said
    assert verify(dev, chain, "sslclient").returncode == 0
    public = openssl("pkey", "-in", key, "-pubout").stdout
    assert openssl("x509", "-in", chain, "-noout", "-pubkey").stdout == public


def test_a_request_made_by_openssl_is_signed_too(dev: Path, tmp_path: Path) -> None:
    request, chain = tmp_path / "x.csr", tmp_path / "x.pem"
    asked = ("-addext", "subjectAltName=DNS:x.example", "-addext", "extendedKeyUsage=clientAuth,serverAuth")
    made = openssl(
        *("req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", tmp_path / "x.key"),
        *("-subj", "/O=Example/CN=x", *asked, "-out", request),
    )
    assert made.returncode == 0, made.stdout
    done("sign", "--ca", dev, "--profile", "client", "--csr", request, "--out", chain)
    shown = openssl("x509", "-in", chain, "-noout", "-ext", "extendedKeyUsage,subjectAltName").stdout
    assert "TLS Web Client Authentication" in shown
    assert "TLS Web Server Authentication" not in shown
    assert "DNS:x.example" in shown


def test_a_request_of_openssl_to_become_a_ca_is_refused(dev: Path, tmp_path: Path) -> None:
    request = tmp_path / "ca.csr"
    openssl(
        *("req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", tmp_path / "x.key", "-subj", "/CN=x"),
        *("-addext", "basicConstraints=critical,CA:TRUE", "-out", request),
    )
    out = tmp_path / "x.pem"
    said = refused("sign", "--ca", dev, "--profile", "client", "--csr", request, "--out", out)
    assert f"{request}: asks for a CA certificate" in said
    assert not out.exists()


def test_a_revoked_certificate_is_refused_from_then_on(dev: Path) -> None:
    alice, mallory = issue(dev, "client", "alice"), issue(dev, "client", "mallory")
    said = done("revoke", "--ca", dev, mallory, "--reason", "keyCompromise")
    serial = openssl("x509", "-in", mallory, "-noout", "-serial").stdout.strip().removeprefix("serial=")
    assert f"serial {serial} is revoked" in said and str(dev / "crls" / "client-ca.pem") in said
    assert "certificate revoked" in verify(dev, mallory, "sslclient").stdout
    assert verify(dev, alice, "sslclient").returncode == 0
    shown = openssl("crl", "-in", dev / "crls" / "client-ca.pem", "-noout", "-text").stdout
    assert "Key Compromise" in shown and serial in shown


def test_revoking_twice_succeeds_and_says_so(dev: Path) -> None:
    mallory = issue(dev, "client", "mallory")
    done("revoke", "--ca", dev, mallory, "--reason", "superseded")
    assert re.search(r"was revoked already, .*superseded", done("revoke", "--ca", dev, mallory))


def test_a_certificate_from_elsewhere_is_not_revoked(dev: Path, tmp_path: Path) -> None:
    done("init", tmp_path / "other")
    stranger = issue(dev, "client", "alice")
    said = refused("revoke", "--ca", tmp_path / "other", stranger)
    assert str(stranger) in said and "revoke it where it was issued" in said
    assert "not a certificate" in refused("revoke", "--ca", dev, dev / "root.key")
    assert "no such file" in refused("revoke", "--ca", dev, tmp_path / "missing.pem")
    assert "Invalid value" in refused("revoke", "--ca", dev, stranger, "--reason", "boredom")


def test_crls_are_made_anew_with_a_higher_number(dev: Path, tmp_path: Path) -> None:
    said = done("crl", "--ca", dev, "--days", 3)
    assert said.count("number 2, 0 revoked") == 3
    (dev / "root.key").rename(tmp_path / "root.key")
    said = done("crl", "--ca", dev)
    assert f"{dev / 'crls' / 'root.pem'}  left as it is (root.key is not here): number 2" in said
    assert said.count("number 3") == 2
    assert "Invalid value for '--days'" in refused("crl", "--ca", dev, "--days", 0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--profile", "server", "--subject", "CN=x"), "--san DNS:"),
        (("--profile", "client", "--subject", "x"), "write TYPE=value pairs"),
        (("--profile", "client", "--subject", "CN=x", "--san", "x"), "begin it with URI:"),
        (("--profile", "client", "--subject", "CN=x", "--days", "3000"), "client-ca.pem expires"),
        (("--profile", "client", "--subject", ""), "stand for nobody"),
        (("--profile", "ca", "--subject", "CN=x"), "Invalid value for '--profile'"),
        (("--subject", "CN=x"), "Missing option '--profile'"),
    ],
)
def test_a_certificate_that_cannot_be_issued_leaves_no_file(
    dev: Path, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    out, key = tmp_path / "x.pem", tmp_path / "x.key"
    assert words in refused("issue", "--ca", dev, *options, "--out", out, "--out-key", key)
    assert not out.exists() and not key.exists()


def test_existing_files_are_not_overwritten_and_nothing_is_issued_for_them(dev: Path, tmp_path: Path) -> None:
    before = (dev / "ledger.json").read_bytes()
    out, key = tmp_path / "x.pem", tmp_path / "x.key"
    key.write_text("precious")
    options = ("--subject", "CN=x", "--out", out, "--out-key", key)
    assert f"{key}: exists already" in refused("issue", "--ca", dev, "--profile", "client", *options)
    assert f"{key}: exists already" in refused("csr", *options)
    same = ("--subject", "CN=x", "--out", out, "--out-key", out)
    assert "two different files" in refused("issue", "--ca", dev, "--profile", "client", *same)
    assert key.read_text() == "precious"
    nowhere = ("--subject", "CN=x", "--out", out, "--out-key", tmp_path / "missing" / "x.key")
    assert f"{tmp_path / 'missing'} is not a folder" in refused("issue", "--ca", dev, "--profile", "client", *nowhere)
    assert not out.exists()
    assert (dev / "ledger.json").read_bytes() == before


def test_a_folder_without_a_pki_is_named_with_the_command_that_makes_one(tmp_path: Path) -> None:
    words = f"{tmp_path}: no PKI here (root.pem is missing); make one with: mtlsproxy pki init"
    assert words in refused("crl", "--ca", tmp_path)


@pytest.mark.parametrize("command", ["", "init", "csr", "sign", "issue", "revoke", "crl"])
def test_help_has_an_example_to_copy(command: str) -> None:
    words = [command, "--help"] if command else ["--help"]
    assert re.search(rf"^  mtlsproxy pki {command}", done(*words), re.MULTILINE)


def test_every_command_of_the_certificates_readme_does_what_it_says(tmp_path: Path) -> None:
    """A comment that says "refused" or "revoked" announces a failure; everything else succeeds."""
    (tmp_path / "certs").mkdir()
    readme = (Path(__file__).parents[2] / "certs" / "README.md").read_text()
    blocks = re.findall(r"```sh\n(.*?)```", readme, re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for line in lines:
        ran = subprocess.run(
            line,
            shell=True,
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        fails = re.search(r"# .*(refused|revoked)", line) is not None
        assert (ran.returncode != 0) == fails, f"{line}\n{ran.stdout.decode()}"
    assert len(lines) > 10


def test_commands_that_run_at_the_same_time_use_no_crl_number_twice(dev: Path) -> None:
    """Each of three processes makes the CRLs anew and issues; the ledger holds it all, once."""
    script = (
        "import sys; from pathlib import Path; from mtlsproxy.devpki import DevPki\n"
        "pki = DevPki.load(Path(sys.argv[1]))\n"
        "for _ in range(4):\n"
        "    pki.issue('CN=x')\n"
        "    print(pki.write_crls()[0].number)\n"
    )
    words = [sys.executable, "-c", script, str(dev)]
    workers = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    numbers = [int(number) for worker in workers for number in worker.communicate()[0].split()]
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    assert sorted(numbers) == list(range(2, 14))
    assert (dev / "ledger.json").read_text().count('"subject": "CN=x"') == 12
