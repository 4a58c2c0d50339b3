"""Whether a connection's client is still who it was: its verdict, under the rules of now."""

import math
from collections.abc import Callable
from time import time

from mtlsproxy.http1.record import Recorder
from mtlsproxy.http1.service import Rules, Service
from mtlsproxy.http1.visitor import Visitor


class Standing:
    """Of one connection. asking: the verdict waits for an answer about a certificate; then `answered` is called."""

    __slots__ = ("_answered", "_deadline", "_presented", "_recorder", "_service", "asking", "rules", "visitor")

    def __init__(
        self,
        service: Service,
        presented: tuple[bytes, ...],
        visitor: Visitor,
        recorder: Recorder,
        answered: Callable[[], None],
    ) -> None:
        self._service = service
        self._presented = presented
        self._recorder = recorder
        self._answered = answered
        self.rules: Rules = service.rules
        self.visitor = visitor
        self._deadline = _deadline_of(visitor)
        self.asking = False

    @property
    def is_over(self) -> bool:
        """The Snapshot has changed, or the verdict's deadline has passed: judge again before anything else passes."""
        return self.rules is not self._service.rules or time() >= self._deadline

    def ran_out(self, now: float) -> bool:
        """now: Unix seconds."""
        return self._deadline <= now

    def renew(self) -> bool:
        """Judge again. False: the verdict has to wait for an answer, and nothing may pass until then."""
        if self.asking:
            return False
        rules = self._service.rules
        verdict = rules.judge(self._presented)
        if verdict.wanted:
            self.asking = True
            self._service.resolve(verdict.wanted, self._on_answer)
            return False
        self.rules = rules
        self.visitor = self._recorder.visitor = Visitor(verdict, self.visitor.known)
        self._deadline = _deadline_of(self.visitor)
        return True

    def close(self) -> None:
        """The connection is gone: nobody is to be told any more."""
        self._answered = _nobody

    def _on_answer(self) -> None:
        self.asking = False
        self._answered()


def _nobody() -> None:
    """Whom a closed connection's standing tells."""


def _deadline_of(visitor: Visitor) -> float:
    """Unix seconds until which the verdict holds; a refusal ends with its connection's first answer."""
    deadline = visitor.verdict.deadline
    return deadline.timestamp() if deadline is not None else math.inf
