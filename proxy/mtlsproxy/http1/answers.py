"""Refusals as answers: application/problem+json (RFC 9457) with Proxy-Status (RFC 9209). Pure."""

import json
from http import HTTPStatus

from mtlsproxy.reasons import Reason, status_of

_TITLES = {
    Reason.NO_CERTIFICATE: "A client certificate is required",
    Reason.UNTRUSTED_ISSUER: "The client certificate was not issued by a certificate authority that is trusted here",
    Reason.EXPIRED: "The client certificate, or one of its issuers' certificates, has expired",
    Reason.NOT_YET_VALID: "The client certificate, or one of its issuers' certificates, is not valid yet",
    Reason.BAD_SIGNATURE: "A signature in the client's certificate chain is wrong",
    Reason.PATH_LENGTH: "The client's certificate chain has more certificate authorities than one of them allows",
    Reason.NAME_CONSTRAINT: "The client certificate holds a name that one of its issuers may not certify",
    Reason.CHAIN_TOO_LONG: "The client's certificate chain is too long",
    Reason.NOT_A_CA: "An issuer in the client's certificate chain is not a certificate authority",
    Reason.CA_AS_LEAF: "A certificate authority's own certificate was presented as the client's",
    Reason.KEY_USAGE: "The client certificate's key usage does not allow client authentication",
    Reason.MALFORMED_CERTIFICATE: "A certificate in the client's chain is malformed",
    Reason.EKU_MISSING: "The client certificate does not say that it is for client authentication",
    Reason.EKU_MISMATCH: "The client certificate was issued for another purpose than the one required here",
    Reason.WEAK_KEY: "A key in the client's certificate chain is too weak",
    Reason.WEAK_SIGNATURE: "A signature in the client's certificate chain uses an algorithm that is too weak",
    Reason.POLICY_OID: "The client certificate was issued under none of the certificate policies required here",
    Reason.NOT_A_SVID: "The client certificate is not an X.509-SVID of the trust domain required here",
    Reason.REVOKED: "The client certificate, or one of its issuers' certificates, has been revoked",
    Reason.REVOCATION_UNKNOWN: "It cannot be established that the client certificate has not been revoked",
    Reason.DENIED: "This client is denied",
    Reason.TRUSTSTORE_MISMATCH: "This route accepts clients of other certificate authorities",
    Reason.NOT_ALLOWED: "This client may not use this route",
    Reason.MISDIRECTED: "This connection's certificate does not stand for the requested host",
    Reason.NO_ROUTE: "Nothing is served here",
    Reason.UPSTREAM_UNAVAILABLE: "The service behind this proxy cannot be reached",
    Reason.UPSTREAM_ERROR: "The service behind this proxy gave no usable answer",
    Reason.UPSTREAM_TIMEOUT: "The service behind this proxy did not answer in time",
}
"""For people, who may not know this program; the request's own faults are called as HTTP calls them."""

_PROXY_ERROR = {
    Reason.UPSTREAM_UNAVAILABLE: "destination_unavailable",
    Reason.UPSTREAM_ERROR: "http_response_incomplete",
    Reason.UPSTREAM_TIMEOUT: "connection_timeout",
}
"""RFC 9209 §2.3; every other refusal is either the request's fault or a denial."""

_REQUEST_ERRORS = frozenset(
    {
        Reason.BAD_REQUEST,
        Reason.URI_TOO_LONG,
        Reason.HEADERS_TOO_LARGE,
        Reason.BODY_TOO_LARGE,
        Reason.REQUEST_TIMEOUT,
        Reason.METHOD_NOT_ALLOWED,
        Reason.EXPECTATION_FAILED,
        Reason.NOT_IMPLEMENTED,
        Reason.VERSION_NOT_SUPPORTED,
    }
)
"""What is wrong with these may be told to the client in words; about trust it learns the reason alone."""


def problem(
    reason: Reason,
    request_id: str,
    detail: str,
    *,
    close: bool,
    head_only: bool,
    allow: tuple[str, ...] = (),
    asked: bool = False,
) -> bytes:
    """A whole answer. head_only: to a HEAD request. allow: the methods for Allow (RFC 9110 §10.2.1). asked: whether an
    upstream had the request, which then took its time."""
    status = status_of(reason)
    body: dict[str, object] = {
        "type": f"urn:mtlsproxy:reason:{reason}",
        "title": _TITLES.get(reason) or HTTPStatus(status).phrase,
        "status": status,
        "reason": reason.value,
        "request_id": request_id,
    }
    if reason in _REQUEST_ERRORS and detail:
        body["detail"] = detail
    content = json.dumps(body).encode("ascii") + b"\n"
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "Content-Type: application/problem+json",
        f"Content-Length: {len(content)}",
        "Cache-Control: no-store",
        f'Proxy-Status: mtlsproxy; error={_proxy_error(reason, asked=asked)}; details="{reason}"',
        f"X-Request-Id: {request_id}",
    ]
    if reason is Reason.METHOD_NOT_ALLOWED:
        lines.append(f"Allow: {', '.join(allow)}")
    if close:
        lines.append("Connection: close")
    head = "\r\n".join(lines).encode("ascii") + b"\r\n\r\n"
    return head if head_only else head + content


def _proxy_error(reason: Reason, *, asked: bool) -> str:
    if reason is Reason.UPSTREAM_TIMEOUT and asked:
        return "http_response_timeout"
    if error := _PROXY_ERROR.get(reason):
        return error
    return "http_request_error" if reason in _REQUEST_ERRORS or reason is Reason.NO_ROUTE else "http_request_denied"
