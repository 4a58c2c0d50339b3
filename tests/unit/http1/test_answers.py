"""Refusals are problem+json (RFC 9457) with Proxy-Status (RFC 9209), framed by their length; all reasons have one."""

import json

import pytest

from mtlsproxy.http1.answers import problem
from mtlsproxy.reasons import Reason, status_of

UNANSWERED = {
    Reason.NO_POSSESSION,
    Reason.HANDSHAKE_TIMEOUT,
    Reason.PROTOCOL_ERROR,
    Reason.CLIENT_ABORTED,
    Reason.TOO_MANY_CONNECTIONS,
}
"""They end handshakes, or say that nobody is there any more to be answered."""

ANSWERS = [reason for reason in Reason if reason not in UNANSWERED]


def split(answer: bytes) -> tuple[str, dict[str, str], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    line, *fields = head.decode("ascii").split("\r\n")
    return line, dict(field.split(": ", 1) for field in fields), body


@pytest.mark.parametrize("reason", ANSWERS)
def test_every_reason_has_a_whole_answer(reason: Reason) -> None:
    line, fields, body = split(problem(reason, "id-1", "what was wrong", close=False, head_only=False))
    assert line.startswith(f"HTTP/1.1 {status_of(reason)} ")
    assert int(fields["Content-Length"]) == len(body)
    assert fields["Content-Type"] == "application/problem+json"
    assert fields["Proxy-Status"].startswith("mtlsproxy; error=")
    assert fields["Proxy-Status"].endswith(f'details="{reason}"')
    assert fields["X-Request-Id"] == "id-1"
    assert "Connection" not in fields
    content = json.loads(body)
    assert content.items() >= {"status": status_of(reason), "reason": reason.value, "request_id": "id-1"}.items()
    assert content["type"]
    assert content["title"]


@pytest.mark.parametrize("reason", ANSWERS)
def test_a_title_is_for_people_who_do_not_know_the_reasons_code(reason: Reason) -> None:
    """RFC 9457 §3.1.3: a short summary of the type of problem, of which "Forbidden" says nothing."""
    title = json.loads(split(problem(reason, "id-1", "", close=False, head_only=False))[2])["title"]
    assert title != "Forbidden"
    assert "_" not in title
    assert title[0].isupper()
    assert not title.endswith(".")


@pytest.mark.parametrize("reason", ANSWERS)
def test_what_is_wrong_with_trust_is_not_told_in_words(reason: Reason) -> None:
    """Details of certificates, rules and upstreams stay in the log; those of a malformed request help its sender."""
    _, _, body = split(problem(reason, "id-1", "secret words", close=False, head_only=False))
    told = "secret words" in body.decode()
    assert told is (
        status_of(reason) in (400, 405, 408, 413, 414, 417, 431, 501, 505) and reason is not Reason.NO_CERTIFICATE
    )


def test_an_answer_to_head_has_the_length_and_not_the_body() -> None:
    whole = problem(Reason.NOT_ALLOWED, "i", "", close=False, head_only=False)
    alone = problem(Reason.NOT_ALLOWED, "i", "", close=False, head_only=True)
    assert alone == whole[: whole.index(b"\r\n\r\n") + 4]


def test_close_is_said_when_the_connection_closes() -> None:
    _, fields, _ = split(problem(Reason.BAD_REQUEST, "i", "", close=True, head_only=False))
    assert fields["Connection"] == "close"


def test_a_method_that_is_not_allowed_says_which_are() -> None:
    """RFC 9110 §15.5.6: 405 must carry Allow; no other answer does."""
    _, fields, _ = split(
        problem(Reason.METHOD_NOT_ALLOWED, "i", "", close=False, head_only=False, allow=("GET", "PUT"))
    )
    assert fields["Allow"] == "GET, PUT"
    _, fields, _ = split(problem(Reason.NO_ROUTE, "i", "", close=False, head_only=False))
    assert "Allow" not in fields


def test_a_detail_cannot_leave_its_place() -> None:
    _, fields, body = split(problem(Reason.BAD_REQUEST, "i", 'a"\r\n\r\n\x00é', close=False, head_only=False))
    assert int(fields["Content-Length"]) == len(body)
    assert json.loads(body)["detail"] == 'a"\r\n\r\n\x00é'
