"""A byte stream over a non-blocking socket: one shared receive buffer, a write buffer with watermarks, no tasks.

The stream calls its handler; the handler calls `write`, `pause_reading`, `resume_reading`, `close` and `abort`. Reads
happen only in callbacks of the event loop, never inside a call of the handler's, so one receive buffer serves all.
"""

import asyncio
import contextlib
import fcntl
import logging
import socket
import termios
from array import array

from mtlsproxy.transport.hangups import hangups_of
from mtlsproxy.transport.interfaces import GONE, Counter, Handler

RECEIVE_SIZE = 256 * 1024
"""Bytes taken in one system call: many TLS records at once, few calls for a large body."""

UNTRUSTED_SIZE = 64 * 1024
"""As much of a stranger: the work that bytes make (chunks of one byte, say) is done before others have their turn."""

HIGH_WATER = 64 * 1024
"""Unsent bytes at which the handler is asked to pause: about one receive window of a slow peer."""

LOW_WATER = 16 * 1024

LINGER = 2.0
"""Seconds to go on discarding what a peer still sends after our last byte, so that no reset destroys it unread."""

FLUSH = 10.0
"""Seconds in which the peer of a closing stream must take something of what is kept."""

LINGER_BYTES = 1024 * 1024
"""What is discarded at most meanwhile."""

MAX_PIECES = 64
"""Buffers in one sendmsg (well below IOV_MAX)."""

log = logging.getLogger(__name__)

_buffer = bytearray(RECEIVE_SIZE)
_view = memoryview(_buffer)

_WOULD_BLOCK = (BlockingIOError, InterruptedError)


