"""The context with which this proxy is the client: towards the servers of one upstream."""

import ssl
from dataclasses import dataclass

from mtlsproxy.tls.capture import Presented, watch
from mtlsproxy.tls.contexts import ContextError, present
from mtlsproxy.tls.credentials import Credential
from mtlsproxy.x509.certificate import Certificate


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """What a handshake with a server goes by; connections made by other settings are of no use any more.

    anchors: at least one. credential: this proxy's own certificate, where it has one. protocols: for ALPN.
    """

    anchors: tuple[Certificate, ...]
    credential: Credential | None
    protocols: tuple[str, ...]


class ClientContext:
    """A context and its twin (the same, without the message callback, which costs at every record)."""

    __slots__ = ("context", "presented", "settings", "twin")

    def __init__(self, settings: ClientSettings) -> None:
        """Raises ContextError; its key is below `upstreams.NAME.tls`."""
        self.settings = settings
        self.context = _make(settings)
        self.twin = _make(settings)
        self.presented: Presented = watch(self.context)

    def wrap(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, name: str) -> ssl.SSLObject:
        """name: what the certificate has to be for, and the SNI, which addresses do not have (RFC 6066 §3)."""
        return self.context.wrap_bio(incoming, outgoing, server_side=False, server_hostname=name)


def _make(settings: ClientSettings) -> ssl.SSLContext:
    if not settings.anchors:
        raise ContextError("trust_anchors", "no trust anchor: no server could be verified")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # asks for certificate and name, loads no CA by itself
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET
    context.hostname_checks_common_name = False  # RFC 9525 §2
    # VERIFY_X509_STRICT refuses what internal CAs issue (a leaf without AKI): strictness is our own policy's.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # every certificate in there is meant as an anchor
    context.load_verify_locations(cadata=b"".join(anchor.der for anchor in settings.anchors))
    context.set_alpn_protocols(list(settings.protocols))
    if settings.credential is not None:
        present(context, settings.credential, "certificate")
    return context
