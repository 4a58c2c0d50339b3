"""Output that does not arrive never looks like a verdict: 141 when the reader has gone, 2 and a line on a full disk."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("mtlsproxy")
SHORT, LONG, WRONG = ("--version",), ("schema",), ("check", "/nowhere.yaml")
"""Output that fits into a buffer, output that does not, and a line on stderr."""


@contextmanager
def nobody_reads() -> Iterator[int]:
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)


@contextmanager
def full_disk() -> Iterator[int]:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    yield descriptor
    os.close(descriptor)


def run(arguments: tuple[str, ...], stdout: int, stderr: int = subprocess.PIPE) -> tuple[int, str]:
    """The exit status and what is on stderr."""
    done = subprocess.run([COMMAND, *arguments], stdout=stdout, stderr=stderr, text=True, check=False)
    return done.returncode, done.stderr or ""


@pytest.mark.parametrize("arguments", [SHORT, LONG])
def test_a_reader_that_has_gone_is_no_verdict(arguments: tuple[str, ...]) -> None:
    with nobody_reads() as closed:
        assert run(arguments, closed) == (141, "")


@pytest.mark.parametrize("arguments", [SHORT, LONG])
def test_a_full_disk_is_said_in_one_line(arguments: tuple[str, ...]) -> None:
    with full_disk() as full:
        assert run(arguments, full) == (2, "the output cannot be written: No space left on device\n")


def test_where_even_that_cannot_be_said_the_status_says_it() -> None:
    with full_disk() as full:
        assert run(WRONG, subprocess.PIPE, full)[0] == 2
        assert run(LONG, full, full)[0] == 2
    with nobody_reads() as closed:
        assert run(WRONG, subprocess.PIPE, closed)[0] == 141


def test_the_status_is_the_command_s_own_where_everything_arrives() -> None:
    with full_disk() as full, nobody_reads() as closed:
        assert run(WRONG, full) == run(WRONG, closed)
        assert run(SHORT, subprocess.DEVNULL, full)[0] == 0
    status, said = run(WRONG, subprocess.PIPE)
    assert status == 2
    assert said == "/nowhere.yaml:1:1: cannot be read: No such file or directory\n"
