"""Active health checks: asks a server `GET path` again and again, each time over a connection of its own."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import mtlsproxy
from mtlsproxy.http1.errors import BadMessage
from mtlsproxy.http1.response_head import MAX_HEAD, parse_response_head
from mtlsproxy.reasons import Reason
from mtlsproxy.transport.interfaces import Stream
from mtlsproxy.transport.wheel import TimerWheel
from mtlsproxy.upstream.connect import Connecting, Endpoint
from mtlsproxy.upstream.server import Server


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """Times in seconds; timeout is for connecting and answering together."""

    path: str
    interval: float
    timeout: float


class HealthCheck:
    """Of one server, until it is stopped; its `Server.checked` hears of each outcome."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, wheel: TimerWheel, server: Server, settings: CheckSettings
    ) -> None:
        self._loop = loop
        self._wheel = wheel
        self._server = server
        self._settings = settings
        self._timer = wheel.timer(self._on_time)
        self._under_way: _Attempt | None = None

    def start(self) -> None:
        self._on_time()

    def stop(self) -> None:
        self._timer.close()
        if self._under_way is not None:
            self._under_way.cancel()
            self._under_way = None

    def _on_time(self) -> None:
        self._timer.start(self._settings.interval)
        if self._under_way is None:  # a timeout may be longer than an interval
            self._under_way = _Attempt(self._loop, self._wheel, self._server.endpoint, self._settings, self._ended)

    def _ended(self, wrong: str) -> None:
        self._under_way = None
        self._server.checked(f"GET {self._settings.path}: {wrong}" if wrong else "")


class _Attempt:
    """One check: handler of its stream. `ended` is called once, from the loop: with what is wrong, or ""."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        wheel: TimerWheel,
        endpoint: Endpoint,
        settings: CheckSettings,
        ended: Callable[[str], None],
    ) -> None:
        self._request = (
            f"GET {settings.path} HTTP/1.1\r\nHost: {endpoint.authority}\r\n"
            f"User-Agent: mtlsproxy/{mtlsproxy.__version__} health check\r\nConnection: close\r\n\r\n"
        ).encode("ascii")
        self._settings = settings
        self._ended: Callable[[str], None] | None = ended
        self._stream: Stream | None = None
        self._buffer = b""
        self._timer = wheel.timer(self._too_late)
        self._timer.start(settings.timeout)
        self._connecting = Connecting(loop, wheel, endpoint, settings.timeout, self._connected, self._not_connected)

    def cancel(self) -> None:
        """Without telling anybody."""
        self._finish()
        self._connecting.cancel()
        if self._stream is not None:
            self._stream.abort()

    def _connected(self, stream: Stream) -> None:
        self._stream = stream
        stream.start(self)
        stream.write(self._request)

    def _not_connected(self, _: Reason, detail: str) -> None:
        self._end(detail)

    def _too_late(self) -> None:
        self._connecting.cancel()
        self._end(f"no answer in {self._settings.timeout:g}s")

    def _end(self, wrong: str) -> None:
        ended = self._ended
        if ended is None:
            return
        self._finish()
        if self._stream is not None:
            if wrong:
                self._stream.abort()
            else:
                self._stream.close()  # its body may still be coming: who is well is not sent a reset
        ended(wrong)

    def _finish(self) -> None:
        self._ended = None
        self._timer.close()

    # -- what the stream says --------------------------------------------------------------------------------------

    def data_received(self, data: memoryview) -> None:
        if self._ended is None:
            return
        self._buffer += data
        try:
            self._read_heads()
        except BadMessage as error:
            self._end(error.detail)

    def _read_heads(self) -> None:
        """Up to the final one."""
        while (end := self._buffer.find(b"\r\n\r\n") + 4) >= 4:
            head = parse_response_head(self._buffer[:end])
            if head.status >= 200:
                self._end("" if head.status < 400 else f"it answers {head.status}")
                return
            self._buffer = self._buffer[end:]
        if len(self._buffer) > MAX_HEAD:
            self._end(f"its answer has a head of over {MAX_HEAD} bytes")

    def eof_received(self) -> None:
        self._end("it closed the connection without an answer")

    def pause_writing(self) -> None:
        pass  # one small request fits in any buffer

    def resume_writing(self) -> None:
        pass

    def connection_lost(self, error: OSError | None) -> None:
        self._end(f"the connection broke: {error}")
