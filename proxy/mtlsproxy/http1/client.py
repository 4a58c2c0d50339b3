"""A client's connection apart from what is asked on it: who it is, whether it may stay, and how it ends."""

from abc import ABC, abstractmethod

from mtlsproxy.http1.exchange import Exchange
from mtlsproxy.http1.gate import Refusal, ServedHosts, judge_request
from mtlsproxy.http1.origin import Origin
from mtlsproxy.http1.record import Recorder
from mtlsproxy.http1.refuser import Refuser
from mtlsproxy.http1.service import Service
from mtlsproxy.http1.standing import Standing
from mtlsproxy.http1.tunnel import Tunnel
from mtlsproxy.http1.visitor import Admission, Visitor
from mtlsproxy.reasons import Reason
from mtlsproxy.tls.acceptor import Established
from mtlsproxy.transport.wheel import Timer

DRAIN_GRACE = 0.5
"""Seconds that an idle connection stays when its listener ends: closing it at once would cut off requests that are on
their way, and clients cannot tell whether those were heard."""

LAST_ANSWER = 10.0
"""Seconds that an answer under way has left once its client may be here no longer: one that never ends (server-sent
events, a download) would outlive the revocation."""


class ClientConnection(ABC):
    """What holds whatever protocol the client speaks: its standing, how fast it takes its answers, its end."""

    __slots__ = (
        "_exchange", "_known", "_last_timer", "_owed", "_peer_ended", "_refuser", "_served", "_service", "_standing",
        "_stream", "_timer", "_tunnel", "_write_timer", "_writing_paused", "ending", "established", "idle_since",
        "recorder",
    )  # fmt: skip

    def __init__(self, service: Service, established: Established, visitor: Visitor) -> None:
        self._service = service
        self.established = established
        self.recorder = Recorder(service, established, visitor)
        self._standing = Standing(service, established.presented, visitor, self.recorder, self._answered)
        self._stream = established.stream
        self._known = visitor.known  # as it arrived: whatever it is judged later, this is who leaves
        self._refuser = Refuser(established.stream, self.recorder)
        self._served = ServedHosts(established.context)
        self._exchange: Exchange | None = None
        self._tunnel: Tunnel | None = None
        self._peer_ended = False
        self.ending = False
        self.idle_since = service.wheel.now
        self._timer = service.wheel.timer(self._timed_out)
        self._write_timer = service.wheel.timer(self._write_stalled)
        self._last_timer: Timer | None = None
        self._writing_paused = False
        self._owed = 0

    # -- what the protocol does ------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def is_idle(self) -> bool:
        """Between requests, with nothing of the next one."""

    @abstractmethod
    def connection_lost(self, error: OSError | None) -> None: ...

    @abstractmethod
    def _timed_out(self) -> None: ...

    @abstractmethod
    def _judge_again(self) -> bool:
        """False: the verdict has to wait for an answer."""

    @abstractmethod
    def _answered(self) -> None:
        """What the verdict wanted has been asked for."""

    @abstractmethod
    def _go_on(self) -> None:
        """Read again, and take up the requests that wait."""

    @abstractmethod
    def _take_ahead(self) -> bytes:
        """What the client sent behind the request under way; there will be no further requests."""

    @abstractmethod
    def _abandon(self, reason: Reason, detail: str) -> None:
        """The request under way goes no further."""

    def _stop(self) -> None:
        self.ending = True
        self._timer.stop()
        self._stream.close()

    def _lost(self, error: OSError | None) -> None:
        """The stream is gone."""
        self._timer.close()
        self._write_timer.close()
        if self._last_timer is not None:
            self._last_timer.close()
        self._service.connections.discard(self)
        self._standing.close()
        self._refuser.client()  # who never asked for anything has not been told
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.abandon()
            self._service.in_flight.value -= 1
            detail = f"the client left: {error}" if error else "the client left before its answer was whole"
            self.recorder.aborted(exchange, detail)
        if self._known is not None:
            self._service.clients.left(self._known)
        self._service.released(self.established.counted_for)

    # -- whether it may stay -------------------------------------------------------------------------------------------

    @property
    def visitor(self) -> Visitor:
        """The client, as it was last judged."""
        return self._standing.visitor

    def has_run_out(self, now: float) -> bool:
        """Whether the verdict's deadline has passed. now: Unix seconds."""
        return self._standing.ran_out(now)

    def verdict_ran_out(self) -> None:
        """A certificate or a revocation list has ended: who no longer passes is let go after the answer under way."""
        if self._judge_again():
            self._let_go_when_refused()

    def _let_go_when_refused(self) -> None:
        if self.ending:
            return
        found = self._judgement_of_now()
        if not isinstance(found, Refusal):
            if self._tunnel is not None and found is not None:
                self._tunnel.belongs_to(found.target.upstream.servers)
            return
        refusal = found
        if self._tunnel is not None:
            self._refuser.told = True
            self._tunnel.end(refusal.reason, refusal.detail)
        elif self._exchange is None:
            self._refuser.client()
            self._stop()
        else:
            self._refuser.client()
            self.ending = True
            self._last_timer = self._service.wheel.timer(self._last_answer_is_over)
            self._last_timer.start(LAST_ANSWER)

    def _judgement_of_now(self) -> Refusal | Admission | None:
        """Why the client may be here no longer, or have the answer under way; None where there is none."""
        standing, exchange = self._standing, self._exchange
        verdict = standing.visitor.verdict
        if verdict.reason is not None:
            return Refusal(verdict.reason, verdict.detail)
        if exchange is None:
            return None
        return judge_request(exchange.head, standing.visitor, standing.rules, self._served, 0)

    def _last_answer_is_over(self) -> None:
        if self._exchange is None:
            return
        refusal = self._judgement_of_now()
        if not isinstance(refusal, Refusal):
            self.ending = False  # it passes again: its answer may end in peace, unless that changes once more
            return
        if self._tunnel is not None:
            self._refuser.told = True
            self._tunnel.end(refusal.reason, refusal.detail)
        else:
            self._abandon(refusal.reason, refusal.detail)

    def trust_changed(self) -> None:
        """A new Snapshot is in force. Between requests this is seen at once, within one at the next."""
        if self._standing.is_over:
            self.verdict_ran_out()

    # -- a WebSocket ---------------------------------------------------------------------------------------------------

    def switched(self, exchange: Exchange, origin: Origin, early: bytes) -> None:
        """The upstream has agreed to a WebSocket. early: what it sent behind its answer."""
        ahead = self._take_ahead()
        self._timer.stop()
        self._write_timer.stop()
        service = self._service
        idle = exchange.admission.target.tunnel_idle or service.timeouts.idle
        tunnel = self._tunnel = Tunnel(service.wheel, self, self._stream, origin, idle, service.timeouts.write)
        service.tunnels.add(tunnel)
        tunnel.start(ahead, early, client_slow=self._writing_paused)
        if self._peer_ended:
            tunnel.end()
        elif self.ending:  # refused while the upstream made up its mind
            self._last_answer_is_over()

    def tunnel_ended(self, reason: Reason | None, detail: str) -> None:
        """Both its ends are being closed."""
        exchange, tunnel = self._exchange, self._tunnel
        assert exchange is not None
        assert tunnel is not None
        self._exchange = self._tunnel = None
        self._service.tunnels.discard(tunnel)
        self.ending = True
        self._service.in_flight.value -= 1
        exchange.request_bytes, exchange.response_bytes = tunnel.from_client, tunnel.from_upstream
        if reason is None:
            self.recorder.answered(exchange)
        else:
            exchange.reason, exchange.detail = reason, detail
            self.recorder.failed(exchange)

    # -- writing -------------------------------------------------------------------------------------------------------

    def write(self, data: bytes | memoryview) -> None:
        self._stream.write(data)

    def pause_writing(self) -> None:
        self._writing_paused = True
        self._owed = self._stream.owed
        self._write_timer.start(self._service.timeouts.write)
        if self._exchange is not None:
            self._exchange.client_slow()

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._write_timer.stop()
        if self._exchange is not None:
            self._exchange.client_ready()
        elif not self.ending:
            self._go_on()

    def _write_stalled(self) -> None:
        if (owed := self._stream.owed) != self._owed:
            self._owed = owed
            self._write_timer.start(self._service.timeouts.write)
        elif self._exchange is not None:
            self._abandon(
                Reason.REQUEST_TIMEOUT,
                f"the client stopped reading its answer for {self._service.timeouts.write:g}s (timeouts.write)",
            )
        else:
            self.ending = True
            self._stream.abort()

    # -- ending --------------------------------------------------------------------------------------------------------

    @property
    def closes_next(self) -> bool:
        """Whether the answer under way is to be the last."""
        return self.ending or self._service.draining

    def drain(self) -> None:
        """The listener is to end: after the answer under way; a client between two requests gets a moment for one that
        is on its way already, and is then told. One within a request's headers has their time."""
        if self.is_idle and not self._standing.asking:
            self._timer.start(DRAIN_GRACE)

    def make_room(self) -> None:
        """End an idle connection at once: nothing is unread, and its place is wanted now."""
        self.ending = True
        self._timer.stop()
        self._stream.close(linger=False)

    def kill(self) -> None:
        """End now, whatever is under way: what is not whole is seen to be cut short."""
        if self._tunnel is not None:
            self._tunnel.end()
            return
        if self.is_idle:
            self._stop()
            return
        exchange = self._exchange
        if exchange is not None:  # it is not to look as if the client had left
            sent = exchange.request_sent
            reason = Reason.UPSTREAM_TIMEOUT if sent else Reason.REQUEST_TIMEOUT
            what = "answer" if sent else "request"
            self._abandon(reason, f"the proxy stopped before the {what} was whole (shutdown.drain)")
            return
        self.ending = True
        self._stream.abort()
