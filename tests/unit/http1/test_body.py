"""Message bodies come out as they went in, however they are cut; malformed ones are refused, never guessed at."""

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlsproxy.http1.body import (
    MAX_CHUNK_LINE,
    MAX_TRAILER_COUNT,
    MAX_TRAILERS,
    Body,
    ChunkedBody,
    LengthBody,
    UntilClose,
)
from mtlsproxy.http1.errors import BadMessage
from mtlsproxy.reasons import Reason


def chunked() -> ChunkedBody:
    return ChunkedBody(Reason.BAD_REQUEST)


def read(body: Body, pieces: Iterable[bytes]) -> tuple[bytes, int]:
    """The content, and how many bytes were the message's."""
    out, total = b"", 0
    for piece in pieces:
        assert not body.done
        found, used = body.feed(memoryview(piece))
        out += b"".join(found)
        total += used
        if body.done:
            break
        assert used == len(piece), "what is not the end belongs to the message"
    return out, total


def singly(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


@pytest.mark.parametrize("cut", [lambda data: [data], singly])
def test_a_length_counts_bytes(cut) -> None:  # type: ignore[no-untyped-def]
    body = LengthBody(5)
    assert read(body, cut(b"helloGET /")) == (b"hello", 5)
    assert body.done
    assert body.trailers == []


def test_a_length_of_zero_is_done_before_it_begins() -> None:
    assert LengthBody(0).done


def test_a_truncated_length_is_not_done() -> None:
    body = LengthBody(5)
    assert read(body, [b"hell"]) == (b"hell", 4)
    assert not body.done
    assert body.left == 1


def test_until_close_is_never_done() -> None:
    body = UntilClose()
    assert read(body, [b"a", b"bc"]) == (b"abc", 3)
    assert not body.done


WHOLE = b"5\r\nhello\r\n1;a=b\r\n \r\n00A\r\n0123456789\r\n0\r\nX-T: 1\r\ny:\r\n\r\n"


@pytest.mark.parametrize("cut", [lambda data: [data], singly])
@pytest.mark.parametrize("behind", [b"", b"GET / HTTP/1.1\r\n", b"\r\n", b"0\r\n\r\n"])
def test_chunks_are_joined_and_nothing_behind_them_is_touched(cut, behind: bytes) -> None:  # type: ignore[no-untyped-def]
    """Whole, byte by byte and with trailing bytes."""
    body = chunked()
    assert read(body, cut(WHOLE + behind)) == (b"hello 0123456789", len(WHOLE))
    assert body.done
    assert body.trailers == [(b"X-T", b"1"), (b"y", b"")]


@pytest.mark.parametrize("end", range(len(WHOLE)))
def test_a_truncated_chunked_body_is_not_done(end: int) -> None:
    body = chunked()
    content, used = read(body, [WHOLE[:end]] if end else [])
    assert (used, body.done) == (end, False)
    assert b"hello 0123456789".startswith(content)


@pytest.mark.parametrize(
    "data",
    [
        b"0\r\n\r\n",
        b"000\r\n\r\n",
        b"0;a\r\n\r\n",
        b"0 \r\n\r\n",
        b"0;a=b;c\r\n\r\n",
        b'0;a="b;\\"c"\r\n\r\n',
        b"0 ; a = b\r\n\r\n",
        b"000000000000000\r\n\r\n",
    ],
)
def test_the_last_chunk_may_be_written_in_several_ways(data: bytes) -> None:
    """RFC 9112 §7.1 and §7.1.1; bad white space around an extension is read, as §7.1.1 asks."""
    body = chunked()
    assert read(body, [data]) == (b"", len(data))
    assert body.done


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"+5\r\nhello\r\n",
        b" 5\r\nhello\r\n",
        b"\t5\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"5h\r\nhello\r\n",
        b"-5\r\nhello\r\n",
        b"5_0\r\n",
        b"5,5\r\n",
        b"g\r\n",
        b";a\r\n",
        b"5;\r\nhello\r\n",
        b"5;;a\r\nhello\r\n",
        b"5;a=\r\nhello\r\n",
        b'5;a="b\r\nhello\r\n',
        b"5;a\x00\r\nhello\r\n",
        b"5;a\rb\r\nhello\r\n",
        b"5\rhello\r\n",
        b"5\nhello\n",
        b"5\r\nhello\n",
        b"5\r\nhelloo\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhello\r\r\n",
        b"5\r\nhello\n\r\n",
        b"5\r\r\nhello\r\n",
        "٥\r\nhello\r\n".encode(),
        b"1000000000000000\r\n",
        b"FFFFFFFFFFFFFFFF\r\n",
        b"0000000000000005\r\nhello\r\n",
        b"0\n\n",
        b"0\r\n\n",
        b"0\r\nX: a\n\r\n",
        b"0\r\nX\r\n\r\n",
        b"0\r\nX : a\r\n\r\n",
        b"0\r\n: a\r\n\r\n",
        b"0\r\n X: a\r\n\r\n",
        b"0\r\nX: a\r\n b\r\n\r\n",
        b"0\r\nX: a\x00\r\n\r\n",
        b"0\r\nX: a\rb\r\n\r\n",
        b"0\r\nGET / HTTP/1.1\r\n\r\n",
    ],
)
@pytest.mark.parametrize("cut", [lambda data: [data], singly])
def test_malformed_chunks_are_refused(cut, data: bytes) -> None:  # type: ignore[no-untyped-def]
    """Each is a known way to make two readers disagree about where a message ends. Cutting changes nothing."""
    body = chunked()
    with pytest.raises(BadMessage) as caught:
        read(body, cut(data))
    assert caught.value.reason is Reason.BAD_REQUEST
    assert not body.done


