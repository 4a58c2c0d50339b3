"""The circuit breaker: a server that fails again and again is left alone for a while. Pure: time is a parameter.

closed     everything goes to it; `failures` in a row open it
open       nothing goes to it for `open_for`
half-open  one request tries; its answer closes it, its failure opens it again

While all failures in a row are one client's, it is open for that client alone: who finds a request that makes a server
end the connection must not shut the others out with it.
"""

from enum import Enum
from typing import Final


class State(Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Event(Enum):
    """What happens to a breaker."""

    ANSWER = "an answer"
    FAILURE = "a failure, and not too many in a row"
    TOO_MANY = "a failure too many"
    TRIAL = "a request that tries"


_NEXT: Final[dict[State, dict[Event, State]]] = {
    State.CLOSED: {
        Event.ANSWER: State.CLOSED,
        Event.FAILURE: State.CLOSED,
        Event.TOO_MANY: State.OPEN,
    },
    State.OPEN: {
        # Outcomes of requests from before it opened: they say nothing about the server of now.
        Event.ANSWER: State.OPEN,
        Event.FAILURE: State.OPEN,
        Event.TOO_MANY: State.OPEN,
        Event.TRIAL: State.HALF_OPEN,
    },
    State.HALF_OPEN: {
        Event.ANSWER: State.CLOSED,
        Event.FAILURE: State.OPEN,
        Event.TOO_MANY: State.OPEN,
        Event.TRIAL: State.HALF_OPEN,
    },
}


class Breaker:
    """Of one server. Times are seconds of a clock that only goes forward."""

    __slots__ = ("_failures", "_until", "only", "open_for", "row", "state")

    def __init__(self, failures: int, open_for: float) -> None:
        """failures: in a row, that open it. open_for: seconds."""
        self._failures = failures
        self.open_for = open_for
        self._until = 0.0
        self.state = State.CLOSED
        self.row = 0
        """Failures since the last answer."""
        self.only: str | None = None
        """The client whose requests these all were; None: several clients', or not a request's fault."""

    def take_over(self, other: "Breaker") -> None:
        """Go on from where `other`, the same server's, was (a reload)."""
        self.state, self.row, self.only, self._until = other.state, other.row, other.only, other._until

    def allows(self, now: float) -> bool:
        """Whether a request may go to the server. In half-open one is on its way; if nothing is heard of it for
        `open_for` (its client left), another may."""
        return self.state is State.CLOSED or now >= self._until

    def allows_to(self, client: str | None, now: float) -> bool:
        """Whether a request of this client may go to the server."""
        return self.allows(now) or (self.only is not None and client != self.only)

    def left(self, now: float) -> float:
        """Seconds until it allows a request."""
        return 0.0 if self.allows(now) else self._until - now

    def trying(self, now: float) -> None:
        """A request goes to the server that `allows` let pass while it was not closed."""
        self._move(Event.TRIAL)
        self._until = now + self.open_for

    def answered(self) -> None:
        """The server has answered a request."""
        self._move(Event.ANSWER)
        if self.state is State.CLOSED:
            self.row = 0

    def failed(self, now: float, client: str | None = None) -> None:
        """The server has failed. client: whose request it was that it ended or did not answer, where it was one."""
        if self.row == 0:
            self.only = client
        elif client != self.only:
            self.only = None
        self.row += 1
        was = self.state
        self._move(Event.TOO_MANY if self.row >= self._failures else Event.FAILURE)
        if self.state is State.OPEN and was is not State.OPEN:
            self._until = now + self.open_for

    def _move(self, event: Event) -> None:
        self.state = _NEXT[self.state][event]
