"""Denials made through the API: in force at once, on disk before they are answered, never forgotten in silence."""

import asyncio
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlsproxy.runtime import denials as module
from mtlsproxy.runtime.denials import (
    FILE,
    Denials,
    DenialsError,
    TooManyDenials,
    read_denials,
    write_denials,
)
from mtlsproxy.verdict.trust import Denial

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def denial(ident: str = "a1", **said: Any) -> Denial:
    who = {} if said.keys() & {"serial", "fingerprint_sha256"} else {"spki_sha256": "ab" * 32}
    return Denial.model_validate({"id": ident, "created": NOW, "by": "127.0.0.1 port 1", **who, **said})


FULL = (
    denial("a1", expires=NOW + HOUR, reason="key lost: “ticket” 4711", truststore="partners"),
    denial("a2", serial="04:D2", issuer="CN=CA,O=Example"),
)


class Published:
    """Denials with what they published, in order."""

    def __init__(self, folder: Path | None, known: tuple[Denial, ...] = ()) -> None:
        self.seen: list[tuple[str, ...]] = []
        self.denials = Denials(folder, known, lambda: self.seen.append(self.ids))

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(denial.id for denial in self.denials.current)

    async def add(self, denial: Denial) -> None:
        self.denials.enforce(denial)
        await self.denials.save(denial.created)


def on_disk(folder: Path) -> list[str]:
    return [denial.id for denial in read_denials(folder, NOW) or ()]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_denials(tmp_path, FULL)
    assert read_denials(tmp_path, NOW) == FULL
    assert [file.name for file in tmp_path.iterdir()] == [FILE]


def test_no_file_means_that_none_were_made(tmp_path: Path) -> None:
    assert read_denials(tmp_path / "absent", NOW) is None


def test_those_that_have_expired_are_dropped(tmp_path: Path) -> None:
    write_denials(tmp_path, FULL)
    assert [denial.id for denial in read_denials(tmp_path, NOW + HOUR) or ()] == ["a2"]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: text[:-3],
        lambda text: text + "x",
        lambda text: text.replace('"version": 1', '"version": 2'),
        lambda text: text.replace('"version": 1,', ""),
        lambda text: text.replace('"denials"', '"denial"'),
        lambda text: text.replace('"04:D2"', '"04:G2"'),
        lambda text: text.replace('"04:D2"', "1234"),
        lambda text: text.replace('"id": "a2",', ""),
        lambda text: text.replace('"serial"', '"sereal"'),
        lambda text: text.replace("2030-01-01T13:00:00Z", "soon"),
        lambda text: "[]",
        lambda text: "null",
    ],
)
def test_a_damaged_file_is_an_error_that_names_it_and_the_mend(tmp_path: Path, change: Callable[[str], str]) -> None:
    write_denials(tmp_path, FULL)
    file = tmp_path / FILE
    text = file.read_text()
    assert change(text) != text
    file.write_text(change(text))
    with pytest.raises(DenialsError) as caught:
        read_denials(tmp_path, NOW)
    assert str(file) in caught.value.detail
    assert "is damaged (" in caught.value.detail
    assert "put back a good copy" in caught.value.detail


