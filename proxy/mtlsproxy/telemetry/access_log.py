"""The access log: the request path appends a tuple, a timer turns the tuples of a tenth of a second into JSON lines.

What stays the same for a connection (its addresses, its TLS session, its certificate) is encoded once a connection.
"""

import asyncio
import json
import re
import time
from collections.abc import Sequence
from typing import Final, TypeAlias

import orjson

from mtlsproxy.telemetry.sink import Sink

FLUSH_SECONDS = 0.1
FLUSH_ENTRIES = 256
"""Entries encoded in one go: about 0.5 ms of the event loop."""

MAX_NAME = 1024
MAX_SAN = 4096
"""Characters of a subject or issuer, and of all SANs together, that are logged: an unverified client chooses them, and
what is folded or remembered of it stays in memory."""

AccessEntry: TypeAlias = tuple[
    float,  # TIME: wall clock when the answer ended, Unix seconds
    bytes,  # CONNECTION: what connection_fragment returned
    str | None,  # METHOD
    str | None,  # HOST
    bytes | None,  # PATH: as received, without the query (queries carry secrets)
    str | None,  # PROTOCOL: HTTP/1.1
    int | None,  # STATUS
    str | None,  # REASON: a Reason, also where shadow mode let the request pass
    str | None,  # ROUTE
    str | None,  # UPSTREAM
    int,  # REQUEST_BYTES: of the body
    int,  # RESPONSE_BYTES: of the body
    float | None,  # DURATION: seconds
    float | None,  # UPSTREAM_DURATION: seconds
    str | None,  # REQUEST_ID
]
"""One line. A refusal in the handshake has no request: its fields are None and 0."""

TIME: Final = 0
CONNECTION: Final = 1
METHOD: Final = 2
HOST: Final = 3
PATH: Final = 4
PROTOCOL: Final = 5
STATUS: Final = 6
REASON: Final = 7
ROUTE: Final = 8
UPSTREAM: Final = 9
REQUEST_BYTES: Final = 10
RESPONSE_BYTES: Final = 11
DURATION: Final = 12
UPSTREAM_DURATION: Final = 13
REQUEST_ID: Final = 14

_MILLISECONDS = tuple(b'.%03dZ",' % millisecond for millisecond in range(1000))

# JSON leaves these raw, and a terminal or a viewer acts on them: DEL, the C1 controls, line and paragraph separators,
# and the marks that reorder text.
_RAW_CONTROLS = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\x8e\x8f\xa8-\xae]|\xe2\x81[\xa6-\xa9]")


def connection_fragment(
    *,
    listener: str,
    client_ip: str,
    client_port: int,
    tls_version: str | None,
    cipher: str | None,
    resumed: bool,
    subject: str | None,
    issuer: str | None,
    serial: str | None,
    fingerprint: str | None,
    san: Sequence[str] | None,
    truststore: str | None,
    principal: str | None,
) -> bytes:
    """The fields of a connection as JSON members, without braces.

    subject, issuer: RFC 4514. serial: upper-case hexadecimal. fingerprint: SHA-256, lower-case hexadecimal.
    san: as in X-Client-San, `URI:spiffe://a/b`, `DNS:x.example`. Names beyond MAX_NAME and SANs beyond MAX_SAN end
    in `…`.
    """
    return encode(
        {
            "listener": listener,
            "client_ip": client_ip,
            "client_port": client_port,
            "tls_version": tls_version,
            "cipher": cipher,
            "resumed": resumed,
            "subject": None if subject is None else shortened(subject),
            "issuer": None if issuer is None else shortened(issuer),
            "serial": serial,
            "fingerprint": fingerprint,
            "san": None if san is None else shortened_list(san),
            "truststore": truststore,
            "principal": principal,
        }
    )[1:-1]


def shortened(name: str) -> str:
    """At most MAX_NAME characters and an ellipsis."""
    return name if len(name) <= MAX_NAME else name[:MAX_NAME] + "…"


def shortened_list(san: Sequence[str]) -> list[str]:
    """At most MAX_SAN characters in all, then an ellipsis."""
    kept: list[str] = []
    room = MAX_SAN
    for name in san:
        room -= len(name)
        if room < 0:
            return [*kept, "…"]
        kept.append(name)
    return kept


def encode(value: object) -> bytes:
    """JSON of `value`, on one line. Lone surrogates, which UTF-8 cannot carry, become question marks."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC with milliseconds: `2030-01-01T00:00:00.000Z`."""
    whole = int(seconds)
    return f"{_second(whole)}.{int((seconds - whole) * 1000):03d}Z"


def request_fields(entry: AccessEntry) -> dict[str, object]:
    """The fields of `entry` that are not its connection's, in their order; times in milliseconds."""
    # Unpacked at once: fifteen look-ups by index would cost half a microsecond.
    (
        _,
        _,
        method,
        host,
        path,
        protocol,
        status,
        reason,
        route,
        upstream,
        request_bytes,
        response_bytes,
        duration,
        upstream_duration,
        request_id,
    ) = entry
    return {
        "method": method,
        "host": host,
        "path": None if path is None else path.decode("utf-8", "replace"),
        "protocol": protocol,
        "status": status,
        "reason": reason,
        "route": route,
        "upstream": upstream,
        "request_bytes": request_bytes,
        "response_bytes": response_bytes,
        # Whole microseconds first: round(x, 3) costs five times as much.
        "duration_ms": None if duration is None else int(duration * 1e6) / 1e3,
        "upstream_ms": None if upstream_duration is None else int(upstream_duration * 1e6) / 1e3,
        "request_id": request_id,
    }


def encode_entries(entries: Sequence[AccessEntry]) -> bytes:
    """One JSON object a line for each entry, in order."""
    pieces: list[bytes] = []
    second, prefix = -1, b""
    for entry in entries:
        whole = int(entry[TIME])
        if whole != second:
            second, prefix = whole, b'{"time":"' + _second(whole).encode("ascii")
        pieces.append(prefix + _MILLISECONDS[int((entry[TIME] - whole) * 1000)] + entry[CONNECTION])
        pieces.append(b"," + encode(request_fields(entry))[1:] + b"\n")
    return escape_controls(b"".join(pieces))


def escape_controls(lines: bytes) -> bytes:
    """Write as JSON escapes what JSON leaves raw and a terminal acts on. `lines`: UTF-8 JSON."""
    if lines.isascii() and b"\x7f" not in lines:
        return lines
    return _RAW_CONTROLS.sub(lambda found: b"\\u%04x" % ord(found[0].decode("utf-8")), lines)


def _second(whole: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))


class AccessLog:
    """Collects entries and hands their lines to a sink in batches. For one event loop; `append` is the hot path."""

    def __init__(self, sink: Sink, loop: asyncio.AbstractEventLoop) -> None:
        self._sink = sink
        self._loop = loop
        self._pending: list[AccessEntry] = []
        self._timer: asyncio.TimerHandle | None = None

    def append(self, entry: AccessEntry) -> None:
        pending = self._pending
        pending.append(entry)
        if self._timer is None:
            self._timer = self._loop.call_later(FLUSH_SECONDS, self._tick)
        elif len(pending) >= FLUSH_ENTRIES:
            self.flush()

    def flush(self) -> None:
        """Hand over what is pending now, without waiting for the sink."""
        entries, self._pending = self._pending, []
        if entries:
            self._sink.submit(encode_entries(entries), len(entries))

    def close(self) -> None:
        """Hand over what is pending and stop the timer. The sink stays open: its owner closes it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.flush()

    def _tick(self) -> None:
        self._timer = None
        self.flush()
