"""`identities`, `admin`, `logging`, `shutdown`: what the proxy tells upstreams and operators, and how it ends."""

import difflib
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ValidationInfo, WithJsonSchema

from mtlsproxy.config.base import ManyOnce, Section, written
from mtlsproxy.config.scalars import Address, Duration, FileName, host_of, off_for_false, parse_path

AccessLog = Literal["stdout", "stderr", "off"]


REQUEST_HEADERS = (
    *("accept", "accept-encoding", "access-control-request-method", "authorization", "cache-control", "connection"),
    *("content-length", "content-type", "cookie", "date", "expect", "forwarded", "from", "host", "idempotency-key"),
    *("if-match", "keep-alive", "last-event-id", "max-forwards", "origin", "prefer", "proxy-authorization", "range"),
    *("referer", "sec-fetch-site", "te", "trailer", "transfer-encoding", "upgrade-insecure-requests", "user-agent"),
    *("via", "x-forwarded-for", "x-request-id"),
)
"""What everything under an identity's prefix must not be, since all of it is removed from requests."""


def _header_prefix(text: str) -> str:
    # RFC 9110 §5.1: a field name is a token; `_` and `.` are folded to `-` when client headers are stripped.
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,63}", text):
        raise ValueError(f"{text!r} is not the beginning of a header name: letters, digits and -, such as X-Client-")
    if not text.endswith("-"):
        raise ValueError(f"{text!r} must end in -: everything that begins with it is removed from requests")
    if lost := [name for name in REQUEST_HEADERS if name.startswith(text.lower())]:
        raise ValueError(f"{text!r} would remove headers that requests need ({lost[0]}): choose another, as X-Client-")
    return text


def _access_log(value: object, info: ValidationInfo) -> object:
    value = off_for_false(value)
    if not isinstance(value, str) or value in ("stdout", "stderr", "off"):
        return value
    if (
        "/" not in value
        and "." not in value
        and (close := difflib.get_close_matches(value, ["stdout", "stderr", "off"]))
    ):
        raise ValueError(f"did you mean {close[0]}? (for a file of this name write ./{value})")
    return parse_path(value, info)


class Identity(Section):
    """How the client's identity is told to upstreams."""

    forms: ManyOnce[Literal["fields", "client_cert", "client_cert_chain", "xfcc"]] = ("fields",)
    """X-Client-* fields, Client-Cert and Client-Cert-Chain (RFC 9440), X-Forwarded-Client-Cert (Envoy)."""
    prefix: Annotated[str, AfterValidator(_header_prefix)] = "X-Client-"
    """How the header names of `fields` begin."""
    principal: ManyOnce[Literal["spiffe", "uri", "dns", "email", "common_name"]] = (
        "spiffe",
        "uri",
        "dns",
        "email",
        "common_name",
    )
    """The first of these that is present becomes the principal."""


class Admin(Section):
    """Metrics, health, status page and JSON API."""

    bind: Address = written("127.0.0.1:9901")
    metrics_bind: Address | None = None
    """Another address for metrics and health alone (Prometheus, kubelet)."""
    allowed_hosts: ManyOnce[Annotated[str, AfterValidator(host_of)]] = ("localhost",)
    """Names accepted in Host, besides the bound address (against DNS rebinding)."""
    token_file: FileName | None = None
    """Bearer token for anything that changes state, and, where bind is not loopback, for all but metrics and health."""


class Logging(Section):
    """What is written where."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    access: Annotated[
        AccessLog | Path,
        BeforeValidator(_access_log),
        WithJsonSchema({"anyOf": [{"type": "string", "minLength": 1}, {"const": False}]}),
    ] = "stdout"
    """stdout, stderr, off, or a file name (reopened on SIGUSR1)."""
    audit: FileName | None = None
    """A file name: every refusal and trust change as JSON lines."""


class Shutdown(Section):
    """How the proxy ends."""

    delay: Duration = written("0s")
    """Keep accepting while /readyz already fails (for load balancers)."""
    drain: Duration = written("30s")
    """Then listeners close, and what is in flight gets this long."""
