"""`routes`: which client may do what, and where it goes."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, WithJsonSchema

from mtlsproxy.config.base import Absent, Many, Section, SomeOnce, written
from mtlsproxy.config.matchers import Match
from mtlsproxy.config.scalars import Name, PositiveDuration, host_of

Method = Literal[
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY", "PURGE", "LINK", "UNLINK", "SOURCE",
    "COPY", "LOCK", "MKCOL", "MOVE", "PROPFIND", "PROPPATCH", "SEARCH", "UNLOCK", "BIND", "REBIND", "UNBIND", "ACL",
    "REPORT", "MKACTIVITY", "CHECKOUT", "MERGE", "M-SEARCH", "NOTIFY", "SUBSCRIBE", "UNSUBSCRIBE", "MKCALENDAR",
]  # fmt: skip
"""Methods that the HTTP parser knows. CONNECT is not among them: this proxy never tunnels on request."""


def _host_pattern(text: str) -> str:
    bare = text.removeprefix("*.")
    if "*" in bare:
        raise ValueError(f"{text!r}: write a name, or *.suffix for every name below it")
    if re.fullmatch(r"[^:\[\]]+:[0-9]+|\[.*\]:[0-9]+", bare):
        raise ValueError(f"{text!r}: a host is written without its port")
    if re.search(r"[/@]", bare):
        raise ValueError(f"{text!r}: a host alone, without scheme or path")
    host_of(bare)
    return text


def _path_prefix(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError(f"{text!r}: a path begins with /")
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError(f"{text!r}: write spaces, control characters and non-ASCII percent-encoded, as they are sent")
    if "?" in text or "#" in text:
        raise ValueError(f"{text!r}: a path alone, without query or fragment")
    if re.search(r"%(?![0-9A-Fa-f]{2})|%00", text):
        raise ValueError(f"{text!r}: % begins an escape of two hexadecimal digits (and never %00)")
    dots = re.sub(r"%2e", ".", text, flags=re.IGNORECASE)
    if re.search(r"//|\\|%2f|%5c|/\.\.?(?:[/;]|$)", dots, re.IGNORECASE):
        raise ValueError(
            f"{text!r} can be read in several ways (//, \\, dot segments, %2f, %5c): requests like it get 400"
        )
    return text


def _allow_kind(value: object) -> str:
    return "any" if isinstance(value, str) else "entries"


class RouteTimeouts(Section):
    """How long the upstream may take."""

    response: PositiveDuration = written("60s")
    """To the upstream's response headers."""
    response_body: PositiveDuration = written("60s")
    """Between two reads of a response body."""
    tunnel_idle: Absent[PositiveDuration] = None
    """Without a byte in either direction, a WebSocket is closed; absent: the listener's idle timeout."""


class Route(Section):
    """Requests of one kind. The first route that matches wins; without one the answer is 404."""

    name: Name
    """Label in logs and metrics."""
    listeners: Absent[SomeOnce[Name]] = None
    """Required when there are several listeners."""
    hosts: Absent[SomeOnce[Annotated[str, AfterValidator(_host_pattern)]]] = None
    """Exact names or *.suffix; absent: any host."""
    paths: Absent[
        SomeOnce[
            Annotated[str, AfterValidator(_path_prefix), WithJsonSchema({"type": "string", "pattern": "^/[!-~]*$"})]
        ]
    ] = None
    """Prefixes that end on segment boundaries; absent: any path."""
    methods: Absent[SomeOnce[Method]] = None
    """Absent: any method."""
    truststores: Absent[SomeOnce[Name]] = None
    """Which truststores must have verified the client; absent: any of the listener's."""
    allow: Annotated[
        Annotated[Literal["any"], Tag("any")] | Annotated[Many[Match], Tag("entries")], Discriminator(_allow_kind)
    ]
    """Entries of which one must match, `any` (every verified client of the truststores), or [] (nobody)."""
    deny: Many[Match] = ()
    """Entries that refuse whatever allow says."""
    enforce: bool = True
    """false: shadow mode for this route's allow, deny and truststores: logged and counted, let pass."""
    upstream: Name
    """A name under upstreams."""
    strip_prefix: bool = False
    """Remove the matched path prefix before forwarding."""
    identity: Name = "default"
    """A name under identities."""
    timeouts: RouteTimeouts = Field(default_factory=RouteTimeouts)

    def is_on(self, listener: str) -> bool:
        """Whether the listener of this name has it."""
        return self.listeners is None or listener in self.listeners
