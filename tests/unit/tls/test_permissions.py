"""A key that others can read is warned about; one that root hands to the proxy's group is not."""

import os
from pathlib import Path

import pytest

from mtlsproxy.tls.permissions import exposed

OWN = {0o600: False, 0o400: False, 0o640: True, 0o440: True, 0o604: True, 0o620: True, 0o644: True}
ROOTS = {0o600: False, 0o640: False, 0o440: False, 0o660: True, 0o444: True, 0o644: True, 0o650: True}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "server.key"
    file.write_text("secret")
    return file


@pytest.mark.parametrize(("mode", "warned"), OWN.items(), ids=oct)
def test_a_user_s_own_key(file: Path, mode: int, warned: bool) -> None:
    if os.geteuid() == 0:
        os.chown(file, 10001, 10001)
    file.chmod(mode)
    assert bool(exposed(file, "key")) is warned


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file of root's")
@pytest.mark.parametrize(("mode", "warned"), ROOTS.items(), ids=oct)
def test_root_s_key(file: Path, mode: int, warned: bool) -> None:
    file.chmod(mode)
    assert bool(exposed(file, "key")) is warned


def test_the_warning_names_file_mode_and_mend(file: Path) -> None:
    file.chmod(0o646)
    assert exposed(file, "key") == [f"the key file {file} can be read by others (mode 0646): chmod 600 it"]
