"""HTTP answers that are for want of a certificate, about a bad one, or about something else."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlsproxy.probe.answers import MAX_ANSWER, HttpAnswer, is_complete, parse_answer
from mtlsproxy.reasons import Reason


def answered(status: int, body: str, kind: str = "text/html") -> HttpAnswer:
    data = f"HTTP/1.1 {status} Whatever\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    found = parse_answer(data.encode())
    assert found is not None
    assert is_complete(data.encode())
    return found


WANTING = [
    (400, "<h1>400 Bad Request</h1><center>No required SSL certificate was sent</center>"),  # nginx, Cloudflare
    (403, "HTTP Error 403.7 - Forbidden"),  # IIS
    (403, "A client certificate is required to access this resource"),
    (401, '{"error": "Client certificate required"}'),
    (403, "This service requires a valid client certificate"),
    (403, "client certificate not provided"),
    (496, ""),
]
BAD = [
    (400, "<h1>400 Bad Request</h1><center>The SSL certificate error</center>"),  # nginx
    (403, "HTTP Error 403.13 - client certificate revoked"),  # IIS
    (403, "invalid client certificate"),
    (401, "Client certificate has expired"),
    (495, ""),
]
OTHER = [
    (200, "No required SSL certificate was sent"),
    (404, "a client certificate is required"),
    (403, "Forbidden"),
    (400, "<center>The plain HTTP request was sent to HTTPS port</center>"),
    (403, "a certificate of vaccination is required"),
    (500, "invalid client certificate"),
]


@pytest.mark.parametrize(("status", "body"), WANTING)
def test_for_want_of_a_certificate(status: int, body: str) -> None:
    assert answered(status, body).wants_certificate
    assert answered(status, body).refuses_certificate


@pytest.mark.parametrize(("status", "body"), BAD)
def test_about_a_bad_one(status: int, body: str) -> None:
    assert not answered(status, body).wants_certificate
    assert answered(status, body).refuses_certificate


@pytest.mark.parametrize(("status", "body"), OTHER)
def test_about_something_else(status: int, body: str) -> None:
    assert not answered(status, body).wants_certificate
    assert not answered(status, body).refuses_certificate


MET_BY_THE_VERIFIED = {"not_allowed", "truststore_mismatch", "misdirected", "no_route", "bad_request", "upstream_error"}


@pytest.mark.parametrize(
    "reason", [Reason.NO_CERTIFICATE, Reason.REVOKED, Reason.DENIED, *map(Reason, sorted(MET_BY_THE_VERIFIED))]
)
def test_this_proxy_s_own_word_decides(reason: Reason) -> None:
    found = answered(400, json.dumps({"reason": reason}), "application/problem+json")
    assert found.reason == reason
    assert found.wants_certificate == (reason is Reason.NO_CERTIFICATE)
    assert found.refuses_certificate == (reason not in MET_BY_THE_VERIFIED)


@pytest.mark.parametrize(
    "body", ["", "{", "[]", '{"reason": 1}', '{"reason": "tired"}', '{"reason": ["revoked"]}', "{}", "[" * 9000]
)
def test_another_program_s_problem_is_no_word_of_ours(body: str) -> None:
    assert answered(400, body, "application/problem+json").reason is None


@pytest.mark.parametrize(
    "data",
    [b"", b"HTTP/1.1 200 OK", b"HTTP/2 200\r\n", b"SSH-2.0-x\r\n", b"HTTP/1.1 999 x\r\n", b"HTTP/1.1 2x0 OK\r\n\r\n"],
)
def test_what_is_no_answer(data: bytes) -> None:
    assert parse_answer(data) is None


def test_an_answer_without_a_phrase_and_with_bare_line_feeds() -> None:
    found = parse_answer(b"HTTP/1.0 403\n\nclient certificate required")
    assert found is not None
    assert (found.status, found.title, found.wants_certificate) == (403, "403", True)


@pytest.mark.parametrize(
    ("data", "complete"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh", False),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n", False),
        (b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\nhi", False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\n", False),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * MAX_ANSWER, True),
    ],
)
def test_when_there_is_no_more_to_wait_for(data: bytes, complete: bool) -> None:
    assert is_complete(data) is complete


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"HTTP/1.1 400 Bad\r\nContent-Type: application/problem+json\r\n\r\n"]),
)
def test_any_bytes_are_an_answer_or_none(data: bytes, begin: bytes) -> None:
    found = parse_answer(begin + data)
    assert is_complete(begin + data) in (True, False)
    assert (found is not None) >= bool(begin)
    if found is not None:
        assert found.refuses_certificate >= found.wants_certificate
