"""TLS over a `SocketStream`: an `SSLObject` between two memory BIOs, and no large buffer that outlives a call.

It is the socket stream's handler and has the same face towards its own handler, so HTTP does not know which it speaks
over.
"""

import contextlib
import ssl

from mtlsproxy.transport.interfaces import GONE, Handler
from mtlsproxy.transport.stream import RECEIVE_SIZE, SocketStream

RECORD = 16 * 1024
"""A TLS record's plaintext at most (RFC 8446 §5.1)."""

FEED = 32 * 1024
"""Ciphertext handed to OpenSSL at once: a memory BIO keeps the largest size it ever held, so it is never given more."""

MAX_KEY_UPDATES = 1000
"""Of one connection: libraries renew keys after gigabytes, if ever."""

KEY_UPDATE_RECORD = 27
"""Bytes of an answer to one: header, message, content type, tag (RFC 8446 §4.6.3, §5.2)."""

MAX_FRUITLESS = 64 * 1024
"""Bytes of ciphertext between two pieces of plaintext: a record has 16 KiB and a little. KeyUpdates that ask for no
answer and empty records give none, and each costs new keys or a call."""

_plain = bytearray(RECEIVE_SIZE)
_plain_view = memoryview(_plain)


class TlsStream:
    """An established TLS connection; `handler` gets plaintext."""

    __slots__ = (
        "_closing",
        "_error",
        "_fruitless",
        "_incoming",
        "_key_updates",
        "_outgoing",
        "_raw",
        "_read",
        "_write",
        "cut_off",
        "handler",
        "ssl_object",
    )

    def __init__(
        self, raw: SocketStream, ssl_object: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO
    ) -> None:
        self._raw = raw
        self.ssl_object = ssl_object
        self._read = ssl_object.read
        self._write = ssl_object.write
        self._incoming = incoming
        self._outgoing = outgoing
        self._closing = False
        self._key_updates = 0
        self._error: ssl.SSLError | None = None
        self._fruitless = 0
        self.cut_off = False
        self.handler: Handler

    def start(self, handler: Handler) -> None:
        """Take the socket stream over; what the peer sent behind its Finished is delivered at once."""
        self.handler = handler
        self._raw.handler = self
        self._raw.resume_reading()
        if self._incoming.pending:
            self._decrypt(self._incoming.pending)

    # -- what the socket stream says -------------------------------------------------------------------------------

    def data_received(self, data: memoryview) -> None:
        write = self._incoming.write
        size = len(data)
        if size <= FEED:
            write(data)
            self._decrypt(size)
            return
        for start in range(0, size, FEED):
            write(data[start : start + FEED])
            self._decrypt(min(FEED, size - start))
            if self._closing:
                return

    def _decrypt(self, size: int) -> None:
        """size: bytes of ciphertext that have come."""
        filled = 0
        ended = False
        read, incoming = self._read, self._incoming
        try:
            while True:
                n = read(RECEIVE_SIZE - filled, _plain_view[filled:] if filled else _plain)
                if not n:
                    ended = True  # close_notify
                    break
                filled += n  # type: ignore[operator]
                if not incoming.pending:
                    break
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            # The peer's alert, say: a reset behind it would be the lesser news. Its traceback leads back here.
            self._error = error.with_traceback(None)
            if self._outgoing.pending:
                self._raw.write(self._outgoing.read())  # the alert that says why
            self._closing = True
            self._raw.abort_with(error)
            return
        if self._outgoing.pending:
            self._answer_key_update()
        if filled:
            self._fruitless = 0
            self.handler.data_received(_plain_view[:filled])
        elif not ended:
            self._bear(size)
        if ended and not self._closing:
            self._raw.peer_ended()
            self.handler.eof_received()

    def _answer_key_update(self) -> None:
        """RFC 8446 §4.6.3. A peer that asks for answers and does not take them is not kept."""
        answers = self._outgoing.read()
        self._raw.write(answers)
        self._key_updates += -(-len(answers) // KEY_UPDATE_RECORD)  # many come at once: one answer each
        if self._key_updates > MAX_KEY_UPDATES:
            self._closing = True
            self._raw.abort_with(ConnectionAbortedError("too many KeyUpdates"))

    def _bear(self, size: int) -> None:
        """Nothing came of these bytes: the beginning of a record, or what carries nothing."""
        self._fruitless += size
        if self._fruitless > MAX_FRUITLESS and not self._closing:
            self._closing = True
            self._raw.abort_with(ConnectionAbortedError("too many TLS records that carry nothing"))

    def eof_received(self) -> None:
        # No close_notify came: the framing above decides whether the message was whole. What only the end would have
        # told may be cut short by anybody on the way (RFC 8446 §6.1).
        self.cut_off = True
        self.handler.eof_received()

    def pause_writing(self) -> None:
        self.handler.pause_writing()

    def resume_writing(self) -> None:
        self.handler.resume_writing()

    def connection_lost(self, error: OSError | None) -> None:
        self._closing = True
        handler, self.handler = self.handler, GONE
        handler.connection_lost(self._error or error)

    # -- what the handler says -------------------------------------------------------------------------------------

    def write(self, data: bytes | memoryview) -> None:
        if self._closing:
            return
        size = len(data)
        try:
            if size <= RECORD:
                if size:
                    self._write(data)
                    self._raw.write(self._outgoing.read())
                return
            view = memoryview(data)
            pieces = []
            for start in range(0, size, RECORD):
                self._write(view[start : start + RECORD])
                pieces.append(self._outgoing.read())
        except ssl.SSLError as error:
            self._closing = True
            self._raw.abort_with(error)
            return
        self._raw.write_pieces(pieces)

    def resume_reading(self) -> None:
        self._raw.resume_reading()

    def pause_reading(self) -> None:
        self._raw.pause_reading()

    @property
    def has_news(self) -> bool:
        return self._raw.has_news

    @property
    def unsent(self) -> int:
        return self._raw.unsent

    @property
    def owed(self) -> int:
        return self._raw.owed

    @property
    def closed(self) -> bool:
        return self._raw.closed

    def close(self, *, linger: bool = True) -> None:
        """Send close_notify behind what is kept, then close (RFC 8446 §6.1)."""
        if self._closing:
            return
        self._closing = True
        with contextlib.suppress(ssl.SSLError):  # WantRead: the peer's close_notify need not be awaited
            self.ssl_object.unwrap()
        self._raw.write(self._outgoing.read())
        self._raw.close(linger=linger)

    def abort_before_start(self) -> None:
        """End a connection that no handler has taken."""
        self.handler = GONE
        self._raw.handler = self
        self.abort()

    def abort(self) -> None:
        """End without close_notify: the peer sees that the message was cut short."""
        self._closing = True
        self._raw.abort()