def test_the_reason_is_the_one_of_its_side() -> None:
    with pytest.raises(BadMessage) as caught:
        ChunkedBody(Reason.UPSTREAM_ERROR).feed(memoryview(b"x\r\n"))
    assert caught.value.reason is Reason.UPSTREAM_ERROR


def test_a_line_that_never_ends_is_not_kept() -> None:
    """Whole and byte by byte: within twice the limit a line without an end is refused."""
    for pieces in ([b"1" + b" " * 10_000], singly(b"1;" + b"a" * 10_000)):
        body = chunked()
        with pytest.raises(BadMessage):
            read(body, pieces)
    fits = b"0;" + b"a" * (MAX_CHUNK_LINE - 4) + b"\r\n\r\n"
    assert read(chunked(), singly(fits)) == (b"", len(fits))


def test_trailers_are_limited_in_size_and_number() -> None:
    few = b"0\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(MAX_TRAILER_COUNT)) + b"\r\n"
    body = chunked()
    read(body, [few])
    assert len(body.trailers) == MAX_TRAILER_COUNT
    many = few[:-2] + b"X: a\r\n\r\n"
    large = b"0\r\n" + (b"X: " + b"a" * 4000 + b"\r\n") * 5 + b"\r\n"
    assert len(large) > MAX_TRAILERS
    one = b"0\r\nX: " + b"a" * (MAX_TRAILERS + 10) + b"\r\n\r\n"
    for data in (many, large, one):
        with pytest.raises(BadMessage):
            read(chunked(), [data])
        with pytest.raises(BadMessage):
            read(chunked(), [data[at : at + 1000] for at in range(0, len(data), 1000)])


def test_white_space_around_a_trailers_value_is_not_part_of_it() -> None:
    body = chunked()
    read(body, [b"0\r\nX: \t a b \t\r\nY:   \r\n\r\n"])
    assert body.trailers == [(b"X", b"a b"), (b"Y", b"")]


def cuts(data: st.DataObject, whole: bytes) -> list[bytes]:
    """`whole` cut at random places."""
    at = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=20)))
    return [piece for a, b in zip([0, *at], [*at, len(whole)], strict=True) if (piece := whole[a:b])]


@given(st.data(), st.lists(st.binary(min_size=1, max_size=300), max_size=8))
@settings(max_examples=200, deadline=None)
def test_any_chunking_of_any_content_is_read_back(data: st.DataObject, content: list[bytes]) -> None:
    sizes = st.sampled_from([b"%x", b"%X", b"0%x", b"%x;e=1", b'%x;e="a;b\\"\t"', b"%x \t;e"])
    whole = b"".join(data.draw(sizes) % len(piece) + b"\r\n" + piece + b"\r\n" for piece in content) + b"0\r\n\r\n"
    body = chunked()
    behind = data.draw(st.binary(max_size=20))
    assert read(body, cuts(data, whole + behind)) == (b"".join(content), len(whole))
    assert body.done


@given(
    st.data(), st.lists(st.sampled_from([b"5", b"0", b"a", b"\r\n", b"\n", b"\r", b";", b"=", b'"', b":", b" ", b"\0"]))
)
@settings(max_examples=200, deadline=None)
def test_cutting_never_changes_what_is_read(data: st.DataObject, tokens: list[bytes]) -> None:
    """The outcome of any bytes fed in pieces is that of the whole."""

    def outcome(pieces: list[bytes]) -> object:
        body = chunked()
        try:
            return *read(body, pieces), body.done, body.trailers
        except BadMessage:
            return None

    whole = b"5\r\nhello\r\n" + b"".join(tokens)
    assert outcome(cuts(data, whole)) == outcome([whole])
