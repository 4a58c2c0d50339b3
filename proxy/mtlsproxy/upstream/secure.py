"""TLS towards a server: a handshake with our own judgement behind OpenSSL's, before a byte of a request is written."""

import asyncio
import logging
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic, time

from mtlsproxy.reasons import Reason
from mtlsproxy.tls.capture import presented_chain
from mtlsproxy.tls.client_context import ClientContext
from mtlsproxy.tls.failures import detail_of
from mtlsproxy.tls.stream import TlsStream
from mtlsproxy.transport.interfaces import GONE
from mtlsproxy.transport.stream import SocketStream
from mtlsproxy.transport.wheel import TimerWheel
from mtlsproxy.verdict.judge import Wanted
from mtlsproxy.verdict.server import ServerVerdict, describe, judge_server
from mtlsproxy.verdict.trust import Trust

Resolve = Callable[[tuple[Wanted, ...], Callable[[], None]], None]
"""Fetches what a verdict wants, then calls back. Never from inside the call."""

MAX_REMEMBERED = 64
"""Acceptances kept of an upstream: a few servers, each with a certificate or two."""

SAY_AGAIN = 60.0
"""Seconds after which a certificate that is refused again is logged again."""

log = logging.getLogger(__name__)


class UpstreamTls:
    """What the servers of one upstream have to prove. `adopt` replaces it while connections live."""

    __slots__ = ("_remembered", "_said", "context", "name", "resolve", "trust")

    def __init__(self, name: str, context: ClientContext, trust: Trust, resolve: Resolve) -> None:
        """name: the upstream's. resolve: see Resolve."""
        self.name = name
        self.context = context
        self.trust = trust
        self.resolve = resolve
        self._remembered: dict[tuple[tuple[bytes, ...], str], ServerVerdict] = {}
        self._said: dict[tuple[str, str], float] = {}

    def adopt(self, context: ClientContext, trust: Trust) -> None:
        """From now on these; a context for the same settings does not replace one that connections were made with."""
        if context.settings != self.context.settings:
            self.context = context
        if trust is not self.trust:
            self.trust = trust
            self._remembered.clear()

    def judge(self, presented: tuple[bytes, ...], name: str) -> ServerVerdict:
        """By what is known now."""
        now = datetime.now(UTC)
        known = self._remembered.get((presented, name))
        if known is not None and known.deadline is not None and now < known.deadline:
            return known
        verdict = judge_server(presented, self.trust, name, now)
        if verdict.deadline is not None:
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[presented, name] = verdict
        return verdict

    def say(self, url: str, verdict: ServerVerdict) -> None:
        """Log what a server presents, once, and what is refused of it, once a minute."""
        leaf, failed = verdict.leaf, verdict.failed
        key = (url, f"{leaf.fingerprint_sha256 if leaf else ''} {failed.name if failed else ''}")
        now = monotonic()
        said = self._said.get(key)
        if said is not None and (failed is None or now < said + SAY_AGAIN):
            return
        if len(self._said) >= MAX_REMEMBERED:
            self._said.clear()
        self._said[key] = now
        if failed is not None:
            log.warning("upstream %s, %s: %s; to mend it: %s", self.name, url, verdict.detail, failed.fix)
        elif leaf is not None:
            until = f"{leaf.not_after:%Y-%m-%d}"
            log.info("upstream %s, %s: verified until %s: %s", self.name, url, until, describe(leaf))


class SecureServer:
    """One server: what it has to be called. Begins its handshakes (upstream.connect.Secure)."""

    __slots__ = ("name", "upstream", "url")

    def __init__(self, upstream: UpstreamTls, url: str, name: str) -> None:
        """name: see x509.hostname.check_server_name. url: for the log."""
        self.upstream = upstream
        self.url = url
        self.name = name

    def start(
        self,
        loop: asyncio.AbstractEventLoop,
        wheel: TimerWheel,
        raw: SocketStream,
        connected: Callable[["SecureStream"], None],
        failed: Callable[[Reason, str], None],
    ) -> "Securing":
        """Shake hands over `raw`; one of the two is called, from the loop. Time is the caller's: it cancels."""
        securing = Securing(self, raw, connected, failed)
        raw.handler = securing
        loop.call_soon(securing.begin)
        return securing


