"""A message that cannot be accepted, with the reason that answers it."""

from mtlsproxy.reasons import Reason


class BadMessage(Exception):
    """`reason` selects the answer, `detail` says in words what is wrong. Pure data: no socket is involved."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def bad_request(detail: str) -> BadMessage:
    return BadMessage(Reason.BAD_REQUEST, detail)