class SocketStream:
    """Plain bytes over a connected, non-blocking socket."""

    cut_off = False  # nobody can tell

    __slots__ = (
        "_closing",
        "_discarded",
        "_ended",
        "_fd",
        "_hangups",
        "_hung_up",
        "_last_call",
        "_lingering",
        "_loop",
        "_out",
        "_out_size",
        "_paused_writer",
        "_reading",
        "_receive_size",
        "_recv_into",
        "_send",
        "_sock",
        "closed",
        "handler",
        "received",
        "sent",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        received: Counter,
        sent: Counter,
        receive_size: int = RECEIVE_SIZE,
    ) -> None:
        """receive_size: bytes taken at once, RECEIVE_SIZE at most."""
        self._loop = loop
        self._sock = sock
        self._fd = sock.fileno()
        self._recv_into = sock.recv_into
        self._receive_size = receive_size
        self._send = sock.send
        self.handler: Handler
        self.received = received
        self.sent = sent
        self._out: list[bytes | memoryview] = []
        self._out_size = 0
        self._paused_writer = False
        self._reading = False
        self._ended = False
        self._hung_up = False
        self._closing = False
        self._last_call: asyncio.TimerHandle | None = None
        self._lingering = False
        self._discarded = 0
        self.closed = False
        self._hangups = hangups_of(loop)
        self._hangups.watch(self._fd, self)

    def start(self, handler: Handler) -> None:
        self.handler = handler
        self.resume_reading()

    # -- reading ---------------------------------------------------------------------------------------------------

    def resume_reading(self) -> None:
        if not self._reading and not self.closed and not self._ended:
            self._reading = True
            self._loop.add_reader(self._fd, self._on_readable)

    def pause_reading(self) -> None:
        if self._reading and not self._lingering:
            self._reading = False
            self._loop.remove_reader(self._fd)

    def hung_up(self) -> None:
        """See `hangups`. What came before is still read, up to the error; while reading is paused, when it goes on."""
        self._hung_up = True
        if self._reading:
            self._on_readable()
            return
        try:
            self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except _WOULD_BLOCK:
            return
        except OSError as error:  # told once: with nothing left to read before it, this is the end
            self._loop.call_soon(self._lose, error)

    def _read_on(self) -> None:
        if self._reading:
            self._on_readable()

    def _on_readable(self) -> None:
        try:
            self._read()
        except Exception:
            # A mistake of ours must not leave a connection behind that nobody ends.
            log.exception("a connection is ended because its handler failed")
            self._lose(None)

    def _read(self) -> None:
        try:
            n = self._recv_into(_buffer, self._receive_size)
        except _WOULD_BLOCK:
            return
        except OSError as error:
            self._lose(error)
            return
        if self._lingering:
            self._discarded += n
            if n == 0 or self._discarded > LINGER_BYTES:
                self._lose(None)
        elif n:
            self.received.value += n
            self.handler.data_received(_view[:n])
            if self._hung_up:
                self._loop.call_soon(self._read_on)
        else:
            self._ended = True
            self.pause_reading()
            self.handler.eof_received()

    @property
    def has_news(self) -> bool:
        """Whether something (bytes, an end, an error) waits to be read now. Costs a system call."""
        try:
            self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except _WOULD_BLOCK:
            return False
        except OSError:
            return True
        return True

    # -- writing ---------------------------------------------------------------------------------------------------

    @property
    def unsent(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return self._out_size

    @property
    def owed(self) -> int:
        """Bytes that the peer has not acknowledged, the kernel's included: what a write timeout watches.

        Costs a system call. The kernel takes more only when a good part of its own buffer (megabytes) is free: a slow
        peer's progress is seen there long before.
        """
        queued = array("i", [0])
        with contextlib.suppress(OSError):  # gone: its loss is reported elsewhere
            fcntl.ioctl(self._fd, termios.TIOCOUTQ, queued)
        return self._out_size + queued[0]

    def write(self, data: bytes | memoryview) -> None:
        """Send `data`, or keep what the kernel does not take now (copied when it is a view)."""
        if self._closing:
            return
        if self._out:
            self._keep(data)
            return
        try:
            n = self._send(data)
        except _WOULD_BLOCK:
            n = 0
        except OSError as error:
            self._break(error)
            return
        self.sent.value += n
        if n < len(data):
            self._keep(memoryview(data)[n:])

    def write_pieces(self, pieces: list[bytes]) -> None:
        """As `write`, with one system call for several buffers."""
        if self._closing:
            return
        if self._out:
            for piece in pieces:
                self._keep(piece)
            return
        try:
            n = self._sock.sendmsg(pieces[:MAX_PIECES])
        except _WOULD_BLOCK:
            n = 0
        except OSError as error:
            self._break(error)
            return
        self.sent.value += n
        for piece in pieces:
            size = len(piece)
            if n >= size:
                n -= size
            else:
                self._keep(memoryview(piece)[n:])
                n = 0

    def _keep(self, data: bytes | memoryview) -> None:
        if not data:
            return
        if not self._out:
            self._loop.add_writer(self._fd, self._on_writable)
        self._out.append(data if isinstance(data, bytes) else bytes(data))
        self._out_size += len(data)
        if self._out_size > HIGH_WATER and not self._paused_writer:
            self._paused_writer = True
            self.handler.pause_writing()

    def _on_writable(self) -> None:
        out = self._out
        try:
            n = self._sock.sendmsg(list(out)[:MAX_PIECES]) if len(out) > 1 else self._send(out[0])
        except _WOULD_BLOCK:
            return
        except OSError as error:
            self._lose(error)
            return
        self.sent.value += n
        self._out_size -= n
        while n:
            size = len(out[0])
            if n < size:
                out[0] = memoryview(out[0])[n:]
                break
            n -= size
            del out[0]
        if not out:
            self._loop.remove_writer(self._fd)
        if self._paused_writer and self._out_size <= LOW_WATER:
            self._paused_writer = False
            self.handler.resume_writing()
        if self._closing and not self._out and not self.closed:
            self._finish()

    # -- ending ----------------------------------------------------------------------------------------------------

    def close(self, *, linger: bool = True) -> None:
        """Send what is kept, end our direction, discard for a moment what still arrives, then let go of the socket."""
        if self._closing:
            return
        self._closing = True
        self._ended = self._ended or not linger
        if self._out:
            # The handler has said its last word: what remains is bounded, and a peer that takes none of it is left.
            self._last_call = self._loop.call_later(FLUSH, self._flush_or_lose, self.owed)
        else:
            self._finish()

    def _flush_or_lose(self, owed: int) -> None:
        if self.owed == owed:
            self._lose(None)
        else:
            self._last_call = self._loop.call_later(FLUSH, self._flush_or_lose, self.owed)

    def _finish(self) -> None:
        if self._last_call is not None:
            self._last_call.cancel()
        if self._ended:
            self._last_call = None
            self._loop.call_soon(self._lose, None)
            return
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._loop.call_soon(self._lose, error)
            return
        self._lingering = True
        if not self._reading:
            self._reading = True
            self._loop.add_reader(self._fd, self._on_readable)
        self._last_call = self._loop.call_later(LINGER, self._lose, None)

    def abort(self) -> None:
        """Let go of the socket now; what is kept is lost, and the peer sees a message cut short."""
        self._break(None)

    def abort_with(self, error: OSError) -> None:
        """As `abort`, and the handler is told `error`."""
        self._break(error)

    def peer_ended(self) -> None:
        """A layer above saw the peer's end (TLS close_notify) before the socket did."""
        self._ended = True
        self.pause_reading()

    def _break(self, error: OSError | None) -> None:
        """No more bytes in either direction; the handler hears of it from the loop, not from inside its own call."""
        if not self.closed:
            self._closing = True
            self._loop.call_soon(self._lose, error)

    def _lose(self, error: OSError | None) -> None:
        if self.closed:
            return
        self.closed = True
        self._closing = True
        if self._last_call is not None:
            self._last_call.cancel()
            self._last_call = None
        if self._reading:
            self._loop.remove_reader(self._fd)
            self._reading = False
        if self._out:
            self._loop.remove_writer(self._fd)
            self._out.clear()
            self._out_size = 0
        self._hangups.forget(self._fd)
        self._sock.close()
        # Streams and handlers know each other: without this, only a full collection would free them.
        handler, self.handler = self.handler, GONE
        handler.connection_lost(error)
