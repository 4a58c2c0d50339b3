"""OpenSSL's failures under our reasons: every code that is named, and what an unknown one becomes."""

import ssl

import pytest

from mtlsproxy.reasons import Reason
from mtlsproxy.tls.failures import detail_of, reason_of


def verification(code: int, message: str = "said so") -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, message
    error.reason, error.library = "CERTIFICATE_VERIFY_FAILED", "SSL"
    return error


def failure(reason: str, library: str = "SSL", kind: type[ssl.SSLError] = ssl.SSLError) -> ssl.SSLError:
    error = kind(1, "[SSL] something (_ssl.c:1006)")
    error.reason, error.library = reason, library
    return error


VERIFY_CODES = {
    7: Reason.BAD_SIGNATURE,
    9: Reason.NOT_YET_VALID,
    10: Reason.EXPIRED,
    18: Reason.UNTRUSTED_ISSUER,
    19: Reason.UNTRUSTED_ISSUER,
    20: Reason.UNTRUSTED_ISSUER,
    22: Reason.CHAIN_TOO_LONG,
    23: Reason.REVOKED,
    25: Reason.PATH_LENGTH,
    26: Reason.EKU_MISMATCH,
    34: Reason.MALFORMED_CERTIFICATE,
    47: Reason.NAME_CONSTRAINT,
    48: Reason.NAME_CONSTRAINT,
    66: Reason.WEAK_KEY,
    67: Reason.WEAK_KEY,
    68: Reason.WEAK_SIGNATURE,
    79: Reason.NOT_A_CA,
}
"""As measured (security.md)."""


@pytest.mark.parametrize(("code", "reason"), VERIFY_CODES.items())
def test_verify_codes(code: int, reason: Reason) -> None:
    assert reason_of(verification(code)) is reason


@pytest.mark.parametrize("code", [1, 50, 999])
def test_a_code_without_a_name_is_untrusted(code: int) -> None:
    """Whatever OpenSSL did not like about the chain, it did not trust it."""
    assert reason_of(verification(code)) is Reason.UNTRUSTED_ISSUER


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (failure("PEER_DID_NOT_RETURN_A_CERTIFICATE"), Reason.NO_CERTIFICATE),
        (failure("BAD_SIGNATURE"), Reason.NO_POSSESSION),
        (failure("UNEXPECTED_EOF_WHILE_READING"), Reason.CLIENT_ABORTED),
        (failure("EOF occurred", kind=ssl.SSLEOFError), Reason.CLIENT_ABORTED),
        (failure("", kind=ssl.SSLZeroReturnError), Reason.CLIENT_ABORTED),
        (failure("TLSV1_ALERT_UNKNOWN_CA"), Reason.CLIENT_ABORTED),
        (failure("SSLV3_ALERT_CERTIFICATE_UNKNOWN"), Reason.CLIENT_ABORTED),
        (failure("WRONG_TAG", "ASN1"), Reason.MALFORMED_CERTIFICATE),
        (failure("NO_SHARED_CIPHER"), Reason.PROTOCOL_ERROR),
        (failure("UNSUPPORTED_PROTOCOL"), Reason.PROTOCOL_ERROR),
        (ConnectionResetError(104, "Connection reset by peer"), Reason.CLIENT_ABORTED),
    ],
)
def test_other_failures(error: Exception, reason: Reason) -> None:
    assert reason_of(error) is reason


def test_a_failure_is_never_a_request_s_reason() -> None:
    """What ends a handshake is about the certificate or the handshake; a reason of a request would confuse a reader."""
    assert {reason_of(verification(code)) for code in range(100)} <= set(VERIFY_CODES.values())


def test_details_are_openssl_s_words() -> None:
    """With the code to look up, without CPython's source line."""
    assert detail_of(verification(10, "certificate has expired")) == "OpenSSL: certificate has expired (code 10)"
    assert detail_of(failure("NO_SHARED_CIPHER")) == "OpenSSL: no shared cipher"
    assert detail_of(ConnectionResetError(104, "Connection reset by peer")) == "[Errno 104] Connection reset by peer"
    assert detail_of(OSError()) == "OSError"
