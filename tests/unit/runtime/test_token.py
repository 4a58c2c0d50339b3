"""The admin's token: what a file must hold, and that nothing but the token itself matches."""

from pathlib import Path

import pytest

from mtlsproxy.runtime.token import MAXIMUM, Token, TokenError, read_token

GOOD = "s3cret-Token._~+/with==".replace("with", "0123456789")


def written(folder: Path, data: bytes, mode: int = 0o600) -> Path:
    file = folder / "token"
    file.write_bytes(data)
    file.chmod(mode)
    return file


@pytest.mark.parametrize("around", [b"%s", b"%s\n", b"  %s\r\n\n"])
def test_white_space_around_the_token_does_not_count(tmp_path: Path, around: bytes) -> None:
    token, warnings = read_token(written(tmp_path, around % GOOD.encode()))
    assert token.matches(GOOD.encode())
    assert warnings == []


@pytest.mark.parametrize(
    "presented", [b"", b"x", GOOD[:-1].encode(), GOOD.encode() + b"=", GOOD.upper().encode(), b"\xff"]
)
def test_nothing_else_matches(presented: bytes) -> None:
    assert not Token(GOOD).matches(presented)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "must be one line of letters"),
        (b"0123456789abcde", "has 15 characters: at least 16"),
        (b"0123456789abcdef 0123456789abcdef", "must be one line of letters"),
        (b"0123456789abcdef\n0123456789abcdef\n", "must be one line of letters"),
        (b"0123456789abcde\x00", "must be one line of letters"),
        ("0123456789abcdef-ü".encode(), "is not ASCII"),
        (b"a" * (MAXIMUM + 1), "is larger than the 4096 bytes"),
    ],
)
def test_what_is_no_token_is_refused_in_words_that_do_not_show_it(tmp_path: Path, data: bytes, words: str) -> None:
    with pytest.raises(TokenError) as caught:
        read_token(written(tmp_path, data))
    assert words in caught.value.detail
    assert "0123456789" not in caught.value.detail


def test_sixteen_characters_are_enough(tmp_path: Path) -> None:
    assert read_token(written(tmp_path, b"0123456789abcdef"))[0].matches(b"0123456789abcdef")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenError, match="No such file or directory"):
        read_token(tmp_path / "token")


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o400, False), (0o660, True), (0o604, True)])
def test_a_file_that_others_can_read_is_warned_about(tmp_path: Path, mode: int, warned: bool) -> None:
    _, warnings = read_token(written(tmp_path, GOOD.encode(), mode))
    assert [f"(mode {mode:04o}): chmod 600" in warning for warning in warnings] == [True] * warned


def test_the_token_cannot_be_printed() -> None:
    token = Token(GOOD)
    assert GOOD not in repr(token)
    assert not hasattr(token, "__dict__")
