"""`listeners`: where clients connect, with which certificate they are met, and what they may cost."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from mtlsproxy.config.base import Absent, Many, Section, Some, SomeOnce, written
from mtlsproxy.config.scalars import (
    Address,
    Cidr,
    Count,
    FileName,
    Name,
    PositiveCount,
    PositiveDuration,
    PositiveSize,
    Size,
    Text,
    off_for_false,
)


class ServerCertificate(Section):
    """A certificate of this proxy. Several are chosen from by SNI."""

    certificate: FileName
    """PEM chain, leaf first."""
    private_key: FileName
    """PEM private key of the leaf."""
    private_key_password_file: Absent[FileName] = None
    """File with the password of an encrypted private key."""


class ListenerTls(Section):
    """The server's side of TLS."""

    certificates: Some[ServerCertificate]
    """Chosen by SNI; the first is the default."""
    minimum_version: Literal["TLSv1.2", "TLSv1.3"] = "TLSv1.2"
    """The oldest TLS version that a client may speak."""
    ciphers: Absent[Text] = None
    """Cipher list for TLS 1.2 in OpenSSL's syntax; absent: this proxy's own choice."""
    client_hello_timeout: PositiveDuration = written("2s")
    """Until the whole ClientHello is here; no handshake slot is taken before."""
    handshake_timeout: PositiveDuration = written("10s")
    """From the ClientHello to the end of the handshake."""
    session_resumption: bool = False
    """true: sessions may be resumed; resumed connections are verified again like new ones."""


class ClientAuth(Section):
    """How clients prove who they are. There is no listener without it."""

    truststores: SomeOnce[Name]
    """Which truststores may vouch for a client here."""
    missing_certificate: Literal["handshake_failure", "http_400"] = "handshake_failure"
    """Without a client certificate: fail the handshake, or finish it, answer 400 and forward nothing."""
    advertise_ca_names: bool = True
    """Send the acceptable client certificate CA names."""


class Limits(Section):
    """What clients may cost. Numbers without a unit are bytes or pieces."""

    max_connections: PositiveCount = 10000
    """Connections at a time; beyond it the longest idle ones are closed, then new ones wait."""
    max_connections_per_ip: Count = 0
    """Connections at a time from one address (IPv6: one /64); 0: no limit."""
    max_concurrent_handshakes: PositiveCount = 256
    """Handshakes at a time, counted from a complete ClientHello."""
    request_line: PositiveSize = written("8KiB")
    """Longest request line; beyond it 414."""
    header_field: PositiveSize = written("16KiB")
    """Longest single header field; beyond it 431."""
    headers: PositiveSize = written("64KiB")
    """All header fields together; beyond it 431."""
    header_count: PositiveCount = 100
    """How many header fields; beyond it 431."""
    body: Size = 0
    """Longest request body; beyond it 413. 0: no limit (bodies are streamed, never held whole)."""


class ListenerTimeouts(Section):
    """How long clients may take."""

    request_headers: PositiveDuration = written("10s")
    """From the first byte of a request to the end of its headers."""
    request_body: PositiveDuration = written("60s")
    """Between two reads of a body."""
    idle: PositiveDuration = written("75s")
    """Keep-alive between requests."""
    write: PositiveDuration = written("60s")
    """How long a client may not read."""


class Listener(Section):
    """An address that clients connect to."""

    name: Name
    """Label in logs and metrics."""
    bind: Address
    """host:port, [v6]:port (quoted), or fd:NAME (systemd socket activation)."""
    tls: ListenerTls
    client_auth: ClientAuth
    limits: Limits = Field(default_factory=Limits)
    timeouts: ListenerTimeouts = Field(default_factory=ListenerTimeouts)
    # The default becomes [h2, http/1.1] with HTTP/2; until then h2 is refused by config/availability.py.
    protocols: SomeOnce[Literal["h2", "http/1.1"]] = ("http/1.1",)
    """ALPN protocols, in order of preference."""
    proxy_protocol: Annotated[
        Literal["off", "v1", "v2"],
        BeforeValidator(off_for_false),
        WithJsonSchema({"enum": ["off", "no", False, "v1", "v2"]}),
    ] = "off"
    """The PROXY header that is expected from a TCP load balancer."""
    proxy_protocol_from: Many[Cidr] = ()
    """Networks of the socket peers that must send the PROXY header."""
    trusted_proxies: Many[Cidr] = ()
    """Networks whose X-Forwarded-* are kept and appended to; judged on the address after the PROXY header."""
