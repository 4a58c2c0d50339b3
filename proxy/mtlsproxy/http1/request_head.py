"""Bytes of a request's head to a `RequestHead`, or `BadMessage` with the reason that answers it (RFC 9112 §2–§6)."""

import re
from dataclasses import dataclass

import httptools

from mtlsproxy.http1.errors import BadMessage, bad_request
from mtlsproxy.http1.fields import Action, FieldRules, without
from mtlsproxy.http1.websocket import wants_websocket
from mtlsproxy.reasons import Reason

_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([^\x00-\x20\x7f-\xff]+) HTTP/([0-9])\.([0-9])")
_PLAIN_LINE = re.compile(rb"([A-Z-]+) (/[^\x00-\x20#\x7f-\xff]*) HTTP/1\.1")
_LOOKS_LIKE_HTTP = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ \S+ HTTP/[0-9.]+")
_AUTHORITY = re.compile(
    rb"(?:([A-Za-z0-9_](?:[A-Za-z0-9._-]{0,253}[A-Za-z0-9_.])?)|\[([0-9A-Fa-f:.]{2,45})\])(?::([0-9]{1,5}))?"
)
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)([^#]*)", re.IGNORECASE)
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_DIGITS = re.compile(rb"[0-9]{1,18}")

_REMEMBERED_HOSTS = 64
_REMEMBERED_FIELDS = 2048
"""Bytes of fields that a connection remembers: what most clients send, and little for one that idles."""


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """Bytes and pieces (configuration: listeners[].limits)."""

    request_line: int
    header_field: int
    headers: int
    header_count: int


class RequestHead:
    """A request without its body. target: as forwarded (origin-form or `*`); path: target without the query."""

    # Most requests differ from these in a few: set at the class, they cost nothing at each.
    method = ""
    method_bytes = b""
    target = b""
    path = b""
    version_1_1 = True
    host: str | None = None
    host_field: bytes | None = None
    content_length: int | None = None
    chunked = False
    keep_alive = True
    expects_continue = False
    te_trailers = False
    request_id: bytes | None = None
    via: bytes | None = None
    upgrade: bytes | None = None
    websocket_key: bytes | None = None
    websocket = False
    """Whether it asks to go on as a WebSocket; then `websocket_key` is one."""
    forwarded_for: bytes | None = None
    forwarded_proto: bytes | None = None
    forwarded_host: bytes | None = None
    """X-Forwarded-* of a trusted proxy, as sent, several lines joined; None from everybody else."""
    lines = b""
    """`fields` as they pass on, joined."""

    def __init__(self) -> None:
        self.fields: list[bytes] = []

    @property
    def has_body(self) -> bool:
        return self.chunked or bool(self.content_length)


_LISTS = {
    Action.VIA: "via",
    Action.UPGRADE: "upgrade",
    Action.FORWARDED_FOR: "forwarded_for",
    Action.FORWARDED_PROTO: "forwarded_proto",
    Action.FORWARDED_HOST: "forwarded_host",
}
"""Where a head keeps them."""

_NO_HEAD = RequestHead()


def _too_long(what: str) -> BadMessage:
    return BadMessage(Reason.URI_TOO_LONG, f"a request line of {what} (limits.request_line)")


def _too_large(what: str, limit: str) -> BadMessage:
    """limit: the setting's name in listeners[].limits."""
    return BadMessage(Reason.HEADERS_TOO_LARGE, f"{what} (limits.{limit})")


class RequestHeadParser:
    """Parses one head after another of a connection. Heads come whole: what ends in an empty line."""

    __slots__ = (
        "_codings", "_head", "_hosts", "_known", "_known_fields", "_known_method", "_limits", "_parser", "_rules",
        "_tokens", "_whole",
    )  # fmt: skip

    def __init__(self, limits: HeadLimits, rules: FieldRules) -> None:
        self._limits = limits
        self._rules = rules
        self._parser: httptools.HttpRequestParser | None = None
        self._hosts: dict[bytes, str] = {}
        self._head = _NO_HEAD
        self._tokens: list[bytes] = []
        self._codings: list[bytes] = []
        self._whole = False
        self._known: dict[str, object] = {}
        self._known_fields = b""
        self._known_method = b""

    def close(self) -> None:
        """No further head comes: httptools' parser and this one know each other, and would keep each other."""
        self._parser = None

    def check_partial(self, data: bytes | bytearray) -> None:
        """`data` has no empty line yet. Raises BadMessage when it can no longer become a head within the limits."""
        end = data.find(b"\r\n")
        line = len(data) - data.endswith(b"\r") if end < 0 else end  # that CR may be half of the line's end
        if line > self._limits.request_line:
            raise _too_long(f"more than {self._limits.request_line} bytes")
        # Behind the request line come the fields and at most one byte of the empty line, else it would be whole.
        if end >= 0 and len(data) - end - 2 > self._limits.headers + 1:
            raise _too_large(f"header fields of more than {self._limits.headers} bytes", "headers")
        if data.count(b"\n") != data.count(b"\r\n"):
            raise bad_request("a line that ends in LF alone")

    def parse(self, data: bytes) -> RequestHead:
        """`data`: from the request line to the empty line, both included. Raises BadMessage."""
        line_end = data.index(b"\r\n")
        # Most clients send the same fields with every request: what they mean need not be found out again.
        if data[line_end:] == self._known_fields and line_end <= self._limits.request_line:
            known = _PLAIN_LINE.fullmatch(data, 0, line_end)
            if known is not None and known[1] == self._known_method:
                return self._same_fields(known[2])
        head = self._parse(data, line_end)
        if (
            len(data) - line_end <= _REMEMBERED_FIELDS
            and head.target.startswith(b"/")
            and head.version_1_1
            and _PLAIN_LINE.fullmatch(data, 0, line_end)
        ):
            self._known = dict(vars(head))
            self._known_fields = data[line_end:]
            self._known_method = head.method_bytes
        return head

    def _same_fields(self, target: bytes) -> RequestHead:
        head = RequestHead.__new__(RequestHead)
        head.__dict__.update(self._known)
        head.target = target
        head.path = target.partition(b"?")[0]
        return head

    def _parse(self, data: bytes, line_end: int) -> RequestHead:
        line = _LINE.fullmatch(data, 0, line_end)
        self._check_limits(data, line_end)
        if line is None:
            raise _bad_line(data[:line_end])
        method, target, major, minor = line.groups()
        if major != b"1" or minor not in b"01":
            raise BadMessage(Reason.VERSION_NOT_SUPPORTED, f"HTTP/{major.decode()}.{minor.decode()}")
        head = self._head = RequestHead()
        head.method_bytes = method
        head.method = method.decode("ascii")
        self._feed(data)
        if self._codings:
            self._judge_framing(head, minor)
        self._judge_target(head, target, minor)
        listed = self._apply_connection(head) if self._tokens else _NOTHING
        if minor == b"0":
            head.version_1_1 = head.keep_alive = False
        if head.upgrade is not None:
            head.websocket = wants_websocket(head, listed)
        head.lines = b"".join(head.fields)
        self._head = _NO_HEAD
        return head

    def _check_limits(self, data: bytes, line_end: int) -> None:
        limits = self._limits
        if line_end > limits.request_line:
            raise _too_long(f"{line_end} bytes; {limits.request_line} allowed")
        size = len(data) - line_end - 4
        if size > limits.headers:
            raise _too_large(f"header fields of {size} bytes; {limits.headers} allowed", "headers")
        if size > limits.header_field and max(map(len, data[line_end + 2 :].split(b"\r\n"))) > limits.header_field:
            raise _too_large(f"a header field of more than {limits.header_field} bytes", "header_field")
        if data.count(b"\r\n") - 2 > limits.header_count:
            raise _too_large(f"more than {limits.header_count} header fields", "header_count")

    def _feed(self, data: bytes) -> None:
        parser = self._parser
        if parser is None:
            parser = self._parser = httptools.HttpRequestParser(self)
        self._whole = False
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._whole = False  # an upgrade or CONNECT; the parser is of no more use
        except httptools.HttpParserInvalidMethodError:
            self._parser = None
            raise BadMessage(Reason.NOT_IMPLEMENTED, f"the method {self._head.method}") from None
        except httptools.HttpParserCallbackError as error:
            self._parser = None
            if isinstance(error.__context__, BadMessage):
                raise error.__context__ from None
            raise
        except httptools.HttpParserError as error:
            self._parser = None
            raise bad_request(str(error)) from None
        if not self._whole:
            self._parser = None  # it waits for a body, which we frame ourselves

    # -- httptools' callbacks --------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        value = value.rstrip(b" \t")  # RFC 9112 §5: white space behind a value is none of it
        action = self._rules.known.get(name)
        if action is None:
            action = self._rules.action(name)
        if not action:
            self._head.fields += (name, b": ", value, b"\r\n")
        elif action > 1:
            self._special(action, value)

    def on_message_complete(self) -> None:
        self._whole = True

    # -- rules -----------------------------------------------------------------------------------------------------

    def _special(self, action: Action, value: bytes) -> None:
        head = self._head
        if action == 2:  # Action.HOST: every request has it
            if head.host_field is not None:
                raise bad_request("more than one Host")
            head.host_field = value
            head.host = self._host(value)
        elif action is Action.CONTENT_LENGTH:
            if head.content_length is not None:
                raise bad_request("more than one Content-Length")
            if not _DIGITS.fullmatch(value):
                raise bad_request("a Content-Length that is not a plain number")
            head.content_length = int(value)
        elif action is Action.TRANSFER_ENCODING:
            self._codings.append(value)
        elif action is Action.CONNECTION:
            self._tokens.append(value)
        elif action is Action.EXPECT:
            if value.lower() != b"100-continue":
                raise BadMessage(Reason.EXPECTATION_FAILED, "an expectation other than 100-continue")
            head.expects_continue = True
        elif action is Action.TE:
            head.te_trailers = b"trailers" in (part.strip().lower() for part in value.split(b","))
        else:
            _note(action, head, value)

    def _host(self, value: bytes) -> str:
        host = self._hosts.get(value)
        if host is None:
            host = _host_of(value)
            if len(self._hosts) >= _REMEMBERED_HOSTS:
                self._hosts.clear()
            self._hosts[value] = host
        return host

    def _judge_framing(self, head: RequestHead, minor: bytes) -> None:
        """RFC 9112 §6.1–§6.3, without its leniency: what could be read in two ways is refused."""
        codings, self._codings = self._codings, []
        coding = b", ".join(codings).lower()
        if head.content_length is not None:
            raise bad_request("Transfer-Encoding and Content-Length together")
        if minor == b"0":
            raise bad_request("Transfer-Encoding in an HTTP/1.0 request")
        if coding != b"chunked":
            if coding.count(b"chunked") == 1 and coding.endswith(b"chunked") and len(codings) == 1:
                raise BadMessage(Reason.NOT_IMPLEMENTED, "a transfer coding other than chunked")
            raise bad_request("a Transfer-Encoding that is not chunked once, and last")
        head.chunked = True

    def _judge_target(self, head: RequestHead, target: bytes, minor: bytes) -> None:
        """RFC 9112 §3.2."""
        if head.method == "CONNECT":
            raise BadMessage(Reason.METHOD_NOT_ALLOWED, "CONNECT: this proxy opens no tunnels on request")
        if head.host is None and minor != b"0":
            raise bad_request("no Host")
        if target[0] != 0x2F:  # not origin-form
            if target == b"*" and head.method == "OPTIONS":
                head.target = head.path = target
                return
            target = self._absolute(head, target)
        if b"#" in target:
            raise bad_request("a fragment in the request target")
        head.target = target
        head.path = target.partition(b"?")[0]

    def _absolute(self, head: RequestHead, target: bytes) -> bytes:
        match = _ABSOLUTE.fullmatch(target)
        if match is None:
            raise bad_request("a request target that is neither a path nor an http URL")
        authority, rest = match.groups()
        if self._host(authority) != head.host and head.host is not None:
            raise bad_request("the request target and Host name different hosts")
        if head.host_field is not None and _port(authority) != _port(head.host_field):
            raise bad_request("the request target and Host name different ports")
        head.host = self._host(authority)
        head.host_field = authority
        return rest if rest.startswith(b"/") else b"/" + rest

    def _apply_connection(self, head: RequestHead) -> frozenset[bytes]:
        """What the Connection fields list, in lower case; what they name is taken out."""
        values, self._tokens = self._tokens, []
        tokens = frozenset(token.strip().lower() for value in values for token in value.split(b","))
        if b"close" in tokens:
            head.keep_alive = False
        if tokens - _COMMON_TOKENS:
            head.fields = without(head.fields, tokens)
        return tokens


_NOTHING: frozenset[bytes] = frozenset()
_COMMON_TOKENS = frozenset({b"close", b"keep-alive", b"te", b"upgrade", b""})


def _note(action: Action, head: RequestHead, value: bytes) -> None:
    """What needs no judgement where it stands."""
    if action is Action.REQUEST_ID:
        head.request_id = value if head.request_id is None and _REQUEST_ID.fullmatch(value) else None
    elif action is Action.WEBSOCKET:
        head.websocket_key = value if head.websocket_key is None else b""
        head.fields += (b"Sec-WebSocket-Key", b": ", value, b"\r\n")
    else:  # a list over several lines is one list (RFC 9110 §5.3)
        name = _LISTS[action]
        before = getattr(head, name)
        setattr(head, name, value if before is None else before + b", " + value)


def is_authority(value: bytes) -> bool:
    """Whether `value` would be well-formed as a Host."""
    match = _AUTHORITY.fullmatch(value)
    return match is not None and b".." not in value and int(match[3] or 0) <= 65535


def _bad_line(line: bytes) -> BadMessage:
    if _LOOKS_LIKE_HTTP.fullmatch(line) and not re.search(rb"HTTP/[0-9]\.[0-9]$", line):
        return bad_request("an HTTP version that is not DIGIT.DIGIT")
    return bad_request("a malformed request line")


def _host_of(value: bytes) -> str:
    """The lower-case host without port and brackets. Raises BadMessage."""
    match = _AUTHORITY.fullmatch(value)
    if match is None or b".." in value:
        raise bad_request("a malformed Host")
    name, address, port = match.groups()
    if port is not None and int(port) > 65535:
        raise bad_request("a Host with an impossible port")
    return str((name if name is not None else address).decode("ascii").lower().removesuffix("."))


def _port(authority: bytes) -> bytes:
    match = _AUTHORITY.fullmatch(authority)
    return (match.group(3) if match else None) or b""
