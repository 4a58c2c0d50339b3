"""One listener: its acceptor, its connections, and what is said of handshakes that fail."""

import asyncio
import dataclasses
import functools
import heapq
import logging
import socket
import time
from collections.abc import Callable

from mtlsproxy.config.model import Listener
from mtlsproxy.config.networks import Networks
from mtlsproxy.http1.client import ClientConnection
from mtlsproxy.http1.downstream import Downstream
from mtlsproxy.http1.request_head import HeadLimits
from mtlsproxy.http1.service import Resolve, Service, Timeouts
from mtlsproxy.http1.visitor import Visitor
from mtlsproxy.identity.client import client_of, principal_of
from mtlsproxy.reasons import Reason
from mtlsproxy.runtime.chains import Chains
from mtlsproxy.runtime.snapshot import ListenerSnapshot
from mtlsproxy.telemetry.access_log import AccessEntry, AccessLog, connection_fragment, shortened, shortened_list
from mtlsproxy.telemetry.clients import Clients, KnownClient
from mtlsproxy.telemetry.families import Cell
from mtlsproxy.telemetry.metrics import Metrics
from mtlsproxy.telemetry.refusals import RefusalLog
from mtlsproxy.tls.acceptor import Acceptor, AcceptorSettings, Established, FailedHandshake
from mtlsproxy.tls.proxy_header import PARSERS, ProxyHeaderRule
from mtlsproxy.tls.stream import TlsStream
from mtlsproxy.transport.wheel import TimerWheel
from mtlsproxy.verdict.judge import Verdict
from mtlsproxy.x509.certificate import Certificate, MalformedCertificate, parse_certificate, serial_hex

SWEEP = 1.0
"""Seconds between looks at connections whose verdict has run out: an idle one asks for nothing that would show it."""

_JUDGED_AT_ONCE = 32
"""Connections judged again in one turn of the loop: some ten milliseconds when every client is another."""

_IDLE_CANDIDATES = 64
"""Idle connections found in one scan at the limit: the scan's cost is shared by as many new connections."""

_MAX_VISITORS = 4096

_JUDGED_BY_OPENSSL = frozenset(
    {
        Reason.UNTRUSTED_ISSUER, Reason.EXPIRED, Reason.NOT_YET_VALID, Reason.BAD_SIGNATURE, Reason.PATH_LENGTH,
        Reason.NAME_CONSTRAINT, Reason.CHAIN_TOO_LONG, Reason.NOT_A_CA, Reason.EKU_MISMATCH, Reason.WEAK_KEY,
        Reason.WEAK_SIGNATURE, Reason.MALFORMED_CERTIFICATE, Reason.REVOKED,
    }
)  # fmt: skip
"""Failures of the certificate itself: our own validator says more precisely what is wrong with it."""

_REVOCATION_RESULTS = {
    Reason.REVOKED: "revoked",
    Reason.DENIED: "revoked",
    Reason.REVOCATION_UNKNOWN: "unknown",
}

ShareChain = Callable[[str, tuple[bytes, ...]], None]
"""Of a listener's name, and a chain as DER, leaf first."""

log = logging.getLogger(__name__)


