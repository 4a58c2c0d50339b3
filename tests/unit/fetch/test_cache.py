"""The copies on disk: whole or absent, private, shared between processes, bounded."""

import contextlib
import os
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from tests.unit.revocation.build import HOUR, NOW

from mtlsproxy.fetch.cache import (
    UNUSED_FOR,
    Cache,
    CacheError,
    private_folder,
    read_copy,
    readable_folder,
    state_folder,
    write_atomically,
)

URL = "http://crl.example/a.crl"
KEY = Cache.key("partners", URL)


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "state")


def test_a_copy_survives_with_all_that_is_known_of_it(cache):
    stored = cache.store(KEY, URL, b"list", NOW, '"tag"', "yesterday")
    assert Cache(cache.folder).load(KEY) == (stored, b"list")
    assert (stored.url, stored.fetched_at, stored.etag, stored.last_modified) == (URL, NOW, '"tag"', "yesterday")
    assert stored.path.read_bytes() == b"list"  # the operator's tools can read it


def test_who_only_reads_changes_nothing_and_waits_for_no_lock(cache):
    stored = cache.store(KEY, URL, b"list", NOW, None, None)

    def seen():
        return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in cache.folder.iterdir()}

    with cache.lock(KEY):
        before = seen()
        assert read_copy(cache.folder, KEY) == (stored, b"list")
        assert seen() == before


def test_who_reads_while_a_copy_is_replaced_twice_gets_the_new_one(cache, monkeypatch):
    """The data that the pointer named is gone by the time that it is opened."""
    cache.store(KEY, URL, b"one", NOW, None, None)
    real, replaced = type(cache.folder).read_bytes, []

    def read_bytes(path):
        if not replaced:
            replaced.extend(cache.store(KEY, URL, data, NOW, None, None) for data in (b"two", b"three"))
        return real(path)

    monkeypatch.setattr(type(cache.folder), "read_bytes", read_bytes)
    assert read_copy(cache.folder, KEY) == (replaced[1], b"three")


def test_a_copy_that_cannot_be_read_is_no_missing_one(cache):
    pointer = cache.folder / f"{KEY}.json"
    pointer.mkdir()
    with pytest.raises(CacheError, match="this kept copy"):
        read_copy(cache.folder, KEY)


def test_somebody_elses_folder_can_be_read_unless_others_can_write_to_it(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert readable_folder(tmp_path / "missing") == tmp_path / "missing"
    assert not (tmp_path / "missing").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="is no folder"):
        readable_folder(tmp_path / "file")
    tmp_path.chmod(0o755)
    assert readable_folder(tmp_path) == tmp_path
    tmp_path.chmod(0o770)
    with pytest.raises(CacheError, match="chmod go-w"):
        readable_folder(tmp_path)


def test_there_is_no_copy_of_what_was_never_stored(cache):
    assert cache.load(KEY) is None


def test_scopes_and_urls_are_kept_apart():
    assert len({Cache.key(*pair) for pair in [("a", "b"), ("b", "a"), ("a", "c"), ("", "ab"), ("ab", "")]}) == 5


def test_files_are_for_this_user_alone(cache):
    cache.store(KEY, URL, b"list", NOW, None, None)
    with cache.lock(KEY):
        pass
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in cache.folder.iterdir()} == {0o600}


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777])
def test_a_folder_that_others_can_write_to_is_refused(tmp_path, mode):
    folder = tmp_path / "state"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(CacheError, match="chmod go-w"):
        private_folder(folder)
    folder.chmod(0o755)
    assert private_folder(folder) == folder


def test_a_folder_of_somebody_else_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(CacheError, match="another user"):
        private_folder(tmp_path)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="state_dir"):
        private_folder(tmp_path / "file" / "state")


def damage_data(copy):
    copy.path.write_bytes(b"LIST")


def cut_data(copy):
    copy.path.write_bytes(b"")


def lose_data(copy):
    copy.path.unlink()


@pytest.mark.parametrize("damage", [damage_data, cut_data])
def test_damaged_data_is_not_used_and_said(cache, caplog, damage):
    damage(cache.store(KEY, URL, b"list", NOW, None, None))
    assert cache.load(KEY) is None
    assert "damaged" in caplog.text
    assert cache.store(KEY, URL, b"list", NOW, None, None)
    assert cache.load(KEY) is not None


