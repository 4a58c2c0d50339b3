"""The openssl command line, which knows nothing of us, judges what the CA makes."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mtlsproxy.devpki import DevPki, create_pki

OpenSsl = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def openssl() -> OpenSsl:
    """Runs openssl; the answer has both outputs in `stdout`."""

    def run(*arguments: object, stdin: bytes | None = None) -> subprocess.CompletedProcess[str]:
        words = ["openssl", *map(str, arguments)]
        done = subprocess.run(words, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        return subprocess.CompletedProcess(words, done.returncode, done.stdout.decode())

    return run


@pytest.fixture
def pki(tmp_path: Path) -> DevPki:
    return create_pki(tmp_path / "dev", "Example")


@pytest.fixture
def verify(tmp_path: Path, openssl: OpenSsl) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Judges a chain (PEM, leaf first) against a PKI's root, with all its CRLs unless told not to look at them."""

    def run(pki: DevPki, chain: bytes, purpose: str, *options: object, crls: bool = True):
        file, all_crls = tmp_path / "chain.pem", tmp_path / "all-crls.pem"
        file.write_bytes(chain)
        all_crls.write_bytes(b"".join(path.read_bytes() for path in sorted((pki.directory / "crls").iterdir())))
        revocation = ["-crl_check_all", "-CRLfile", all_crls] if crls else []
        root = pki.directory / "root.pem"
        return openssl(
            *("verify", "-x509_strict", "-purpose", purpose, "-CAfile", root, "-untrusted", file),
            *(*revocation, *options, file),
        )

    return run
