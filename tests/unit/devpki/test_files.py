"""Files: private from the first moment, all or none, replaced in one step, never overwritten."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtlsproxy.devpki import PkiError, files
from mtlsproxy.devpki.files import NewFile


@pytest.fixture
def open_umask() -> Iterator[None]:
    """The worst umask there is: it takes nothing away."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("open_umask")
def test_a_private_file_is_its_owners_alone_under_any_umask(tmp_path: Path) -> None:
    files.create_all([NewFile(tmp_path / "k", b"k", files.PRIVATE), NewFile(tmp_path / "c", b"c")])
    assert (mode(tmp_path / "k"), mode(tmp_path / "c")) == (0o600, 0o644)


def test_a_private_file_has_its_mode_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts is the mode at creation; one set by chmod afterwards leaves a gap in which anyone can open it."""
    seen: list[int] = []
    real_open = os.open

    def watching_open(path, flags, *arguments, **options) -> int:
        descriptor = real_open(path, flags, *arguments, **options)
        if Path(path) == tmp_path / "k":
            assert flags & os.O_EXCL
            seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return descriptor

    monkeypatch.setattr(os, "open", watching_open)
    files.create_all([NewFile(tmp_path / "k", b"k", files.PRIVATE)])
    assert seen == [0o600]


def test_an_existing_file_is_named_and_nothing_is_created(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"old")
    with pytest.raises(PkiError, match=f"{tmp_path / 'b'}: exists already"):
        files.create_all([NewFile(tmp_path / "a", b"new"), NewFile(tmp_path / "b", b"new")])
    assert not (tmp_path / "a").exists()
    assert (tmp_path / "b").read_bytes() == b"old"


def test_a_dangling_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PkiError, match="exists already"):
        files.create_all([NewFile(tmp_path / "a", b"secret", files.PRIVATE)])
    assert not (tmp_path / "elsewhere").exists()


def test_one_name_for_two_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PkiError, match="two different files"):
        files.create_all([NewFile(tmp_path / "a", b"1"), NewFile(tmp_path / "a", b"2")])
    assert not (tmp_path / "a").exists()


def test_where_one_file_cannot_be_created_none_stays(tmp_path: Path) -> None:
    with pytest.raises(PkiError, match="no such file or folder"):
        files.create_all([NewFile(tmp_path / "a", b"1"), NewFile(tmp_path / "missing" / "b", b"2")])
    assert list(tmp_path.iterdir()) == []


def test_replacing_leaves_the_new_file_whole_and_nothing_beside_it(tmp_path: Path) -> None:
    crls = tmp_path / "crls"
    crls.mkdir()
    (tmp_path / ".a.tmp").write_bytes(b"left behind by a crash")
    for data in (b"first", b"second"):
        files.replace(crls / "a", data, beside=tmp_path)
        assert (crls / "a").read_bytes() == data
    assert [path.name for path in tmp_path.iterdir()] == ["crls"]


def test_a_replacement_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(PkiError, match=str(tmp_path / "a")):
        files.replace(tmp_path / "a", b"new", beside=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_reading_says_what_is_wrong_with_the_file(tmp_path: Path) -> None:
    with pytest.raises(PkiError, match="no such file"):
        files.read(tmp_path / "missing")
    with pytest.raises(PkiError, match="directory"):
        files.read(tmp_path)
    with pytest.raises(PkiError, match="larger than"):
        files.read(Path("/dev/zero"))


def test_the_lock_keeps_another_process_out(tmp_path: Path) -> None:
    attempt = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    words = [sys.executable, "-c", attempt, str(tmp_path)]
    with files.locked(tmp_path):
        assert b"BlockingIOError" in subprocess.run(words, capture_output=True, check=False).stderr
    subprocess.run(words, check=True)
    with pytest.raises(PkiError, match="no such file"), files.locked(tmp_path / "missing"):
        pass
