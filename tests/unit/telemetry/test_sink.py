"""A sink writes whole lines in order, never blocks who submits, and counts what it loses."""

import fcntl
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtlsproxy.telemetry.sink import Sink

LONG = 10.0


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe of one page, as (read, write)."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    yield read, write
    for descriptor in (read, write):
        try:
            os.close(descriptor)
        except OSError:
            continue


def test_lines_are_appended_in_order_to_a_file_that_others_cannot_read(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_bytes(b"before\n")
    path.chmod(0o640)
    sink = Sink(path, "access")
    for n in range(500):
        assert sink.submit(b"%d\n" % n)
    assert sink.close(LONG)
    assert path.read_bytes() == b"before\n" + b"".join(b"%d\n" % n for n in range(500))
    assert sink.dropped() == 0
    fresh = tmp_path / "fresh.log"
    Sink(fresh, "access").close(LONG)
    assert stat.S_IMODE(fresh.stat().st_mode) & 0o007 == 0


def test_a_file_that_cannot_be_opened_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Sink(tmp_path / "missing" / "access.log", "access")
    with pytest.raises(IsADirectoryError):
        Sink(tmp_path, "access")


def test_a_fifo_without_a_reader_is_an_error_and_does_not_hang_the_start(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="No such device"):
        Sink(tmp_path / "fifo", "access")


def test_reopen_goes_on_in_a_new_file_after_what_was_queued(tmp_path: Path) -> None:
    path, rotated = tmp_path / "access.log", tmp_path / "access.log.1"
    sink = Sink(path, "access")
    sink.submit(b"old\n")
    path.rename(rotated)
    sink.submit(b"still old\n")
    sink.reopen()
    sink.submit(b"new\n")
    assert sink.close(LONG)
    assert rotated.read_bytes() == b"old\nstill old\n"
    assert path.read_bytes() == b"new\n"


def test_a_reopen_that_fails_keeps_the_old_file_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    sink = Sink(folder / "access.log", "access")
    folder.rename(tmp_path / "moved")
    sink.reopen()
    sink.submit(b"kept\n")
    assert sink.close(LONG)
    assert (tmp_path / "moved" / "access.log").read_bytes() == b"kept\n"
    assert "log access cannot be reopened" in caplog.text


def test_truncation_in_place_leaves_no_hole(tmp_path: Path) -> None:
    """logrotate's copytruncate: the file is emptied under the sink."""
    path = tmp_path / "access.log"
    sink = Sink(path, "access")
    sink.submit(b"old\n")
    assert sink.flush(LONG)
    os.truncate(path, 0)
    sink.submit(b"new\n")
    assert sink.close(LONG)
    assert path.read_bytes() == b"new\n"


def test_an_unread_pipe_blocks_nobody_and_its_lost_lines_are_counted(pipe: tuple[int, int]) -> None:
    read, write = pipe
    sink = Sink(write, "access", max_queued_bytes=20_000)
    line = b"x" * 999 + b"\n"
    taken = sum(sink.submit(line) for _ in range(100))
    assert 20 <= taken < 100
    assert sink.dropped() == 100 - taken
    assert not sink.flush(0.05)
    assert not sink.close(0.05)
    # Four lines are in the pipe; the line that is half in it counts as lost too.
    assert 100 - 5 <= sink.dropped() <= 100
    os.close(read)
    assert sink.close(LONG)
    assert sink.dropped() <= 100


def test_a_pipe_that_is_read_again_gets_whole_lines(pipe: tuple[int, int]) -> None:
    read, write = pipe
    sink = Sink(write, "access", max_queued_bytes=50_000)
    sent = [b"%04d" % n + b"x" * 200 + b"\n" for n in range(400)]
    taken = [line for line in sent if sink.submit(line)]
    assert len(taken) < len(sent)
    received = b""
    while len(received) < sum(map(len, taken)):
        received += os.read(read, 65536)
    assert received == b"".join(taken)
    assert sink.close(LONG)
    assert sink.dropped() == len(sent) - len(taken)


def test_a_descriptor_that_is_non_blocking_is_waited_for(pipe: tuple[int, int]) -> None:
    read, write = pipe
    os.set_blocking(write, False)
    sink = Sink(write, "access")
    data = b"".join(b"%05d\n" % n for n in range(5000))
    assert sink.submit(data, 5000)
    received = b""
    while len(received) < len(data):
        received += os.read(read, 65536)
    assert received == data
    assert sink.close(LONG)
    assert sink.dropped() == 0


def test_a_full_disk_loses_lines_counts_them_and_complains_once(caplog: pytest.LogCaptureFixture) -> None:
    sink = Sink(Path("/dev/full"), "access")
    for _ in range(3):
        assert sink.submit(b"a\nb\n", 2)
    assert sink.close(LONG)
    assert sink.dropped() == 6
    assert caplog.text.count("log access cannot be written") == 1


def test_after_half_a_line_the_next_batch_starts_on_its_own_line(tmp_path: Path) -> None:
    """A write cut short (here by the file size limit) must not glue two lines together."""
    code = """
import resource, signal, sys
from pathlib import Path
from mtlsproxy.telemetry.sink import Sink
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (6, hard))
sink = Sink(Path(sys.argv[1]), "access")
sink.submit(b"first line\\n"); assert sink.flush(10)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
sink.submit(b"second\\n"); assert sink.flush(10)
sink.submit(b"third\\n"); assert sink.close(10)
assert sink.dropped() == 1
"""
    path = tmp_path / "access.log"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == b"first \nsecond\nthird\n"


def test_a_reader_that_has_gone_away_is_survived(pipe: tuple[int, int]) -> None:
    read, write = pipe
    os.close(read)
    sink = Sink(write, "stdout")
    sink.submit(b"lost\n")
    assert sink.close(LONG)
    assert sink.dropped() == 1


def test_closing_twice_is_fine_and_an_inherited_descriptor_stays_open(pipe: tuple[int, int]) -> None:
    _, write = pipe
    sink = Sink(write, "stdout")
    assert sink.close(LONG)
    assert sink.close(LONG)
    assert not sink.submit(b"late\n")
    assert sink.dropped() == 1
    os.fstat(write)


def test_half_a_line_of_a_process_that_was_killed_is_continued_by_nobody(pipe: tuple[int, int]) -> None:
    """Several processes write to one pipe; one is killed while the pipe is full."""
    read, write = pipe
    lock = os.memfd_create("lock")
    says = (
        f"from mtlsproxy.telemetry.sink import Sink; sink = Sink({write}, 'access', lock={lock});"
        "sink.submit(b'a' * 10_000 + b'\\n'); sink.close(60)"
    )
    with subprocess.Popen([sys.executable, "-c", says], pass_fds=(write, lock)) as other:
        assert os.read(read, 1) == b"a"  # under way
        other.kill()
    sink = Sink(write, "access", lock=lock)
    assert sink.submit(b"next\n")
    data = b""
    while not data.endswith(b"next\n"):
        data += os.read(read, 4096)
    assert sink.submit(b"last\n")
    assert sink.close(LONG)
    os.close(write)
    while more := os.read(read, 4096):
        data += more
    first, *others = data.split(b"\n")
    assert first.strip(b"a") == b""
    assert others == [b"next", b"last", b""]
    os.close(lock)