class SecureStream(TlsStream):
    """A connection to a server that has proved what it is, as of `trust`, which `has_news` holds against what is known
    when the connection is used again."""

    __slots__ = ("_asking", "_context", "_deadline", "_lacking", "_presented", "_server", "_trust")

    def __init__(
        self,
        raw: SocketStream,
        tls: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server: SecureServer,
        context: ClientContext,
        presented: tuple[bytes, ...],
        deadline: datetime,
        *,
        lacking: bool,
    ) -> None:
        """lacking: whether the server has asked for a certificate of ours, and there is none."""
        super().__init__(raw, tls, incoming, outgoing)
        self._server = server
        self._context = context
        self._trust = server.upstream.trust
        self._presented = presented
        self._deadline = deadline.timestamp()
        self._lacking = lacking
        self._asking = False

    @property
    def has_news(self) -> bool:
        """Whether it is fit for no further request: something waits to be read, or its server is trusted no more."""
        return super().has_news or self.distrusted

    @property
    def distrusted(self) -> bool:
        """Whether another connection would be made otherwise now, or not at all."""
        upstream = self._server.upstream
        if self._context is not upstream.context:
            return True  # other anchors, or another certificate of ours
        if self._trust is upstream.trust and time() < self._deadline:
            return False
        verdict = upstream.judge(self._presented, self._server.name)
        if verdict.deadline is None:  # refused, or not known: then a new connection waits for the answer
            upstream.say(self._server.url, verdict)
            return True
        self._trust, self._deadline = upstream.trust, verdict.deadline.timestamp()
        return False

    def review(self, server: SecureServer, refused: Callable[[str], None]) -> None:
        """For a connection that one request keeps: is its server still trusted? To be asked again and again; `refused`
        is told why, from inside the call, when it no longer is. server: what it has to be now (after a reload).

        Other than for `distrusted`, another certificate of ours is no reason: this one was good when it was shown.
        """
        upstream = server.upstream
        if (server is self._server and self._trust is upstream.trust and time() < self._deadline) or self._asking:
            return
        verdict = upstream.judge(self._presented, server.name)
        if verdict.wanted:
            self._asking = True
            upstream.resolve(verdict.wanted, self._on_answer)
            return
        if verdict.deadline is None:
            upstream.say(server.url, verdict)
            refused(verdict.detail)
            return
        self._server, self._trust, self._deadline = server, upstream.trust, verdict.deadline.timestamp()

    def _on_answer(self) -> None:
        self._asking = False

    def connection_lost(self, error: OSError | None) -> None:
        said, self._error = self._error, None
        if said is not None or (error is not None and self._lacking):
            # TLS 1.3 servers say only after the handshake what they think of our certificate (RFC 8446 §4.4.2.4).
            words = detail_of(said) if said is not None else error
            error = ConnectionAbortedError(f"{words}{_hint(said, lacking=self._lacking)}")
        super().connection_lost(error)


