"""What to do about a refusal, where its reason alone is known (docs/refusals.md)."""

from mtlsproxy.reasons import Reason

_LIMITS = "send less, or raise the listener's limits"
_SPEAK = "leave it out; speak plain HTTP/1.1"

MENDS: dict[Reason, str] = {
    Reason.NO_CERTIFICATE: "give the client a certificate and its key; look whether its library was told to use them",
    Reason.UNTRUSTED_ISSUER: "send the intermediates along, or get a certificate of a CA that the truststore trusts",
    Reason.EXPIRED: "renew the certificate; look at the clocks",
    Reason.NOT_YET_VALID: "wait until it is valid; look at the clocks",
    Reason.BAD_SIGNATURE: "the file was altered, or comes from a namesake of the CA: get it again",
    Reason.PATH_LENGTH: "use the right intermediate: a CA above allows fewer CAs below it",
    Reason.CHAIN_TOO_LONG: "use a shorter chain, or raise the truststore's max_chain_depth",
    Reason.NAME_CONSTRAINT: "have it issued by a CA that may certify this name",
    Reason.NOT_A_CA: "have it issued by a CA: what signed it is none",
    Reason.CA_AS_LEAF: "issue a certificate for the client: a CA's own is none",
    Reason.KEY_USAGE: "have it issued with the client profile (key usage digitalSignature)",
    Reason.EKU_MISSING: "have it issued with EKU clientAuth, or set the truststore's extended_key_usage.allow_absent",
    Reason.EKU_MISMATCH: "ask the CA for a certificate with EKU clientAuth",
    Reason.WEAK_KEY: "make a new key that meets the truststore's keys, and have it certified",
    Reason.WEAK_SIGNATURE: "have it issued with one of the truststore's signature_hashes",
    Reason.MALFORMED_CERTIFICATE: "have it issued again by a CA that follows RFC 5280",
    Reason.POLICY_OID: "have it issued under one of the truststore's certificate_policies",
    Reason.NOT_A_SVID: "fetch an X509-SVID of the right trust domain",
    Reason.REVOKED: "get a new certificate: the CA has revoked this one, or one above it",
    Reason.REVOCATION_UNKNOWN: "publish the CRL that is named, or make its URL or the OCSP responder reachable",
    Reason.DENIED: "take the entry that is named out of the deny list, if it is mistaken",
    Reason.TRUSTSTORE_MISMATCH: "use a certificate of the right CA, or widen the route's truststores",
    Reason.NOT_ALLOWED: "add an allow entry that names this client to the route",
    Reason.NO_POSSESSION: "certificate and key are mixed up, or the certificate was copied: pair them again",
    Reason.HANDSHAKE_TIMEOUT: "look at the network; or it was a port scanner",
    Reason.PROTOCOL_ERROR: "look at the client's TLS version and ciphers",
    Reason.CLIENT_ABORTED: "look at the client's own error; give it the CA that issued the proxy's certificate",
    Reason.TOO_MANY_CONNECTIONS: "reuse connections, or raise limits.max_connections_per_ip",
    Reason.MISDIRECTED: "send SNI and Host alike, or add the name to a certificate of the listener",
    Reason.NO_ROUTE: "mend the request, or add a route for its host and path",
    Reason.METHOD_NOT_ALLOWED: "use a method of the route, or add this one to it",
    Reason.BAD_REQUEST: "send the request plainly: the detail says what is malformed or ambiguous",
    Reason.URI_TOO_LONG: _LIMITS,
    Reason.HEADERS_TOO_LARGE: _LIMITS,
    Reason.BODY_TOO_LARGE: _LIMITS,
    Reason.REQUEST_TIMEOUT: "look at the client, which sent too slowly; or raise the listener's timeouts",
    Reason.EXPECTATION_FAILED: _SPEAK,
    Reason.NOT_IMPLEMENTED: _SPEAK,
    Reason.VERSION_NOT_SUPPORTED: _SPEAK,
    Reason.UPSTREAM_UNAVAILABLE: "start the service; mtlsproxy_upstream_healthy and the log say why it is not asked",
    Reason.UPSTREAM_ERROR: "look at the service: the log says what came, or which check its certificate failed",
    Reason.UPSTREAM_TIMEOUT: "look at the service, or raise the route's timeouts.response",
}

NOT_ABOUT_THE_CLIENT = frozenset(
    {
        *(Reason.NO_POSSESSION, Reason.HANDSHAKE_TIMEOUT, Reason.PROTOCOL_ERROR, Reason.CLIENT_ABORTED),
        *(Reason.TOO_MANY_CONNECTIONS, Reason.BAD_REQUEST, Reason.URI_TOO_LONG, Reason.HEADERS_TOO_LARGE),
        *(Reason.BODY_TOO_LARGE, Reason.REQUEST_TIMEOUT, Reason.EXPECTATION_FAILED, Reason.NOT_IMPLEMENTED),
        *(Reason.VERSION_NOT_SUPPORTED, Reason.UPSTREAM_UNAVAILABLE, Reason.UPSTREAM_ERROR, Reason.UPSTREAM_TIMEOUT),
    }
)
"""Reasons that neither certificate nor policy has: judging these anew says nothing of them."""
