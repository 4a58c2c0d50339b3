"""Sees the certificates that a peer presents, even when OpenSSL then refuses them and forgets the chain.

`_msg_callback` is private, and in every CPython since 3.8. It is used for saying who was refused, never for deciding.
A handshake step is one synchronous call, so one slot holds what the step under way saw.
"""

import _ssl
import ssl
from collections.abc import Callable

_HANDSHAKE, _CERTIFICATE, _CERTIFICATE_REQUEST = 22, 11, 13
_DER = 2  # _ssl.ENCODING_DER
_TLS13 = 0x0304
_NAMES = {0x0303: "TLSv1.2", _TLS13: "TLSv1.3"}

set_message_callback: Callable[[ssl.SSLContext, object], None] = vars(_ssl._SSLContext)["_msg_callback"].__set__
"""`(connection, direction, version, content type, message type, bytes)`; an exception in it leaves the handshake."""


class Presented:
    """The Certificate message of the handshake step under way. One instance a context."""

    __slots__ = ("agreed", "asked", "message", "version")

    def __init__(self) -> None:
        self.message: bytes | None = None
        self.asked = False
        """Whether a server has asked for a certificate, until somebody sets it back."""
        self.version = 0
        self.agreed: str | None = None
        """The version of the last Certificate message taken; the SSL object tells it only after the handshake."""

    def __call__(self, _: object, direction: object, version: int, content: int, kind: int, data: bytes) -> None:
        if kind == _CERTIFICATE and content == _HANDSHAKE and direction == "read":
            self.message, self.version = data, version
        elif kind == _CERTIFICATE_REQUEST and content == _HANDSHAKE and direction == "read":
            self.asked = True

    def take(self) -> tuple[bytes, ...]:
        """The DER certificates seen since the last call, leaf first; () when none, or when they cannot be read."""
        message, self.message = self.message, None
        if message is not None:
            self.agreed = _NAMES.get(self.version)
        return () if message is None else certificates_of(message, self.version == _TLS13)


def watch(context: ssl.SSLContext) -> Presented:
    """Have `context` show the certificates that its peers present."""
    presented = Presented()

    def callback(conn: object, direction: str, version: int, content: int, kind: int, data: bytes) -> None:
        presented(conn, direction, version, content, kind, data)

    set_message_callback(context, callback)
    return presented


def certificates_of(message: bytes, tls13: bool) -> tuple[bytes, ...]:
    """The certificates of a Certificate message (RFC 8446 §4.4.2, RFC 5246 §7.4.2); () when it is malformed."""
    at = 4
    if tls13:
        at += 1 + (message[4] if len(message) > 4 else 0)
    size, at = int.from_bytes(message[at : at + 3], "big"), at + 3
    end = at + size
    if end > len(message):
        return ()
    out = []
    while at < end:
        length = int.from_bytes(message[at : at + 3], "big")
        at += 3
        if length == 0 or at + length > end:
            return ()
        out.append(message[at : at + length])
        at += length
        if tls13:
            at += 2 + int.from_bytes(message[at : at + 2], "big")
    return tuple(out)


def presented_chain(tls: ssl.SSLObject) -> tuple[bytes, ...]:
    """What the peer of a finished handshake presented, as DER, leaf first; () where it had no certificate.

    Of a resumed session: the leaf alone.
    """
    if tls.session_reused:
        leaf = tls.getpeercert(binary_form=True)
        return () if leaf is None else (leaf,)
    # Public only from 3.13; the inner object has had it since 3.10. Without a certificate it is [None].
    chain = tls._sslobj.get_unverified_chain()  # type: ignore[attr-defined]
    return tuple(certificate.public_bytes(_DER) for certificate in chain or () if certificate is not None)
