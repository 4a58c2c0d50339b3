"""From an exception of OpenSSL's to the reason that is logged, counted and explained. Pure."""

import ssl

from mtlsproxy.reasons import Reason

_BY_VERIFY_CODE = {
    2: Reason.UNTRUSTED_ISSUER,
    7: Reason.BAD_SIGNATURE,
    9: Reason.NOT_YET_VALID,
    10: Reason.EXPIRED,
    18: Reason.UNTRUSTED_ISSUER,
    19: Reason.UNTRUSTED_ISSUER,
    20: Reason.UNTRUSTED_ISSUER,
    21: Reason.UNTRUSTED_ISSUER,
    22: Reason.CHAIN_TOO_LONG,
    23: Reason.REVOKED,
    25: Reason.PATH_LENGTH,
    26: Reason.EKU_MISMATCH,
    27: Reason.UNTRUSTED_ISSUER,
    32: Reason.NOT_A_CA,
    34: Reason.MALFORMED_CERTIFICATE,
    47: Reason.NAME_CONSTRAINT,
    48: Reason.NAME_CONSTRAINT,
    51: Reason.NAME_CONSTRAINT,
    52: Reason.NAME_CONSTRAINT,
    53: Reason.NAME_CONSTRAINT,
    66: Reason.WEAK_KEY,
    67: Reason.WEAK_KEY,
    68: Reason.WEAK_SIGNATURE,
    79: Reason.NOT_A_CA,
}
"""X509_V_ERR_* of OpenSSL 3 (measured; see x509_vfy.h) to reasons."""

_BY_REASON = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": Reason.NO_CERTIFICATE,
    "BAD_SIGNATURE": Reason.NO_POSSESSION,
    "BAD_ECPOINT": Reason.NO_POSSESSION,
    "UNEXPECTED_EOF_WHILE_READING": Reason.CLIENT_ABORTED,
}

_CERTIFICATE_PARSING = ("ASN1", "X509", "asn1", "x509")


def reason_of(error: Exception) -> Reason:
    """The reason for a handshake that ended with `error` (ssl.SSLError or OSError)."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _BY_VERIFY_CODE.get(error.verify_code, Reason.UNTRUSTED_ISSUER)
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return Reason.CLIENT_ABORTED
    if isinstance(error, ssl.SSLError):
        name = error.reason or ""
        if name in _BY_REASON:
            return _BY_REASON[name]
        if "_ALERT_" in name:
            return Reason.CLIENT_ABORTED  # the client's alert: it did not like us
        # A certificate that d2i_X509 refuses: the SSL library's own error, with no name of its own.
        if (error.library or "") in _CERTIFICATE_PARSING or "ASN1 lib" in str(error):
            return Reason.MALFORMED_CERTIFICATE
        return Reason.PROTOCOL_ERROR
    return Reason.CLIENT_ABORTED


def detail_of(error: Exception) -> str:
    """What OpenSSL said, in its own words, without the source line of CPython's."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"OpenSSL: {error.verify_message} (code {error.verify_code})"
    if isinstance(error, ssl.SSLError) and error.reason:
        return f"OpenSSL: {error.reason.replace('_', ' ').lower()}"
    return str(error) or type(error).__name__