class Securing:
    """One handshake: the socket stream's handler until the server is verified."""

    __slots__ = (
        "_asked",
        "_connected",
        "_context",
        "_done",
        "_failed",
        "_incoming",
        "_outgoing",
        "_presented",
        "_raw",
        "_server",
        "_tls",
    )

    def __init__(
        self,
        server: SecureServer,
        raw: SocketStream,
        connected: Callable[[SecureStream], None],
        failed: Callable[[Reason, str], None],
    ) -> None:
        self._server = server
        self._raw = raw
        self._connected = connected
        self._failed = failed
        self._context = server.upstream.context
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject = self._context.wrap(self._incoming, self._outgoing, server.name)
        self._presented: tuple[bytes, ...] = ()
        self._asked = False
        self._done = False

    def begin(self) -> None:
        if not self._done:
            self._raw.resume_reading()
            self._step()

    def cancel(self) -> None:
        """Give up without calling anybody."""
        if not self._done:
            self._end()
            self._raw.abort()

    # -- what the socket stream says -------------------------------------------------------------------------------

    def data_received(self, data: memoryview) -> None:
        if not self._done:
            self._incoming.write(data)
            self._step()

    def eof_received(self) -> None:
        self._fail("the server closed the connection during the TLS handshake")

    def pause_writing(self) -> None:
        """A handshake's flight is a few KiB: there is nothing to hold back."""

    def resume_writing(self) -> None:
        """See pause_writing."""

    def connection_lost(self, error: OSError | None) -> None:
        words = error.strerror or str(error) if error is not None else "it was reset"
        self._fail(f"the connection broke during the TLS handshake: {words}")

    # -- TLS -------------------------------------------------------------------------------------------------------

    def _step(self) -> None:
        context = self._context
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._note(context)
            self._raw.write(self._outgoing.read())
        except ssl.SSLError as error:
            self._note(context)
            self._raw.write(self._outgoing.read())  # the alert
            self._fail(self._why(error))
        else:
            self._note(context)
            self._raw.write(self._outgoing.read())
            self._raw.pause_reading()  # until somebody is there to take what comes
            self._tls.context = context.twin
            self._presented = presented_chain(self._tls)
            self._judge()

    def _note(self, context: ClientContext) -> None:
        """What this step showed of the server; the next step may be another handshake's."""
        shown = context.presented
        self._presented = shown.take() or self._presented
        self._asked, shown.asked = self._asked or shown.asked, False

    def _judge(self) -> None:
        """OpenSSL found nothing wrong; now our own gate, as often as its answers are still on their way."""
        if self._done:
            return
        server = self._server
        verdict = server.upstream.judge(self._presented, server.name)
        if verdict.wanted:
            server.upstream.resolve(verdict.wanted, self._judge)
            return
        server.upstream.say(server.url, verdict)
        if verdict.failed is not None or verdict.deadline is None:
            self._fail(verdict.detail)
            return
        connected = self._connected
        self._end()
        stream = SecureStream(
            self._raw,
            self._tls,
            self._incoming,
            self._outgoing,
            server,
            self._context,
            self._presented,
            verdict.deadline,
            lacking=self._lacking,
        )
        connected(stream)

    def _why(self, error: ssl.SSLError) -> str:
        """What OpenSSL ended the handshake for, in our own words where it is the server's certificate."""
        if isinstance(error, ssl.SSLCertVerificationError):
            server = self._server
            verdict = server.upstream.judge(self._presented, server.name) if self._presented else None
            if verdict is not None and verdict.failed is not None:
                server.upstream.say(server.url, verdict)
                return f"{verdict.detail} ({detail_of(error)})"
            return f"the server's certificate is not accepted: {detail_of(error)}"
        return f"TLS with the server failed: {detail_of(error)}{_hint(error, lacking=self._lacking)}"

    @property
    def _lacking(self) -> bool:
        return self._asked and self._context.settings.credential is None

    def _fail(self, detail: str) -> None:
        if self._done:
            return
        failed = self._failed
        self._end()
        self._raw.close(linger=False)
        failed(Reason.UPSTREAM_ERROR, detail)

    def _end(self) -> None:
        """Whoever waits knows this handshake, and so does the socket: they would keep each other."""
        self._done = True
        self._connected, self._failed = _nobody, _no_reason
        if not self._raw.closed:
            self._raw.handler = GONE


def _nobody(_: SecureStream) -> None:
    """Whom a handshake that has ended tells."""


def _no_reason(_: Reason, __: str) -> None:
    """Whom it tells why."""


def _hint(error: ssl.SSLError | None, *, lacking: bool) -> str:
    """How to mend what ended a connection; "" where nobody knows. lacking: see SecureStream."""
    if lacking:
        return " (the server asked for a client certificate, and there is none: tls.certificate)"
    reason = (error and error.reason) or ""
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"):
        return " (does it speak TLS on this port? A server without it has an http:// URL)"
    if "CERTIFICATE" in reason or "UNKNOWN_CA" in reason or reason == "SSLV3_ALERT_HANDSHAKE_FAILURE":
        return " (does the server accept the certificate in tls.certificate?)"
    return ""