def test_lost_data_is_no_copy(cache):
    lose_data(cache.store(KEY, URL, b"list", NOW, None, None))
    assert cache.load(KEY) is None


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", '{"format": 2}', "\0", "x" * 100_000,
     '{"format":1,"url":"u","sha256":"../../etc/passwd","fetched_at":"2025-06-01T12:00Z","etag":null,"last_modified":null}',
     '{"format":1,"url":"u","sha256":"%s","fetched_at":"never","etag":null,"last_modified":null}' % ("a" * 64),
     '{"format":1,"url":"u","sha256":"%s","fetched_at":"2025-06-01T12:00Z","etag":7,"last_modified":0}' % ("a" * 64),
     '{"format":1,"url":"u","sha256":"","fetched_at":"0001-01-01T00:00+14:00","etag":null,"last_modified":null}',
     "[" * 16_000],
)  # fmt: skip
def test_a_damaged_pointer_is_not_used_and_said(cache, caplog, text):
    cache.store(KEY, URL, b"list", NOW, None, None)
    (cache.folder / f"{KEY}.json").write_text(text)
    assert cache.load(KEY) is None
    assert "damaged" in caplog.text
    assert cache.store(KEY, URL, b"new", NOW, None, None)
    found = cache.load(KEY)
    assert found is not None
    assert found[1] == b"new"


def test_a_crash_at_any_point_leaves_the_old_copy_or_the_new(cache, monkeypatch):
    """The last step is one rename; whatever step fails before it, the old copy is whole."""
    cache.store(KEY, URL, b"old", NOW, None, None)
    real = os.fsync
    for failing in range(1, 8):
        calls = 0

        def fsync(descriptor, failing=failing):
            nonlocal calls
            calls += 1
            if calls == failing:
                raise OSError(28, "No space left on device")
            real(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            with contextlib.suppress(OSError):
                cache.store(KEY, URL, b"new %d" % failing, NOW, None, None)
        found = cache.load(KEY)
        assert found is not None
        assert found[1] in {b"old", *(b"new %d" % number for number in range(1, failing + 1))}
        assert not list(cache.folder.glob(".tmp-*"))
    assert found[1] == b"new 7"  # by then nothing failed


def test_the_copy_before_the_last_stays_for_who_is_about_to_open_it(cache):
    paths = [cache.store(KEY, URL, b"%d" % number, NOW, None, None).path for number in range(4)]
    assert [path.exists() for path in paths] == [False, False, True, True]


def test_a_lock_is_held_by_one_process_at_a_time(cache):
    other = Cache(cache.folder)
    with cache.lock(KEY) as held:
        assert held
        with other.lock(KEY) as second:
            assert not second
        with other.lock(Cache.key("x", URL)) as third:
            assert third
    with other.lock(KEY) as after:
        assert after


def test_a_lock_file_is_never_a_link(cache, tmp_path):
    target = tmp_path / "target"
    (cache.folder / f"{KEY}.lock").symlink_to(target)
    with pytest.raises(OSError, match="symbolic"), cache.lock(KEY):
        pass
    assert not target.exists()


def stored(cache, number, age=timedelta(0)):
    key = Cache.key("partners", f"http://crl.example/{number}")
    cache.store(key, URL, b"%d" % number, NOW, None, None)
    when = (NOW - age).timestamp() + number
    os.utime(cache.folder / f"{key}.json", (when, when))
    return key


def test_copies_that_nobody_asks_for_are_removed_in_the_end(cache):
    old, used, young = (stored(cache, n, age) for n, age in ((1, UNUSED_FOR + HOUR), (2, UNUSED_FOR + HOUR), (3, HOUR)))
    assert cache.prune({used}, NOW) == 1
    assert [cache.load(key) is not None for key in (old, used, young)] == [False, True, True]
    assert not list(cache.folder.glob(f"{old}*"))


def test_too_many_copies_are_too_many_and_the_longest_unused_go_first(tmp_path):
    cache = Cache(tmp_path / "state", limit=3)
    keys = [stored(cache, number) for number in range(6)]
    assert cache.prune({keys[0]}, NOW) == 3
    assert [cache.load(key) is not None for key in keys] == [True, False, False, False, True, True]


def test_what_another_process_is_fetching_is_not_removed(cache):
    key = stored(cache, 1, UNUSED_FOR + HOUR)
    with Cache(cache.folder).lock(key):
        assert cache.prune((), NOW) == 0
    assert cache.load(key) is not None


def test_what_a_crash_left_is_removed(cache):
    (cache.folder / ".tmp-left").write_text("half")
    os.utime(cache.folder / ".tmp-left", ((NOW - 2 * HOUR).timestamp(),) * 2)
    cache.prune((), NOW)
    assert not list(cache.folder.glob(".tmp-*"))


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, (b"one", memoryview(b"two")))
    with path.open("rb") as before:
        write_atomically(path, (b"new",))
        assert before.read() == b"onetwo"
    assert path.read_bytes() == b"new"


def test_the_folder_is_state_dir_or_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_folder(Path("/var/lib/x"), {"XDG_CACHE_HOME": "/c"}) == Path("/var/lib/x")
    assert state_folder(None, {"XDG_CACHE_HOME": "/c"}) == Path("/c/mtlsproxy")
    # XDG Base Directory: a relative path is to be ignored.
    assert state_folder(None, {"XDG_CACHE_HOME": "c"}) == tmp_path / ".cache" / "mtlsproxy"
    assert state_folder(None, {}) == tmp_path / ".cache" / "mtlsproxy"
