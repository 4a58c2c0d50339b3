"""What active checks have found of a server. Pure: a server is healthy until enough of them in a row say otherwise."""


class Health:
    """Of one server, by its checks."""

    __slots__ = ("_healthy", "_row", "_unhealthy", "is_healthy", "why")

    def __init__(self, healthy: int, unhealthy: int) -> None:
        """healthy: good checks in a row that make it healthy again. unhealthy: bad ones that make it unhealthy."""
        self._healthy = healthy
        self._unhealthy = unhealthy
        self._row = 0
        """Checks in a row that say the opposite of what it counts as."""
        self.is_healthy = True
        self.why = ""
        """What was wrong at the last bad check, in words."""

    def take_over(self, other: "Health") -> None:
        """Go on from where `other`, the same server's, was (a reload)."""
        self.is_healthy, self.why, self._row = other.is_healthy, other.why, other._row

    def good(self) -> bool:
        """A check went well; whether the server has become healthy by it."""
        return self._count(says_healthy=True, needed=self._healthy)

    def bad(self, why: str) -> bool:
        """A check went badly; whether the server has become unhealthy by it."""
        self.why = why
        return self._count(says_healthy=False, needed=self._unhealthy)

    def _count(self, *, says_healthy: bool, needed: int) -> bool:
        if says_healthy is self.is_healthy:
            self._row = 0
            return False
        self._row += 1
        if self._row < needed:
            return False
        self.is_healthy = says_healthy
        self._row = 0
        return True