class ListenerRuntime:
    """Owner of an acceptor. `snapshot` is replaced when a new one is in force."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        wheel: TimerWheel,
        config: Listener,
        snapshot: ListenerSnapshot,
        metrics: Metrics,
        access_log: AccessLog | None,
        refusals: RefusalLog,
        clients: Clients,
        resolve: Resolve,
        share_chain: ShareChain,
        processes: int = 1,
    ) -> None:
        """share_chain: tells the others of a chain that is new here. processes: that serve this listener together, and
        share its limits."""
        self._processes = processes
        self._share_chain = share_chain
        self.config = config
        self.snapshot = snapshot
        self._metrics = metrics
        self._refusals = refusals
        self._clients = clients
        self._visitors: dict[int, Visitor] = {}
        self._chains = Chains()
        self._keys_due = snapshot.contexts.keys_due
        self._idle: list[tuple[float, ClientConnection]] = []
        self._unjudged: set[TlsStream] = set()
        """Connections whose verdict waits for an answer from elsewhere."""
        self._retired = False
        name = config.name
        received, sent = metrics.received_bytes_total.cell(name), metrics.sent_bytes_total.cell(name)
        settings = self._acceptor_settings(config)
        self.acceptor = Acceptor(loop, wheel, settings, snapshot.contexts, self, received, sent)
        self.service = Service(
            name=name,
            loop=loop,
            wheel=wheel,
            rules=snapshot.rules,
            limits=_limits(config),
            body_limit=config.limits.body,
            timeouts=_timeouts(config),
            metrics=metrics,
            access_log=access_log,
            refusals=refusals,
            clients=clients,
            released=self.acceptor.released,
            in_flight=metrics.requests_in_flight.cell(name),
            resolve=resolve,
        )
        self._duration = metrics.handshake_duration_seconds.histogram(name)
        self._ok = {version: metrics.handshakes_total.cell(name, "ok", version) for version in ("TLSv1.2", "TLSv1.3")}
        metrics.connections.watch((name,), lambda: self.acceptor.connections)
        metrics.connections_total.watch((name,), lambda: self.acceptor.accepted)
        self.addresses: list[tuple[str, int]] = []
        self._sweeper = wheel.timer(self._sweep)
        self._sweeper.start(SWEEP)
        self._end = wheel.timer(self.kill)

    def _sweep(self) -> None:
        if self._retired and not self.busy:
            self._end.close()
            self._sweeper.close()
            return
        now = time.time()
        for downstream in [d for d in self.service.connections if d.has_run_out(now)]:
            downstream.verdict_ran_out()
        for tunnel in list(self.service.tunnels):
            tunnel.review()
        if now >= self._keys_due:
            self._keys_due = self.snapshot.contexts.renew_ticket_keys(now)
        self._sweeper.start(SWEEP)

    def adopt(self, config: Listener, snapshot: ListenerSnapshot) -> None:
        """From now on by `snapshot`; the address stays."""
        self.config = config
        self.snapshot = snapshot
        self._visitors.clear()
        self._keys_due = snapshot.contexts.keys_due
        self.acceptor.settings = self._acceptor_settings(config)
        self.acceptor.contexts = snapshot.contexts
        service = self.service
        service.limits, service.body_limit, service.timeouts = _limits(config), config.limits.body, _timeouts(config)
        service.rules = snapshot.rules

    def _acceptor_settings(self, config: Listener) -> AcceptorSettings:
        limits = config.limits
        return AcceptorSettings(
            config.name,
            config.tls.client_hello_timeout,
            config.tls.handshake_timeout,
            self._share(limits.max_connections),
            self._share(limits.max_connections_per_ip),
            self._share(limits.max_concurrent_handshakes),
            _proxy_header(config),
        )

    def _share(self, limit: int) -> int:
        """The kernel spreads connections evenly; rounded up, so that no process is left with nothing."""
        return -(-limit // self._processes)

    async def judge_all_again(self) -> None:
        """Open connections that no longer pass are let go. Requests are judged as they come."""
        rules = self.service.rules
        for number, downstream in enumerate(list(self.service.connections)):
            if self.service.rules is not rules:
                return  # a newer snapshot goes through them itself
            downstream.trust_changed()
            if number % _JUDGED_AT_ONCE == _JUDGED_AT_ONCE - 1:
                await asyncio.sleep(0)

    def retire(self, patience: float | None = None) -> None:
        """Accept no more, and let connections end after the answer under way; handshakes go on, to one answer.

        patience: seconds after which what is still here is ended; None: the caller sees to that.
        """
        self._retired = True
        if patience is not None:
            self._end.start(patience)
        self.acceptor.close()
        self.service.draining = True
        for connection in list(self.service.connections):
            connection.drain()

    @property
    def busy(self) -> bool:
        """Whether anybody is here still."""
        return bool(self.service.connections or self._unjudged or self.acceptor.handshakes)

    def kill(self) -> None:
        """End every connection now."""
        for handshake in list(self.acceptor.handshakes):
            handshake.cut_off()
        for stream in self._unjudged:
            stream.abort()
        for connection in list(self.service.connections):
            connection.kill()

    def learn(self, presented: tuple[bytes, ...]) -> None:
        """The chain of a client that another process has accepted: its session may be resumed here."""
        self._chains.remember(presented)

    def listen(self, sock: socket.socket) -> None:
        address = sock.getsockname()
        self.addresses.append((address[0], address[1]))
        self.acceptor.listen(sock)

    # -- what the acceptor says ------------------------------------------------------------------------------------

    def established(self, connection: Established, seconds: float) -> None:
        self._duration.observe(seconds)
        if connection.resumed:
            # A session keeps the leaf alone; what led to its issuer was seen in the full handshake, here or elsewhere.
            connection = dataclasses.replace(connection, presented=self._chains.restore(connection.presented))
        self._judge(connection)

    def _judge(self, connection: Established) -> None:
        """Hand a connection over to HTTP as soon as its verdict wants nothing more."""
        self._unjudged.discard(connection.stream)
        if connection.stream.closed:
            return  # its end was told to the handshake, which still holds the socket
        verdict = self.snapshot.rules.judge(connection.presented)
        if verdict.wanted:
            connection.stream.pause_reading()
            self._unjudged.add(connection.stream)
            self.service.resolve(verdict.wanted, functools.partial(self._judge, connection))
            return
        if connection.resumed and verdict.reason in (Reason.UNTRUSTED_ISSUER, Reason.NO_CERTIFICATE):
            self._ask_for_full_handshake(connection)
            return
        if verdict.reason is None:
            self._ok[connection.version].value += 1
            self._note_accepted(verdict)
            full = connection.context.resumable and not connection.resumed
            if full and self._chains.remember(connection.presented):
                self._share_chain(self.config.name, connection.presented)
        else:
            self._handshake(verdict.reason, connection.version).value += 1
        self._count_revocation(verdict)
        downstream = Downstream(self.service, connection, self._visitor(verdict))
        downstream.start()
        if self._retired:
            downstream.drain()

    def failed(self, failure: FailedHandshake) -> None:
        """Say who was refused: OpenSSL ended the handshake, and no request will come to say it in an answer."""
        reason, detail, verdict = failure.reason, failure.detail, None
        if failure.presented:
            verdict = self.snapshot.judge.of_stranger(failure.presented)
            if reason in _JUDGED_BY_OPENSSL and verdict.reason is not None:
                reason, detail = verdict.reason, f"{verdict.detail} ({failure.detail})"
        if failure.seconds is not None:
            self._duration.observe(failure.seconds)
        self._handshake(reason, failure.version or "none").value += 1
        self._metrics.rejections_total.cell(self.config.name, "", reason, "true").value += 1
        self._refusals.record(
            self._failure_entry(failure, reason, verdict),
            verdict.fingerprint if verdict is not None else None,
            detail,
            presented=failure.presented,
            listener=self.config.name,
        )

    def close_longest_idle(self) -> bool:
        while True:
            while self._idle:
                since, downstream = self._idle.pop(0)
                if downstream.is_idle and downstream.idle_since == since:
                    downstream.make_room()
                    return True
            candidates = ((d.idle_since, id(d), d) for d in self.service.connections if d.is_idle)
            self._idle = [(since, d) for since, _, d in heapq.nsmallest(_IDLE_CANDIDATES, candidates)]
            if not self._idle:
                return False

    # -- parts -----------------------------------------------------------------------------------------------------

    def _ask_for_full_handshake(self, connection: Established) -> None:
        """Let go of a resumed connection that cannot be judged: its client shakes hands in full when it comes again."""
        detail = "a resumed session of a client whose chain is not known here: it has to shake hands in full"
        failure = FailedHandshake(
            connection.address, Reason.PROTOCOL_ERROR, detail, connection.presented, connection.version,
            connection.server_name,
        )  # fmt: skip
        connection.stream.abort_before_start()
        self.acceptor.released(connection.counted_for)
        self.failed(failure)

    def _handshake(self, result: Reason, version: str) -> Cell:
        return self._metrics.handshakes_total.cell(self.config.name, result, version)

    def _visitor(self, verdict: Verdict) -> Visitor:
        """Connections of one remembered verdict share their admissions."""
        if verdict.reason is not None:
            return Visitor(verdict)
        visitor = self._visitors.get(id(verdict))
        if visitor is None or visitor.verdict is not verdict:
            if len(self._visitors) >= _MAX_VISITORS:
                self._visitors.clear()
            visitor = self._visitors[id(verdict)] = Visitor(verdict)
        assert verdict.fingerprint is not None
        visitor.be_known_as(self._clients.arrived(verdict.fingerprint, lambda: self._known(verdict)))
        return visitor

    def _known(self, verdict: Verdict) -> KnownClient:
        leaf, client = verdict.leaf, verdict.client
        assert leaf is not None
        assert client is not None
        now, identity = time.time(), principal_of(client, self.service.rules.default_identity.principal)
        return KnownClient(
            fingerprint=client.fingerprint_sha256,
            identity=None if identity is None else shortened(identity),
            subject=shortened(leaf.subject),
            issuer=shortened(leaf.issuer),
            serial=serial_hex(leaf.serial),
            truststore=verdict.truststore,
            not_after=leaf.not_after,
            first_seen=now,
            last_seen=now,
            san=tuple(shortened_list([f"{kind}:{name}" for kind, name in client.sans])),
            truststores=verdict.truststores,
        )

    def _note_accepted(self, verdict: Verdict) -> None:
        assert verdict.leaf is not None
        remaining = verdict.leaf.not_after.timestamp() - time.time()
        for vouch in verdict.vouches:
            self._metrics.client_certificate_remaining_seconds.histogram(vouch.truststore).observe(remaining)

    def _count_revocation(self, verdict: Verdict) -> None:
        count = self._metrics.revocation_decisions_total.cell
        for vouch in verdict.vouches:
            result = "unknown" if vouch.revocation_source == "none" else "good"
            count(vouch.truststore, result, vouch.revocation_source).value += 1
        reason = verdict.reason
        if reason in _REVOCATION_RESULTS and verdict.truststore is not None:
            source = "deny" if reason is Reason.DENIED else verdict.revocation_source
            count(verdict.truststore, _REVOCATION_RESULTS[reason], source).value += 1

    def _failure_entry(self, failure: FailedHandshake, reason: Reason, verdict: Verdict | None) -> AccessEntry:
        leaf = verdict.leaf if verdict is not None else _leaf_of(failure.presented)
        client = client_of(leaf) if leaf is not None else None
        order = self.snapshot.rules.default_identity.principal
        fragment = connection_fragment(
            listener=self.config.name,
            client_ip=failure.address[0],
            client_port=failure.address[1],
            tls_version=failure.version,
            cipher=None,
            resumed=False,
            subject=leaf.subject if leaf else None,
            issuer=leaf.issuer if leaf else None,
            serial=serial_hex(leaf.serial) if leaf else None,
            fingerprint=verdict.fingerprint if verdict is not None else None,
            san=[f"{kind}:{text}" for kind, text in client.sans] if client else None,
            truststore=None,
            principal=principal_of(client, order) if client else None,
        )
        server_name = failure.server_name
        return (time.time(), fragment, None, server_name, None, None, None, reason, None, None, 0, 0, None, None, None)


def _proxy_header(config: Listener) -> ProxyHeaderRule | None:
    if config.proxy_protocol == "off":
        return None
    return ProxyHeaderRule(PARSERS[config.proxy_protocol], Networks(config.proxy_protocol_from))


def _limits(config: Listener) -> HeadLimits:
    limits = config.limits
    return HeadLimits(limits.request_line, limits.header_field, limits.headers, limits.header_count)


def _timeouts(config: Listener) -> Timeouts:
    timeouts = config.timeouts
    return Timeouts(timeouts.request_headers, timeouts.request_body, timeouts.idle, timeouts.write)


def _leaf_of(presented: tuple[bytes, ...]) -> Certificate | None:
    try:
        return parse_certificate(presented[0]) if presented else None
    except MalformedCertificate:
        return None
