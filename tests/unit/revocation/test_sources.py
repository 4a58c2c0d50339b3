"""CRL files, folders and globs: what is read, what is passed over, and what is an error with its mend."""

import os
from pathlib import Path

import pytest
from tests.unit.revocation.build import assemble, authority, crl_number

from mtlsproxy.revocation.sources import SourceError, load_sources

ROOT = authority()


def write(path: Path, number: int) -> Path:
    path.write_bytes(assemble(ROOT, None, extensions=[crl_number(number)]))
    return path


def numbers(*sources: Path | str) -> list[int | None]:
    return [got.number for got in load_sources(sources).crls]


def refusal(*sources: Path | str) -> str:
    with pytest.raises(SourceError) as caught:
        load_sources(sources)
    return caught.value.detail


def test_a_file_may_have_any_name(tmp_path: Path) -> None:
    path = write(tmp_path / "list.r0", 1)
    loaded = load_sources([path])
    assert [got.number for got in loaded.crls] == [1]
    assert (loaded.files, loaded.ignored) == ((path,), ())
    assert loaded.crls[0].source == str(path)


def test_a_folder_gives_its_crl_files_and_says_what_it_passed_over(tmp_path: Path) -> None:
    for number, name in enumerate(("a.crl", "b.der", "c.PEM"), 1):
        write(tmp_path / name, number)
    readme = tmp_path / "README"
    readme.write_text("not a CRL")
    (tmp_path / ".d.crl.swp").write_text("an editor's")
    (tmp_path / "deeper").mkdir()
    write(tmp_path / "deeper" / "e.crl", 9)
    loaded = load_sources([str(tmp_path)])
    assert [got.number for got in loaded.crls] == [1, 2, 3]
    assert loaded.ignored == (readme,)


def test_a_glob_gives_what_it_matches(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    write(tmp_path / "x" / "one.r0", 1)
    write(tmp_path / "x" / "two.r0", 2)
    write(tmp_path / "x" / "other", 3)
    assert numbers(tmp_path / "*" / "*.r0") == [1, 2]


def test_a_name_with_brackets_is_that_file_first(tmp_path: Path) -> None:
    assert numbers(write(tmp_path / "a[1].crl", 4)) == [4]


def test_a_file_that_is_named_twice_is_read_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.crl", 1)
    (tmp_path / "link.crl").symlink_to(path)
    assert numbers(path, tmp_path, tmp_path / "*.crl") == [1]


def test_sources_keep_their_order(tmp_path: Path) -> None:
    assert numbers(write(tmp_path / "z.crl", 1), write(tmp_path / "a.crl", 2)) == [1, 2]


def test_nothing_found_is_an_error_that_names_the_source(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    absent = tmp_path / "absent.crl"
    assert refusal(absent).startswith(f"{absent}: there is no such file")
    assert refusal(tmp_path / "*.crl").startswith(f"{tmp_path / '*.crl'}: no file matches")
    assert refusal(empty).startswith(f"{empty}: no .pem, .crl, .der file")
    (empty / "notes.txt").write_text("x")
    assert "ignored: notes.txt" in refusal(empty)


def test_one_bad_source_refuses_all(tmp_path: Path) -> None:
    write(tmp_path / "a.crl", 1)
    assert refusal(tmp_path / "a.crl", tmp_path / "b.crl")


@pytest.mark.parametrize("content", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"])
def test_a_file_that_is_no_crl_is_an_error_with_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.crl"
    path.write_bytes(content)
    assert refusal(tmp_path).startswith(f"{path}: ")


def test_a_link_that_leads_nowhere_is_an_error_in_a_folder_too(tmp_path: Path) -> None:
    """Passed over in silence, it would take its CA's revocations with it."""
    write(tmp_path / "a.crl", 1)
    (tmp_path / "b.crl").symlink_to("gone")
    for source in (tmp_path, tmp_path / "*.crl", tmp_path / "b.crl"):
        assert refusal(source).startswith(f"{tmp_path / 'b.crl'}: there is no such file")
    (tmp_path / "b.crl").unlink()
    (tmp_path / "b.crl").symlink_to("b.crl")
    assert "cannot be read" in refusal(tmp_path)


def test_a_pipe_is_an_error_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.crl")
    assert "no regular file" in refusal(tmp_path / "a.crl")


@pytest.mark.parametrize("url", ["http://crl.example/a.crl", "https://crl.example/a.crl", "ldap://crl.example/"])
def test_a_url_is_refused(url: str) -> None:
    assert refusal(url).startswith(f"{url}: CRLs are read from files")
