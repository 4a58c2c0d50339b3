"""The fixed vocabulary of refusals (docs/refusals.md).

A reason is what a log line, a metric label, a problem+json answer and `explain` all call the same refusal. Codes never
change their meaning; outside tools match on them to the letter.
"""

from enum import StrEnum


class Reason(StrEnum):
    """Why something was refused. The value is the code."""

    NO_CERTIFICATE = "no_certificate"
    UNTRUSTED_ISSUER = "untrusted_issuer"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    BAD_SIGNATURE = "bad_signature"
    PATH_LENGTH = "path_length"
    NAME_CONSTRAINT = "name_constraint"
    CHAIN_TOO_LONG = "chain_too_long"
    NOT_A_CA = "not_a_ca"
    CA_AS_LEAF = "ca_as_leaf"
    KEY_USAGE = "key_usage"
    MALFORMED_CERTIFICATE = "malformed_certificate"
    NO_POSSESSION = "no_possession"
    HANDSHAKE_TIMEOUT = "handshake_timeout"
    PROTOCOL_ERROR = "protocol_error"
    CLIENT_ABORTED = "client_aborted"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    EKU_MISSING = "eku_missing"
    EKU_MISMATCH = "eku_mismatch"
    WEAK_KEY = "weak_key"
    WEAK_SIGNATURE = "weak_signature"
    POLICY_OID = "policy_oid"
    NOT_A_SVID = "not_a_svid"
    REVOKED = "revoked"
    REVOCATION_UNKNOWN = "revocation_unknown"
    DENIED = "denied"
    TRUSTSTORE_MISMATCH = "truststore_mismatch"
    NOT_ALLOWED = "not_allowed"
    MISDIRECTED = "misdirected"
    NO_ROUTE = "no_route"
    BAD_REQUEST = "bad_request"
    URI_TOO_LONG = "uri_too_long"
    HEADERS_TOO_LARGE = "headers_too_large"
    BODY_TOO_LARGE = "body_too_large"
    REQUEST_TIMEOUT = "request_timeout"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    EXPECTATION_FAILED = "expectation_failed"
    NOT_IMPLEMENTED = "not_implemented"
    VERSION_NOT_SUPPORTED = "version_not_supported"
    UPSTREAM_UNAVAILABLE = "upstream_unavailable"
    UPSTREAM_ERROR = "upstream_error"
    UPSTREAM_TIMEOUT = "upstream_timeout"


_STATUS: dict[Reason, int] = {
    Reason.NO_CERTIFICATE: 400,
    Reason.MISDIRECTED: 421,
    Reason.NO_ROUTE: 404,
    Reason.BAD_REQUEST: 400,
    Reason.URI_TOO_LONG: 414,
    Reason.HEADERS_TOO_LARGE: 431,
    Reason.BODY_TOO_LARGE: 413,
    Reason.REQUEST_TIMEOUT: 408,
    Reason.METHOD_NOT_ALLOWED: 405,
    Reason.EXPECTATION_FAILED: 417,
    Reason.NOT_IMPLEMENTED: 501,
    Reason.VERSION_NOT_SUPPORTED: 505,
    Reason.UPSTREAM_UNAVAILABLE: 503,
    Reason.UPSTREAM_ERROR: 502,
    Reason.UPSTREAM_TIMEOUT: 504,
}


def status_of(reason: Reason) -> int:
    """The HTTP status that answers `reason` once a handshake has completed; every other refusal is 403."""
    return _STATUS.get(reason, 403)
