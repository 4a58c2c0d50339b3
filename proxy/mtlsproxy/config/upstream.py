"""`upstreams`: the servers behind the proxy."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from mtlsproxy.config.base import Absent, Section, Some, written
from mtlsproxy.config.scalars import Count, FileName, PositiveCount, PositiveDuration, checked_text, host_of
from mtlsproxy.config.truststore import (
    EXTENDED_KEY_USAGES,
    ExtendedKeyUsage,
    Revocation,
    Truststore,
    split_authority,
)

_LONGEST_SOCKET_PATH = 107
"""sun_path, less its NUL (unix(7))."""


def _server_url(text: str) -> str:
    checked_text(text)
    if text.startswith("unix:"):
        if not text.startswith("unix:/") or text.startswith("unix://"):
            raise ValueError(f"{text!r}: write unix: and an absolute path, such as unix:/run/orders.sock")
        if len(text.removeprefix("unix:").encode()) > _LONGEST_SOCKET_PATH:
            raise ValueError(f"{text!r}: the path of a unix socket has {_LONGEST_SOCKET_PATH} bytes at most")
        return text
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in ("http", "https"):
        raise ValueError(f"{text!r} is not http://host:port, https://host:port or unix:/path")
    netloc = rest.removesuffix("/")
    if any(character in netloc for character in "/?#@"):
        raise ValueError(f"{text!r}: scheme, host and port alone; paths are passed through as the client sent them")
    split_authority(netloc)
    return text


def _host_name(text: str) -> str:
    host_of(text)
    return text


def _check_path(text: str) -> str:
    if not re.fullmatch(r"/[!-~]*", text):
        raise ValueError(f"{text!r} is not a path such as /healthz")
    return text


class UpstreamServer(Section):
    """One server of an upstream."""

    url: Annotated[
        str,
        AfterValidator(_server_url),
        WithJsonSchema({"type": "string", "pattern": "^(https?://[^/?#@]+/?|unix:/.+)$"}),
    ]
    """http://host:port, https://host:port, or unix:/path."""
    weight: Annotated[int, Field(ge=1, le=1000)] = 1
    """Its share, relative to the others."""

    @property
    def scheme(self) -> Literal["http", "https", "unix"]:
        if self.url.startswith("unix:"):
            return "unix"
        return "https" if self.url.startswith("https:") else "http"

    @property
    def host(self) -> str:
        """Name or address without brackets; "" for unix."""
        return "" if self.scheme == "unix" else self._authority()[0]

    @property
    def port(self) -> int:
        """80 or 443 where the URL names none; 0 for unix."""
        if self.scheme == "unix":
            return 0
        return self._authority()[1] or (443 if self.scheme == "https" else 80)

    @property
    def socket_path(self) -> Path | None:
        """The path of a unix socket."""
        return Path(self.url.removeprefix("unix:")) if self.scheme == "unix" else None

    @property
    def authority(self) -> str:
        """Sent as Host with `host: server`: the URL's host, and its port where it is not the scheme's; a unix socket
        has neither and is `localhost`, as with curl and nginx."""
        if self.scheme == "unix":
            return "localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"

    def _authority(self) -> tuple[str, int | None]:
        return split_authority(self.url.partition("://")[2].removesuffix("/"))


class ServerKeyUsage(Section):
    """What a server's extended key usage must say (RFC 5280 §4.2.1.12): always serverAuth."""

    allow_absent: bool = False
    """Accept a server's certificate with no extended key usage extension."""


class UpstreamTls(Section):
    """TLS towards the upstream, for https."""

    trust_anchors: Some[FileName]
    """PEM files, directories or globs. The system's CAs are never used."""
    server_name: Annotated[str, AfterValidator(_host_name)] | None = None
    """SNI and the name checked (RFC 9525); null: the URL's host."""
    certificate: FileName | None = None
    """This proxy's own client certificate towards the upstream: PEM chain, leaf first."""
    private_key: FileName | None = None
    """Its PEM private key."""
    private_key_password_file: FileName | None = None
    """A file with the key's password."""
    extended_key_usage: ServerKeyUsage = Field(default_factory=ServerKeyUsage)
    revocation: Absent[Revocation] = None
    """As in truststores; absent: off, with a warning."""

    @model_validator(mode="after")
    def _certificate_with_key(self) -> Self:
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("certificate and private_key belong together: give both or neither")
        if self.private_key_password_file is not None and self.private_key is None:
            raise ValueError("private_key_password_file is of no use without private_key")
        return self

    @property
    def truststore(self) -> Truststore:
        """The servers' truststore: trust anchors and revocation of these settings, a truststore's defaults else."""
        usages = ExtendedKeyUsage.model_construct(
            require=(EXTENDED_KEY_USAGES["serverAuth"],), allow_absent=self.extended_key_usage.allow_absent
        )
        return Truststore.model_construct(
            trust_anchors=self.trust_anchors, extended_key_usage=usages, revocation=self.revocation
        )


class HealthCheck(Section):
    """Active health checks."""

    path: (
        Annotated[str, AfterValidator(_check_path), WithJsonSchema({"type": "string", "pattern": "^/[!-~]*$"})] | None
    ) = None
    """Requested with GET; null: no checks."""
    interval: PositiveDuration = written("5s")
    timeout: PositiveDuration = written("2s")
    healthy: PositiveCount = 2
    """Good answers in a row that make a server healthy."""
    unhealthy: PositiveCount = 3
    """Bad answers in a row that make it unhealthy."""


class CircuitBreaker(Section):
    """Per server; counts failed connects, connections that end without an answer, and timeouts."""

    failures: PositiveCount = 5
    """Failures in a row that open it."""
    open_for: PositiveDuration = written("10s")
    """How long nothing is sent then."""


class Upstream(Section):
    """A group of servers that answer for the same routes."""

    servers: Some[UpstreamServer]
    protocol: Literal["http/1.1", "h2"] = "http/1.1"
    """h2: by ALPN over https, by prior knowledge over http and unix."""
    balance: Literal["round_robin", "least_requests", "client_hash"] = "round_robin"
    """Which server is next; client_hash is on the principal."""
    tls: Absent[UpstreamTls] = None
    host: Literal["preserve", "server"] = "preserve"
    """The Host sent upstream: the client's, or the URL's host (localhost for a unix socket)."""
    connect_timeout: PositiveDuration = written("5s")
    """Until a connection stands."""
    idle_timeout: PositiveDuration = written("60s")
    """How long an unused connection is kept."""
    max_connections: PositiveCount = 512
    """Per server."""
    queue: Count = 1024
    """Requests waiting for a connection; beyond it 503."""
    retries: Annotated[int, Field(ge=0, le=10)] = 1
    """Only for requests that are safe to repeat (RFC 9110 §9.2.2) and not yet answered."""
    health_check: HealthCheck = Field(default_factory=HealthCheck)
    circuit_breaker: CircuitBreaker = Field(default_factory=CircuitBreaker)

    @model_validator(mode="after")
    def _https_needs_trust(self) -> Self:
        if self.tls is None and any(server.scheme == "https" for server in self.servers):
            raise ValueError("has an https:// server but no tls.trust_anchors: the system's CAs are never used")
        return self
