"""Generated requests and answers, good ones with something broken: whatever is forwarded, h11 reads the same way.

The rule: the upstream sees the requests that a second strict reader (h11, which shares no code with ours) finds in what
the client sent, up to one that is refused and ends the connection; a misdirected one (421) is left out and ends
nothing. A stream in which the two readers count differently is refused. An answer reaches its client whole only where
h11 reads the same one from what the upstream sent.
"""

import contextlib
import re
import ssl
from dataclasses import dataclass

import h11
from hypothesis import HealthCheck, event, given, reject, settings
from hypothesis import strategies as st
from tests.integration.clients import PATIENCE, Connection
from tests.integration.vectors.hearing import listen
from tests.integration.vectors.recorder import Lie, Undecided, as_read_by_h11, body_of
from tests.integration.vectors.scene import Scene, as_sent

Read = tuple[bytes, bytes, bytes]
"""Method, target, body."""

BODIES = st.sampled_from([b"", b"x", b"hello", b"0\r\n\r\n", b"GET /hidden HTTP/1.1\r\nHost: proxy.test\r\n\r\n"])
TARGETS = st.sampled_from([b"/", b"/a?b=c", b"/a%2fb", b"/a/../b", b"//a", b"*", b"https://proxy.test/c", b"/a;b"])
METHODS = st.sampled_from([b"GET", b"POST", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"DELETE"])
FIELDS = st.lists(
    st.sampled_from(
        [
            b"X: y", b"X:", b"Connection: keep-alive", b"Connection: X, TE", b"TE: trailers", b"X-Client-Id: admin",
            b"Expect: 100-continue", b"Content_Length: 3", b"Content-Length: 3", b"Content-Length: 0",
            b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", b"Upgrade: h2c", b"Cookie: a=b; c=\xe9",
        ]
    ),
    max_size=3,
)  # fmt: skip
EXTENSIONS = st.sampled_from([b"", b"", b"", b";a", b";a=b", b';a="b;c"', b" ", b";"])
TRAILERS = st.lists(st.sampled_from([b"X: y", b"Content-Length: 3", b"Host: other.test"]), max_size=2)
NOISE = [
    b"\r", b"\n", b"\r\n", b"\n\n", b"\r\n\r\n", b"\r\n ", b" ", b"\t", b"\0", b"\x0b", b"\xff", b":", b";", b",", b"+",
    b"-", b"0", b"5", b"f", b"0x", b"chunked", b" HTTP/1.1", b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Host: other.test\r\n", b"GET / HTTP/1.1\r\n",
]  # fmt: skip


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """One request, framed properly unless a field drawn says otherwise."""
    version = draw(st.sampled_from([b"HTTP/1.1"] * 8 + [b"HTTP/1.0"]))
    head = b"%b %b %b\r\nHost: proxy.test\r\n" % (draw(METHODS), draw(TARGETS), version)
    head += b"".join(line + b"\r\n" for line in draw(FIELDS))
    body = draw(BODIES)
    match draw(st.sampled_from(["none", "length", "chunks"])):
        case "none":
            return head + b"\r\n"
        case "length":
            return head + b"Content-Length: %d\r\n\r\n" % len(body) + body
        case _:
            return head + b"Transfer-Encoding: chunked\r\n\r\n" + draw(chunked(body))


@st.composite
def chunked(draw: st.DrawFn, body: bytes) -> bytes:
    cut = draw(st.integers(0, len(body)))
    out = b"".join(
        b"%x%b\r\n%b\r\n" % (len(piece), draw(EXTENSIONS), piece) for piece in (body[:cut], body[cut:]) if piece
    )
    return out + b"0\r\n" + b"".join(line + b"\r\n" for line in draw(TRAILERS)) + b"\r\n"


