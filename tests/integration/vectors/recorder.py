"""An upstream that keeps every byte it is sent, reads it as strictly as RFC 9112 allows, and lies when told to.

One thread reads all its connections and answers when nothing more is there to be read: once an answer is out, all that
the proxy sent before the request was read, too.
"""

import contextlib
import re
import selectors
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import h11

_LINE = re.compile(rb"[A-Z-]+ [!-~]+ HTTP/1\.1")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): (?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?")


class Malformed(Exception):
    """The proxy sent what is no proper request."""


@dataclass(frozen=True)
class Lie:
    """What is answered instead of the truth, in pieces (`step` bytes each), and what then: waits, closes, resets."""

    answer: bytes
    step: int
    then: str


@dataclass
class Line:
    """A connection from the proxy."""

    sock: socket.socket
    number: int
    buffer: bytes = b""


@dataclass
class Recorder:
    """seen: whole requests and the number of the connection that brought them; cut: what ended before it was whole."""

    port: int
    seen: list[tuple[int, bytes]] = field(default_factory=list)
    cut: list[bytes] = field(default_factory=list)
    malformed: list[str] = field(default_factory=list)
    connections: int = 0
    lines: dict[int, Line] = field(default_factory=dict)
    """Open connections by number."""
    lie: Lie | None = None
    told: threading.Event = field(default_factory=threading.Event)
    """Whether the lie is out and the proxy has read it."""
    pace: Callable[[], object] = lambda: None
    """Called between the pieces of a lie: returns when the proxy has read the one before."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def forget(self) -> None:
        self.seen.clear()
        self.cut.clear()
        self.told.clear()


def whole_request(data: bytes) -> tuple[bytes, int] | None:
    """The request at the front of `data` with its chunks joined into one, and its size; None: more has to come."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    line, *fields = data[:end].split(b"\r\n")
    if not _LINE.fullmatch(line):
        raise Malformed(f"request line {line!r}")
    named: dict[bytes, list[bytes]] = {}
    for each in fields:
        named.setdefault(_name_of(each), []).append(each)
    lengths, codings = named.get(b"content-length", []), named.get(b"transfer-encoding", [])
    if len(lengths) + len(codings) > 1 or len(named.get(b"host", [])) > 1:
        raise Malformed(f"framing or Host of {data[:end]!r}")
    end += 4
    if codings:
        return _chunked(data, end)
    size = int(lengths[0].partition(b": ")[2]) if lengths else 0
    return (data[: end + size], end + size) if len(data) >= end + size else None


def _name_of(line: bytes) -> bytes:
    found = _FIELD.fullmatch(line)
    if found is None:
        raise Malformed(f"field {line!r}")
    return found[1].lower()


def _chunked(data: bytes, at: int) -> tuple[bytes, int] | None:
    head, content = data[:at], b""
    while True:
        line, crlf, _ = data[at:].partition(b"\r\n")
        if not crlf:
            return None
        if not re.fullmatch(rb"[0-9a-f]+", line):
            raise Malformed(f"chunk size {line!r}")
        size = int(line, 16)
        at += len(line) + 2
        if not size:
            break
        if len(data) < at + size + 2:
            return None
        if data[at + size : at + size + 2] != b"\r\n":
            raise Malformed(f"chunk {data[at : at + size + 2]!r}")
        content += data[at : at + size]
        at += size + 2
    first = at
    while not data.startswith(b"\r\n", at):
        end = data.find(b"\r\n", at)
        if end < 0:
            return None
        _name_of(data[at:end])
        at = end + 2
    joined = b"%x\r\n%b\r\n" % (len(content), content) if content else b""
    return head + joined + b"0\r\n" + data[first:at] + b"\r\n", at + 2


class Undecided(Exception):
    """h11 judges trailers as it does heads, and refuses those that frame; the proxy drops them (RFC 9110 §6.5.1)."""


def as_read_by_h11(data: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """Method, target and body of every request that h11 finds at the front of `data`, whatever comes behind.

    One line end before a request is skipped (RFC 9112 §2.2), which h11 does not do. Raises Undecided.
    """
    found: list[tuple[bytes, bytes, bytes]] = []
    while data:
        reader = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        reader.receive_data(data.removeprefix(b"\r\n"))
        reader.receive_data(b"")
        read = _next_by_h11(reader)
        if read is None:
            break
        found.append(read)
        reader.send(h11.Response(status_code=204, headers=[]))
        reader.send(h11.EndOfMessage())
        if reader.our_state is h11.MUST_CLOSE:
            break
        data = reader.trailing_data[0]
    return found


def _next_by_h11(reader: h11.Connection) -> tuple[bytes, bytes, bytes] | None:
    body = b""
    try:
        asked = reader.next_event()
    except h11.RemoteProtocolError:
        return None
    if not isinstance(asked, h11.Request):
        return None
    try:
        while isinstance(event := reader.next_event(), h11.Data):
            body += bytes(event.data)
    except h11.RemoteProtocolError as error:
        if re.search("Content-Length|Transfer-Encoding", str(error)):
            raise Undecided from None
        return None
    return (asked.method, asked.target, body) if isinstance(event, h11.EndOfMessage) else None


@contextlib.contextmanager
def recording() -> Iterator[Recorder]:
    """Listens on a free port of 127.0.0.1 until the block ends."""
    stop, stopping = socket.socketpair()
    with stop, stopping, socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        recorder = Recorder(listening.getsockname()[1])
        thread = threading.Thread(target=_serve, args=(recorder, listening, stop), daemon=True)
        thread.start()
        try:
            yield recorder
        finally:
            stopping.send(b"x")
            thread.join(10)
    assert not thread.is_alive()
    assert recorder.malformed == []


def _serve(recorder: Recorder, listening: socket.socket, stop: socket.socket) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(listening, selectors.EVENT_READ)
        selector.register(stop, selectors.EVENT_READ)
        owed: list[tuple[Line, bytes]] = []
        while True:
            ready = selector.select(0 if owed else None)
            if not ready:
                for line, request in owed:
                    _answer(recorder, line, request, selector)
                owed.clear()
            for key, _ in ready:
                if key.fileobj is stop:
                    _close_all(selector)
                    return
                if key.fileobj is listening:
                    recorder.connections += 1
                    line = Line(listening.accept()[0], recorder.connections)
                    line.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    recorder.lines[line.number] = line
                    selector.register(line.sock, selectors.EVENT_READ, line)
                else:
                    owed += [(key.data, request) for request in _read(recorder, key.data, selector)]


def _read(recorder: Recorder, line: Line, selector: selectors.BaseSelector) -> list[bytes]:
    """Whole requests that have come on `line`."""
    try:
        data = line.sock.recv(1 << 20)
    except ConnectionError:
        data = b""
    if not data:
        if line.buffer:
            recorder.cut.append(line.buffer)
        recorder.lines.pop(line.number, None)
        _end(line, selector)
        return []
    line.buffer += data
    whole = []
    try:
        while (found := whole_request(line.buffer)) is not None:
            request, size = found
            raw, line.buffer = line.buffer[:size], line.buffer[size:]
            _check_with_h11(request, raw)
            recorder.seen.append((line.number, request))
            whole.append(request)
    except Malformed as error:
        recorder.malformed.append(f"{error} in {line.buffer!r}")
        _end(line, selector)
    return whole


def _check_with_h11(request: bytes, raw: bytes) -> None:
    """Another reader finds the same one request in it, and nothing behind."""
    method, target, _ = request.split(b" ", 2)
    read = as_read_by_h11(raw)
    if [each[:2] for each in read] != [(method, target)] or read[0][2] != body_of(request):
        raise Malformed(f"h11 reads {read!r}")


def body_of(message: bytes) -> bytes:
    """The content of a message with its chunks joined into one."""
    head, _, body = message.partition(b"\r\n\r\n")
    if b"\r\ntransfer-encoding: chunked" not in head.lower():
        return body
    size, _, rest = body.partition(b"\r\n")
    return rest[: int(size, 16)]


def _answer(recorder: Recorder, line: Line, request: bytes, selector: selectors.BaseSelector) -> None:
    method, target, _ = request.split(b" ", 2)
    if recorder.lie is None or not target.startswith(b"/lie"):
        with contextlib.suppress(OSError):
            line.sock.sendall(truth(method, target))
        return
    try:
        with contextlib.suppress(OSError):
            _tell(recorder, recorder.lie, line, selector)
            recorder.pace()
    finally:
        recorder.told.set()


def _tell(recorder: Recorder, lie: Lie, line: Line, selector: selectors.BaseSelector) -> None:
    for at in range(0, len(lie.answer), lie.step):
        line.sock.sendall(lie.answer[at : at + lie.step])
        recorder.pace()
    if lie.then == "resets":
        line.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        _end(line, selector)
    elif lie.then == "closes":
        line.sock.shutdown(socket.SHUT_WR)


def truth(method: bytes, target: bytes) -> bytes:
    """The answer that names its own request."""
    body = method + b" " + target
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + (b"" if method == b"HEAD" else body)


def _end(line: Line, selector: selectors.BaseSelector) -> None:
    with contextlib.suppress(KeyError):
        selector.unregister(line.sock)
    line.sock.close()


def _close_all(selector: selectors.BaseSelector) -> None:
    for key in list(selector.get_map().values()):
        if isinstance(key.data, Line):
            key.data.sock.close()
