"""One connection from accept to the end of its handshake: PROXY header, ClientHello, a slot, TLS; why it fails."""

import ssl
import time
from typing import TYPE_CHECKING

from mtlsproxy.reasons import Reason
from mtlsproxy.tls.capture import presented_chain
from mtlsproxy.tls.client_hello import MAX_CLIENT_HELLO, MAX_RECORDS, BadClientHello, ClientHello, parse_client_hello
from mtlsproxy.tls.contexts import ServerContext
from mtlsproxy.tls.failures import detail_of, reason_of
from mtlsproxy.tls.proxy_header import BadProxyHeader, Parse
from mtlsproxy.tls.stream import TlsStream
from mtlsproxy.transport.stream import SocketStream

if TYPE_CHECKING:
    from mtlsproxy.tls.acceptor import Acceptor

_MAX_HELLO_BYTES = MAX_CLIENT_HELLO + 5 * MAX_RECORDS
"""On the wire, record headers included; more is not even looked at."""

LAST_HELLO = 0.5
"""Seconds for a ClientHello that is on its way when the listener ends."""

_ALERT_RECORD = b"\x15\x03\x01\x00\x02\x02"
_ALERT_DECODE_ERROR = _ALERT_RECORD + b"\x32"


class Handshake:
    """The socket stream's handler until TLS stands; then a `TlsStream` takes its place."""

    __slots__ = (
        "_acceptor",
        "_began",
        "_context",
        "_done",
        "_hello_bytes",
        "_incoming",
        "_object",
        "_outgoing",
        "_own_of_sender",
        "_parse_header",
        "_raw",
        "_seen",
        "_timer",
        "_version",
        "address",
        "counted_for",
        "hello",
    )

    def __init__(
        self,
        acceptor: "Acceptor",
        raw: SocketStream,
        address: tuple[str, int],
        counted_for: str | None,
        parse_header: Parse | None = None,
    ) -> None:
        """parse_header: of the PROXY header that has to come first, whose address then replaces the socket's."""
        self._acceptor = acceptor
        self._raw = raw
        self.address = address
        self.counted_for = counted_for
        self._parse_header = parse_header
        self._own_of_sender = False
        self.hello: ClientHello | None = None
        self._hello_bytes = b""
        self._context: ServerContext | None = None
        self._object: ssl.SSLObject | None = None
        self._incoming: ssl.MemoryBIO
        self._outgoing: ssl.MemoryBIO
        self._seen: tuple[bytes, ...] = ()
        self._version: str | None = None
        self._done = False
        self._began = time.perf_counter()
        self._timer = acceptor.wheel.timer(self._timed_out)

    def start(self) -> None:
        self._raw.handler = self
        self._acceptor.handshakes.add(self)
        self._timer.start(self._acceptor.settings.client_hello_timeout)
        self._raw.resume_reading()

    # -- what the socket stream says -------------------------------------------------------------------------------

    def data_received(self, data: memoryview) -> None:
        if self._done:
            return
        if self._object is not None:
            self._incoming.write(data)
            self._step()
        elif self._parse_header is not None:
            self._read_header(self._parse_header, bytes(data))
        else:
            self._read_hello(bytes(data))

    def eof_received(self) -> None:
        self._left("the client closed the connection during the handshake")

    def pause_writing(self) -> None:
        """A handshake's flight is a few KiB: there is nothing to hold back."""

    def resume_writing(self) -> None:
        """See pause_writing."""

    def connection_lost(self, error: OSError | None) -> None:
        self._left(str(error) if error else "the connection was reset during the handshake")
        self._timer.close()
        self._object = None
        self._acceptor.released(self.counted_for)

    # -- PROXY header ----------------------------------------------------------------------------------------------

    def _read_header(self, parse: Parse, data: bytes) -> None:
        self._hello_bytes += data
        try:
            header = parse(self._hello_bytes)
        except BadProxyHeader as error:
            self._fail(Reason.PROTOCOL_ERROR, error.detail)
            return
        if header is None:
            return
        self._parse_header = None
        rest, self._hello_bytes = self._hello_bytes[header.size :], b""
        if header.source is None or header.source == self.address:
            self._own_of_sender = True
        else:
            self.address = header.source
            if detail := self._acceptor.count(self.address[0]):
                self._fail(Reason.TOO_MANY_CONNECTIONS, detail)
                return
            self.counted_for = self.address[0]
        if rest:
            self._read_hello(rest)

    # -- ClientHello -----------------------------------------------------------------------------------------------

    def _read_hello(self, data: bytes) -> None:
        self._hello_bytes += data
        try:
            if len(self._hello_bytes) > _MAX_HELLO_BYTES:
                raise BadClientHello("the ClientHello is too large")
            hello = parse_client_hello(self._hello_bytes)
        except BadClientHello as error:
            self._raw.write(_ALERT_DECODE_ERROR)
            self._fail(Reason.PROTOCOL_ERROR, error.detail)
            return
        if hello is None:
            return
        self.hello = hello
        self._began = time.perf_counter()
        self._timer.start(self._acceptor.settings.handshake_timeout)
        if self._acceptor.slots.take(self):
            self.begin()
        else:
            self._raw.pause_reading()

    def begin(self) -> None:
        """A handshake slot is ours: start TLS with the context that the ClientHello asks for."""
        if self._done:
            return
        assert self.hello is not None
        self._acceptor.slots.used(self)
        self._context = self._acceptor.contexts.choose(self.hello.server_name)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = self._context.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._incoming.write(self._hello_bytes)
        self._hello_bytes = b""
        self._raw.resume_reading()
        self._step()

    # -- TLS -------------------------------------------------------------------------------------------------------

    def _step(self) -> None:
        assert self._object is not None
        assert self._context is not None
        assert self.hello is not None
        context = self._context
        context.expect_name(self.hello.server_name)
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            self._note(context)
            if self._outgoing.pending:  # bytes that take it no step further are no reason to keep a slot
                self._acceptor.slots.used(self)
                self._raw.write(self._outgoing.read())
        except ssl.SSLError as error:
            self._note(context)
            self._raw.write(self._outgoing.read())  # the alert
            self._fail(reason_of(error), detail_of(error))
        else:
            context.presented.take()
            self._raw.write(self._outgoing.read())
            self._finish(self._object, context)

    def _note(self, context: ServerContext) -> None:
        """What this step showed of the client; the next step may be another handshake's."""
        context.presented.agreed = None
        self._seen = context.presented.take() or self._seen
        self._version = context.presented.agreed or self._version

    def _finish(self, tls: ssl.SSLObject, context: ServerContext) -> None:
        if tls.session_reused and not context.resumable:
            self._fail(Reason.PROTOCOL_ERROR, "a session was resumed although resumption is off")
            return
        self._leave()
        tls.context = context.twin  # without the message callback, which costs at every record
        seconds = time.perf_counter() - self._began
        stream = TlsStream(self._raw, tls, self._incoming, self._outgoing)
        self._acceptor.established(self, stream, context, presented_chain(tls), seconds)

    def hurry(self) -> None:
        """The listener has ended: who is silent until now is not waited for as long as others."""
        if self.hello is None:
            self._timer.start(min(LAST_HELLO, self._acceptor.settings.client_hello_timeout))

    def cut_off(self) -> None:
        """The proxy ends now."""
        self._fail(Reason.HANDSHAKE_TIMEOUT, "the handshake was not complete when the proxy stopped", linger=False)

    def give_way(self) -> None:
        """Others wait for a slot, and this client has been silent longest."""
        self._fail(Reason.HANDSHAKE_TIMEOUT, "the client was silent while others waited to shake hands", linger=False)

    def _timed_out(self) -> None:
        what = "PROXY header" if self._parse_header else "ClientHello" if self.hello is None else "handshake"
        self._fail(Reason.HANDSHAKE_TIMEOUT, f"the {what} was not complete in time", linger=False)

    def _left(self, detail: str) -> None:
        if self._own_of_sender and self.hello is None and not self._hello_bytes and not self._done:
            # A load balancer's own connection (§2.1: its own addresses; §2.2: LOCAL) that ends without a word: its
            # health check, and no client.
            self._leave()
            self._raw.close()
        else:
            self._fail(Reason.CLIENT_ABORTED, detail)

    def _fail(self, reason: Reason, detail: str, *, linger: bool = True) -> None:
        """linger: an alert has been sent, which no reset must destroy; who was silent is let go at once."""
        if self._done:
            return
        self._leave()
        seconds = time.perf_counter() - self._began if self.hello is not None else None
        self._acceptor.failed(self, reason, detail, self._seen, self._version, seconds)
        self._raw.close(linger=linger)

    def _leave(self) -> None:
        self._done = True
        self._acceptor.handshakes.discard(self)
        self._timer.close()
        self._hello_bytes = b""
        self._acceptor.slots.leave(self)
