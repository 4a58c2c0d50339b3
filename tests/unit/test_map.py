"""The docstrings of the rooms are the newcomer's map: each names every module in it, and the package's every room."""

import re
from pathlib import Path

import pytest

import mtlsproxy

PACKAGE = Path(mtlsproxy.__file__).parent
ROOMS = sorted(file.parent for file in PACKAGE.rglob("__init__.py"))


def modules(room: Path) -> set[str]:
    """Of a room, those below it that can be imported; what `python -m` runs has no name."""
    folders = {file.parent.name for file in room.glob("*/__init__.py")}
    return folders | {file.stem for file in room.glob("*.py")} - {"__init__", "__main__"}


def named(words: str) -> set[str]:
    """What `words` name: in a column of its own, or several with commas between and a colon; or in quotes."""
    lists = re.findall(r"^ {0,4}((?:\w+, )*\w+) {2}|((?:\w+, )*\w+):", words, re.MULTILINE)
    return {name for pair in lists for name in "".join(pair).split(", ")} | set(re.findall(r"[`\"](\w+)[`\"]", words))


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: str(room.relative_to(PACKAGE.parent)))
def test_a_room_names_each_of_its_modules(room: Path) -> None:
    assert modules(room) - named((room / "__init__.py").read_text()) == set()
