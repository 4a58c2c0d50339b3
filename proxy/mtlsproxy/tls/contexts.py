"""Server contexts: one for each certificate of a listener, all under the listener's one verify configuration."""

import base64
import math
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

from mtlsproxy.tls import native
from mtlsproxy.tls.capture import Presented, watch
from mtlsproxy.tls.credentials import Credential
from mtlsproxy.tls.memory_file import as_file
from mtlsproxy.tls.names import covers, normalise
from mtlsproxy.tls.tickets import TicketKeys, policy_hash
from mtlsproxy.x509.certificate import Certificate

ALERT_UNRECOGNIZED_NAME = 112


class ContextError(Exception):
    """A context cannot be made. `key` names the setting below the listener, `detail` what is wrong and the mend."""

    def __init__(self, key: str, detail: str) -> None:
        super().__init__(f"{key}: {detail}")
        self.key = key
        self.detail = detail


@dataclass(frozen=True, slots=True)
class VerifySettings:
    """How a listener asks for client certificates. There is no way to say 'do not'."""

    certificate_required: bool
    anchors: tuple[Certificate, ...]
    intermediates: tuple[Certificate, ...]
    advertise_ca_names: bool
    own_purpose_check: bool
    """The truststores' EKU policy is wider than OpenSSL's fixed clientAuth: leave the purpose to our validator."""
    minimum_version: str
    ciphers: str | None
    protocols: tuple[str, ...]
    resumption: "Resumption | None"
    """None: no session is ever resumed."""


@dataclass(frozen=True, slots=True)
class Resumption:
    """secret: what all ticket keys derive from. policy: a hash over all else that a handshake here verifies."""

    secret: bytes
    policy: bytes


class _ExpectedName:
    """Apart from the context that calls it: a cycle would keep both, and their memory in OpenSSL, until a full
    collection."""

    __slots__ = ("expected",)

    def __init__(self) -> None:
        self.expected: str | None = None

    def check(self, _: object, name: str | None, __: object) -> int | None:
        # OpenSSL's reading must be ours: the context was chosen by it (security.md, "choose the context before TLS").
        return None if name == self.expected else ALERT_UNRECOGNIZED_NAME


class ServerContext:
    """A context and its twin (the same, without the message callback), and the names that its certificate covers."""

    __slots__ = ("_keys", "_names", "context", "credential", "presented", "resumable", "twin")

    def __init__(self, credential: Credential, settings: VerifySettings) -> None:
        self.credential = credential
        self.context = _make(credential, settings)
        self.twin = _make(credential, settings)
        self.presented: Presented = watch(self.context)
        self.resumable = settings.resumption is not None
        self._keys: TicketKeys | None = None
        if settings.resumption is not None:
            policy = policy_hash(settings.resumption.policy, credential.leaf.der)
            self._keys = TicketKeys(settings.resumption.secret, policy)
        self._names = _ExpectedName()
        self.context.sni_callback = self._names.check

    def renew_ticket_keys(self, now: float) -> float:
        """Put the key of `now` (Unix seconds) in force; returns when the next is due. Raises ContextError."""
        assert self._keys is not None
        try:
            native.set_ticket_keys(self.context, self._keys.at(now))
        except native.NativeUnavailable as error:
            raise ContextError("tls.session_resumption", f"is not possible here: {error.detail}") from error
        return self._keys.next_change(now)

    def expect_name(self, name: str | None) -> None:
        """Before each step of a handshake: what our own reading of the ClientHello found."""
        self._names.expected = name

    def covers(self, host: str) -> bool:
        """Whether the served certificate stands for `host`, a lower-case name or an address (RFC 9525 §6)."""
        return covers(self.credential.leaf, host)


class Contexts:
    """A listener's contexts by server name; the first certificate is the default."""

    __slots__ = ("_by_name", "_default", "all", "keys_due")

    def __init__(self, contexts: Sequence[ServerContext]) -> None:
        self.all = tuple(contexts)
        self._default = self.all[0]
        self.keys_due = math.inf
        """When the session ticket keys have to be renewed, Unix seconds."""
        self._by_name: dict[str, ServerContext] = {}
        for context in self.all:
            for name in context.credential.leaf.sans.dns:
                self._by_name.setdefault(normalise(name), context)

    def renew_ticket_keys(self, now: float) -> float:
        """Of all contexts that resume; returns, and keeps in keys_due, when to call again. Raises ContextError."""
        due = (context.renew_ticket_keys(now) for context in self.all if context.resumable)
        self.keys_due = min(due, default=math.inf)
        return self.keys_due

    def choose(self, server_name: str | None) -> ServerContext:
        if server_name is None:
            return self._default
        name = normalise(server_name)
        exact = self._by_name.get(name)
        if exact is not None:
            return exact
        return self._by_name.get("*." + name.partition(".")[2], self._default)


