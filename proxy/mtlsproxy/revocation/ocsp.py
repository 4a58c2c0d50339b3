"""OCSP (RFC 6960, profile RFC 5019): the request for a certificate, and what a response really says about it.

A response counts when the certificate's own issuer signed it, or somebody to whom that very key gave the right to
(§4.2.2.2). Everything in it that cannot be understood is refused; whatever the bytes, only OcspError is raised.

NOTE: a delegate without id-pkix-ocsp-nocheck ought to be looked up (§4.2.2.2.1). `decide` does so in the CRLs at hand
for every delegate, and an answer by a revoked one counts for nothing. Where no list knows it is accepted: its issuer's
key vouches for it, and demanding a list would make OCSP useless to the CAs that publish none, for which it is meant.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal

from cryptography import x509 as pyca
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from mtlsproxy.revocation.errors import OcspError
from mtlsproxy.revocation.ocsp_answers import OcspAnswer, OcspAnswers, OcspFailure
from mtlsproxy.revocation.ocsp_names import CERT_ID_HASH, CERT_ID_HASHES, CertId, cert_id
from mtlsproxy.revocation.ocsp_signer import signer_of
from mtlsproxy.revocation.policy import CLOCK_SKEW, OcspPolicy
from mtlsproxy.revocation.wording import moment, span, title
from mtlsproxy.x509 import der as asn1
from mtlsproxy.x509.certificate import Certificate
from mtlsproxy.x509.oddities import silence_oddities

__all__ = [
    "MAX_NONCE",
    "MAX_RESPONSE",
    "OcspAnswer",
    "OcspAnswers",
    "OcspError",
    "OcspFailure",
    "OcspPolicy",
    "build_request",
    "read_response",
]

MAX_RESPONSE = 256 * 1024
"""Octets. An answer has one or two certificates and takes 1 to 5 KiB; beyond this somebody means to keep us busy."""

MAX_NONCE = 32
"""Octets; RFC 8954 §2.1 allows a request 1 to 32 of them."""

_UNPARSABLE = (
    ValueError,  # also asn1.DerError
    TypeError,
    pyca.DuplicateExtension,
    pyca.InvalidVersion,
    pyca.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)
_STATUS_WORDS = {
    ocsp.OCSPResponseStatus.MALFORMED_REQUEST: "malformedRequest: it could not read the request",
    ocsp.OCSPResponseStatus.INTERNAL_ERROR: "internalError: it is in trouble itself",
    ocsp.OCSPResponseStatus.TRY_LATER: "tryLater: it cannot answer now",
    ocsp.OCSPResponseStatus.SIG_REQUIRED: "sigRequired: it answers signed requests only",
    ocsp.OCSPResponseStatus.UNAUTHORIZED: "unauthorized: it does not answer for this CA, or not to us",
}
_STATUS: Mapping[ocsp.OCSPCertStatus, Literal["good", "unknown", "revoked"]] = {
    ocsp.OCSPCertStatus.GOOD: "good",
    ocsp.OCSPCertStatus.UNKNOWN: "unknown",
    ocsp.OCSPCertStatus.REVOKED: "revoked",
}
_BY_SEVERITY = tuple(_STATUS)
_EXTENSIONS_TAG = 0xA1  # in a SingleResponse (§4.2.1): [1], after certID, certStatus and thisUpdate
_VERSION_TAG = 0xA0
_BOOLEAN = 0x01


def build_request(certificate: Certificate, issuer: Certificate, nonce: bytes | None) -> bytes:
    """The DER of a request for `certificate` alone. Its certID is in SHA-1, which all know (RFC 5019 §2.1.1).

    nonce: 1 to 32 octets that nobody can foresee (RFC 8954), or None. Raises OcspError for a certificate that cannot be
    asked about, one with a negative serial number; ValueError for another nonce.
    """
    if nonce is not None and not 1 <= len(nonce) <= MAX_NONCE:
        raise ValueError(f"a nonce has 1 to {MAX_NONCE} octets, not {len(nonce)}")
    if certificate.serial < 0:
        raise OcspError(f"{title(certificate)} has a negative serial number, about which OCSP is not asked")
    wanted = cert_id(certificate, issuer, CERT_ID_HASH)
    builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(
        wanted.issuer_name_hash, wanted.issuer_key_hash, wanted.serial, CERT_ID_HASH
    )
    if nonce is not None:
        builder = builder.add_extension(pyca.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


def read_response(
    der: bytes,
    certificate: Certificate,
    issuer: Certificate,
    nonce: bytes | None,
    at: datetime,
    policy: OcspPolicy,
) -> OcspAnswer:
    """What `der`, exactly one response, says about `certificate` at an aware time. nonce: the request's.

    Raises OcspError for a response that answers nothing. `revoked` is an answer however old it is: so is a list's.
    """
    if len(der) > MAX_RESPONSE:
        raise OcspError(f"the response has {len(der)} octets; {MAX_RESPONSE} are allowed")
    try:
        silence_oddities()
        return _read(ocsp.load_der_ocsp_response(der), certificate, issuer, nonce, at, policy)
    except _UNPARSABLE as error:
        raise OcspError(f"{len(der)} octets are no OCSP response that RFC 6960 allows: {error}") from error


def _read(
    response: ocsp.OCSPResponse,
    certificate: Certificate,
    issuer: Certificate,
    nonce: bytes | None,
    at: datetime,
    policy: OcspPolicy,
) -> OcspAnswer:
    if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        raise OcspError(f"the responder answered {_STATUS_WORDS[response.response_status]} (RFC 6960 §2.3)")
    signer = signer_of(response, issuer, at, policy)
    _refuse_unknown_critical(response)
    _compare_nonce(response, nonce, policy)
    single = _ours(response, certificate, issuer)
    answer = _answer(response, single, signer, issuer, policy)
    if answer.status != "revoked":
        _refuse_untimely(answer, at)
    return answer


def _answer(
    response: ocsp.OCSPResponse,
    single: ocsp.OCSPSingleResponse,
    delegate: Certificate | None,
    issuer: Certificate,
    policy: OcspPolicy,
) -> OcspAnswer:
    this_update, next_update = single.this_update_utc, single.next_update_utc
    if next_update is not None and next_update < this_update:
        raise OcspError(f"the answer ends at {moment(next_update)}, before it begins at {moment(this_update)}")
    expires = _later(this_update, policy.max_age) if next_update is None else _later(next_update, CLOCK_SKEW)
    if delegate is not None:
        expires = min(expires, delegate.not_after)
    reason = single.revocation_reason
    return OcspAnswer(
        status=_STATUS[single.certificate_status],
        this_update=this_update,
        next_update=next_update,
        revoked_at=single.revocation_time_utc,
        reason=None if reason is None else reason.value,
        responder=(delegate or issuer).subject,
        expires=expires,
        delegate=delegate,
    )


def _ours(response: ocsp.OCSPResponse, certificate: Certificate, issuer: Certificate) -> ocsp.OCSPSingleResponse:
    """The single response with our certID, all four fields of it; where there are several, the worst (fail closed)."""
    ours, others = [], 0
    for single in response.responses:
        if _names(single, certificate, issuer):
            ours.append(single)
        else:
            others += 1
    if not ours:
        raise OcspError(f"the response is about {others} other certificates, not about {title(certificate)}")
    return max(ours, key=lambda single: (_BY_SEVERITY.index(single.certificate_status), single.this_update_utc))


def _names(single: ocsp.OCSPSingleResponse, certificate: Certificate, issuer: Certificate) -> bool:
    if single.serial_number != certificate.serial:
        return False  # most of many are told apart without a hash
    try:
        algorithm = single.hash_algorithm
    except UnsupportedAlgorithm:
        return False  # an answer about some certificate in a hash that we do not know is none about ours
    named = CertId(single.issuer_name_hash, single.issuer_key_hash, single.serial_number)
    return isinstance(algorithm, CERT_ID_HASHES) and named == cert_id(certificate, issuer, algorithm)


def _refuse_untimely(answer: OcspAnswer, at: datetime) -> None:
    """RFC 6960 §3.2 5 and 6, §4.2.2.1: thisUpdate and nextUpdate decide; producedAt says nothing about the status."""
    if answer.this_update > at + CLOCK_SKEW:
        ahead = span(answer.this_update - at)
        raise OcspError(f"the answer is from the future: its thisUpdate is {moment(answer.this_update)}, in {ahead}")
    if at > answer.expires:
        ended = "max_age counts from its thisUpdate" if answer.next_update is None else "its nextUpdate"
        ends = answer.next_update or answer.this_update
        raise OcspError(f"the answer is no longer fresh: {ended}, {moment(ends)}, {span(at - ends)} ago")


def _compare_nonce(response: ocsp.OCSPResponse, nonce: bytes | None, policy: OcspPolicy) -> None:
    """RFC 8954 §2.1. An answer that was made before we asked has none (RFC 5019 §4): that is for policy to allow."""
    try:
        answered = response.extensions.get_extension_for_class(pyca.OCSPNonce).value.nonce
    except pyca.ExtensionNotFound:
        if policy.require_nonce:
            raise OcspError("the response lacks the nonce of the request, and require_nonce is set") from None
        return
    if nonce is None:
        if policy.require_nonce:
            raise OcspError("require_nonce is set, and the request had no nonce")
        return
    if answered != nonce:
        raise OcspError("the response repeats another nonce than the request's: it answers another request")


def _refuse_unknown_critical(response: ocsp.OCSPResponse) -> None:
    """RFC 6960 §4.4: of extensions that may be critical we act upon the nonce."""
    for extension in response.extensions:
        if extension.critical and not isinstance(extension.value, pyca.OCSPNonce):
            raise OcspError(f"the response has an unknown critical extension, {extension.oid.dotted_string}")
    for oid in _critical_in_singles(response.tbs_response_bytes):
        raise OcspError(f"an answer has an unknown critical extension, {oid}")


def _critical_in_singles(data: bytes) -> Iterator[str]:
    """Critical extensions of any SingleResponse in a ResponseData (§4.2.1): the library shows those of a lone one."""
    fields = asn1.children(data, *asn1.enter(data, 0, len(data), asn1.SEQUENCE))
    responses = fields[3] if fields[0][0] == _VERSION_TAG else fields[2]
    for _, at, end in asn1.children(data, *asn1.enter(data, *responses[1:], asn1.SEQUENCE)):
        for tag, start, after in asn1.children(data, *asn1.enter(data, at, end, asn1.SEQUENCE))[3:]:
            if tag == _EXTENSIONS_TAG:
                yield from _critical(data, *asn1.enter(data, start, after, _EXTENSIONS_TAG))


def _critical(data: bytes, at: int, end: int) -> Iterator[str]:
    for _, start, after in asn1.children(data, *asn1.enter(data, at, end, asn1.SEQUENCE)):
        parts = asn1.children(data, *asn1.enter(data, start, after, asn1.SEQUENCE))
        if len(parts) > 1 and parts[1][0] == _BOOLEAN:  # DER: FALSE, the default, is not written
            yield asn1.dotted(data, *parts[0][1:])


def _later(begin: datetime, by: timedelta) -> datetime:
    try:
        return begin + by
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)
