"""Index files: written once, found damaged, shared, and bounded in number."""

import os
from datetime import timedelta

import pytest
from tests.unit.fetch.lists import parsed
from tests.unit.revocation.build import NOW, authority

from mtlsproxy.fetch.cache import UNUSED_FOR
from mtlsproxy.fetch.indexing import find_index, map_index, prune_indexes, write_indexes
from mtlsproxy.revocation.errors import CrlError

CA = authority("CA")
LIST = parsed(CA, 1, 2, at=NOW)


def test_a_mapped_list_says_what_the_parsed_one_said(tmp_path):
    (path,) = write_indexes(tmp_path, "g", [LIST])
    mapped = map_index(path)
    assert [mapped.lookup(serial) for serial in (1, 2, 3)] == [LIST.lookup(serial) for serial in (1, 2, 3)]
    assert (mapped.sha256, mapped.source, mapped.number) == (LIST.sha256, LIST.source, LIST.number)
    mapped.signature.verify(CA.certificate.public_key)


def test_each_list_of_a_file_has_its_index(tmp_path):
    other = parsed(authority("Other"), 3, at=NOW)
    paths = write_indexes(tmp_path, "g", [LIST, other])
    assert [map_index(path).sha256 for path in paths] == [LIST.sha256, other.sha256]
    assert write_indexes(tmp_path, "g", []) == ()


def test_what_is_there_and_whole_is_kept_for_all_who_map_it(tmp_path):
    (first,) = write_indexes(tmp_path, "g", [LIST])
    inode = first.stat().st_ino
    assert write_indexes(tmp_path, "g", [LIST]) == (first,)
    assert first.stat().st_ino == inode


@pytest.mark.parametrize("keep", [0, 20, -1])
@pytest.mark.parametrize("add", [b"", b"\0" * 8])
def test_what_is_damaged_is_no_list_and_is_written_anew(tmp_path, keep, add):
    (path,) = write_indexes(tmp_path, "g", [LIST])
    whole = path.read_bytes()
    damaged = whole[:keep] + add
    path.write_bytes(damaged)
    if damaged != whole[:-1] + b"\0":
        with pytest.raises(CrlError):
            map_index(path)
    write_indexes(tmp_path, "g", [LIST])
    assert path.read_bytes() == whole


def test_every_changed_octet_is_found_before_an_old_file_is_used_again(tmp_path):
    (path,) = write_indexes(tmp_path, "g", [LIST])
    whole = path.read_bytes()
    for at in (len(whole) - 1, len(whole) - 20, len(whole) // 2, 50):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        write_indexes(tmp_path, "g", [LIST])
        assert path.read_bytes() == whole, at


def test_the_content_before_stays_until_the_next_comes(tmp_path):
    paths = []
    for number in range(4):
        (path,) = write_indexes(tmp_path, "g", [parsed(CA, at=NOW, number=number)])
        os.utime(path, (number, number))
        paths.append(path)
    (other,) = write_indexes(tmp_path, "other", [LIST])
    assert [path.exists() for path in (*paths, other)] == [False, False, True, True, True]


def test_who_has_a_list_mapped_keeps_it_when_its_file_goes(tmp_path):
    (path,) = write_indexes(tmp_path, "g", [LIST])
    mapped = map_index(path)
    path.unlink()
    assert mapped.lookup(1) is not None


def test_what_was_not_used_for_long_is_removed(tmp_path):
    (old,), (young,) = (write_indexes(tmp_path, group, [LIST]) for group in ("old", "young"))
    now = NOW.timestamp()
    os.utime(old, (now - UNUSED_FOR.total_seconds() - 60,) * 2)
    os.utime(young, (now - timedelta(days=1).total_seconds(),) * 2)
    prune_indexes(tmp_path, NOW)
    assert [old.exists(), young.exists()] == [False, True]


def test_the_index_of_a_known_list_is_found_and_left_as_it_is(tmp_path):
    (path,) = write_indexes(tmp_path, "g", [LIST])
    os.utime(path, (1, 1))
    found = find_index(tmp_path, "g", LIST.source, LIST.sha256)
    assert found is not None
    assert [found.lookup(serial) for serial in (1, 2, 3)] == [LIST.lookup(serial) for serial in (1, 2, 3)]
    assert path.stat().st_mtime == 1


def test_no_index_is_found_for_another_list_group_or_source_nor_a_damaged_one(tmp_path):
    other = parsed(CA, 3, at=NOW)
    (path,) = write_indexes(tmp_path, "g", [LIST])
    (foreign,) = write_indexes(tmp_path, "h", [other])
    whole = path.read_bytes()
    for group, source, digest in (
        ("g", LIST.source, other.sha256),
        ("i", LIST.source, LIST.sha256),
        ("g", "elsewhere", LIST.sha256),
    ):
        assert find_index(tmp_path, group, source, digest) is None
    for content in (b"", whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1]), foreign.read_bytes()):
        path.write_bytes(content)
        assert find_index(tmp_path, "g", LIST.source, LIST.sha256) is None