def build_contexts(credentials: Sequence[Credential], settings: VerifySettings) -> Contexts:
    """Raises ContextError."""
    return Contexts([ServerContext(credential, settings) for credential in credentials])


def _make(credential: Credential, settings: VerifySettings) -> ssl.SSLContext:
    if not settings.anchors:
        raise ContextError("client_auth.truststores", "no trust anchor: nobody could be verified")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED if settings.certificate_required else ssl.CERT_OPTIONAL
    # VERIFY_X509_STRICT refuses what internal CAs issue (a leaf without AKI): strictness is our own policy's.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.minimum_version = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}[
        settings.minimum_version
    ]
    if settings.ciphers:
        try:
            context.set_ciphers(settings.ciphers)
        except ssl.SSLError:
            raise ContextError("tls.ciphers", f"OpenSSL knows no cipher by {settings.ciphers!r}") from None
    context.set_alpn_protocols(list(settings.protocols))
    present(context, credential, "tls.certificates")
    _load_trust(context, settings)
    if settings.resumption is None:
        _turn_resumption_off(context, settings)
    else:
        context.num_tickets = 1  # each costs 0.2 ms of a full handshake
        _turn_session_cache_off(context, settings)
    return context


def present(context: ssl.SSLContext, credential: Credential, key: str) -> None:
    """Have `context` prove itself with `credential`. key: of the setting. Raises ContextError."""
    password = credential.password
    try:
        context.load_cert_chain(
            credential.certificate_file, credential.private_key_file, None if password is None else lambda: password
        )
    except (ssl.SSLError, OSError) as error:
        raise ContextError(key, f"OpenSSL does not take {credential.certificate_file} with its key: {error}") from error


def _load_trust(context: ssl.SSLContext, settings: VerifySettings) -> None:
    with as_file(b"".join(_trusted(anchor.der) for anchor in settings.anchors)) as file:
        context.load_verify_locations(cafile=file)
    helpers = _helpers(settings)
    if helpers:
        context.load_verify_locations(cadata=b"".join(helpers))
    if settings.advertise_ca_names and native.unavailable_because() is None:
        try:
            native.advertise_ca_names(context, [anchor.subject_der for anchor in settings.anchors])
        except native.NativeUnavailable as error:
            raise ContextError("client_auth.advertise_ca_names", error.detail) from error
    if settings.own_purpose_check:
        try:
            native.accept_any_purpose(context)
        except native.NativeUnavailable as error:
            raise ContextError(
                "client_auth.truststores", f"their extended_key_usage needs libssl: {error.detail}"
            ) from error


def _helpers(settings: VerifySettings) -> list[bytes]:
    """The configured intermediates that OpenSSL may use, as DER.

    A self-signed certificate in the store would be an anchor: intermediates are trusted for nothing. And one that leads
    to no anchor by names is a dead end: OpenSSL prefers the store to what the client sent, and never goes back.
    """
    known = {anchor.subject_der for anchor in settings.anchors}
    left = [c for c in dict.fromkeys(settings.intermediates) if c not in settings.anchors and not c.self_issued]
    out: list[bytes] = []
    while found := [c for c in left if c.issuer_der in known]:
        out += (c.der for c in found)
        known |= {c.subject_der for c in found}
        left = [c for c in left if c not in found]
    return out


_CLIENT_TRUST = bytes.fromhex("3012301006082b060105050703020604551d2500")
"""X509_CERT_AUX: trusted for clientAuth and anyExtendedKeyUsage."""


def _trusted(der: bytes) -> bytes:
    """PEM that OpenSSL takes for a trust anchor whoever issued it.

    VERIFY_X509_PARTIAL_CHAIN would do that too, but for every certificate in the store, intermediates included.
    """
    text = base64.encodebytes(der + _CLIENT_TRUST)
    return b"-----BEGIN TRUSTED CERTIFICATE-----\n" + text + b"-----END TRUSTED CERTIFICATE-----\n"


def _turn_resumption_off(context: ssl.SSLContext, settings: VerifySettings) -> None:
    context.num_tickets = 0  # TLS 1.3
    context.options |= ssl.OP_NO_TICKET  # TLS 1.2 tickets
    _turn_session_cache_off(context, settings)


def _turn_session_cache_off(context: ssl.SSLContext, settings: VerifySettings) -> None:
    """Session ids (TLS 1.2) name what the context remembers: nothing does that here, tickets carry it all."""
    if settings.minimum_version == "TLSv1.3" and native.unavailable_because() is not None:
        return  # session ids are TLS 1.2's
    try:
        native.turn_session_cache_off(context)
    except native.NativeUnavailable as error:
        raise ContextError(
            "tls.minimum_version",
            f"must be TLSv1.3 here: the TLS 1.2 session cache cannot be turned off ({error.detail})",
        ) from error