@given(st.integers(0, 400), st.binary(min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_bytes_out_of_place_never_raise_anything_else(
    tmp_path_factory: pytest.TempPathFactory, at: int, patch: bytes
) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzz"
    folder.mkdir(exist_ok=True)
    write_denials(folder, FULL)
    good = (folder / FILE).read_bytes()
    for data in (good[:at] + patch + good[at + len(patch) :], good[:at], patch):
        (folder / FILE).write_bytes(data)
        try:
            found = read_denials(folder, NOW)
        except DenialsError:
            continue
        assert found is not None


def test_an_unreadable_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(DenialsError, match=r"cannot read .*denials\.json, which holds the denials"):
        read_denials(tmp_path, NOW)


async def test_a_denial_is_in_force_at_once_and_then_on_disk(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "mtlsproxy"
    kept = Published(folder)
    kept.denials.enforce(FULL[0])
    assert kept.seen == [("a1",)]
    assert not folder.exists()
    await kept.denials.save(NOW)
    await kept.add(FULL[1])
    assert kept.seen == [("a1",), ("a1", "a2")]
    assert on_disk(folder) == ["a1", "a2"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


async def test_a_denial_that_is_lifted_is_off_the_disk_before_it_is_out_of_force(tmp_path: Path) -> None:
    kept = Published(tmp_path, FULL)
    write_denials(tmp_path, FULL)
    assert await kept.denials.lift("a1", NOW) == FULL[0]
    assert (kept.seen, on_disk(tmp_path)) == ([("a2",)], ["a2"])
    assert await kept.denials.lift("a1", NOW) is None
    assert await kept.denials.lift("a3", NOW) is None


async def test_many_at_once_are_all_kept(tmp_path: Path) -> None:
    kept = Published(tmp_path)
    names = [f"n{number}" for number in range(30)]
    await asyncio.gather(*(kept.add(denial(name)) for name in names))
    assert sorted(kept.ids) == sorted(on_disk(tmp_path)) == sorted(names)
    # At no time was one out of force that had been in force before.
    for earlier, later in zip(kept.seen, kept.seen[1:], strict=False):
        assert set(earlier) <= set(later)


async def test_adding_and_lifting_at_once_do_not_undo_each_other(tmp_path: Path) -> None:
    kept = Published(tmp_path, FULL)
    write_denials(tmp_path, FULL)
    await asyncio.gather(
        kept.add(denial("n1")), kept.denials.lift("a1", NOW), kept.add(denial("n2")), kept.denials.lift("a2", NOW)
    )
    assert sorted(kept.ids) == sorted(on_disk(tmp_path)) == ["n1", "n2"]


async def test_what_another_process_has_added_or_lifted_stays_so(tmp_path: Path) -> None:
    first, second = Published(tmp_path), Published(tmp_path)
    await first.add(denial("f1"))
    await second.add(denial("s1"))
    assert on_disk(tmp_path) == ["f1", "s1"]
    assert second.ids == ("f1", "s1")
    await second.denials.lift("f1", NOW)
    await first.add(denial("f2"))
    assert on_disk(tmp_path) == ["s1", "f2"]


def test_two_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys; from datetime import UTC, datetime; from pathlib import Path\n"
        "from mtlsproxy.runtime.denials import Denials; from mtlsproxy.verdict.trust import Denial\n"
        "async def main():\n"
        "    kept, now = Denials(Path(sys.argv[1]), (), lambda: None), datetime.now(UTC)\n"
        "    for number in range(15):\n"
        "        said = {'id': f'{sys.argv[2]}{number}', 'created': now, 'by': 'x', 'serial': '1', 'issuer': 'CN=x'}\n"
        "        kept.enforce(Denial.model_validate(said)); await kept.save(now)\n"
        "asyncio.run(main())"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name]) for name in "ab"]
    assert [process.wait(30) for process in running] == [0, 0]
    assert sorted(on_disk(tmp_path)) == sorted(f"{name}{number}" for name in "ab" for number in range(15))


async def test_a_file_that_somebody_removed_is_made_anew_with_all_that_is_in_force(tmp_path: Path) -> None:
    kept = Published(tmp_path)
    await kept.add(denial("n1"))
    (tmp_path / FILE).unlink()
    await kept.add(denial("n2"))
    assert on_disk(tmp_path) == ["n1", "n2"]


async def test_expired_ones_leave_memory_and_disk_with_the_next_change(tmp_path: Path) -> None:
    kept = Published(tmp_path, FULL)
    write_denials(tmp_path, FULL)
    later = NOW + HOUR
    assert [one.id for one in kept.denials.active(later)] == ["a2"]
    kept.denials.enforce(denial("n1", created=later))
    await kept.denials.save(later)
    assert kept.ids == ("a2", "n1")
    assert [entry["id"] for entry in json.loads((tmp_path / FILE).read_text())["denials"]] == ["a2", "n1"]


async def test_what_cannot_be_stored_is_in_force_and_stored_with_the_next_change(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.write_text("in the way")
    kept = Published(folder)
    with pytest.raises(DenialsError, match=r"^cannot write .*denials.json: "):
        await kept.add(denial("n1"))
    assert kept.ids == ("n1",)
    folder.unlink()
    await kept.add(denial("n2"))
    assert (kept.ids, on_disk(folder)) == (("n1", "n2"), ["n1", "n2"])


async def test_what_cannot_be_lifted_on_disk_stays_in_force(tmp_path: Path) -> None:
    kept = Published(tmp_path)
    await kept.add(denial("n1"))
    (tmp_path / FILE).write_text("{")
    with pytest.raises(DenialsError, match="is damaged"):
        await kept.denials.lift("n1", NOW)
    assert kept.ids == ("n1",)
    assert (tmp_path / FILE).read_text() == "{", "what may still be mended is not overwritten"


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
async def test_in_a_folder_that_others_can_write_to_denials_are_neither_believed_nor_kept(
    tmp_path: Path, mode: int
) -> None:
    """Whoever can put another file there lifts every denial at the next start."""
    kept = Published(tmp_path / "state")
    kept.denials.enforce(denial("n1"))
    await kept.denials.save(NOW)
    (tmp_path / "state").chmod(mode)
    with pytest.raises(DenialsError, match="chmod go-w"):
        read_denials(tmp_path / "state", NOW)
    kept.denials.enforce(denial("n2"))
    with pytest.raises(DenialsError, match="chmod go-w"):
        await kept.denials.save(NOW)
    assert kept.ids == ("n1", "n2")
    (tmp_path / "state").chmod(0o755)
    await kept.denials.save(NOW)
    assert on_disk(tmp_path / "state") == ["n1", "n2"]


async def test_without_a_folder_nothing_is_kept_and_that_is_said(tmp_path: Path) -> None:
    kept = Published(None)
    with pytest.raises(DenialsError, match="set state_dir"):
        await kept.add(denial("n1"))
    assert kept.ids == ("n1",)


async def test_one_too_many_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_DENIALS", 2)
    kept = Published(tmp_path, (denial("n1"), denial("n2", expires=NOW + HOUR)))
    with pytest.raises(TooManyDenials):
        kept.denials.enforce(denial("n3"))
    assert kept.seen == []
    kept.denials.enforce(denial("n3", created=NOW + HOUR))  # n2 has ended by then
    assert kept.ids == ("n1", "n2", "n3")


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_denials(tmp_path, FULL)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_denials(tmp_path, ())
    assert read_denials(tmp_path, NOW) == FULL
    assert [file.name for file in tmp_path.iterdir()] == [FILE]