@st.composite
def broken(draw: st.DrawFn, message: bytes) -> bytes:
    """`message` with up to three places where bytes are inserted, replaced, removed or doubled."""
    raw = bytearray(message)
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2, 3]))):
        at = draw(st.integers(0, max(0, len(raw) - 1)))
        match draw(st.sampled_from(["insert", "replace", "remove", "double"])):
            case "insert":
                raw[at:at] = draw(st.sampled_from(NOISE))
            case "replace":
                raw[at : at + 1] = draw(st.sampled_from(NOISE))
            case "remove":
                del raw[at : at + draw(st.integers(1, 4))]
            case _:
                raw[at:at] = raw[at : at + draw(st.integers(1, 20))]
    return bytes(raw)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Up to three requests."""
    return draw(broken(b"".join(draw(st.lists(messages(), min_size=1, max_size=3)))))


@dataclass(frozen=True)
class Outcome:
    forwarded: list[Read]
    answers: list[int]
    """Statuses, as many as came before the connection ended."""


def forwarded_of(scene: Scene, stream: bytes) -> Outcome:
    scene.recorder.forget()
    with scene.connect() as client:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            client.send(stream)
            client.end()
        answers = _statuses(client)
    scene.others_are_served()
    seen = [as_sent(request) for _, request in scene.recorder.seen]
    return Outcome([_read(request) for request in seen], answers)


def _read(request: bytes) -> Read:
    method, target, _ = request.split(b" ", 2)
    return method, target, body_of(request)


def _statuses(client: Connection) -> list[int]:
    """By their looks, for which of them answer HEAD is not known here: no body has anything like a status line."""
    with contextlib.suppress(ConnectionError, ssl.SSLError, EOFError):
        while True:
            client._more()
    return [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", client._buffer)]


def same(ours: Read, theirs: Read) -> bool:
    """Absolute-form becomes origin-form on the way (RFC 9112 §3.2.2)."""
    return ours == (theirs[0], theirs[1].removeprefix(b"https://proxy.test"), theirs[2])


@given(stream=streams())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_forwarded_is_what_another_strict_reader_finds(scene: Scene, stream: bytes) -> None:
    outcome = forwarded_of(scene, stream)
    try:
        found = as_read_by_h11(stream)
    except Undecided:
        reject()
    event(f"{len(outcome.forwarded)} forwarded, {max(outcome.answers, default=0)}")
    meant = [asked for asked, status in zip(found, outcome.answers, strict=False) if status == 200]
    assert len(outcome.forwarded) == outcome.answers.count(200) == len(meant), (outcome, found)
    assert all(map(same, outcome.forwarded, meant)), (outcome, found)
    if set(outcome.answers) <= {200}:
        assert len(outcome.answers) == len(found), (outcome, found)


def test_the_two_readers_agree_on_a_plain_stream(scene: Scene) -> None:
    """The accepted case: nothing is refused, and all three requests arrive."""
    stream = (
        b"POST /a HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: 5\r\n\r\nhello"
        b"PUT https://proxy.test/b HTTP/1.1\r\nHost: proxy.test\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2;a\r\nhe\r\n3\r\nllo\r\n0\r\n\r\nGET /c HTTP/1.1\r\nHost: proxy.test\r\n\r\n"
    )
    outcome = forwarded_of(scene, stream)
    assert outcome == Outcome(
        [(b"POST", b"/a", b"hello"), (b"PUT", b"/b", b"hello"), (b"GET", b"/c", b"")], [200, 200, 200]
    )


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """One answer, perhaps behind an interim one, with up to three places that are broken as in `streams`."""
    status = draw(st.sampled_from([b"200 OK"] * 4 + [b"404 Not Found", b"204 No Content", b"304 Not Modified"]))
    body = draw(st.sampled_from([b"", b"hello", b"0\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"]))
    head = b"HTTP/1.1 %b\r\n" % status + b"".join(line + b"\r\n" for line in draw(FIELDS))
    match draw(st.sampled_from(["none", "length", "chunks"])):
        case "none":
            message = head + b"\r\n" + body
        case "length":
            message = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
        case _:
            message = head + b"Transfer-Encoding: chunked\r\n\r\n" + draw(chunked(body))
    interim = draw(st.sampled_from([b"", b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"]))
    return draw(broken(interim + message))


@given(answer=answers(), step=st.sampled_from([1, 7, 10_000]))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_a_client_gets_whole_is_what_another_strict_reader_finds(scene: Scene, answer: bytes, step: int) -> None:
    scene.recorder.forget()
    scene.recorder.lie = Lie(answer, step, "closes")
    with scene.connect() as client:
        client.send(b"GET /lie HTTP/1.1\r\nHost: proxy.test\r\n\r\n")
        heard = listen(client, to_head=False)
    assert scene.recorder.told.wait(PATIENCE)
    scene.others_are_served()
    event(f"{heard.status}, {'whole' if heard.whole else 'cut short'}")
    if heard.whole and heard.status != 502:
        assert (heard.status, heard.body) == answer_by_h11(answer)


def answer_by_h11(data: bytes) -> tuple[int, bytes] | None:
    """Status and body of the answer to a GET at the front of `data`, an end behind it."""
    reader = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    reader.send(h11.Request(method="GET", target="/lie", headers=[("Host", "proxy.test")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(data)
    reader.receive_data(b"")
    try:
        while isinstance(said := reader.next_event(), h11.InformationalResponse):
            pass
        if not isinstance(said, h11.Response):
            return None
        body = b""
        while isinstance(more := reader.next_event(), h11.Data):
            body += bytes(more.data)
    except h11.RemoteProtocolError as error:
        if re.search("Content-Length|Transfer-Encoding", str(error)) and reader.their_state is h11.ERROR:
            reject()
        return None
    return (said.status_code, body) if isinstance(more, h11.EndOfMessage) else None
