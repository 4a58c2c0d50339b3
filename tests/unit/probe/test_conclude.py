"""What a connection means, case by case; what proves nothing is not taken for proof."""

from dataclasses import replace

import pytest

from mtlsproxy.probe.answers import HttpAnswer, parse_answer
from mtlsproxy.probe.conclude import Demand, End, Finding, Talk, accepts, conclude, weakest
from mtlsproxy.probe.messages import CertificateRequest


def http(status: int, body: str = "") -> HttpAnswer:
    found = parse_answer(f"HTTP/1.1 {status} X\r\n\r\n{body}".encode())
    assert found is not None
    return found


OPEN = Talk(
    protocol="TLSv1.3", cipher="TLS_AES_128_GCM_SHA256", chain=(b"leaf",), requests=(), late=False, sent=False,
    done=True, passed=True, end=End.ANSWERED, alert=None, detail="", answer=http(200),
)  # fmt: skip
ASKED = replace(OPEN, requests=(CertificateRequest(()),))
REFUSED = replace(ASKED, passed=False, end=End.ALERT, alert="certificate_required", detail="alert", answer=None)
SENT = replace(ASKED, sent=True)

TELLING: dict[str, tuple[Talk, Demand, str | None]] = {
    "nothing asked": (OPEN, Demand.NOT_REQUESTED, None),
    "nothing asked, nothing answered": (replace(OPEN, end=End.SILENT, answer=None), Demand.NOT_REQUESTED, None),
    "nothing asked, yet refused": (replace(OPEN, answer=http(496)), Demand.NOT_REQUESTED, None),
    "asked and answered": (ASKED, Demand.REQUESTED, None),
    "asked and forbidden": (replace(ASKED, answer=http(403)), Demand.REQUESTED, None),
    "asked and silent": (replace(ASKED, end=End.SILENT, passed=False, answer=None), Demand.REQUESTED, None),
    "asked, let pass, then closed": (replace(ASKED, end=End.CLOSED, answer=None), Demand.REQUESTED, None),
    "asked, let pass, then an alert": (
        replace(ASKED, end=End.ALERT, alert="internal_error", answer=None), Demand.REQUESTED, None,
    ),
    "refused with an alert": (REFUSED, Demand.REQUIRED, "handshake"),
    "refused in TLS 1.2": (
        replace(REFUSED, protocol="TLSv1.2", done=False, alert="handshake_failure"), Demand.REQUIRED, "handshake",
    ),
    "refused by closing": (replace(REFUSED, end=End.CLOSED, alert=None), Demand.REQUIRED, "handshake"),
    "refused by a reset": (replace(REFUSED, end=End.RESET, alert=None), Demand.REQUIRED, "handshake"),
    "refused late": (replace(REFUSED, late=True), Demand.REQUIRED, "handshake"),
    "refused in HTTP": (
        replace(ASKED, answer=http(400, "No required SSL certificate was sent")), Demand.REQUIRED, "http",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TELLING)
def test_what_is_demanded(case: str) -> None:
    talk, demand, by = TELLING[case]
    found = conclude(talk)
    assert found is not None
    assert (found.demand, found.refused_by) == (demand, by)
    assert found.detail


UNTOLD = {
    "no handshake": replace(OPEN, done=False, end=End.ALERT, alert="handshake_failure", answer=None),
    "our own failure": replace(ASKED, done=False, end=End.FAILED, answer=None),
    "silence in the handshake": replace(ASKED, done=False, passed=False, end=End.SILENT, answer=None),
}


@pytest.mark.parametrize("case", UNTOLD)
def test_what_tells_nothing_is_told_as_nothing(case: str) -> None:
    """An alert that comes before any request for a certificate is about something else."""
    assert conclude(UNTOLD[case]) is None
    assert accepts(UNTOLD[case]).accepted is None


@pytest.mark.parametrize(
    ("talk", "accepted", "words"),
    [
        (SENT, True, "200"),
        (replace(SENT, answer=http(403)), True, "may or may not"),
        (replace(SENT, end=End.SILENT, passed=False, answer=None, detail="silence"), True, "silence"),
        (replace(REFUSED, sent=True, alert="unknown_ca"), False, "unknown_ca"),
        (replace(REFUSED, sent=True, end=End.CLOSED, alert=None), False, "without an alert"),
        (replace(SENT, answer=http(400, "The SSL certificate error")), False, "400"),
        (replace(SENT, answer=http(400, "No required SSL certificate was sent")), False, "400"),
        (ASKED, False, "no signature that its key can make"),
        (OPEN, None, "not sent"),
    ],
)
def test_what_becomes_of_a_certificate(talk: Talk, accepted: bool | None, words: str) -> None:
    found = accepts(talk)
    assert found.accepted is accepted
    assert words in found.detail


def test_a_known_alert_has_its_mend() -> None:
    assert "not trusted there" in accepts(replace(REFUSED, sent=True, alert="unknown_ca")).fix
    assert accepts(replace(REFUSED, sent=True, alert="internal_error")).fix == ""


def test_a_server_is_as_strict_as_its_laxest_version() -> None:
    required, requested, ignored = (Finding(demand, None, demand) for demand in Demand)
    assert weakest((required, required)) == required
    assert weakest((required, requested)) == requested
    assert weakest((requested, ignored, required)) == ignored
