"""What the admin server asks, answered with facts that a test writes down."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from tests.unit.admin.facts import refusal, status

from mtlsproxy.config.model import DenyEntry
from mtlsproxy.runtime.control import Denied
from mtlsproxy.runtime.reload import Outcome
from mtlsproxy.runtime.token import Token
from mtlsproxy.telemetry.clients import MAX_CLIENTS
from mtlsproxy.telemetry.exposition import Reading, read
from mtlsproxy.telemetry.metrics import Metrics
from mtlsproxy.telemetry.refusals import MAX_RECENT, OnEvent
from mtlsproxy.telemetry.traffic import counted, traffic_of
from mtlsproxy.verdict.trust import Denial

NOW = datetime(2030, 1, 1, tzinfo=UTC)


class Controls:
    """Keeps denials in a list. failure: raised by the next call that changes something."""

    def __init__(self) -> None:
        self.token: Token | None = None
        self.truststores: tuple[str, ...] = ("partners", "staff")
        self.made: list[Denial] = []
        self.asked: list[str] = []
        self.failure: Exception | None = None
        self.outcome = Outcome(NOW, (), 7)

    def denials(self) -> tuple[Denial, ...]:
        return tuple(self.made)

    async def reload(self, by: str) -> Outcome:
        self._note("reload", by)
        return self.outcome

    async def deny(self, entry: DenyEntry, truststore: str | None, by: str) -> Denied:
        self._note("deny", by)
        said = entry.model_dump(exclude_none=True) | {"id": f"id{len(self.made)}", "created": NOW, "by": by}
        denial = Denial.model_validate(said if truststore is None else said | {"truststore": truststore})
        self.made.append(denial)
        return Denied(denial, True, 3)

    async def lift(self, ident: str, by: str) -> Denial | None:
        self._note("lift", by)
        found = next((denial for denial in self.made if denial.id == ident), None)
        if found is not None:
            self.made.remove(found)
        return found

    def _note(self, what: str, by: str) -> None:
        self.asked.append(what)
        assert by.startswith("127.0.0.1 port ")
        if self.failure is not None:
            raise self.failure


class Source:
    """A status source."""

    def __init__(self) -> None:
        self.control = Controls()
        self.metrics = Metrics()
        self.reasons: list[str] = []
        self.listeners = {"internal"}
        self.known: list[dict[str, Any]] = []
        self.watching: list[OnEvent] = []
        self.refused: list[dict[str, Any]] = [refusal(subject="CN=<script>alert(1)</script>")]
        self.asked: Counter[str] = Counter()
        self.failure: Exception | None = None

    async def readings(self) -> Sequence[Reading]:
        return read(self.metrics)

    async def status(self) -> Mapping[str, Any]:
        return status(started=NOW)

    async def readiness(self, listener: str | None) -> tuple[bool, list[str]]:
        if listener is not None and listener not in self.listeners:
            raise KeyError(listener)
        return not self.reasons, self.reasons

    async def revocation(self, listener: str | None) -> list[dict[str, Any]]:
        return [{"truststore": "partners", "issuer": "CN=CA", "state": "fresh", "seconds_left": 60}]

    async def rejections(self, limit: int = MAX_RECENT) -> list[dict[str, Any]]:
        self.asked["rejections"] += 1
        return self.refused[:limit]

    async def rejection(self, request_id: str) -> dict[str, Any] | None:
        found = next((each for each in self.refused if each.get("request_id") == request_id), None)
        return None if found is None else found | {"presented": "PEM"}

    async def clients(self, limit: int = MAX_CLIENTS) -> list[dict[str, Any]]:
        return self.known[:limit]

    async def traffic(self) -> dict[str, Any]:
        if self.failure is not None:
            raise self.failure
        return traffic_of({family.name: family.read() for family in counted(self.metrics)})

    async def watch(self, on_event: OnEvent) -> Callable[[], None]:
        self.watching.append(on_event)
        return lambda: self.watching.remove(on_event)
