"""Refusals as answers: application/problem+json (RFC 9457) with Proxy-Status (RFC 9209). Pure."""

import json
from http import HTTPStatus

from mtlsproxy.reasons import Reason, status_of

_TITLES = {
    Reason.NO_CERTIFICATE: "A client certificate is required",
    Reason.REVOKED: "The client certificate has been revoked",
    Reason.REVOCATION_UNKNOWN: "It cannot be established that the client certificate is not revoked",
    Reason.NOT_ALLOWED: "This client may not use this route",
    Reason.DENIED: "This client is denied",
    Reason.TRUSTSTORE_MISMATCH: "This route accepts clients of other certificate authorities",
    Reason.MISDIRECTED: "This connection's certificate does not stand for the requested host",
    Reason.NO_ROUTE: "Nothing is served here",
    Reason.UPSTREAM_UNAVAILABLE: "The service behind this proxy cannot be reached",
    Reason.UPSTREAM_ERROR: "The service behind this proxy gave no usable answer",
    Reason.UPSTREAM_TIMEOUT: "The service behind this proxy did not answer in time",
}

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
    reason: Reason, request_id: str, detail: str, *, close: bool, head_only: bool, allow: tuple[str, ...] = ()
) -> bytes:
    """A whole answer. head_only: to a HEAD request. allow: the methods for Allow (RFC 9110 §10.2.1)."""
    status = status_of(reason)
    body: dict[str, object] = {
        "type": f"urn:mtlsproxy:reason:{reason}",
        "title": _TITLES.get(reason) or _default_title(reason, status),
        "status": status,
        "reason": reason.value,
        "request_id": request_id,
    }
    if reason in _REQUEST_ERRORS and detail:
        body["detail"] = detail
    content = json.dumps(body).encode("ascii") + b"\n"
    error = _PROXY_ERROR.get(reason) or (
        "http_request_error" if reason in _REQUEST_ERRORS or reason is Reason.NO_ROUTE else "http_request_denied"
    )
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "Content-Type: application/problem+json",
        f"Content-Length: {len(content)}",
        "Cache-Control: no-store",
        f'Proxy-Status: mtlsproxy; error={error}; details="{reason}"',
        f"X-Request-Id: {request_id}",
    ]
    if reason is Reason.METHOD_NOT_ALLOWED:
        lines.append(f"Allow: {', '.join(allow)}")
    if close:
        lines.append("Connection: close")
    head = "\r\n".join(lines).encode("ascii") + b"\r\n\r\n"
    return head if head_only else head + content


def _default_title(reason: Reason, status: int) -> str:
    if status == 403:
        return f"The client certificate is refused: {reason.value.replace('_', ' ')}"
    return HTTPStatus(status).phrase
